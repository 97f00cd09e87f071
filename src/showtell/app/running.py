"""One piece of work in a thread of its own, and what it tells on the way: steps, previews, an end. It can be stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, ShowtellError

if TYPE_CHECKING:
    from PIL import Image

    from ..editor import Editor

#: Seconds after which a silent work says that it is alive, so that whoever looks on may leave.
_BEAT = 1.0
#: A preview may take this share of the time.
_SHARE = 0.15


@dataclass(frozen=True, kw_only=True)
class Update:
    """How far a work has come: ``done`` of ``total`` of a ``phase``; ``preview`` a picture of it, ``shown`` all else."""

    phase: str = ""
    done: int = 0
    total: int = 0
    preview: Image.Image | None = None
    shown: Any = None

    def after(self, earlier: Update) -> Update:
        """This one, with what ``earlier`` showed where this one shows nothing new."""
        preview = self.preview or (earlier.preview if earlier.phase == self.phase else None)
        shown = earlier.shown if self.shown is None else self.shown
        return dataclasses.replace(self, preview=preview, shown=shown)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The end of a work, and what came of it."""

    value: Any


class Run:
    """A work that is running: it may be stopped, and ends by itself ``seconds`` after it has begun."""

    def __init__(self, *, seconds: float) -> None:
        self.seconds = seconds
        #: Said before every phase: which of several pictures it is.
        self.where = ""
        self._stop = threading.Event()
        self._told: queue.SimpleQueue[Update | _Outcome] = queue.SimpleQueue()
        self._until = float("inf")
        self._free_at = 0.0

    def begin(self) -> None:
        """From here on the time counts, once: the work has its device."""
        self._until = min(self._until, time.monotonic() + self.seconds)
        if self._stop.is_set():
            raise Cancelled("stopped before it began")

    def stop(self) -> None:
        """Stop the work after the step at hand."""
        self._stop.set()

    def cancelled(self) -> bool:
        """Whether the work is to stop."""
        return self._stop.is_set() or self.late

    @property
    def late(self) -> bool:
        """Whether the work has had its time."""
        return time.monotonic() > self._until

    def tell(self, update: Update) -> None:
        """Tell whoever looks on."""
        self._told.put(update)

    def phase(self, name: str, i: int, n: int) -> None:
        """A part of the work, as ``Editor.edit``'s ``on_phase`` has it."""
        self.tell(Update(phase=self.where + name, done=i, total=n))

    def steps(self, editor: Editor, name: str = "editing") -> Callable[[int, int, Any], None]:
        """A callback for the loop: every step is told, with a picture of the latents as often as that costs little."""

        def step(i: int, n: int, latents: Any) -> None:
            preview = self._preview(editor, latents, last=i + 1 == n)
            self.tell(Update(phase=self.where + name, done=i + 1, total=n, preview=preview))

        return step

    def _preview(self, editor: Editor, latents: Any, *, last: bool) -> Image.Image | None:
        began = time.monotonic()
        if last or began < self._free_at:
            return None
        from .. import fitting, models

        [picture] = fitting.to_images(models.decode(editor.pipe, latents[-1:]).clamp(-1, 1))
        ended = time.monotonic()
        self._free_at = ended + max(0.1, (ended - began) / _SHARE)
        return picture


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    value: Any = None
    error: BaseException | None = None


def stream(run: Run, work: Callable[[Run], Any]) -> Iterator[Update | Ended]:
    """Run ``work(run)`` beside, and yield what it tells, at least one ``Update`` a second, and at last its ``Ended``.

    Whoever stops to iterate stops the work, and does not wait for the step at hand: that may be the server's own loop, in which
    everybody would wait. Raises what the work raises; for one that had its time, ``ShowtellError``.
    """
    thread = threading.Thread(target=_run, args=(run, work), name="studio-work", daemon=True)
    thread.start()
    last = Update()
    try:
        while True:
            update, told = _newest(run._told)
            last = update or last
            if told is None or update is not None:
                yield last
            if told is not None:
                break
        thread.join()
    finally:
        run.stop()
    if told.error is not None:
        raise told.error
    yield Ended(value=told.value)


def _newest(told: queue.SimpleQueue[Update | _Outcome]) -> tuple[Update | None, _Outcome | None]:
    """The newest of what was told, with the newest preview, and the end where it has come; neither after a silence."""
    newest = None
    with contextlib.suppress(queue.Empty):
        later = told.get(timeout=_BEAT)
        while isinstance(later, Update):
            newest = later if newest is None else later.after(newest)
            later = told.get_nowait()
        return newest, later
    return newest, None


def _run(run: Run, work: Callable[[Run], Any]) -> None:
    try:
        outcome = _Outcome(value=work(run))
    except Cancelled as error:
        outcome = _Outcome(error=_too_long(run) if run.late else error.with_traceback(None))
    except ShowtellError as error:
        outcome = _Outcome(error=error.with_traceback(None))  # which would keep what the work had in memory
    except BaseException as error:  # noqa: BLE001 - it is raised again where the work was asked for
        outcome = _Outcome(error=error)
    run._told.put(outcome)


def _too_long(run: Run) -> ShowtellError:
    return ShowtellError(
        f"this took longer than the {run.seconds:g} seconds that one request may take here: use fewer steps or a smaller picture"
    )
