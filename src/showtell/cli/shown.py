"""What the demo shows instead of telling: edits learned from one pair each, on pictures that they were not learned from."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell import images, scenes
from showtell.cli import gallery, outputs, sheet

if TYPE_CHECKING:
    from PIL import Image

    from showtell.cli.gallery import Exhibit
    from showtell.editor import Editor
    from showtell.edits import Edit
    from showtell.learning import Learnt

STYLE = "mosaic"
"""The style that the demo shows: one that leaves colours, so that words beside it can be seen at work."""
NEW = 3
"""New scenes that the scene's edit is repeated on."""
FIRST = 1000
"""Added to the demo's seed, for scenes that none of its other cases has."""
DRAWN = ("drawing.png", "drawing-ink.png", "drawing-village.png", "drawing-field.png")
"""A drawing before and after an edit, and others by the same hand, all made with another program."""
SETTINGS: dict[str, Any] = {"steps": 160}
"""What is not as the model card has it: fewer steps, so that the demo takes less than a minute on two cores."""
DRAWN_SETTINGS: dict[str, Any] = {"steps": 150}
"""The same for the drawings, which are further from what the starter knows."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A pair that shows an edit, ``said`` in words, and what the edit is repeated on."""

    name: str
    said: str
    pair: tuple[images.Picture, images.Picture]
    data: tuple[bytes, bytes]
    tests: list[Exhibit]
    settings: dict[str, Any]

    @property
    def pair_files(self) -> tuple[str, str]:
        """Names of the pair's pictures in the demo's folder."""
        return f"shown-{self.name}-before.png", f"shown-{self.name}-after.png"

    @property
    def file(self) -> str:
        """Name of the learned instruction there."""
        return f"{self.name}.safetensors"

    @property
    def files(self) -> list[str]:
        """Everything that it leaves there."""
        return [*self.pair_files, self.file, *(name for test in self.tests for name in test.files)]


@dataclass(frozen=True, kw_only=True)
class Taught:
    """A lesson, what was learned from it, in how many seconds, and its tests' edits."""

    lesson: Lesson
    found: Learnt
    seconds: float
    edits: list[Edit]


def lessons(seed: int, folder: Path) -> list[Lesson]:
    """A style on a held-out scene, for new scenes and one that words change further; and a pair of drawings."""
    first = seed + FIRST
    case = _styled(first)
    name = STYLE
    cases = [scenes.apply(case, to=first + i) for i in range(1, NEW + 1)]
    told = [f"<{name}>"] * NEW
    local = scenes.sample(first + NEW + 1, actions=["recolour"])
    hybrid = scenes.apply([*case.edits, *local.edits], to=first + NEW + 1)
    cases.append(hybrid)
    told.append(f"<{name}> {hybrid.instructions[1]}")
    tests = [
        gallery.exhibit(f"shown-{name}-{i}", ".png", outputs.png(c.before), [words], folder, c)
        for i, (c, words) in enumerate(zip(cases, told, strict=True), 1)
    ]
    data = (outputs.png(case.before), outputs.png(case.after))
    before, after, *others = ((Path(__file__).parent / "pictures" / source).read_bytes() for source in DRAWN)
    drawn = [gallery.exhibit(f"shown-ink-{i}", ".png", other, ["<ink>"], folder) for i, other in enumerate(others, 1)]
    return [
        _lesson(name, case.instructions[0], data, tests, SETTINGS, folder),
        _lesson("ink", "a drawing in ink", (before, after), drawn, DRAWN_SETTINGS, folder),
    ]


def _styled(seed: int) -> scenes.Case:
    """The first case from this seed on whose edit is that style."""
    return next(
        case
        for case in (scenes.sample(seed + i, actions=["style"]) for i in itertools.count())
        if case.edits[0].to == STYLE
    )


def _lesson(
    name: str, said: str, data: tuple[bytes, bytes], tests: list[Exhibit], settings: dict[str, Any], folder: Path
) -> Lesson:
    before, after = (images.open_picture(side) for side in data)
    made = Lesson(name=name, said=said, pair=(before, after), data=data, tests=tests, settings=settings)
    # The files are written only at the end, but the learned instruction must name them.
    before, after = (
        replace(picture, path=str(folder / file)) for picture, file in zip(made.pair, made.pair_files, strict=True)
    )
    return replace(made, pair=(before, after))


def teach(editor: Editor, lesson: Lesson, folder: Path, *, seed: int, tick: Callable[..., None]) -> Taught:
    """Learn from the pair, and edit the tests. An edit that fails ends the demo."""
    from showtell import learning
    from showtell.recipe import PartRecord, readable

    began = time.monotonic()
    found = learning.study(
        editor, lesson.pair, name=lesson.name, seed=seed, **lesson.settings,
        callback=lambda i, n, loss: tick(i, n, f"loss {loss:.4f}"),
    )  # fmt: skip
    seconds = time.monotonic() - began
    # Recipes name the file that will be written.
    part = PartRecord(path=readable(str(folder / lesson.file)), sha256=found.look.sha256)
    found.look = dataclasses.replace(found.look, parts=(part,))
    edits = editor.edit(
        [test.picture for test in lesson.tests], [list(test.words) for test in lesson.tests], learned=found.look,
        seed=[seed + i for i in range(len(lesson.tests))],
    )  # fmt: skip
    for edit in edits:
        if isinstance(edit, Exception):
            raise edit
    return Taught(lesson=lesson, found=found, seconds=seconds, edits=edits)


def contents(taught: Taught) -> dict[str, bytes]:
    """Its files: the pair, the learned instruction, the tests and their edits."""
    from showtell import learned_file

    lesson = taught.lesson
    found = dict(zip(lesson.pair_files, lesson.data, strict=True))
    found[lesson.file] = learned_file.to_bytes(taught.found.look)
    for test, edit in zip(lesson.tests, taught.edits, strict=True):
        found |= {test.files[0]: test.data, test.files[1]: edit.png()}
    return found


def figures(taught: Sequence[Taught]) -> dict[str, Any]:
    """How each edit was learned, and its tests against the truth where that is known."""
    told: list[dict[str, Any]] = []
    for item in taught:
        lesson, how = item.lesson, item.found.look.how
        cases = [_judged(gallery.entry(test, edit)) for test, edit in zip(lesson.tests, item.edits, strict=True)]
        kept = {name: how[name] for name in ("steps", "steps_done", "kept_step", "kept_loss")}
        told.append({
            "learned": lesson.file, "pair": list(lesson.pair_files), "said": lesson.said, **kept,
            "first_loss": item.found.checks[0][1], "seconds": round(item.seconds, 1), "notes": item.found.notes,
            "cases": cases,
        })  # fmt: skip
    known = [case for lesson in told for case in lesson["cases"] if case["right"] is not None]
    return {"count": len(known), "right": sum(case["right"] for case in known), "lessons": told}


def _judged(case: dict[str, Any]) -> dict[str, Any]:
    """Right only where what was learned and what was said are both right: a style, being everywhere, outweighs the rest."""
    if case["right"] is None:
        return case
    return {**case, "right": case["right"] and all(error < scenes.SUCCESS_ERROR for error in case["per_edit"])}


def page(taught: Sequence[Taught], told: dict[str, Any]) -> Image.Image:
    """The lower part of the contact sheet: each pair, and what its edit does to other pictures."""
    pages = []
    for item, entry in zip(taught, told["lessons"], strict=True):
        name, cases = item.lesson.name, entry["cases"]
        tests = zip(item.lesson.tests, item.edits, cases, strict=True)
        cards = [_pair_card(item, entry), *(_card(*test) for test in tests)]
        verdict = f"{sum(bool(case['right']) for case in cases)} of {len(cases)} come out right"
        if all(case["right"] is None for case in cases):
            verdict = "drawn with another program, so that no truth is known"
        subtitle = f"<{name}> is what was learned from the pair, and nothing else was said: {verdict}"
        if any(test.words[0] != f"<{name}>" for test in item.lesson.tests):
            subtitle = f"<{name}> is what was learned from the pair, once with words beside it: {verdict}"
        pages.append(sheet.draw(f"... by showing: {item.lesson.said}", cards, subtitle=subtitle, columns=3))
    return sheet.stack(pages)


def _card(test: Exhibit, edit: Edit, case: dict[str, Any]) -> sheet.Card:
    card = gallery.card(test, edit, case)
    if len(case.get("per_edit", ())) < 2:
        return card
    learned, told = case["per_edit"]
    return replace(card, note=f"error of what was learned {learned:.3f}, of what the words say {told:.3f}")


def _pair_card(item: Taught, entry: dict[str, Any]) -> sheet.Card:
    before, after = item.lesson.pair
    return sheet.Card(
        title=f"the pair, learned as <{item.lesson.name}>",
        pictures=[("before", before.rgb), ("after", after.rgb)],
        note=f"{entry['steps_done']} steps in {item.seconds:.0f} s, loss {entry['first_loss']:.3f} to "
        f"{entry['kept_loss']:.3f}",
    )
