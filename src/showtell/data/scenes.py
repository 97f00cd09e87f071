"""Drawn scenes as a data set: the one whose truth is known, and that every machine has."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from .. import scenes
from .rows import Dataset, Row, dataset

if TYPE_CHECKING:
    from PIL import Image

FIRST = 81_000
"""The first held-out seed: no other measurement takes seeds from here on."""
LATER = {"split": "heldout"}
"""Options that came later: at these values they are no part of the settings, so that older results keep their fingerprints."""


def load(
    *,
    limit: int | None = 100,
    edits: int = 1,
    first: int = FIRST,
    actions: tuple[str, ...] | None = None,
    split: Literal["heldout", "train"] = "heldout",
) -> Dataset:
    """``limit`` scenes (100 for None) with ``edits`` instructions each, of the seeds ``first``, ``first`` + 1, ...

    ``actions`` restricts the kinds of edit (``scenes.ACTIONS``). ``split`` is the part of the world that they are drawn from:
    "heldout" for whatever is measured, "train" for whatever is learned. The pair that shows the edit is the same edit on another
    scene. Keywords are in brackets. Raises ``UsageError`` for counts that scenes cannot draw.
    """
    count = 100 if limit is None else limit
    rows = [row(seed, edits=edits, actions=actions, split=split) for seed in range(first, first + count)]
    return dataset("scenes", rows, source="")


def row(seed: int, *, edits: int = 1, actions: tuple[str, ...] | None = None, split: str = "heldout") -> Row:
    """The scene of a seed as a row. Pictures are drawn when they are opened: a row holds none of them."""
    plan = scenes.sample(seed, edits=edits, actions=actions, split=split).plan
    case = scenes.Case(plan=plan)
    return Row(
        id=f"scene-{seed}" if edits == 1 else f"scene-{seed}-{edits}",
        before=partial(_before, plan),
        after=partial(_after, plan),
        mask=partial(_mask, plan),
        pair=partial(_pair, plan, seed, split),
        instructions=tuple(marked(text, word) for text, word in zip(case.instructions, case.keywords, strict=True)),
        source_caption=case.captions[0],
        target_caption=case.captions[1],
        group="+".join(sorted({edit.action for edit in case.edits})),
        truth=case,
    )


def _before(plan: scenes.Plan) -> Image.Image:
    return scenes.Case(plan=plan).before


def _after(plan: scenes.Plan) -> Image.Image:
    return scenes.Case(plan=plan).after


def _mask(plan: scenes.Plan) -> np.ndarray:
    return np.any(scenes.Case(plan=plan).masks, axis=0)


def _pair(plan: scenes.Plan, seed: int, split: str) -> tuple[Image.Image, Image.Image]:
    other = scenes.apply(plan.edits, to=1_000_000 + seed, split=split)
    return other.before, other.after


def marked(text: str, keyword: str) -> str:
    """The instruction with the last place of its keyword in brackets; as it is where the word does not stand in it."""
    head, found, tail = text.rpartition(keyword)
    return f"{head}[{found}]{tail}" if keyword and found else text
