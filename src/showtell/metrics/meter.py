"""A protocol with its models loaded: pictures in, values out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ImageError
from . import frechet, measuring
from .protocol import Example, Protocol

if TYPE_CHECKING:
    import torch
    from PIL import Image

_CHUNK = 64


class ProtocolMeter:
    """Measures examples by ``protocol``; ``models`` holds the model of each measure's column (None for those that take none)."""

    def __init__(self, protocol: Protocol, models: Mapping[str, Any]) -> None:
        self.protocol = protocol
        self._models = dict(models)
        self._batch = measuring.Batch([])
        self._reals: Mapping[str, Sequence[Callable[[], Image.Image]]] = {}
        self._of_reals: dict[tuple[Any, str], torch.Tensor] = {}
        #: Real pictures that could not be opened, one line each, and were left out.
        self.problems: list[str] = []

    def measure(self, examples: Sequence[Example]) -> list[dict[str, float | None]]:
        """Of each example, column -> value. None where an example lacks what the measure takes (a mask, a true picture,
        captions), or where its value is not defined; a PSNR of equal pictures is infinite.
        """
        batch = self._of(examples)
        columns = {
            measure.name: measuring.measure(batch, measure, self._models[measure.name])
            for measure in self.protocol.measures
            if measure.reduction != "set"
        }
        return [{name: values[i] for name, values in columns.items()} for i in range(len(batch.examples))]

    def features(self, examples: Sequence[Example]) -> list[dict[str, list[float]]]:
        """Of each example, what figures of a whole set are made of: column -> the result's features, and behind them the true
        picture's where there is one. Figures of the same features share the first one's column.
        """
        batch, found = self._of(examples), [{} for _ in examples]
        for column in {self._shared(measure.name) for measure in self._sets}:
            model = self._models[column]
            both = (batch.features(model, which) for which in ("result", "after"))
            for told, result, truth in zip(found, *both, strict=True):
                values = [*result.tolist(), *(() if truth is None else truth.tolist())]
                told[column] = [round(value, 7) for value in values]
        return found

    def use_reals(self, reals: Mapping[str, Sequence[Callable[[], Image.Image]]]) -> None:
        """Compare with real pictures of each group, from now on, instead of with the true picture of each row. ``reals`` opens
        them, group by group; that is done when a figure of the set is first asked for. What does not open is in ``problems``.
        """
        if reals is not self._reals:
            self._reals, self._of_reals, self.problems = reals, {}, []

    def entering(self, features: Sequence[Mapping[str, Sequence[float]]]) -> int:
        """How many of these pictures enter the figures of a set: all that were measured, or, where each is compared with its own
        true picture, those that have one.
        """
        return sum(any(self._enters(column, values) for column, values in told.items()) for told in features)

    def _enters(self, column: str, values: Sequence[float]) -> bool:
        return bool(self._reals) or len(values) > self._width(column)

    def _width(self, column: str) -> int:
        return int(self._models[column].model.config.projection_dim)

    def overall(
        self, features: Sequence[Mapping[str, Sequence[float]]], groups: Sequence[str]
    ) -> dict[str, float | None]:
        """The figures of a whole set, column -> value; ``groups`` are the classes of class-conditional ones. None where the set,
        or any of its classes, has fewer than two pictures on either side: a figure that leaves a class out is another figure.
        """
        return {m.name: self._one_of_set(m.function, self._shared(m.name), features, groups) for m in self._sets}

    def _one_of_set(
        self, function: str, column: str, features: Sequence[Mapping[str, Sequence[float]]], groups: Sequence[str]
    ) -> float | None:
        import torch

        model, width = self._models[column], self._width(column)
        known = [
            (told[column], group)
            for told, group in zip(features, groups, strict=True)
            if column in told and self._enters(column, told[column])
        ]
        result = torch.tensor([row[:width] for row, _ in known], dtype=torch.float64)
        classes = [group for _, group in known]
        if self._reals:
            parts = [(self._real(model, name), name) for name in dict.fromkeys(classes) if name in self._reals]
        else:
            parts = [(torch.tensor([row[width:]], dtype=torch.float64), name) for row, name in known]
        truths = [name for rows, name in parts for _ in range(len(rows))]
        if function == "frechet_distance":
            classes, truths = [""] * len(classes), [""] * len(truths)
        counts, of_truths = Counter(classes), Counter(truths)
        if not known or any(count < 2 or of_truths[name] < 2 for name, count in counts.items()):
            return None
        return frechet.class_distance(result, classes, torch.cat([rows for rows, _ in parts]), truths)

    def _real(self, model: Any, group: str) -> torch.Tensor:
        """The features of a group's real pictures, (N, p); opened a few at a time, once."""
        import torch

        if (model, group) not in self._of_reals:
            opens, parts = self._reals[group], []
            for first in range(0, len(opens), _CHUNK):
                pictures = [one for open_it in opens[first : first + _CHUNK] if (one := self._opened(open_it))]
                parts += [model.image_features(pictures)] if pictures else []
            none = torch.zeros(0, int(model.model.config.projection_dim))
            self._of_reals[model, group] = torch.cat([none, *(part.cpu() for part in parts)]).double()
        return self._of_reals[model, group]

    def _opened(self, open_it: Callable[[], Image.Image]) -> Image.Image | None:
        try:
            return open_it()
        except ImageError as error:
            self.problems.append(str(error))
            return None

    @property
    def _sets(self) -> list[Any]:
        return [measure for measure in self.protocol.measures if measure.reduction == "set"]

    def _shared(self, name: str) -> str:
        """The first column whose features are of the same model."""
        return next(m.name for m in self._sets if self._models[m.name] is self._models[name])

    def _of(self, examples: Sequence[Example]) -> measuring.Batch:
        """The batch of these examples: the last one again, with all that the networks said of it, if they are the same."""
        same = len(examples) == len(self._batch.examples)
        if not same or any(a is not b for a, b in zip(examples, self._batch.examples, strict=True)):
            self._batch = measuring.Batch(examples)
        return self._batch
