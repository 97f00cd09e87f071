"""What the report's page is drawn from by its script: one JSON value with figures and thumbnails."""

from __future__ import annotations

import base64
import io
import json
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from ... import images
from ...errors import ImageError
from ...types import ImageLike
from ..folder import Folder
from . import reading
from .reading import Results

#: Measures of how far an edit went, and of how much was kept: what trade-off curves are first drawn over.
EDITED = ("directional", "clip_text", "clip_visual", "pick", "success", "frechet")
KEPT = ("clip_image", "dino", "psnr", "ssim", "lpips", "structure", "l1", "l2")
_JPEG = 86
_EXACT = 64
_SMALL = 128


def embedded(results: Results, *, side: int, most: int) -> dict[str, Any]:
    """Everything that the script needs, as JSON can hold it; pictures are data URLs of at most ``side`` pixels a side."""
    columns = reading.per_picture(results.measures)
    values = {
        name: {column: [_short(reading.value(score, column)) for score in scores] for column in columns}
        for name, scores in results.scores.items()
    }
    return {
        "measures": [_measure(measure) for measure in results.measures],
        "columns": columns,
        "places": {c: decimals([v for own in values.values() for v in own[c]]) for c in columns},
        "axes": list(axes(results.measures)),
        "systems": [_system(system, results.labels) for system in results.evaluation["systems"]],
        "summary": {line["system"]: line["measures"] for line in results.summary["rows"]},
        "groups": _groups(results),
        "values": values,
        "truths": any(row.get("after") for row in results.rows),
        "shown": [_shown(results, at, side=side) for at in sample(results, most)],
    }


def sample(results: Results, most: int) -> list[int]:
    """The rows whose pictures are shown: all, or ``most`` drawn at random with the evaluation's seed."""
    count = len(results.rows)
    if count <= most:
        return list(range(count))
    return sorted(random.Random(str(results.evaluation.get("seed"))).sample(range(count), most))


def axes(measures: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The measures that a trade-off curve is first drawn over, (across, up): what was kept, and how far the edit went."""

    def first(words: tuple[str, ...], rest: list[str]) -> str:
        return next((m["name"] for w in words for m in measures if w in str(m.get("function", ""))), rest[0])

    names = [measure["name"] for measure in measures] or [""]
    across = first(KEPT, names)
    others = [name for name in names if name != across] or names
    up = first(EDITED, others)
    return across, up if up != across else others[0]


def decimals(values: Sequence[float | None]) -> int:
    """As many decimals as give the greatest of the values four digits."""
    top = max((abs(v) for v in values if v is not None), default=0.0)
    return 2 if top == 0 else min(8, max(0, 3 - math.floor(math.log10(top))))


def as_script(value: Any) -> str:
    """JSON that can stand in a script element: nothing in it can end the element or open a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def thumbnail(path: ImageLike, side: int) -> str | None:
    """A picture as a data URL, at most ``side`` pixels a side; None for one that is not there or cannot be read."""
    try:
        picture = images.open_picture(path).rgb.copy()
    except ImageError:
        return None
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    kind, buffer = "png" if max(picture.size) <= _EXACT else "jpeg", io.BytesIO()
    picture.save(buffer, kind, optimize=True, **({} if kind == "png" else {"quality": _JPEG}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _measure(measure: Mapping[str, Any]) -> dict[str, Any]:
    better = "lower" if measure.get("better") == "lower" else "higher"
    return {
        "name": measure["name"],
        "label": str(measure.get("label") or measure["name"]),
        "better": better,
        "reduction": measure.get("reduction", "mean"),
    }


def _system(system: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    name = system["name"]
    return {
        "name": name,
        "label": labels[name],
        "curve": str(system.get("curve") or name),
        "at": system.get("at"),
        "bound": reading.bound(system),
    }


def _groups(results: Results) -> list[dict[str, Any]]:
    """The summary's breakdown; where it has none, plain means of each group's pictures. Nothing for a single group."""
    names = sorted({str(row.get("group", "")) for row in results.rows})
    if len(names) < 2:
        return []
    known = results.summary.get("groups") or {}
    found = []
    for name in names:
        inside = [i for i, row in enumerate(results.rows) if str(row.get("group", "")) == name]
        if name in known:
            systems = known[name]
        else:
            systems = {system: _means(results, system, inside) for system in results.systems}
        found.append({"name": name, "count": len(inside), "systems": systems})
    return found


def _means(results: Results, system: str, inside: Sequence[int]) -> dict[str, dict[str, float | None]]:
    found = {}
    for measure in results.measures:
        values = [reading.value(results.scores[system][i], measure["name"]) for i in inside]
        defined = [v for v in values if v is not None]
        reduce = statistics.median if measure.get("reduction") == "median" else statistics.fmean
        found[measure["name"]] = {"value": reduce(defined) if defined else None}
    return found


def _shown(results: Results, at: int, *, side: int) -> dict[str, Any]:
    """One row with its pictures and what is known of it in words."""
    row, place = results.rows[at], Folder(results.folder)
    scores = {name: own[at] or {} for name, own in results.scores.items()}
    return {
        "at": at,
        "id": row["id"],
        "group": str(row.get("group", "")),
        "words": [str(text) for text in row.get("instructions") or ()],
        "source": str(row.get("source_caption") or ""),
        "target": str(row.get("target_caption") or ""),
        "small": max(row.get("size") or (0,)) in range(1, _SMALL + 1),
        "input": thumbnail(place.input(row["id"]), side),
        "truth": thumbnail(place.truth(row["id"]), side) if row.get("after") else None,
        "edits": {name: thumbnail(place.edit(name, row["id"]), side) for name in results.systems},
        "errors": {name: str(score["error"]) for name, score in scores.items() if score.get("error")},
        "seeds": {name: score.get("seed") for name, score in scores.items()},
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.7g}")
