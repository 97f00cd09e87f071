"""The report's charts as pictures: a measure of all systems with intervals, its distributions, trade-off curves."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ...bench.plots import ticks
from ...data import safe_id
from . import embedded, reading

_WIDE, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 190, 28, 62, 56
_COLOURS = ("#2255cc", "#cc5522", "#2e8b57", "#8844aa", "#c2a000", "#1a8ba3", "#b8336a", "#777777")
_INK, _GREY, _PALE = "#22262b", "#6f767e", "#e3e5e8"
_BINS = 24

#: Value, low and high end of its interval; the ends may be None.
Figure = Mapping[str, float | None]


def plots(summary: Mapping[str, Any], scores: Sequence[Mapping[str, Any]]) -> dict[str, Image.Image]:
    """Charts of a result folder by a name that is safe as a file's: ``intervals-<column>.png`` for each measure,
    ``histogram-<column>.png`` for each that has a value a picture, and ``tradeoff.png`` where two measures have values.

    ``summary`` is summary.json's content, ``scores`` the score files' in any order. What nothing has a value of gets no chart.
    """
    measures = summary["evaluation"]["protocol"]["measures"]
    rows = summary["rows"]
    labels = reading.labels(summary["evaluation"], summary)
    bounds = {system["name"] for system in summary["evaluation"]["systems"] if reading.bound(system)}
    found = {}
    for measure in measures:
        name, title = measure["name"], _title(measure)
        told = [(row["system"], row["measures"].get(name) or {}) for row in rows]
        # A bound that is the same for every picture (100 dB, a similarity of 1) would only stretch the axis.
        figures = [
            (labels[s], f) for s, f in told if s not in bounds or f.get("low") is None or f["low"] != f.get("high")
        ]
        if any(figure.get("value") is not None for _, figure in figures):
            found[f"intervals-{safe_id(name)}.png"] = intervals(title, figures)
    for name in reading.per_picture(measures):
        (measure,) = [m for m in measures if m["name"] == name]
        found_of = {system: _values(scores, system, name) for system in labels}
        series = [(labels[s], own) for s, own in found_of.items() if s not in bounds or len(set(own)) > 1]
        if any(values for _, values in series):
            middle = measure.get("reduction", "mean")
            found[f"histogram-{safe_id(name)}.png"] = histograms(_title(measure), series, middle=middle)
    if len(measures) > 1 and (drawn := _tradeoff(summary, labels)) is not None:
        found["tradeoff.png"] = drawn
    return found


def _values(scores: Sequence[Mapping[str, Any]], system: str, column: str) -> list[float]:
    own = (reading.value(score, column) for score in scores if score.get("system") == system)
    return [value for value in own if value is not None]


def intervals(title: str, figures: Sequence[tuple[str, Figure]]) -> Image.Image:
    """A line for each system: its value as a point, its interval as a bar. The axis holds them all and need not begin at 0."""
    known = [
        v
        for _, figure in figures
        for v in (figure.get("value"), figure.get("low"), figure.get("high"))
        if v is not None
    ]
    page, pen, across = _page(title, _TOP + 30 * len(figures) + _BOTTOM, known)
    places = embedded.decimals(known)
    for number, (label, figure) in enumerate(figures):
        y, colour, value = _TOP + 30 * number + 15, _COLOURS[number % len(_COLOURS)], figure.get("value")
        told = "no value" if value is None else f"{value:.{places}f}"
        _text(pen, (_LEFT - 12, y - 8), f"{_cut(pen, label, _LEFT - 90)}  {told}", align="right")
        if value is None:
            continue
        low, high = figure.get("low"), figure.get("high")
        if low is not None and high is not None:
            pen.rectangle((across(low), y - 5, max(across(low) + 1, across(high)), y + 5), fill=_pale(colour))
        pen.ellipse((across(value) - 5, y - 5, across(value) + 5, y + 5), fill=colour)
    return page


def histograms(title: str, series: Sequence[tuple[str, Sequence[float]]], *, middle: str = "mean") -> Image.Image:
    """A row for each system over one axis with the same bins; heights are shares of its pictures, the line their mean, or with
    ``middle="median"`` their median.
    """
    every = [v for _, values in series for v in values]
    tall = 56
    page, pen, across = _page(title, _TOP + tall * len(series) + _BOTTOM, every)
    low, high, _ = ticks(every)
    counted = [[0] * _BINS for _ in series]
    for counts, (_, values) in zip(counted, series, strict=True):
        for v in values:
            counts[min(_BINS - 1, int((v - low) / (high - low) * _BINS))] += 1
    shares = [
        [count / max(1, len(values)) for count in counts] for counts, (_, values) in zip(counted, series, strict=True)
    ]
    top, step = max(max(own) for own in shares), (high - low) / _BINS
    for number, (label, values) in enumerate(series):
        base, colour = _TOP + tall * (number + 1), _COLOURS[number % len(_COLOURS)]
        for i, share in enumerate(shares[number]):
            if share:
                left, right = across(low + i * step), across(low + (i + 1) * step)
                pen.rectangle((left, base - share / top * (tall - 8), right - 1, base), fill=_pale(colour))
        pen.line([(_LEFT, base), (_WIDE - _RIGHT, base)], fill=_GREY)
        _text(pen, (_LEFT - 12, base - 36), _cut(pen, label, _LEFT - 20), align="right")
        _text(pen, (_LEFT - 12, base - 19), f"{len(values)} pictures", align="right", fill=_GREY, size=11)
        if values:
            x = across(statistics.median(values) if middle == "median" else statistics.fmean(values))
            pen.line([(x, base - tall + 8), (x, base)], fill=colour, width=3)
    return page


def _tradeoff(summary: Mapping[str, Any], labels: Mapping[str, str]) -> Image.Image | None:
    """Curves over what was kept and how far the edit went; None where no system has both."""
    evaluation = summary["evaluation"]
    across, up = embedded.axes(evaluation["protocol"]["measures"])
    figures = {row["system"]: row["measures"] for row in summary["rows"]}
    curves: dict[str, list[tuple[str, Figure, Figure]]] = {}
    both = {
        s["name"]: [figures.get(s["name"], {}).get(column) or {} for column in (across, up)]
        for s in evaluation["systems"]
    }
    known = {name: told for name, told in both.items() if all(figure.get("value") is not None for figure in told)}
    bounds = {system["name"] for system in evaluation["systems"] if reading.bound(system)}
    rest = [told for name, told in known.items() if name not in bounds]
    off = [name for name in known if name in bounds and any(map(_far, known[name], zip(*rest, strict=True)))]
    for system in sorted(evaluation["systems"], key=_place):
        name, at = system["name"], system.get("at")
        if name in known and name not in off:
            x, y = known[name]
            told = f"{at.get('value')}" if at else labels[name]
            curves.setdefault(str(system.get("curve") or name), []).append((told, x, y))
    titles = {m["name"]: _title(m) for m in evaluation["protocol"]["measures"]}
    note = f"off the chart: {', '.join(labels[name] for name in off)}" if off else ""
    return tradeoff(curves, x_label=titles[across], y_label=titles[up], note=note) if curves else None


def _far(bound: Figure, rest: Sequence[Figure]) -> bool:
    """Whether a bound (100 dB) lies so far from all systems that it would only press them together."""
    ends = [v for figure in rest for v in (figure.get("value"), figure.get("low"), figure.get("high")) if v is not None]
    low, high, value = min(ends), max(ends), bound.get("value") or 0.0
    return high > low and max(low - value, value - high) > 2 * (high - low)


def _place(system: Mapping[str, Any]) -> float:
    """Where a system stands on its curve: at the setting that was swept."""
    value = (system.get("at") or {}).get("value")
    return float(value) if isinstance(value, (int, float)) else 0.0


def tradeoff(
    curves: Mapping[str, Sequence[tuple[str, Figure, Figure]]], *, x_label: str, y_label: str, note: str = ""
) -> Image.Image:
    """Points (label, x, y) with the intervals of both; those of one curve are joined in order. ``note`` stands above."""
    points = [point for own in curves.values() for point in own]
    span = [[f.get(k) for f in (p[axis] for p in points) for k in ("value", "low", "high")] for axis in (1, 2)]
    xs, ys = ([v for v in values if v is not None] for values in span)
    page, pen, across = _page(y_label, 460, xs, left=70)
    _text(pen, ((70 + _WIDE - _RIGHT) / 2, 460 - 26), x_label, align="centre")
    _text(pen, (_WIDE - _RIGHT, 12), note, align="right", fill=_GREY, size=11)
    low, high, marks = ticks(ys)

    def up(y: float) -> float:
        return 460 - _BOTTOM - (y - low) / (high - low) * (460 - _BOTTOM - _TOP)

    for mark in marks:
        pen.line([(70, up(mark)), (_WIDE - _RIGHT, up(mark))], fill=_PALE)
        _text(pen, (62, up(mark) - 8), f"{mark:g}", align="right", fill=_GREY)
    taken = [_around(across(x["value"] or 0.0), up(y["value"] or 0.0)) for _, x, y in points]
    for number, (name, own) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        centres = [(across(x["value"] or 0.0), up(y["value"] or 0.0)) for _, x, y in own]
        pen.line(centres, fill=colour, width=2)
        for (label, x, y), (cx, cy) in zip(own, centres, strict=True):
            for figure, move, at in ((x, across, cy), (y, up, cx)):
                ends = [move(v) for v in (figure.get("low"), figure.get("high")) if v is not None]
                if len(ends) == 2:
                    pen.line([(e, at) if move is across else (at, e) for e in ends], fill=_pale(colour))
            pen.ellipse((cx - 4, cy - 4, cx + 4, cy + 4), fill=colour)
            told = label if label == name or len(own) < 2 else f"{name} {label}"
            _text(pen, _free(pen, told, (cx, cy), taken), told, fill=colour, size=11)
    return page


def _around(x: float, y: float) -> tuple[float, float, float, float]:
    return x - 5, y - 5, x + 5, y + 5


def _free(
    pen: ImageDraw.ImageDraw, text: str, at: tuple[float, float], taken: list[tuple[float, float, float, float]]
) -> tuple[float, float]:
    """Where a point's label covers nothing that is there already, which is then taken: beside, above or below it."""
    wide, tall = pen.textlength(text, font=ImageFont.load_default(11)), 13
    tries = [(8, -18), (-8 - wide, -18), (8, 4), (-8 - wide, 4), (-wide / 2, -24), (-wide / 2, 10), (12, -34), (12, 20)]
    boxes = [(at[0] + x, at[1] + y, at[0] + x + wide, at[1] + y + tall) for x, y in tries]

    def good(box: tuple[float, float, float, float]) -> bool:
        clear = all(box[0] >= o[2] or o[0] >= box[2] or box[1] >= o[3] or o[1] >= box[3] for o in taken)
        return clear and box[0] > 70 and box[2] < _WIDE - 4

    chosen = next((box for box in boxes if good(box)), boxes[0])
    taken.append(chosen)
    return chosen[:2]


def _page(
    title: str, height: int, values: Sequence[float], *, left: int = _LEFT
) -> tuple[Image.Image, ImageDraw.ImageDraw, Any]:
    """A white page with a title and an axis below that holds the values, and the function from a value to its place across."""
    page = Image.new("RGB", (_WIDE, height), "white")
    pen = ImageDraw.Draw(page)
    _text(pen, (left if left < _LEFT else 16, 10), title, size=15)
    low, high, marks = ticks(values)

    def across(value: float) -> float:
        return left + (value - low) / (high - low) * (_WIDE - _RIGHT - left)

    for mark in marks:
        pen.line([(across(mark), _TOP - 6), (across(mark), height - _BOTTOM)], fill=_PALE)
        _text(pen, (across(mark), height - _BOTTOM + 8), f"{mark:g}", align="centre", fill=_GREY)
    return page, pen, across


def _title(measure: Mapping[str, Any]) -> str:
    return f"{measure.get('label') or measure['name']} ({'lower' if measure.get('better') == 'lower' else 'higher'} is better)"


def _cut(pen: ImageDraw.ImageDraw, text: str, room: float) -> str:
    font = ImageFont.load_default(13)
    while len(text) > 4 and pen.textlength(text, font=font) > room:
        text = f"{text[:-2]}…"
    return text


def _text(
    pen: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    *,
    align: str = "left",
    fill: str = _INK,
    size: int = 13,
) -> None:
    font = ImageFont.load_default(size)
    back = {"left": 0.0, "centre": 0.5, "right": 1.0}[align] * pen.textlength(text, font=font)
    pen.text((at[0] - back, at[1]), text, fill=fill, font=font)


def _pale(colour: str) -> tuple[int, ...]:
    return tuple((int(colour[i : i + 2], 16) + 255) // 2 for i in (1, 3, 5))
