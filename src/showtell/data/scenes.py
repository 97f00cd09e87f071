"""Drawn scenes as a data set: the one whose truth is known, and that every machine has."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .. import scenes
from .rows import Dataset, Row, dataset

if TYPE_CHECKING:
    from PIL import Image

FIRST = 81_000
"""The first held-out seed: no other measurement takes seeds from here on."""


def load(
    *, limit: int | None = 100, edits: int = 1, first: int = FIRST, actions: tuple[str, ...] | None = None
) -> Dataset:
    """``limit`` held-out scenes (100 for None) with ``edits`` instructions each, of the seeds ``first``, ``first`` + 1, ...

    ``actions`` restricts the kinds of edit (``scenes.ACTIONS``). The pair that shows the edit is the same edit on another scene.
    Keywords are in brackets. Raises ``UsageError`` for counts that scenes cannot draw.
    """
    count = 100 if limit is None else limit
    rows = [_row(seed, edits, actions) for seed in range(first, first + count)]
    return dataset("scenes", rows, source="")


def _row(seed: int, edits: int, actions: tuple[str, ...] | None) -> Row:
    case = scenes.sample(seed, edits=edits, actions=actions)
    return Row(
        id=f"scene-{seed}" if edits == 1 else f"scene-{seed}-{edits}",
        before=lambda: case.before,
        after=lambda: case.after,
        mask=lambda: np.any(case.masks, axis=0),
        pair=partial(_pair, case, seed),
        instructions=tuple(marked(text, word) for text, word in zip(case.instructions, case.keywords, strict=True)),
        source_caption=case.captions[0],
        target_caption=case.captions[1],
        group="+".join(sorted({edit.action for edit in case.edits})),
        truth=case,
    )


def _pair(case: scenes.Case, seed: int) -> tuple[Image.Image, Image.Image]:
    other = scenes.apply(case, to=1_000_000 + seed)
    return other.before, other.after


def marked(text: str, keyword: str) -> str:
    """The instruction with the last place of its keyword in brackets; as it is where the word does not stand in it."""
    head, found, tail = text.rpartition(keyword)
    return f"{head}[{found}]{tail}" if keyword and found else text
