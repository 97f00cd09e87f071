"""Describing the result for the page: the inversion is made once, and serves every eta and every target that it can."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import TextError
from . import telling
from .workshop import BASE

if TYPE_CHECKING:
    from ..edits import Edit
    from ..images import Picture
    from ..inversions import Inversion
    from .library import Library
    from .limits import Limits
    from .running import Run
    from .sessions import Session
    from .workshop import Workshop

#: Method -> the inversion that it goes out from.
INVERSIONS = {"pti": "pti", "p2p": "nti", "ddim-edit": "ddim"}
#: What the tuning of pti starts from, in plain words; automatic is what the picture shows where that was told, else nothing.
STARTS = {"automatic": None, "what it shows": "source", "nothing": "empty", "the new words": "target"}
AUTOMATIC = "automatic"


@dataclass(frozen=True, kw_only=True)
class Description:
    """What the controls say: ``target`` is what the result shows, ``source`` what the picture shows."""

    target: str
    source: str = ""
    method: str = "pti"
    eta: float = 0.9
    start: str = AUTOMATIC
    seed: int | None = 0
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    encoding_ratio: float | None = None
    strength: float | None = None

    def check(self, limits: Limits) -> None:
        """Raise one line for what is missing, or beyond the limits."""
        if not self.target.strip():
            raise TextError("say what the result is to show, such as: a red house at night")
        limits.text("what the result shows", self.target)
        limits.text("what the picture shows", self.source)
        if self.num_inference_steps is not None:
            limits.whole("steps", self.num_inference_steps, 1, limits.steps)
        if self.method == "p2p" and not self.source.strip():
            raise TextError("this method needs what the picture shows now: write it, too")
        if self.method == "pti" and STARTS.get(self.start) == "source" and not self.source.strip():
            raise TextError("to start from what it shows, write what the picture shows now")

    @property
    def inverts(self) -> bool:
        """Whether the method goes out from an inversion that can be kept."""
        return self.method in INVERSIONS

    def numbers(self, workshop: Workshop, *, of: Any = None) -> dict[str, Any]:
        """The hyper-parameters that are not the method's own, among those that ``of`` (by default the method) has."""
        default = workshop.defaults(BASE, self.method)
        names = ("num_inference_steps", "guidance_scale", "encoding_ratio", "strength")
        return {
            name: value
            for name in names
            if hasattr(default, name) and (of is None or name in of)
            and (value := getattr(self, name)) is not None and value != getattr(default, name)
        }  # fmt: skip

    def inversion_key(self, workshop: Workshop, picture: Picture) -> tuple[Any, ...]:
        """What must be the same for an inversion to serve again."""
        start = STARTS.get(self.start) if self.method == "pti" else ""
        return (
            picture.pixels_sha256, self.method, self.source.strip(), start,
            self.target.strip() if start == "target" else "",
            tuple(sorted(self.numbers(workshop).items())),
        )  # fmt: skip


def held(session: Session, workshop: Workshop, picture: Picture, told: Description) -> Inversion | None:
    """The inversion that was made for just this, if there is one."""
    if session.inversion is None or not told.inverts:
        return None
    key, inversion = session.inversion
    return inversion if key == told.inversion_key(workshop, picture) else None


def describe(
    run: Run, session: Session, workshop: Workshop, library: Library, picture: Picture, told: Description
) -> tuple[Edit, Inversion | None, float]:
    """Edit towards the description; the edit, the inversion that it went out from, and the seconds that it took."""
    looks = telling.called(library, [told.target])
    with workshop.at_work(BASE) as editor:
        run.begin()
        began = time.monotonic()
        options: dict[str, Any] = {
            "seed": told.seed, "learned": looks or None, "callback": run.steps(editor), "on_phase": run.phase,
            "cancel": run.cancelled,
        }  # fmt: skip
        if not told.inverts:
            source = told.source.strip() or None
            edit = editor.edit(
                picture, told.target, method=told.method, source=source, **told.numbers(workshop), **options
            )
            return edit, None, time.monotonic() - began
        back = held(session, workshop, picture, told) or invert(run, editor, workshop, picture, told)
        session.inversion = (told.inversion_key(workshop, picture), back)
        own = {"eta": told.eta} if told.method == "pti" else {}
        edit = editor.edit(back, told.target, method=told.method, **told.numbers(workshop), **own, **options)
    return edit, back, time.monotonic() - began


def invert(run: Run, editor: Any, workshop: Workshop, picture: Picture, told: Description) -> Inversion:
    """The inversion that this description's method goes out from."""
    how: dict[str, Any] = {"method": INVERSIONS[told.method]}
    target = None
    if told.method == "pti":
        how["start"] = STARTS.get(told.start)
        target = told.target if how["start"] == "target" else None
    numbers = told.numbers(workshop, of=("num_inference_steps", "encoding_ratio"))
    if told.method != "ddim-edit":
        numbers |= told.numbers(workshop, of=("guidance_scale",))
    return editor.invert(
        picture, target, source=told.source.strip() or None, on_phase=run.phase, cancel=run.cancelled,
        callback=run.steps(editor, "reconstructing"), **how, **numbers,
    )  # fmt: skip
