"""The cases of the measurement of inversions, and their prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count as numbers
from random import Random
from typing import Any

from showtell import scenes
from showtell.scenes import draw

TABLES, REPLACED, RECOLOURED, SEVERAL, REAL = 71_000, 72_000, 73_000, 74_000, 75_000
"""First seeds; no other measurement uses these thousands."""
TUNING = 31_000_000
"""First seed, in the training split, of the cases that settings are chosen on; no training draws it."""
REAL_EACH = 48
"""Real pictures of each class."""


@dataclass(frozen=True, kw_only=True)
class WordedCase:
    """A case whose edit is told by describing both pictures, each thing with its place."""

    seed: int
    case: scenes.Case

    @property
    def kind(self) -> str:
        """What the first thing that is edited is in the end."""
        edit = self.case.edits[0]
        return str(edit.to if edit.action == "replace" else edit.kind)

    def target(self, marked: bool = True) -> str:
        """What the picture is to show; ``marked``: with brackets around the nouns of what changes."""
        return _told(self.case.plan.after, self._changed if marked else set())

    def source(self, marked: bool = True) -> str:
        """What the picture shows, likewise."""
        return _told(self.case.plan.before, self._changed if marked else set())

    @property
    def _changed(self) -> set[str]:
        before = {thing.key: thing for thing in self.case.plan.before.things}
        return {str(thing.key) for thing in self.case.plan.after.things if before.get(thing.key) != thing}


def _told(scene: scenes.Scene, changed: set[str]) -> str:
    phrase = scenes.caption(scene, places=True)
    marked = {number for number, region in phrase.marks if region in changed}
    told, words = "", phrase.text.split(" ")
    # The world's captions have no mark of punctuation but the comma, which counts as a word of its own.
    number = 0
    for word in words:
        bare = word.removesuffix(",")
        shown = f"[{bare}]" if number in marked else bare
        told += f" {shown}{',' if bare != word else ''}"
        number += 2 if bare != word else 1
    return told.strip()


def pictures(count: int, *, split: str = "heldout") -> list[tuple[int, scenes.Case]]:
    """Cases whose pictures are reconstructed."""
    return [(seed, scenes.sample(seed, split=split)) for seed in range(TABLES, TABLES + count)]


def edits(count: int, *, split: str = "heldout") -> list[WordedCase]:
    """Single edits: of each twelve, eight replace a thing, by each kind in turn, and four recolour one."""
    replaced, recoloured = (TUNING, TUNING + 100_000) if split == "train" else (REPLACED, RECOLOURED)
    queues: dict[str, list[WordedCase]] = {kind: [] for kind in scenes.KINDS}
    source, colours, found = _drawn(replaced, "replace", split), _drawn(recoloured, "recolour", split), []
    wanted = [*scenes.KINDS, *[None] * 4]
    for i in range(count):
        kind = wanted[i % len(wanted)]
        if kind is None:
            found.append(next(colours))
            continue
        while not queues[kind]:
            one = next(source)
            queues[one.kind].append(one)
        found.append(queues[kind].pop(0))
    return found


def _drawn(first: int, action: str, split: str) -> Iterator[WordedCase]:
    for seed in numbers(first):
        yield WordedCase(seed=seed, case=scenes.sample(seed, actions=[action], split=split))


def several(count: int) -> list[WordedCase]:
    """Scenes with two or three things of one kind, all of which become another kind, or of one colour (Figure 7)."""
    return [WordedCase(seed=SEVERAL + i, case=_several(SEVERAL + i, 2 + i % 2, i % 4 < 2)) for i in range(count)]


def _several(seed: int, things: int, replace: bool) -> scenes.Case:
    """The case of a seed: as many things of one kind, of as many colours, in places of their own."""
    rng = draw.rng_for(seed, "heldout")
    while True:
        scene = _of_one_kind(rng, things)
        kind = scene.things[0].kind
        other = rng.choice([one for one in scenes.KINDS if one != kind])
        held = [thing.colour for thing in scene.things]
        colour = rng.choice([one for one in scenes.COLOURS if one not in held])
        told: dict[str, Any] = (
            {"action": "replace", "to": other} if replace else {"action": "recolour", "colour": colour}
        )
        made = [scenes.Edit(kind=kind, kind_colour=one, **told) for one in held]
        plan = draw.plan(scene, made, [scenes.wordings(edit)[0] for edit in made])
        case = scenes.Case(plan=plan)
        if all(mask.any() for mask in case.masks):
            return case


def _of_one_kind(rng: Random, things: int) -> scenes.Scene:
    scene = draw.draw_scene(rng, things=things)
    kind, colours = rng.choice(scenes.KINDS), rng.sample(list(scenes.COLOURS), things)
    for thing, colour in zip(scene.things, colours, strict=True):
        scene = scene.with_thing(dataclasses.replace(thing, kind=kind, colour=colour, shade=(0.0, 0.0, 0.0)))
    return scene


def real(kinds: Sequence[str], each: int = REAL_EACH) -> tuple[list[Any], list[str]]:
    """Real pictures, with their classes: scenes in which a thing was replaced by one of that kind, as the edits are to do."""
    left = dict.fromkeys(kinds, each)
    plans, names = [], []
    for seed in numbers(REAL):
        if not any(left.values()):
            break
        plan = draw.draw_plan(draw.rng_for(seed, "heldout"), actions=["replace"])
        kind = str(plan.edits[0].to)
        if left.get(kind):
            left[kind] -= 1
            plans.append(plan.after)
            names.append(kind)
    rendered = [part for i in range(0, len(plans), 64) for part in scenes.render(plans[i : i + 64])]
    return rendered, names


CASES: dict[str, Callable[[int], list[WordedCase]]] = {
    "edits": edits,
    "several": several,
    "training": lambda count: edits(count, split="train"),
}
"""The kinds of cases: name -> its first so many."""
