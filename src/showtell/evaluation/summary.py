"""Figures of a whole set out of those of its pictures: means or medians with bootstrap intervals, and counts."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..wording import CUT

if TYPE_CHECKING:
    from ..metrics.protocol import Measure, Meter

RESAMPLES = 2000
"""Of a figure that is a mean or a median."""
SET_RESAMPLES = 50
"""Of a figure of the whole set, which costs more."""
LEVEL = 0.95


def summarise(
    head: dict[str, Any], scores: Sequence[Mapping[str, Any]], groups: Mapping[str, str], meter: Meter
) -> dict[str, Any]:
    """``summary.json``: for each system every measure's ``value`` and its 95 % interval ``low`` to ``high``, over ``count``
    pictures; ``invalid`` more had none. ``failed`` pictures could not be made or measured; of ``cut`` ones the
    words were too long and were cut.
    """
    rows, by_group = [], {}
    for system in head["systems"]:
        own = [one for one in scores if one["system"] == system["name"]]
        good = [one for one in own if one["error"] is None]
        rows.append(
            {
                "system": system["name"],
                "label": system["name"],
                "cut": sum(any(CUT in note for note in one.get("notes", ())) for one in good),
                "count": len(good),
                "failed": len(own) - len(good),
                "seconds": _mean([one["seconds"] for one in good if one["seconds"] is not None]),
                "measures": _figures(good, groups, meter),
            }
        )
        for group in sorted({groups[one["id"]] for one in good}):
            part = [one for one in good if groups[one["id"]] == group]
            by_group.setdefault(group, {})[system["name"]] = {
                name: {"value": found["value"], "count": found["count"]}
                for name, found in _figures(part, groups, meter, intervals=False).items()
            }
    return {"evaluation": head, "machine": machine(), "rows": rows, "groups": by_group}


def _figures(
    scores: Sequence[Mapping[str, Any]], groups: Mapping[str, str], meter: Meter, *, intervals: bool = True
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for measure in meter.protocol.measures:
        if measure.reduction == "set":
            continue
        values = [one["values"].get(measure.name) for one in scores]
        found[measure.name] = figure(values, measure, intervals=intervals)
    if any(measure.reduction == "set" for measure in meter.protocol.measures):
        found |= _overall(scores, groups, meter, intervals=intervals)
    return found


def figure(values: Sequence[float | None], measure: Measure, *, intervals: bool = True) -> dict[str, Any]:
    """One measure over pictures. The interval is the percentile bootstrap's over pictures, from a seed of its own."""
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    reduce = np.median if measure.reduction == "median" else np.mean
    told: dict[str, Any] = {
        "value": None,
        "low": None,
        "high": None,
        "count": len(known),
        "invalid": len(values) - len(known),
    }
    if len(known):
        told["value"] = round(float(reduce(known)), 6)
    if intervals and len(known) > 1:
        rng = np.random.default_rng(_seed(measure.name))
        told["low"], told["high"] = interval(resampled(known, reduce, rng))
    return told


def resampled(
    known: np.ndarray, reduce: Callable[..., np.ndarray], rng: np.random.Generator, *, most: int = 2**20
) -> np.ndarray:
    """``RESAMPLES`` figures of as many pictures as there are, drawn again with replacement; ``most`` at a time, so that
    memory stays flat.
    """
    count, many = len(known), max(1, most // len(known))
    sizes = [min(many, RESAMPLES - done) for done in range(0, RESAMPLES, many)]
    return np.concatenate([reduce(known[rng.integers(0, count, size=(size, count))], axis=1) for size in sizes])


def interval(resampled: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of resampled figures."""
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return round(float(low), 6), round(float(high), 6)


def _overall(
    scores: Sequence[Mapping[str, Any]], groups: Mapping[str, str], meter: Meter, *, intervals: bool
) -> dict[str, dict[str, Any]]:
    """The figures of the set. Drawing pictures again leaves fewer different ones, which biases such distances upwards; so the
    interval is the figure and 1.96 standard deviations of the resampled ones, not their quantiles.
    """
    features, names = [one["features"] for one in scores], [groups[one["id"]] for one in scores]
    values = meter.overall(features, names)
    known = meter.entering(features)
    found = {
        m.name: {"value": values.get(m.name), "low": None, "high": None, "count": known, "invalid": len(scores) - known}
        for m in meter.protocol.measures
        if m.reduction == "set"
    }
    if not intervals or all(told["value"] is None for told in found.values()):
        return found
    rng = np.random.default_rng(_seed("overall"))
    drawn = [_again(rng, features, names, meter) for _ in range(SET_RESAMPLES)]
    for name, told in found.items():
        again = [value for one in drawn if (value := one.get(name)) is not None]
        if told["value"] is not None and len(again) == SET_RESAMPLES:
            reach = 1.96 * float(np.std(again))
            told["low"], told["high"] = (round(max(0.0, told["value"] + sign * reach), 6) for sign in (-1, 1))
    return found


def _again(
    rng: np.random.Generator, features: Sequence[Any], names: Sequence[str], meter: Meter
) -> dict[str, float | None]:
    """The figures of pictures drawn again within their groups, so that no group is ever left out."""
    places = {name: [i for i, one in enumerate(names) if one == name] for name in dict.fromkeys(names)}
    rows = [i for place in places.values() for i in rng.choice(place, size=len(place))]
    return meter.overall([features[i] for i in rows], [names[i] for i in rows])


def machine() -> str:
    """What ran it."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    cores = f"{os.cpu_count()} cores ({platform.machine()}), {device}"
    return f"{cores}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(f"showtell-evaluate-{text}".encode()).digest()[:8], "big")
