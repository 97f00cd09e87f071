"""Learning an edit for the page: kept while it goes on, shown as it grows, in the library when it is done."""

from __future__ import annotations

import contextlib
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import learning
from ..errors import ModelError, ShowtellError, TextError
from ..pairs import Pairs
from .library import clean_name
from .running import Update
from .workshop import INSTRUCT

if TYPE_CHECKING:
    from PIL import Image

    from ..editor import Editor
    from ..learned import LearnedInstruction
    from .library import Entry, Library
    from .running import Run
    from .unfinished import Lesson, Unfinished
    from .workshop import Workshop

#: Seconds between two looks at the curve.
_PACE = 0.5
#: How much of the loss before the curve keeps at each step: single losses depend mostly on their noise level.
_SMOOTH = 0.9
#: Pictures of the growth that are shown.
MOST_GROWN = 8
#: Steps of a picture that shows the growth.
_GROWN_STEPS = 12


@dataclass(kw_only=True)
class Growth:
    """How a learning grows: the smoothed ``losses`` and the ``checks``, (step, loss) each, and ``pictures`` (step, picture)."""

    losses: list[tuple[int, float]] = field(default_factory=list)
    checks: list[tuple[int, float]] = field(default_factory=list)
    pictures: list[tuple[int, Image.Image]] = field(default_factory=list)

    def copy(self) -> Growth:
        """As it is now."""
        return Growth(losses=self.losses[:], checks=self.checks[:], pictures=self.pictures[:])


def free_name(library: Library, name: str, otherwise: str = "look") -> str:
    """A name for what is to be learned: that one, cleaned, if it is free. Raises ``TextError`` if it is taken."""
    if not name.strip():
        taken = {entry.name for entry in library.list()}
        return next(n for n in (otherwise, *(f"{otherwise}-{i}" for i in range(2, 10_000))) if n not in taken)
    cleaned = clean_name(name)
    if any(entry.name == cleaned for entry in library.list()):
        raise TextError(f"<{cleaned}> is in your library already: choose another name")
    return cleaned


def learn(
    run: Run, workshop: Workshop, library: Library, unfinished: Unfinished, lesson: Lesson
) -> tuple[Entry, list[str]]:
    """Learn a lesson, or go on with it; the library's entry, and notes. Raises as a learning does.

    What was learned is kept from the first step on; stopped, killed or out of time, the lesson stays among the unfinished ones.
    """
    if lesson.model != workshop.names[INSTRUCT]:
        name = Path(lesson.model).name
        raise ModelError(f"this edit was begun with another model ({name}): start the studio with it to go on")
    with workshop.at_work(INSTRUCT) as editor, unfinished.running(lesson):
        run.begin()
        pairs = Pairs.of(lesson.shown())
        watch = _Watch(run, editor, pairs)
        found = learning.study(
            editor, pairs, name=lesson.name, checkpoint=lesson.checkpoint, resume=lesson.checkpoint.exists(),
            callback=watch.step, on_check=watch.check, cancel=run.cancelled, **lesson.options,
        )  # fmt: skip
    entry = _kept(library, found.look, lesson.name)
    unfinished.finish(lesson.id)
    return entry, found.notes


def _kept(library: Library, look: LearnedInstruction, name: str) -> Entry:
    """In the library, under another name where that one was taken meanwhile: what was learned is not lost."""
    for other in (name, *(f"{name[:80]}-{number}" for number in range(2, 100))):
        with contextlib.suppress(TextError):
            return library.add(look, other)
    return library.add(look, f"{name[:80]}-{secrets.token_hex(4)}")


class _Watch:
    """Tells of a learning: its curve at every other moment, and its picture at every check."""

    def __init__(self, run: Run, editor: Editor, pairs: Pairs) -> None:
        self.run, self.editor, self.first = run, editor, pairs.items[0]
        self.growth, self._mean, self._told = Growth(), 0.0, 0.0

    def step(self, i: int, n: int, loss: float) -> None:
        seen = len(self.growth.losses)
        self._mean = loss if not seen else _SMOOTH * self._mean + (1 - _SMOOTH) * loss
        self.growth.losses.append((i, self._mean))
        if time.monotonic() - self._told > _PACE or i == n:
            self._told = time.monotonic()
            self.run.tell(Update(phase="learning, step", done=i, total=n, shown=self.growth.copy()))
        else:
            self.run.tell(Update(phase="learning, step", done=i, total=n))

    def check(self, step: int, loss: float, look: LearnedInstruction) -> None:
        self.growth.checks.append((step, loss))
        try:
            grown = self._grown(look)
        except ShowtellError:
            return  # a picture that cannot be drawn ends no learning
        self.growth.pictures.append((step, grown))
        del self.growth.pictures[1 : -MOST_GROWN + 1]  # the beginning stays, and the newest
        self._told = 0.0

    def _grown(self, look: LearnedInstruction) -> Any:
        steps = min(_GROWN_STEPS, self.editor._settle("ip2p", {})[0].num_inference_steps)
        return self.editor.edit(
            self.first.before, look, seed=0, num_inference_steps=steps, cancel=self.run.cancelled
        ).image
