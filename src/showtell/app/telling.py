"""What the controls say, as a value: to be edited with, and to be read back from a result's recipe."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import images, recipe, schedulers
from ..errors import MethodError, TextError, UsageError
from . import painted
from .workshop import BASE, INSTRUCT

if TYPE_CHECKING:
    import numpy as np

    from ..edits import Edit
    from ..learned import LearnedInstruction
    from .library import Library
    from .limits import Limits
    from .running import Run
    from .workshop import Workshop

#: Controls that every method of the loop has under its own tuned value.
SCALES = ("num_inference_steps", "guidance_scale", "image_guidance_scale")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """An edit as the controls have it. ``lines`` are the instructions, or one description of the result for methods that take
    that. None, and a value that is the method's own, leave it to the method. ``masks`` are those painted for the lines, by
    their number; ``mask`` that for all.
    """

    lines: tuple[str, ...]
    method: str = "ip2p"
    seed: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    image_guidance_scale: float | None = None
    negative_prompt: str = ""
    scheduler: str | None = None
    fit: str = "fit"
    resolution: int | None = None
    weights: tuple[float, ...] = ()
    masks: dict[int, np.ndarray] = field(default_factory=dict)
    mask: np.ndarray | None = None
    source: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    def check(self, limits: Limits) -> None:
        """Raise one line for what goes beyond the studio's limits."""
        if not self.lines:
            raise TextError("say what is to change: write an instruction, one a line")
        if len(self.lines) > limits.instructions:
            raise TextError(
                f"{len(self.lines)} instructions are too many at once: write at most {limits.instructions} lines"
            )
        for number, line in enumerate(self.lines, start=1):
            limits.text(f"line {number}", line)
        limits.text("what it should not be", self.negative_prompt)
        limits.text("what the picture shows", self.source)
        if self.num_inference_steps is not None:
            limits.whole("steps", self.num_inference_steps, 1, limits.steps)

    def options(self, workshop: Workshop, kind: str) -> dict[str, Any]:
        """What ``Editor.edit`` is told beside the picture and the words. Raises ``MethodError``."""
        default = workshop.defaults(kind, self.method)
        names = {f.name for f in dataclasses.fields(default)}
        if self.resolution is not None and self.resolution > workshop.largest(kind):
            most = workshop.largest(kind)
            raise MethodError(f"size: {self.resolution} is too large for this model: at most {most} here")
        told: dict[str, Any] = {
            name: value
            for name in SCALES
            if name in names and (value := getattr(self, name)) is not None and value != getattr(default, name)
        }
        told |= {name: value for name, value in self.more.items() if name in names and value != getattr(default, name)}
        if self.scheduler and "scheduler" in names:
            told["scheduler"] = self.scheduler
        if getattr(default, "regions", False):
            if any(weight != 1 for weight in self.weights):
                told["weights"] = list(self.weights[: len(self.lines)])
            if any(number < len(self.lines) for number in self.masks):
                told["masks"] = [self.masks.get(number) for number in range(len(self.lines))]
        elif any(number < len(self.lines) for number in self.masks):
            raise MethodError(
                "a place was painted for a single line: choose a method that keeps each in its own place (foi)"
            )
        if getattr(default, "describes", False) and self.source.strip():
            told["source"] = self.source
        return told | {
            "method": self.method, "seed": self.seed, "negative_prompt": self.negative_prompt or None, "fit": self.fit,
            "resolution": self.resolution, "mask": self.mask,
        }  # fmt: skip

    @property
    def words(self) -> str | list[str]:
        """The instructions as ``Editor.edit`` takes them."""
        return self.lines[0] if len(self.lines) == 1 else list(self.lines)

    @property
    def painted(self) -> dict[int, np.ndarray]:
        """All that was painted, that for all lines under -1."""
        return {**self.masks, **({} if self.mask is None else {-1: self.mask})}

    @property
    def caption(self) -> str:
        """A few words for a strip of results."""
        text = ", ".join(self.lines)
        return text if len(text) <= 60 else f"{text[:57]}..."


def lines_of(text: str) -> tuple[str, ...]:
    """The instructions of a box of text: one a line."""
    return tuple(" ".join(line.split()) for line in (text or "").splitlines() if line.strip())


def kind_of(workshop: Workshop, method: str) -> str:
    """The kind of model that a method works with here. Raises ``MethodError``, ``ModelError``."""
    for kind in (INSTRUCT, BASE):
        if method in workshop.methods(kind):
            return kind
    if not workshop.has(INSTRUCT) or not workshop.has(BASE):
        workshop.editor(BASE if workshop.has(INSTRUCT) else INSTRUCT)  # says what is missing
    every = (*workshop.methods(INSTRUCT), *workshop.methods(BASE))
    raise MethodError(f"method {method!r:.40} is not here: choose one of {', '.join(every)}")


def tell(
    run: Run, workshop: Workshop, library: Library, picture: images.Picture, wish: Wish, **options: Any
) -> tuple[Edit, float]:
    """Edit a picture as wished; the edit, and the seconds that it took. ``options`` are further ones of ``Editor.edit``."""
    looks = called(library, wish.lines)
    with workshop.at_work(kind_of(workshop, wish.method)) as editor:
        run.begin()
        began = time.monotonic()
        told = wish.options(workshop, kind_of(workshop, wish.method)) | options
        edit = editor.edit(
            picture, wish.words, learned=looks or None, callback=run.steps(editor), on_phase=run.phase,
            cancel=run.cancelled, **told,
        )  # fmt: skip
    return edit, time.monotonic() - began


def called(library: Library, lines: Sequence[str]) -> dict[str, LearnedInstruction]:
    """The learned edits that the words call by ``<name>``; recipes know them by their files' bare names. Raises ``TextError``."""
    return {name: _bare(look) for name, look in library.looks(" ".join(lines)).items()}


def _bare(look: LearnedInstruction) -> LearnedInstruction:
    """Without the folder of its file, which is nobody else's business."""
    parts = tuple(dataclasses.replace(part, path=part.path and Path(part.path).name) for part in look.parts)
    return dataclasses.replace(look, parts=parts)


@dataclass(frozen=True, kw_only=True)
class Restored:
    """A recipe as controls: the ``wish``, the ``input``, the ``masks`` painted on it, and what could not be restored."""

    wish: Wish
    input: recipe.FileRecord
    masks: dict[int, np.ndarray]
    notes: tuple[str, ...]


def restored(png: Path, library: Library, limits: Limits) -> Restored | None:
    """The controls of a result's recipe; None for a picture that carries none. Raises ``FileFormatError``."""
    made = recipe.peek(png, name="the picture")
    if made is None:
        return None
    notes = []
    for record in made.learned:
        there = [library.by_sha(part.sha256) for part in record.parts]
        if len(there) != 1 or there[0] is None:
            notes.append(f"<{record.name}> is not in your library: import its file to make this edit again")
        elif there[0].name != record.name:
            notes.append(f"<{record.name}> is called <{there[0].name}> in your library: write that name")
    masks = painted.masks_of(png, limits=limits)
    if (made.mask is not None or any(made.masks)) and not masks:
        notes.append("it was limited by a mask, which a recipe names but does not hold: paint it again")
    if made.noise != "random":
        notes.append("it used the noise that was recorded while learning; here noise is random")
    told = {name: value for name, value in made.method.parameters.items() if name not in SCALES}
    numbers: dict[str, Any] = {name: made.method.parameters.get(name) for name in SCALES}
    wish = Wish(
        lines=made.instructions, method=made.method.name, seed=made.seed, negative_prompt=made.negative_prompt,
        scheduler=_scheduler(made), fit=made.fit, resolution=made.resolution, weights=made.weights,
        source=made.source or "", more=told, **numbers,
    )  # fmt: skip
    return Restored(wish=wish, input=made.input, masks=masks, notes=tuple(notes))


def _scheduler(made: recipe.Recipe) -> str | None:
    """The scheduler's name, if it was chosen."""
    if made.method.origin.get("scheduler") != "given":
        return None
    return schedulers.short_name(str(made.scheduler.get("_class_name") or "")) or None


def whole(value: Any) -> int | None:
    """A number of a control as a whole one; None where the control is empty. Raises ``UsageError``."""
    if value is None or value == "":
        return None
    try:
        number = int(value) if isinstance(value, int) else float(value)
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):  # no number, or one that has no end
        pass
    raise UsageError(f"{value!r:.40} is not a whole number")


def number(value: Any, name: str, otherwise: float | None = None) -> float | None:
    """A number of a control; ``otherwise`` where the control is empty. Raises ``UsageError``."""
    found = numbers(value, name)
    if len(found) > 1:
        raise UsageError(f"{name}: {value!r:.60} is not one number")
    return found[0] if found else otherwise


def numbers(value: Any, name: str) -> tuple[float, ...]:
    """A list of numbers; empty where there is none. Raises ``UsageError``."""
    if value is None or value == "":
        return ()
    told = value if isinstance(value, (list, tuple)) else [value]
    if all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in told):
        with contextlib.suppress(OverflowError):
            return tuple(float(each) for each in told)
    raise UsageError(f"{name}: {value!r:.60} is not a list of numbers")


def mask(picture: images.Picture, size: tuple[int, int]) -> np.ndarray:
    """A mask that was given as a picture, (H, W) bool. Raises ``ImageError``."""
    return images.open_mask(picture, size=size)
