"""The sieve's charts as SVG, in the classes and colours of the evaluation's report (its page.css)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..bench.plots import ticks

_WIDE, _TALL, _LEFT, _RIGHT, _TOP, _BOTTOM = 540, 230, 52, 14, 16, 44
_BINS = 32


def histogram(title: str, series: Sequence[tuple[str, str, Sequence[float]]], *, least: float) -> str:
    """Bars of (name, class, values) stacked over one axis, with a line at the threshold."""
    every = [value for _, _, values in series for value in values]
    if not every:
        return _none(title)
    low, high, marks = ticks([*every, least])
    counts = [[0] * _BINS for _ in series]
    for own, (_, _, values) in zip(counts, series, strict=True):
        for value in values:
            own[min(_BINS - 1, int((value - low) / (high - low) * _BINS))] += 1
    top = max(sum(own[i] for own in counts) for i in range(_BINS))
    frame = _Frame(low, high, marks, 0, *ticks([0, top])[1:])
    step, parts = (high - low) / _BINS, []
    for i in range(_BINS):
        base = 0
        for (name, kind, _), own in zip(series, counts, strict=True):
            if own[i]:
                told = f"{name}: {own[i]} from {low + i * step:.3f} to {low + (i + 1) * step:.3f}"
                parts.append(frame.bar(low + i * step, low + (i + 1) * step, base, base + own[i], kind, told))
            base += own[i]
    return frame.svg(title, [*parts, frame.threshold(least)], up="candidates")


def curve(title: str, points: Sequence[Sequence[float]], *, least: float) -> str:
    """A share over the threshold that would give it, with a line at the one that was taken."""
    if not points:
        return _none(title)
    low, high, marks = ticks([at for at, _ in points])
    frame = _Frame(low, high, marks, 0.0, *ticks([0.0, max([0.01, *(share for _, share in points)])])[1:])
    line = " ".join(f"{frame.across(at):.1f},{frame.up(share):.1f}" for at, share in points)
    now = next((share for at, share in points if abs(at - least) < 1e-4), None)
    parts = [f'<g class="c0"><polyline class="line" points="{line}"/>']
    if now is not None:
        spot = f'<circle cx="{frame.across(least):.1f}" cy="{frame.up(now):.1f}" r="4">'
        parts.append(f"{spot}<title>{now:.1%} at {least:g}</title></circle>")
    return frame.svg(title, [*parts, "</g>", frame.threshold(least)], up="share that passes", percent=True)


def bars(title: str, bins: Sequence[Mapping[str, Any]]) -> str:
    """The share that passes in each bin of a setting."""
    low, high = bins[0]["low"], bins[-1]["high"]
    shares = [one["passed"] / one["candidates"] if one["candidates"] else 0.0 for one in bins]
    marks = [one["low"] for one in bins] + [high]
    frame = _Frame(low, high, marks, 0.0, *ticks([0.0, max(0.01, *shares)])[1:])
    parts = [
        frame.bar(one["low"], one["high"], 0, share, "c0", f"{one['passed']} of {one['candidates']} ({share:.1%})")
        for one, share in zip(bins, shares, strict=True)
    ]
    return frame.svg(title, parts, up="share that passes", percent=True)


class _Frame:
    """Axes: ``low`` to ``high`` across, ``bottom`` to ``top`` up."""

    def __init__(
        self, low: float, high: float, marks: Sequence[float], bottom: float, top: float, levels: Sequence[float]
    ) -> None:
        self.low, self.high, self.marks, self.bottom, self.top, self.levels = low, high, marks, bottom, top, levels

    def across(self, value: float) -> float:
        return _LEFT + (value - self.low) / (self.high - self.low) * (_WIDE - _LEFT - _RIGHT)

    def up(self, value: float) -> float:
        return _TALL - _BOTTOM - (value - self.bottom) / (self.top - self.bottom) * (_TALL - _TOP - _BOTTOM)

    def bar(self, left: float, right: float, base: float, top: float, kind: str, told: str) -> str:
        x, wide = self.across(left) + 0.5, max(1.0, self.across(right) - self.across(left) - 1)
        y, tall = self.up(top), self.up(base) - self.up(top)
        box = f'x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}"'
        return f'<g class="{kind}"><rect {box}><title>{escape(told)}</title></rect></g>'

    def threshold(self, least: float) -> str:
        x = self.across(least)
        words = f'<text class="label" x="{x + 4:.1f}" y="{_TOP + 4}">{least:g}</text>'
        return f'<line class="zero" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" y2="{_TALL - _BOTTOM}"/>{words}'

    def svg(self, title: str, parts: Sequence[str], *, up: str, percent: bool = False) -> str:
        grid, end = [], _WIDE - _RIGHT
        for mark in self.marks:
            x = self.across(mark)
            grid.append(f'<text x="{x:.1f}" y="{_TALL - _BOTTOM + 17}" text-anchor="middle">{mark:.4g}</text>')
        for level in self.levels:
            y, told = self.up(level), f"{level:.3g}" if not percent else f"{level * 100:.3g} %"
            grid.append(f'<line class="grid" x1="{_LEFT}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>')
            grid.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{told}</text>')
        middle = (_LEFT + end) / 2
        grid.append(f'<text class="axis" x="{middle}" y="{_TALL - 8}" text-anchor="middle">{escape(title)}</text>')
        size = f'viewBox="0 0 {_WIDE} {_TALL}" width="{_WIDE}" height="{_TALL}"'
        label = escape(f"{title}: {up}", quote=True)
        return f'<svg {size} role="img" aria-label="{label}">{"".join([*grid, *parts])}</svg>'


def _none(title: str) -> str:
    return f'<p class="quiet">{escape(title)}: no candidate has a value.</p>'
