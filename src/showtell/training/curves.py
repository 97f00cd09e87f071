"""A loss curve as a picture, without a plotting library."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw

from showtell.training.loop import read_log

_SIZE, _MARGIN = (640, 320), 44


def draw_curve(log: Path, out: Path, *, title: str, smooth: float = 0.0) -> None:
    """Draw the loss of a `log.jsonl` over its steps, on a logarithmic scale, to a PNG. A log that is not smoothed yet is, with
    this share of what came before, from 0 to below 1."""
    points = _smoothed([(line["step"], line["loss"]) for line in read_log(log) if line["loss"] > 0], smooth)
    if len(points) < 2:
        return
    last, low, high = points[-1][0], min(v for _, v in points), max(v for _, v in points)
    span = math.log(high / low) or 1.0
    width, height = _SIZE[0] - 2 * _MARGIN, _SIZE[1] - 2 * _MARGIN
    image = Image.new("RGB", _SIZE, "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((_MARGIN, _MARGIN, _MARGIN + width, _MARGIN + height), outline="#bbbbbb")
    draw.line(
        [(_MARGIN + width * s / last, _MARGIN + height * (1 - math.log(v / low) / span)) for s, v in points],
        fill="#2255cc",
        width=2,
    )
    draw.text((_MARGIN, 14), f"{title}: loss {points[-1][1]:.4f} after {last} steps (log scale)", fill="black")
    draw.text((4, _MARGIN), f"{high:.3f}", fill="black")
    draw.text((4, _MARGIN + height - 10), f"{low:.3f}", fill="black")
    image.save(out)


def _smoothed(points: list[tuple[float, float]], share: float) -> list[tuple[float, float]]:
    """A running mean, which counts the first points in full."""
    found, mean = [], 0.0
    for count, (step, value) in enumerate(points, start=1):
        mean = share * mean + (1 - share) * value
        found.append((step, mean / (1 - share**count)))
    return found
