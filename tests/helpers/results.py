"""Small result folders as `showtell evaluate` writes them, with drawn pictures: no model runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from showtell.metrics.protocol import Measure, Protocol

PROTOCOL = Protocol(
    name="tiny",
    measures=(
        Measure(name="psnr", function="psnr", label="PSNR", range="0 to infinity", where="outside the mask"),
        Measure(name="l1", function="l1", label="L1", range="0 to 1", better="lower"),
    ),
    note="made up for tests",
)
METHODS: dict[str, dict[str, Any]] = {
    "ip2p": {"method": "ip2p", "settings": {"guidance_scale": 7.5}},
    "foi": {"method": "foi", "settings": {}},
    "pti": {"method": "pti", "settings": {}},
}
WORDS = (
    ("make the [circle] red",),
    ("erase the [tree]", "make it night"),
    ("turn the [house] blue",),
    ("add a [star] in the top left", "make the [circle] gray", "give it a sepia tone"),
)
COLOURS = ("crimson", "seagreen", "royalblue", "goldenrod", "orchid", "teal", "sienna", "slategray")


def build(
    root: str | Path,
    *,
    rows: int = 4,
    systems: Sequence[str] = ("ip2p", "foi"),
    size: tuple[int, int] = (48, 40),
    words: Mapping[int, Sequence[str]] | None = None,
    failed: Sequence[tuple[str, int]] = (),
    truths: bool = True,
    problems: Sequence[Mapping[str, str]] = (),
    curve: str = "",
    parquet: bool = True,
) -> Path:
    """A result folder of ``rows`` x ``systems``; returns ``root``.

    ``words`` gives the instructions of some rows (one and several by turns otherwise); ``failed`` the (system, row) that ended
    in an error and have no picture; with ``curve`` the systems are the points of one sweep of that name. The second row's PSNR is
    not defined. Values are a plain function of the row and the system: ``value``.
    """
    root = Path(root)
    ids = [f"row-{i:03d}" for i in range(rows)]
    told = [dict(_row(i, name, words), size=list(size), after=truths) for i, name in enumerate(ids)]
    _json(root / "rows.json", told)
    for i, name in enumerate(ids):
        _save(root / "inputs" / f"{name}.png", picture(i, size))
        if truths:
            _save(root / "truths" / f"{name}.png", picture(i, size, mark="white"))
    evaluation = {
        "format": 1,
        "version": "0.0.0",
        "dataset": {
            "name": "drawn", "source": "", "fingerprint": "0123456789abcdef", "count": rows,
            "problems": [dict(problem) for problem in problems],
        },
        "protocol": PROTOCOL.describe(),
        "seed": 0,
        "systems": [system(name, place, curve) for place, name in enumerate(systems)],
    }  # fmt: skip
    _json(root / "evaluation.json", evaluation)
    lines = [
        _scored(root, name, place, row, told[row], size, failed)
        for place, name in enumerate(systems)
        for row in range(rows)
    ]
    if parquet:
        _parquet(root / "results.parquet", lines)
    groups = sorted({row["group"] for row in told})
    summary = {
        "evaluation": evaluation,
        "machine": "a machine",
        "rows": [_summed(name, lines) for name in systems],
        "groups": {
            g: {name: _summed(name, [x for x in lines if x["group"] == g])["measures"] for name in systems}
            for g in groups
        },
    }
    _json(root / "summary.json", summary)
    return root


def picture(row: int, size: tuple[int, int] = (48, 40), *, mark: str = "") -> Image.Image:
    """A row's picture: its colour says which row; with ``mark``, a square of that colour says what was done to it."""
    width, height = size
    drawn = Image.new("RGB", size, COLOURS[row % len(COLOURS)])
    draw = ImageDraw.Draw(drawn)
    left = width * (row % 3) // 4
    draw.ellipse((left, height // 3, left + width // 2, height - 3), fill=COLOURS[(row + 3) % len(COLOURS)])
    if mark:
        draw.rectangle((width // 2, 2, width - 3, height // 2), fill=mark)
    return drawn


def value(column: str, place: int, row: int) -> float | None:
    """What the system at ``place`` scores on a row."""
    if column == "psnr":
        return None if row == 1 else 20.0 + place + row / 4
    return round(0.1 / (place + 1) + row / 1000, 6)


def system(name: str, place: int = 0, curve: str = "") -> dict[str, Any]:
    """A system as evaluation.json lists it."""
    known = METHODS.get(name, {"method": name.split("-")[0], "settings": {}})
    at = {"name": "guidance_scale", "value": float(place + 1)} if curve else None
    model = {"id": "starter", "weights": "0" * 12, "dtype": "float32", "device": "cpu"}
    return {"name": name, **known, "model": model, "curve": curve or name, "at": at}


def _row(i: int, name: str, words: Mapping[int, Sequence[str]] | None) -> dict[str, Any]:
    return {
        "id": name,
        "instructions": list((words or {}).get(i, WORDS[i % len(WORDS)])),
        "source_caption": f"picture {i}",
        "target_caption": f"picture {i}, edited",
        "group": ("shapes", "styles")[i % 2],
        "after": True,
        "mask": False,
    }


def _scored(
    root: Path, name: str, place: int, row: int, told: dict[str, Any], size: tuple[int, int], failed: Sequence[tuple[str, int]]
) -> dict[str, Any]:  # fmt: skip
    """Write one edit and its scores; returns its line of the table."""
    wrong = (name, row) in failed
    values = {m.name: None if wrong else value(m.name, place, row) for m in PROTOCOL.measures}
    if not wrong:
        _save(
            root / "edits" / name / f"{told['id']}.png",
            picture(row, size, mark=COLOURS[(row + place + 1) % len(COLOURS)]),
        )
    scores = {
        "id": told["id"], "system": name, "seed": row, "seconds": 0.5 + place, "error": "it went wrong" if wrong else None,
        "values": values, "features": {}, "protocol": PROTOCOL.digest,
    }  # fmt: skip
    _json(root / "scores" / name / f"{told['id']}.json", scores)
    line = {key: scores[key] for key in ("id", "system", "seed", "seconds", "error")}
    return {**line, "group": told["group"], **values}


def _summed(name: str, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    own = [line for line in lines if line["system"] == name]
    measures = {}
    for measure in PROTOCOL.measures:
        known = [line[measure.name] for line in own if line[measure.name] is not None]
        mean = math.fsum(known) / len(known) if known else None
        measures[measure.name] = {
            "value": mean, "low": min(known, default=None), "high": max(known, default=None),
            "count": len(known), "invalid": len(own) - len(known),
        }  # fmt: skip
    return {
        "system": name,
        "label": name,
        "count": len(own),
        "failed": sum(line["error"] is not None for line in own),
        "seconds": math.fsum(line["seconds"] for line in own) / max(len(own), 1),
        "measures": measures,
    }


def _parquet(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = [(name, pa.string()) for name in ("id", "system", "group")]
    figures = [(m.name, pa.float64()) for m in PROTOCOL.measures]
    schema = pa.schema([*text, ("seed", pa.int64()), ("seconds", pa.float64()), ("error", pa.string()), *figures])
    table = pa.Table.from_pylist(list(lines), schema=schema)
    pq.write_table(table.replace_schema_metadata({"protocol": json.dumps(PROTOCOL.describe())}), path)


def _save(path: Path, drawn: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.save(path)


def _json(path: Path, told: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=1), encoding="utf-8")
