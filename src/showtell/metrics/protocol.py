"""What a figure is only whole with: the model, the input size, the preprocessing, the range and the reduction.

A :class:`Protocol` lists measures; ``load`` turns it into a :class:`Meter`, which holds the models and measures edited pictures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal
from typing import Protocol as Shape

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from ..scenes import Case


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One column of figures: a function of this package with everything that its value depends on.

    ``name`` is the column's; ``function`` the name in ``showtell.metrics``; ``model`` the weights that it takes, "" for none;
    ``input`` how pictures become its input, in words; ``where`` the pixels that count; ``range`` the values it can take;
    ``reduction`` how pictures become one figure: the mean or the median over those where it is defined, or one figure of the
    set. ``better`` says which way is better. ``label`` is how tables call it. ``against`` says what a result is compared with,
    "" where that is in the function's name; ``options`` are the function's other choices, name by name.
    """

    name: str
    function: str
    label: str
    model: str = ""
    input: str = "the picture's own size, RGB in [0, 1]"
    where: Literal["everywhere", "inside the mask", "outside the mask"] = "everywhere"
    range: str = ""
    reduction: Literal["mean", "median", "set"] = "mean"
    better: Literal["higher", "lower"] = "higher"
    scale: float = 1.0
    against: Literal["", "the input", "the true picture"] = ""
    options: tuple[tuple[str, str | int | float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A named list of measures. ``note`` says where it comes from and what differs from there."""

    name: str
    measures: tuple[Measure, ...]
    note: str = ""

    def describe(self) -> dict[str, Any]:
        """Everything about it, as JSON; it goes into every result."""
        return {
            "name": self.name, "note": self.note, "measures": [asdict(m) for m in self.measures], "digest": self.digest,
        }  # fmt: skip

    @property
    def digest(self) -> str:
        """A hash of all that a value depends on: results of another digest must not be mixed with these."""
        told = json.dumps([self.name, [asdict(m) for m in self.measures]], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(told.encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """An edited picture and what it is measured against: all pictures RGB of one size, ``mask`` (H, W) bool of that size.

    What is not known is empty or None; a measure that needs it has then no value.
    """

    before: Image.Image
    result: Image.Image
    after: Image.Image | None = None
    mask: np.ndarray | None = None
    source_caption: str = ""
    target_caption: str = ""
    pair: tuple[Image.Image, Image.Image] | None = None
    group: str = ""
    truth: Case | None = None


class Meter(Shape):
    """A protocol with its models loaded."""

    protocol: Protocol
    problems: list[str]

    def measure(self, examples: Sequence[Example]) -> list[dict[str, float | None]]:
        """Of each picture, column -> value; None where the value is not defined (no mask, no direction, nothing outside)."""
        ...

    def features(self, examples: Sequence[Example]) -> list[dict[str, list[float]]]:
        """Of each picture, what the protocol's figures of a whole set are made of: column -> features."""
        ...

    def use_reals(self, reals: Mapping[str, Sequence[Callable[[], Image.Image]]]) -> None:
        """Compare sets with real pictures of each group, where a data set has them, and not with each row's true picture."""
        ...

    def entering(self, features: Sequence[Mapping[str, Sequence[float]]]) -> int:
        """How many of these pictures enter the figures of the set."""
        ...

    def overall(
        self, features: Sequence[Mapping[str, Sequence[float]]], groups: Sequence[str]
    ) -> dict[str, float | None]:
        """The figures of a whole set, column -> value; None where there are too few."""
        ...
