"""A protocol with its models loaded: pictures in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import frechet, measuring
from .protocol import Example, Protocol


class ProtocolMeter:
    """Measures examples by ``protocol``; ``models`` holds the model of each measure's column (None for those that take none)."""

    def __init__(self, protocol: Protocol, models: Mapping[str, Any]) -> None:
        self.protocol = protocol
        self._models = dict(models)
        self._batch = measuring.Batch([])

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
        """Of each example, what each figure of a whole set is made of: column -> the result's features, then the true
        picture's. A column is missing where there is no true picture. Figures of the same features share the first one's
        column.
        """
        batch, found = self._of(examples), [{} for _ in examples]
        for column in {self._shared(measure.name) for measure in self._sets}:
            model = self._models[column]
            for told, result, truth in zip(
                found, batch.features(model, "result"), batch.features(model, "after"), strict=True
            ):
                if result is not None and truth is not None:
                    told[column] = [round(value, 7) for value in (*result.tolist(), *truth.tolist())]
        return found

    def overall(
        self, features: Sequence[Mapping[str, Sequence[float]]], groups: Sequence[str]
    ) -> dict[str, float | None]:
        """The figures of a whole set, column -> value; ``groups`` are the classes of class-conditional ones. None where the
        set, or any of its classes, has fewer than two pictures: a figure that leaves a class out is another figure.
        """
        return {m.name: self._one_of_set(m.function, self._shared(m.name), features, groups) for m in self._sets}

    def _one_of_set(
        self, function: str, column: str, features: Sequence[Mapping[str, Sequence[float]]], groups: Sequence[str]
    ) -> float | None:
        import torch

        known = [(told[column], group) for told, group in zip(features, groups, strict=True) if told.get(column)]
        classes = [group for _, group in known] if function == "class_frechet_distance" else [""] * len(known)
        if not known or any(classes.count(name) < 2 for name in set(classes)):
            return None
        result, truth = torch.tensor([row for row, _ in known], dtype=torch.float64).chunk(2, dim=1)
        return frechet.class_distance(result, classes, truth, classes)

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
