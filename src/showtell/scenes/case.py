"""Cases: what a user sees of the world. Pictures, words, exact masks and the measure of success."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from showtell.errors import ImageError, UsageError
from showtell.scenes.draw import Plan, draw_plan, draw_plan_like, rng_for
from showtell.scenes.edits import Edit
from showtell.scenes.render import SIZE, render, silhouettes
from showtell.scenes.world import Scene, Thing

SUCCESS_ERROR = 0.25
"""An edit is right inside when its squared error is below this share of the unedited picture's."""
SUCCESS_PSNR = 25.0
"""... and right outside when the picture there stays this near to the input (dB)."""
_CONTRAST = 0.008
"""Mean squared change inside a mask below which an edit could hardly be seen, so that such a case is drawn again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A before picture, instructions, and the truth.

    `before`, `after`: PIL pictures, 64×64. `instructions`: one string an edit. `masks`: one (64, 64) bool array an edit,
    true where that edit may change a pixel; outside all of them `after` equals `before`. `captions`: of before and after.
    `keywords`: for each instruction the word that names its thing. `edits`: the edits as data.
    """

    plan: Plan

    @property
    def edits(self) -> tuple[Edit, ...]:
        return self.plan.edits

    @property
    def instructions(self) -> list[str]:
        return [p.text for p in self.plan.phrases]

    @property
    def keywords(self) -> list[str]:
        return [p.keyword for p in self.plan.phrases]

    @property
    def captions(self) -> tuple[str, str]:
        return (self.plan.captions[0].text, self.plan.captions[1].text)

    @cached_property
    def _pixels(self) -> Tensor:
        return render([self.plan.before, self.plan.after])

    @cached_property
    def before(self) -> Image.Image:
        return _to_pil(self._pixels[0])

    @cached_property
    def after(self) -> Image.Image:
        return _to_pil(self._pixels[1])

    @cached_property
    def masks(self) -> list[np.ndarray]:
        return [m.numpy() for m in edit_masks(self.plan)]


def _to_pil(picture: Tensor) -> Image.Image:
    return Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy())


Covers = dict[Thing, Tensor]
"""How much of each pixel each thing covers, (H, W) in [0, 1]."""


def covers_of(plans: Sequence[Plan], *, size: int = SIZE) -> Covers:
    """The silhouettes of every thing in every plan, drawn at once."""
    things = list({t: None for p in plans for s in (p.before, p.after) for t in s.things})
    return dict(zip(things, silhouettes(things, size=size), strict=True)) if things else {}


def edit_masks(plan: Plan, *, size: int = SIZE, covers: Covers | None = None) -> Tensor:
    """The exact region of each edit: (number of edits, size, size), bool. `covers` saves drawing the silhouettes again.

    A thing's region is every pixel that it touches before or after. A background's region is what no thing fully covers
    both before and after, less the other edits' regions. A style's is the whole picture.
    """
    covers = covers_of([plan], size=size) if covers is None else covers
    masks: list[Tensor | None] = []
    for edit, touched in zip(plan.edits, _touched_keys(plan), strict=True):
        if edit.action == "background":
            masks.append(None)
        elif edit.action == "style":
            masks.append(torch.ones(size, size, dtype=torch.bool))
        else:
            things = [t for s in (plan.before, plan.after) for t in s.things if t.key in touched]
            masks.append((torch.stack([covers[t] for t in things]) > 0).any(0))
    known = [m for m in masks if m is not None]
    others = torch.stack(known).any(0) if known else torch.zeros(size, size, dtype=torch.bool)
    solid = [_solid(scene, covers, size) for scene in (plan.before, plan.after)]
    behind = ~(solid[0] & solid[1]) & ~others
    return torch.stack([behind if m is None else m for m in masks])


def _touched_keys(plan: Plan) -> list[set[int]]:
    """For each edit the keys of its thing: found by kind in the scene before, or new in the scene after."""
    old = {t.key for t in plan.before.things}
    added = iter(sorted(t.key for t in plan.after.things if t.key not in old))
    keys: list[set[int]] = []
    for edit in plan.edits:
        if edit.action == "add":
            keys.append({next(added)})
        else:
            same = [t for t in plan.before.things if t.kind == edit.kind and edit.kind_colour in (None, t.colour)]
            keys.append({t.key for t in same})
    return keys


def _solid(scene: Scene, covers: Covers, size: int) -> Tensor:
    if not scene.things:
        return torch.zeros(size, size, dtype=torch.bool)
    return (torch.stack([covers[t] for t in scene.things]) >= 1).any(0)


def _visible(case: Case) -> bool:
    change = (case._pixels[1] - case._pixels[0]).square().mean(0)
    return all(m.any() and float(change[torch.from_numpy(m)].mean()) > _CONTRAST for m in case.masks)


def sample(seed: int, *, edits: int = 1, actions: Sequence[str] | None = None, split: str = "heldout") -> Case:
    """The case of a seed: a scene, `edits` edits (1 to 4) with their words, the truth and the masks.

    actions: only these (`recolour`, `replace`, `remove`, `add`, `resize`, `move`, `background`, `style`). split: "heldout"
    for everything that is measured, "train" for everything that is learned or tuned.
    Raises UsageError for a count or a name that the world does not have.
    """
    rng = rng_for(seed, split)
    while True:
        case = Case(plan=draw_plan(rng, edits=edits, actions=actions))
        if _visible(case):
            return case


def apply(edits: Sequence[Edit] | Case, *, to: int, split: str = "heldout") -> Case:
    """The case that repeats `edits` (or a case's edits) on another scene, drawn by the seed `to` so that they make sense in it.

    Raises UsageError when no scene fits them.
    """
    rng = rng_for(to, split)
    repeated = edits.edits if isinstance(edits, Case) else tuple(edits)
    for _ in range(100):
        case = Case(plan=draw_plan_like(rng, repeated))
        if _visible(case):
            return case
    raise UsageError(
        f"found no scene in which these edits would be seen: {'; '.join(str(e.to_dict()) for e in repeated)}"
    )


@dataclass(frozen=True, kw_only=True)
class Score:
    """How near a picture comes to the truth.

    edit_error: squared error inside the mask over that of the unedited picture (0 is perfect, 1 is no edit at all).
    outside_psnr: PSNR in dB to the input outside the mask (infinite when identical, or when nothing is outside).
    per_edit: the score of each edit on its own mask (empty for a single edit).
    """

    edit_error: float
    outside_psnr: float
    per_edit: tuple[Score, ...] = ()

    @property
    def inside(self) -> bool:
        return self.edit_error < SUCCESS_ERROR

    @property
    def outside(self) -> bool:
        return self.outside_psnr >= SUCCESS_PSNR

    @property
    def success(self) -> bool:
        return self.inside and self.outside


def score(case: Case, picture: Image.Image) -> Score:
    """Score an edited picture against a case's truth. Raises ImageError when the picture's size is not the case's."""
    if picture.size != case.before.size:
        raise ImageError(
            f"the picture is {picture.size[0]}×{picture.size[1]}, the case is {SIZE}×{SIZE}: give it back at that size"
        )
    got, before, after = (np.asarray(p.convert("RGB"), np.float64) / 255 for p in (picture, case.before, case.after))
    union = np.any(case.masks, axis=0)
    outside = ~union
    psnr = math.inf
    if outside.any() and (error := float(np.square(got - before)[outside].mean())) > 0:
        psnr = -10 * math.log10(error)

    def inside_error(mask: np.ndarray) -> float:
        return float(np.square(got - after)[mask].sum() / np.square(before - after)[mask].sum())

    each = case.masks if len(case.masks) > 1 else []
    parts = tuple(Score(edit_error=inside_error(m), outside_psnr=psnr) for m in each)
    return Score(edit_error=inside_error(union), outside_psnr=psnr, per_edit=parts)
