"""What sifting came to, in figures: the yield, what each test drops, and what would come of other thresholds and settings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..bench.plots import ticks
from .filter_candidates import Candidate, Candidates
from .filter_choose import TESTS, Bounds, Scores, Verdict

SETTINGS = ("guidance_scale", "self_replace_steps")
"""What each candidate drew for itself."""
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_STEPS = 41
_LISTED = 1000
_KINDS = 60


@dataclass(frozen=True, kw_only=True)
class Sifted:
    """Candidates with their scores and the verdicts on them, by name; ``failed``: (id, what) of what was not made, cannot be read
    or has no scores; ``recipe``: with which CLIP and thresholds, and where each comes from.
    """

    candidates: Candidates
    scores: Mapping[str, Scores]
    verdicts: Mapping[str, Verdict]
    bounds: Bounds
    recipe: Mapping[str, Any]
    failed: tuple[tuple[str, str], ...] = ()

    @property
    def judged(self) -> list[Candidate]:
        """The candidates that have scores."""
        return [row for row in self.candidates.rows if row.name in self.verdicts]


def figures(sifted: Sifted) -> dict[str, Any]:
    """All figures of the report, as JSON can hold them. Shares are of the candidates that have scores."""
    rows, verdicts = sifted.judged, sifted.verdicts
    kept = Counter(row.pair for row in rows if verdicts[row.name].kept)
    values = _values(sifted, rows)
    fails = [verdicts[row.name].fails for row in rows]
    passed = np.array([not one for one in fails], dtype=bool)
    return {
        "pairs": len(sifted.candidates.pairs),
        "candidates": sifted.candidates.asked,
        "failed": len(sifted.failed),
        "scored": len(rows),
        "unchanged": int(np.isnan(values["direction"]).sum()),
        "dropped": sum(bool(one) for one in fails),
        "passed": int(passed.sum()),
        "outranked": sum(verdicts[row.name].why == "outranked" for row in rows),
        "kept": sum(kept.values()),
        "pairs_with_one": len(kept),
        "kept_of_a_pair": {str(n): count for n, count in sorted(Counter(kept[p] for p in sifted.candidates.pairs).items())},
        "clip": dict(sifted.recipe["clip"]),
        "keep": sifted.bounds.keep,
        "origin": dict(sifted.recipe["origin"]),
        "tests": {
            test: {
                "least": sifted.bounds.of(test),
                "fails": sum(test in one for one in fails),
                "alone": sum(one == (test,) for one in fails),
                "percentiles": _percentiles(values[test]),
            }
            for test in TESTS
        },
        "thresholds": {test: _moved(values, sifted.bounds, test) for test in TESTS},
        "settings": {name: bins for name in SETTINGS if (bins := _binned(rows, passed, name))},
        "groups": _groups(sifted, rows, kept),
        "failures": [{"id": name, "what": what} for name, what in sifted.failed[:_LISTED]],
    }  # fmt: skip


def _values(sifted: Sifted, rows: Sequence[Candidate]) -> dict[str, np.ndarray]:
    return {test: np.array([getattr(sifted.scores[row.name], test) for row in rows], dtype=float) for test in TESTS}


def _percentiles(values: np.ndarray) -> dict[str, float]:
    known = values[np.isfinite(values)]
    return {str(p): round(float(np.percentile(known, p)), 4) for p in PERCENTILES} if known.size else {}


def _moved(values: Mapping[str, np.ndarray], bounds: Bounds, moved: str) -> list[list[float]]:
    """[threshold, share of candidates that pass all tests] as this score's threshold moves and the others stay."""
    known = values[moved][np.isfinite(values[moved])]
    if not known.size:
        return []
    rest = np.ones(len(values[moved]), dtype=bool)
    for test in TESTS:
        if test != moved:
            rest &= values[test] >= bounds.of(test)
    steps = np.unique([*np.linspace(known.min(), known.max(), _STEPS), bounds.of(moved)])
    return [[round(float(at), 4), float((rest & (values[moved] >= at)).mean())] for at in steps]


def _binned(rows: Sequence[Candidate], passed: np.ndarray, name: str) -> list[dict[str, float]]:
    """In equal, round bins of what the candidates drew: how many there are, and how many pass all tests."""
    drawn = np.array([_number(row.record.get(name)) for row in rows], dtype=float)
    known = np.isfinite(drawn)
    if not known.any() or drawn[known].min() == drawn[known].max():
        return []
    _, _, edges = ticks(drawn[known].tolist())
    place = np.clip(np.searchsorted(edges, drawn, side="right") - 1, 0, len(edges) - 2)
    inside = [known & (place == number) for number in range(len(edges) - 1)]
    return [
        {
            "low": edges[number], "high": edges[number + 1],
            "candidates": int(own.sum()), "passed": int((own & passed).sum()),
        }
        for number, own in enumerate(inside)
    ]  # fmt: skip


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def group(record: Mapping[str, Any]) -> str:
    """The kind of edit that a record tells."""
    return str(record.get("group") or record.get("kind") or "")


def _groups(sifted: Sifted, rows: Sequence[Candidate], kept: Counter[str]) -> dict[str, dict[str, int]]:
    """The yield by kind of edit; nothing where all are of one, or each of its own."""
    of_pair = {pair: group(record) for pair, record in sifted.candidates.pairs.items()}
    names = sorted(set(of_pair.values()))
    if not 1 < len(names) <= _KINDS:
        return {}
    asked = Counter(of_pair.values())
    scored = Counter(of_pair.get(row.pair, "") for row in rows)
    passed = Counter(of_pair.get(row.pair, "") for row in rows if not sifted.verdicts[row.name].fails)
    return {
        name: {
            "pairs": asked[name],
            "scored": scored[name],
            "passed": passed[name],
            "kept": sum(count for pair, count in kept.items() if of_pair.get(pair) == name),
            "pairs_with_one": sum(of_pair.get(pair) == name for pair in kept),
        }
        for name in names
    }
