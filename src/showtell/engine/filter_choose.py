"""Which candidates are kept: InstructPix2Pix's four tests, then the best of each pair. Numbers in, verdicts out.

A threshold only ever drops: raising one never keeps more. The order of the candidates changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..errors import MethodError

CODE: dict[str, Any] = {"image": 0.7, "direction": 0.2, "caption": 0.2, "keep": 4}
"""As InstructPix2Pix's published code has it."""
PAPER: dict[str, Any] = {**CODE, "image": 0.75}
"""As section 3.1.2 of the paper has it."""
TESTS = ("image", "direction", "before", "after")
"""The scores, in the order in which they are told. ``before`` and ``after`` share the threshold ``caption``."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A candidate's figures, all in [-1, 1]: ``image`` CLIP-I of its two pictures, ``direction`` directional CLIP of unit
    features (NaN where pictures or captions are the same), ``before`` and ``after`` each picture to its caption.
    """

    image: float
    direction: float
    before: float
    after: float

    @classmethod
    def read(cls, told: Any) -> Scores | None:
        """The scores that a record holds, null for NaN; None where it holds no such scores."""
        if not isinstance(told, Mapping) or not all(name in told for name in TESTS):
            return None
        values = {name: math.nan if told[name] is None else told[name] for name in TESTS}
        good = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values.values())
        return cls(**{name: float(value) for name, value in values.items()}) if good else None

    def told(self) -> dict[str, float | None]:
        """As JSON can hold it."""
        return {name: value if math.isfinite(value := getattr(self, name)) else None for name in TESTS}


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The least values and how many are kept. None takes the card's of the CLIP, else the published code's, or the paper's.

    image, direction, caption: in [-1, 1]; keep: the most of a pair, 1 or more.
    """

    image: float | None = None
    direction: float | None = None
    caption: float | None = None
    keep: int | None = None

    def __post_init__(self) -> None:
        """Raises ``MethodError`` for a value out of range."""
        for name in ("image", "direction", "caption"):
            value = getattr(self, name)
            if value is not None and not -1 <= value <= 1:
                raise MethodError(f"min_{name}={value} is out of range: CLIP's cosines are from -1 to 1")
        if self.keep is not None and self.keep < 1:
            raise MethodError(f"keep={self.keep} is out of range: it must be 1 or more")

    def settled(self, card: Mapping[str, Any], *, paper: bool = False) -> tuple[Bounds, dict[str, str]]:
        """All values filled, and for each whether it was given, or is the card's, the code's or the paper's. With ``paper``
        the card is not asked.
        """
        published = ("paper", PAPER) if paper else ("code", CODE)
        values, origin = {}, {}
        for name in (field.name for field in fields(self)):
            choices = {
                "given": getattr(self, name),
                "card": None if paper else card.get(name),
                published[0]: published[1][name],
            }
            origin[name] = next(source for source, value in choices.items() if value is not None)
            values[name] = choices[origin[name]]
        return Bounds(**values), origin

    def of(self, test: str) -> float:
        """The threshold of a score."""
        value = getattr(self, "caption" if test in ("before", "after") else test)
        assert value is not None, "settled() fills it"
        return value


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a candidate: the tests that it ``fails``, and, where it fails none, its ``rank`` in its pair, from 0."""

    kept: bool
    fails: tuple[str, ...] = ()
    rank: int | None = None

    @property
    def why(self) -> str:
        """In a word: kept, outranked, or the first test that it fails."""
        return "kept" if self.kept else self.fails[0] if self.fails else "outranked"


def judge(scores: Scores, bounds: Bounds) -> tuple[str, ...]:
    """The tests that a candidate fails, in the order of ``TESTS``. What is no number fails."""
    return tuple(name for name in TESTS if not getattr(scores, name) >= bounds.of(name))


def choose(candidates: Iterable[tuple[str, str, Scores]], bounds: Bounds) -> dict[str, Verdict]:
    """The verdict on each candidate (id, pair, scores), by its id.

    Of those that fail no test the ``keep`` with the greatest direction are kept, of equal ones those whose id comes first.
    """
    verdicts: dict[str, Verdict] = {}
    passed: dict[str, list[tuple[float, str]]] = {}
    for name, pair, scores in candidates:
        fails = judge(scores, bounds)
        if fails:
            verdicts[name] = Verdict(kept=False, fails=fails)
        else:
            passed.setdefault(pair, []).append((-scores.direction, name))
    assert bounds.keep is not None
    for several in passed.values():
        for rank, (_, name) in enumerate(sorted(several)):
            verdicts[name] = Verdict(kept=rank < bounds.keep, rank=rank)
    return verdicts
