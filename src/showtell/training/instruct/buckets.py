"""Frames by aspect ratio, and the order in which rows are learned from: a pure function of the seed and the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from showtell.errors import UsageError

Size = tuple[int, int]
_LONGEST = 2.5
"""Frames are at most this many times as long as wide; longer pictures are cropped."""
_RUN, _MIXED = 512, 4
"""Without shards of their own rows count as lying together in runs of this length; so many shards are shuffled together."""


def frames(resolution: int, multiple: int, *, several: bool = True) -> tuple[Size, ...]:
    """(width, height) of every frame: sides multiples of ``multiple``, areas as near ``resolution``² as that allows and never
    above it. The square one comes first; it is the only one unless ``several``.

    Raises ``UsageError`` for a resolution below ``multiple``.
    """
    side = resolution // multiple * multiple
    if side < multiple:
        raise UsageError(f"data.resolution is {resolution}: the model needs sides that are multiples of {multiple}")
    found = [(side, side)]
    for width in range(multiple, 2 * side + 1, multiple) if several else ():
        height = side * side // width // multiple * multiple
        if height and max(width, height) <= _LONGEST * min(width, height):
            found.append((width, height))
    return tuple(dict.fromkeys(found))


def nearest(size: Size, known: Sequence[Size]) -> int:
    """The index of the frame whose aspect ratio is the nearest, by its logarithm; of two, the larger or the earlier one."""
    ratio = math.log(size[0] / size[1])
    distances = [round(abs(ratio - math.log(w / h)), 9) for w, h in known]
    return min(range(len(known)), key=lambda i: (distances[i], -known[i][0] * known[i][1], i))


def cover(size: Size, frame: Size, at: tuple[float, float] = (0.5, 0.5)) -> tuple[float, float, float, float]:
    """The box (left, top, right, bottom), in float pixels of a picture of ``size``, that fills ``frame``: as large as it can be.

    ``at``: where it lies in what is left over, from 0 (left, top) to 1.
    """
    scale = max(frame[0] / size[0], frame[1] / size[1])
    width, height = min(size[0], frame[0] / scale), min(size[1], frame[1] / scale)
    left, top = (size[0] - width) * at[0], (size[1] - height) * at[1]
    return left, top, left + width, top + height


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """Which rows each step learns from.

    ``bucket``: the frame's index of each row; ``shard``: the shard of each row, or empty. Every step is of one bucket. The
    steps are shared out to the buckets in proportion to their rows; in each bucket every row comes once before any comes
    again, in a new order each time.
    """

    bucket: tuple[int, ...]
    batch_size: int
    seed: int
    kind: Literal["random", "shards"] = "random"
    shard: tuple[int, ...] = ()

    @cached_property
    def members(self) -> dict[int, np.ndarray]:
        """Rows of each bucket that has some, in the order of the data set."""
        all_of = np.asarray(self.bucket)
        return {int(b): np.flatnonzero(all_of == b) for b in np.unique(all_of)}

    def batch_at(self, step: int) -> tuple[int, list[int]]:
        """The frame's index, and ``batch_size`` rows."""
        bucket, turn = self.turn(step)
        rows, first = self.members[bucket], turn * self.batch_size
        found: list[int] = []
        while len(found) < self.batch_size:
            epoch, start = divmod(first + len(found), len(rows))
            found += _permutation(self, bucket, epoch)[start : start + self.batch_size - len(found)].tolist()
        return bucket, found

    def turn(self, step: int) -> tuple[int, int]:
        """The bucket of a step, and how many steps it has had before.

        The k-th step of a bucket of n rows stands at (2k + 1)/n, and steps are taken as they stand (Sainte-Laguë): so after
        any number of steps each bucket has had its share, but for rounding.
        """
        counts = {b: len(rows) for b, rows in self.members.items()}
        x = Fraction(2 * max(0, step - len(counts)), sum(counts.values()))
        taken = {b: max(0, math.ceil((x * n - 1) / 2)) for b, n in counts.items()}
        at = sum(taken.values())
        while True:
            bucket = min(counts, key=lambda b: (Fraction(2 * taken[b] + 1, counts[b]), b))
            if at == step:
                return bucket, taken[bucket]
            taken[bucket] += 1
            at += 1


@lru_cache(maxsize=64)
def _permutation(order: Order, bucket: int, epoch: int) -> np.ndarray:
    rows = order.members[bucket]
    draw = np.random.default_rng([order.seed, bucket, epoch])
    if order.kind == "random":
        return draw.permutation(rows)
    where = np.asarray(order.shard)[rows] if order.shard else np.zeros(len(rows), int)
    if len(np.unique(where)) == 1:
        where = np.arange(len(rows)) // _RUN
    shards = draw.permutation(np.unique(where))
    groups = [shards[i : i + _MIXED] for i in range(0, len(shards), _MIXED)]
    return np.concatenate([draw.permutation(rows[np.isin(where, group)]) for group in groups])
