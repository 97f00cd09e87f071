"""Triplets out of the scenes' grammar: no model is asked, and the true pictures of each are at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from .. import scenes
from ..data.triplets import Triplet
from ..errors import UsageError

Places = Literal["auto", "always", "never"]


def draw(
    count: int,
    *,
    first: int = 0,
    split: Literal["train", "heldout"] = "train",
    edits: int = 1,
    actions: Sequence[str] = (),
    places: Places = "auto",
    told: Callable[[int, int], None] = lambda done, total: None,
) -> list[Triplet]:
    """The cases of the seeds ``first``, ``first`` + 1 ... as triplets, ``p000000`` the first of them.

    ``places``: whether captions say where each thing is ("a red star in the top left"); "auto" says it only where the two
    captions would else be the same. Several ``edits`` are one instruction with commas, as InstructPix2Pix takes them.
    Raises ``UsageError`` for what scenes cannot draw.
    """
    if count < 1 or first < 0:
        raise UsageError(f"count is {count} and first {first}: one scene is the least, and seeds start at 0")
    found = []
    for number in range(count):
        found.append(_triplet(number, first + number, split, edits, tuple(actions), places))
        told(number + 1, count)
    return found


def _triplet(number: int, seed: int, split: str, edits: int, actions: tuple[str, ...], places: Places) -> Triplet:
    case = scenes.sample(seed, edits=edits, actions=actions or None, split=split)
    source, target = _captions(case.plan, places)
    return Triplet(
        id=f"p{number:06d}",
        source_caption=source,
        instruction=", ".join(case.instructions),
        target_caption=target,
        origin="scenes",
        scene=seed,
        split=split,
        edits=edits,
        actions=actions,
        group="+".join(sorted({edit.action for edit in case.edits})),
    )


def _captions(plan: scenes.Plan, places: Places) -> tuple[str, str]:
    """Both captions, with or without places: always the same way in both, so that they differ in the edit alone."""
    plain, placed = (
        tuple(scenes.caption(scene, places=said).text for scene in (plan.before, plan.after)) for said in (False, True)
    )
    source, target = placed if places == "always" or (places == "auto" and plain[0] == plain[1]) else plain
    return source, target
