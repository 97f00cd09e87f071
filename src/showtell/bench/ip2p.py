"""InstructPix2Pix's own evaluation: how far the picture guidance s_I trades the edit for the likeness to the input.

Every point of a curve is a system of the measurement of FoI (see ``foi``), on scenes that no other measurement takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell import scenes
from showtell.bench import plots
from showtell.bench.foi import Bench, System
from showtell.bench.foi_report import summary
from showtell.bench.published import NONE
from showtell.bench.visii_report import machine

if TYPE_CHECKING:
    from PIL import Image

    from showtell.bench.foi import Say
    from showtell.editor import Editor

FIRST = 77_000
"""First held-out seed; no other measurement uses these."""
S_I = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2)
S_T = 7.5
"""The published sweep: s_I from 1.0 to 2.2 at s_T = 7.5."""
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Of SDEdit, the second curve."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """``count`` scenes of one instruction; ``s_i`` and ``strengths`` the points of the curves."""

    count: int = 60
    s_i: tuple[float, ...] = S_I
    strengths: tuple[float, ...] = STRENGTHS


QUICK = Counts(count=6, s_i=(1.0, 1.6, 2.2), strengths=(0.4, 0.8))


def cases(edits: int, count: int) -> list[tuple[int, scenes.Case]]:
    """``count`` held-out cases of so many instructions."""
    return [(seed, scenes.sample(seed, edits=edits)) for seed in range(FIRST, FIRST + count)]


def curves(card: dict[str, Any], counts: Counts) -> dict[str, list[tuple[float, System]]]:
    """Each curve's points: the value that is swept and the system. The card's s_T has a curve of its own."""
    found: dict[str, list[tuple[float, System]]] = {}
    for s_t in dict.fromkeys((S_T, float(card.get("guidance_scale", S_T)))):
        found[f"IP2P, s_T {s_t:g}"] = [(s_i, _ip2p(s_t, s_i)) for s_i in counts.s_i]
    found["SDEdit"] = [
        (strength, System(name=f"sdedit-{strength:g}", method="sdedit", settings={"strength": strength}))
        for strength in counts.strengths
    ]
    return found


def _ip2p(s_t: float, s_i: float) -> System:
    settings = {"guidance_scale": s_t, "image_guidance_scale": s_i}
    return System(name=f"ip2p-{s_t:g}-{s_i:g}", method="ip2p", settings=settings)


def measure(
    editor: Editor, folder: Path, counts: Counts, *, say: Say, base: str = "starter-base", also: Sequence[str] = ()
) -> dict[str, Any]:
    """Run what is missing in ``folder`` and return every figure. ``also`` names methods that become one point each."""
    bench = Bench(editor, folder, base=base, cases=cases, say=say)
    card = editor.card.get("defaults", {}).get("ip2p", {})
    groups = curves(card, counts)
    groups |= {name: [(math.nan, System(name=f"also-{name}", method=name))] for name in also}
    bounds = [System(name=name, method=name) for name in ("input", "truth")]
    entries = bench.run([*(s for points in groups.values() for _, s in points), *bounds], 1, counts.count)

    def row(at: float, system: System) -> dict[str, Any]:
        return {"at": None if math.isnan(at) else at, **figures_of(entries[system.name])}

    return {
        "count": counts.count,
        "machine": machine(),
        "model": editor.model_id,
        "base": base,
        "dtype": str(editor.pipe.unet.dtype).removeprefix("torch."),
        "steps": card.get("num_inference_steps"),
        "curves": {name: [row(*point) for point in points] for name, points in groups.items()},
        "bounds": {system.name: row(math.nan, system) for system in bounds},
    }


def figures_of(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The summary, with the standard errors of both similarities and how many pictures have no direction."""
    found = summary(entries)
    for key in ("image", "directional"):
        known = [entry[key] for entry in entries if entry[key] is not None]
        found[f"{key}_error"] = round(_error(known), 5) if known else None
    return found | {"inside": round(sum(e["inside"] for e in entries) / len(entries), 4),
                    "invalid": sum(entry["directional"] is None for entry in entries)}  # fmt: skip


def _error(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / max(1, len(values) - 1) / len(values))


def markdown(figures: dict[str, Any]) -> str:
    """The table as text."""
    head = ["", "CLIP-I", "CLIP-D", "right", "right inside", "kept outside", "outside (median dB)", "no direction"]
    rows = [head, ["---"] * len(head)]
    for name, points in figures["curves"].items():
        rows += [_row(_title(name, point["at"]), point) for point in points]
    rows += [_row(title, figures["bounds"][key]) for key, title in
             (("input", "the picture as it was"), ("truth", "the true result"))]  # fmt: skip
    return "\n".join(
        [
            f"<!-- made by `showtell bench ip2p` on {figures['machine']}, models {figures['model']} and {figures['base']}, "
            f"{figures['dtype']} -->",
            "",
            "### InstructPix2Pix's sweep of s_I: the edit against the likeness to the input",
            "",
            f"{figures['count']} held-out scenes of one instruction (seeds from {FIRST} on), CLIP of the starters; IP2P with "
            f"{figures['steps'] or 100} steps, SDEdit told the caption of the result. ± is one standard error. Published: s_I "
            "1.0 to 2.2 by 0.2 at s_T 7.5, with Stable Diffusion's weights on pictures of its own data and CLIP ViT-L/14; the "
            f"values: {NONE}.",
            "",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
        ]
    )


def _title(name: str, at: float | None) -> str:
    if at is None:
        return name
    return f"{name}, strength {at:g}" if name == "SDEdit" else f"{name}, s_I {at:g}"


def _row(title: str, f: dict[str, Any]) -> list[str]:
    def both(key: str) -> str:
        return "–" if f[key] is None else f"{f[key]:.3f} ± {f[f'{key}_error']:.3f}"

    right = f"{f['success']:.0%} ± {f['standard_error']:.0%}"
    psnr = "–" if f["psnr"] is None else f"{f['psnr']:.1f}"
    return [title, both("image"), both("directional"), right, f"{f['inside']:.0%}", f"{f['outside']:.0%}", psnr,
            str(f["invalid"])]  # fmt: skip


def charts(figures: dict[str, Any]) -> dict[str, Image.Image]:
    """Plots by file name: both similarities, and the share of right edits over the likeness to the input."""
    return {
        "ip2p-tradeoff.png": plots.curves(
            "The edit against the likeness to the input",
            [_series(name, points, "directional", "directional_error") for name, points in figures["curves"].items()],
            x_label="CLIP-I: likeness of the result to the input",
            y_label="CLIP-D: directional similarity",
        ),
        "ip2p-truth.png": plots.curves(
            "Right edits against the likeness to the input",
            [_series(name, points, "success", "standard_error") for name, points in figures["curves"].items()],
            x_label="CLIP-I: likeness of the result to the input",
            y_label="share of scenes right",
        ),
    }


def _series(name: str, points: Sequence[dict[str, Any]], key: str, error: str) -> plots.Series:
    known = [point for point in points if point[key] is not None and point["image"] is not None]
    return plots.Series(
        name=name, points=[(p["image"], p[key]) for p in known], errors=[p[error] or 0.0 for p in known]
    )
