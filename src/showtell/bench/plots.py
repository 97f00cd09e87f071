"""Small charts for the documentation, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_SIZE = (720, 400)
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 56, 56
_COLOURS = ("#2255cc", "#cc5522", "#2e8b57", "#8844aa", "#777777", "#c2a000", "#d4669a", "#22262b", "#19a5b8")
_INK, _GREY = "#22262b", "#8a9099"


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points (x, y) under a name, with an optional half-height of each one's error bar."""

    name: str
    points: Sequence[tuple[float, float]]
    errors: Sequence[float] = ()


def lines(title: str, series: Sequence[Series], *, x_label: str, y_label: str, log_x: bool = False) -> Image.Image:
    """Series over x, y from 0 to at least 1 (shares), the x values as ticks."""
    page, pen = _page(title, y_label)
    xs = sorted({x for s in series for x, _ in s.points})
    low, high = (_axis(v, log_x) for v in (xs[0], xs[-1]))

    def at(x: float, y: float) -> tuple[float, float]:
        span = (high - low) or 1.0
        return _x((_axis(x, log_x) - low) / span), _y(y)

    for x in xs:
        _text(pen, (at(x, 0)[0], _SIZE[1] - _BOTTOM + 8), f"{x:g}", centre=True)
    _text(pen, (_SIZE[0] / 2, _SIZE[1] - 22), x_label, centre=True, fill=_GREY)
    for number, s in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        pen.line([at(x, y) for x, y in s.points], fill=colour, width=3)
        for i, (x, y) in enumerate(s.points):
            cx, cy = at(x, y)
            if s.errors and not math.isnan(s.errors[i]):
                pen.line([at(x, max(0.0, y - s.errors[i])), at(x, min(1.0, y + s.errors[i]))], fill=colour, width=1)
            pen.ellipse((cx - 4, cy - 4, cx + 4, cy + 4), fill=colour)
    _legend(pen, [s.name for s in series])
    return page


def curves(title: str, series: Sequence[Series], *, x_label: str, y_label: str) -> Image.Image:
    """Series over x and y, whose axes go from the least value to the greatest; points are joined in the order given, those of
    a series with one point stand alone.
    """
    page = Image.new("RGB", _SIZE, "white")
    pen = ImageDraw.Draw(page)
    _text(pen, (_LEFT, 10), title, size=16)
    points = [point for s in series for point in s.points]
    (left, right, x_ticks), (low, high, y_ticks) = (ticks([point[axis] for point in points]) for axis in (0, 1))

    def at(x: float, y: float) -> tuple[float, float]:
        return _x((x - left) / (right - left)), _y((y - low) / (high - low))

    for y in y_ticks:
        pen.line([at(left, y), at(right, y)], fill="#e3e5e8")
        _text(pen, (12, at(left, y)[1] - 8), f"{y:g}", fill=_GREY)
    for x in x_ticks:
        pen.line([at(x, low), at(x, high)], fill="#e3e5e8")
        _text(pen, (at(x, low)[0], _SIZE[1] - _BOTTOM + 8), f"{x:g}", centre=True)
    _text(pen, (_SIZE[0] / 2, _SIZE[1] - 22), x_label, centre=True, fill=_GREY)
    pen.text((_LEFT, _TOP + 2), y_label, fill=_GREY, font=ImageFont.load_default(13))
    for number, s in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        if len(s.points) > 1:
            pen.line([at(x, y) for x, y in s.points], fill=colour, width=3)
        for i, (x, y) in enumerate(s.points):
            cx, cy = at(x, y)
            if s.errors and not math.isnan(s.errors[i]):
                pen.line([at(x, max(low, y - s.errors[i])), at(x, min(high, y + s.errors[i]))], fill=colour, width=1)
            pen.ellipse((cx - 4, cy - 4, cx + 4, cy + 4), fill=colour)
    _legend(pen, [s.name for s in series])
    return page


def ticks(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Ends of an axis that holds the values, and its ticks: steps of 1, 2 or 5 times a power of ten."""
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(m for m in (1, 2, 5, 10) if span / (step * m) <= 6)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return first * step, last * step, [round(i * step, 10) for i in range(first, last + 1)]


def bars(
    title: str, groups: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], *, y_label: str
) -> Image.Image:
    """A group of bars for each name in ``groups``; each series gives one share (0 to 1) a group."""
    page, pen = _page(title, y_label)
    width = 1 / max(1, len(groups))
    for g, group in enumerate(groups):
        _text(pen, (_x((g + 0.5) * width), _SIZE[1] - _BOTTOM + 8), group, centre=True)
        for number, (_, values) in enumerate(series):
            share = 0.8 * width / len(series)
            left = g * width + 0.1 * width + number * share
            box = (_x(left), _y(values[g]), _x(left + share * 0.9), _y(0))
            pen.rectangle(box, fill=_COLOURS[number % len(_COLOURS)])
            _text(pen, ((box[0] + box[2]) / 2, box[1] - 15), f"{values[g]:.0%}", centre=True, size=11)
    _legend(pen, [name for name, _ in series])
    return page


def histograms(
    title: str, panels: Sequence[tuple[str, Sequence[tuple[str, Sequence[float]]]]], *, bins: int = 16
) -> Image.Image:
    """Panels one below the other: in each the shares of every series' values over ``bins`` bins from the least value to the
    greatest, as outlines, with a tick at each median.
    """
    height = 250
    page = Image.new("RGB", (_SIZE[0], 40 + height * len(panels)), "white")
    pen = ImageDraw.Draw(page)
    _text(pen, (_LEFT, 10), title, size=16)
    for number, (name, series) in enumerate(panels):
        top, bottom = 40 + number * height + 30, 40 + (number + 1) * height - 36
        low, high, marks = ticks([value for _, values in series for value in values])
        width = (high - low) / bins
        shares = [_shares(values, low, width, bins) for _, values in series]
        most = max(max(own) for own in shares) or 1.0

        for tick in marks:
            _text(pen, (_x((tick - low) / (high - low)), bottom + 6), f"{tick:g}", centre=True)
        pen.line([(_LEFT, bottom), (_SIZE[0] - _RIGHT, bottom)], fill=_GREY)
        _text(pen, (_LEFT, top - 26), name, fill=_GREY)
        for place, own in enumerate(shares):
            heights = [bottom - (bottom - top) * share / most for share in own]
            outline: list[tuple[float, float]] = [(_x(0), bottom)]
            for i, y in enumerate(heights):
                outline += [(_x(i / bins), y), (_x((i + 1) / bins), y)]
            pen.line([*outline, (_x(1), bottom)], fill=_COLOURS[place % len(_COLOURS)], width=2)
            values = sorted(series[place][1])
            if values:
                middle = _x((values[len(values) // 2] - low) / (high - low))
                pen.line([(middle, bottom - 4), (middle, bottom + 5)], fill=_COLOURS[place % len(_COLOURS)], width=3)
        _legend(pen, [one for one, _ in series], down=top - 59)
    return page


def _shares(values: Sequence[float], low: float, width: float, bins: int) -> list[float]:
    """The share of the values in each bin; the last one holds its upper end."""
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / width))] += 1
    return [count / max(1, len(values)) for count in counts]


def _page(title: str, y_label: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    page = Image.new("RGB", _SIZE, "white")
    pen = ImageDraw.Draw(page)
    _text(pen, (_LEFT, 10), title, size=16)
    for tick in (0, 0.25, 0.5, 0.75, 1):
        pen.line([(_LEFT, _y(tick)), (_SIZE[0] - _RIGHT, _y(tick))], fill="#e3e5e8")
        _text(pen, (20, _y(tick) - 8), f"{tick:.0%}", fill=_GREY)
    _text(pen, (_LEFT, 32), y_label, fill=_GREY)
    return page, pen


def _legend(pen: ImageDraw.ImageDraw, names: Sequence[str], *, down: float = 0) -> None:
    right = _SIZE[0] - _RIGHT
    for number, name in reversed(list(enumerate(names))):
        right -= pen.textlength(name, font=ImageFont.load_default(13)) + 26
        pen.rectangle((right, 35 + down, right + 12, 47 + down), fill=_COLOURS[number % len(_COLOURS)])
        _text(pen, (right + 17, 32 + down), name)


def _text(
    pen: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    *,
    centre: bool = False,
    fill: str = _INK,
    size: int = 13,
) -> None:
    font = ImageFont.load_default(size)
    x = at[0] - pen.textlength(text, font=font) / 2 if centre else at[0]
    pen.text((x, at[1]), text, fill=fill, font=font)


def _axis(value: float, log: bool) -> float:
    return math.log(value) if log else value


def _x(share: float) -> float:
    return _LEFT + share * (_SIZE[0] - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _SIZE[1] - _BOTTOM - min(1.0, max(0.0, share)) * (_SIZE[1] - _TOP - _BOTTOM)
