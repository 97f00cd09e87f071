"""VISII's Figure 7: how the similarities of the applications are spread, learned, told and by SDEdit."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from showtell.bench import plots
from showtell.bench.published import NONE

if TYPE_CHECKING:
    from PIL import Image

MEASURES = {"image": "CLIP-I", "directional": "directional CLIP", "visual": "visual CLIP"}
LABELS = {"told": "told (IP2P)", "look": "learned", "sdedit": "SDEdit"}
NEAR = 0.02
"""Medians that are nearer than this are called nearly the same."""


def markdown(found: Mapping[str, Any]) -> list[str]:
    """Medians and quartiles, and which of the paper's observations hold here."""
    rows = [["", "", "lower quarter", "median", "upper quarter", "mean", "applications"], ["---"] * 7]
    for key, title in MEASURES.items():
        for name, values in found["rows"].items():
            known = _known(values[key])
            low, middle, high = statistics.quantiles(known, n=4) if len(known) > 1 else known * 3
            shown = [f"{v:.3f}" for v in (low, middle, high, statistics.fmean(known))]
            lacking = len(values[key]) - len(known)
            count = f"{len(known)}" + (f" ({lacking} without a direction)" if lacking else "")
            rows.append([title, label(name), *shown, count])
    return [
        f"### Figure 7: the similarities of single applications ({found['edits']} edits)",
        "",
        "SDEdit on the base starter is told the caption of the result. The paper's, on 300 edits and 1,030 pairs of its data, "
        f"are pictures; their values: {NONE}. What it says of them, and whether the medians here agree:",
        "",
        *(f"- {line}" for line in _claims(found["rows"])),
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def label(name: str) -> str:
    """How tables call a row."""
    return LABELS.get(name, name.removeprefix("also-"))


def _claims(rows: Mapping[str, Any]) -> list[str]:
    middle = {
        key: {
            name: statistics.median(_known(values[key]) or [float("nan")])
            for name, values in rows.items()
            if name in LABELS
        }
        for key in MEASURES
    }

    def told(key: str) -> str:
        return ", ".join(f"{LABELS[name]} {value:.2f}" for name, value in middle[key].items())

    image, directional, visual = (middle[key] for key in MEASURES)
    alike = max(visual.values()) - min(visual.values()) <= NEAR
    checks = (
        (
            "told in words is the highest in directional CLIP",
            directional["told"] == max(directional.values()),
            "directional",
        ),
        (
            "learned is about as high as SDEdit there",
            abs(directional["look"] - directional["sdedit"]) <= NEAR,
            "directional",
        ),
        ("learned is the highest in CLIP-I", image["look"] == max(image.values()), "image"),
        ("all three are nearly the same in visual CLIP", alike, "visual"),
    )
    return [f"{claim}: {'holds' if holds else 'does NOT hold'} ({told(key)})" for claim, holds, key in checks]


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def chart(found: Mapping[str, Any]) -> Image.Image:
    """The three histograms, one below the other."""
    panels = [
        (title, [(label(name), _known(values[key])) for name, values in found["rows"].items()])
        for key, title in MEASURES.items()
    ]
    return plots.histograms("How single applications are spread (Figure 7)", panels)
