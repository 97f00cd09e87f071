"""What each visitor made: results, pictures, masks, an inversion. Nobody sees another's, and it goes when they go."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files, images
from ..errors import ImageError, ShowtellError
from . import painted
from .accounts import part_of
from .running import Run
from .tidying import trim

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from ..edits import Edit
    from ..images import Picture
    from ..inversions import Inversion
    from .limits import Limits


#: Two clicks within so many seconds are one.
_TWICE = 1.0
#: Tickets that are remembered.
_WAITING = 32


@dataclass(kw_only=True)
class Ticket:
    """A run that waits in line since ``asked`` (seconds): ``wanted``, ``stopped``, or ``twice``, the second of two clicks."""

    number: int
    asked: float
    state: str


@dataclass(frozen=True, kw_only=True)
class Made:
    """A result: ``path`` its PNG with the recipe, ``before`` its input, ``overlay`` whose region is whose or None.

    ``caption`` a few words, ``notes`` what a user should know, ``seed`` None where there is none to tell.
    """

    path: Path
    before: Path
    overlay: Path | None
    caption: str
    notes: tuple[str, ...]
    seed: int | None
    seconds: float = 0.0


@dataclass(kw_only=True)
class Session:
    """One visitor's things; ``folder`` holds their files, inside the folder that the server may serve.

    ``masks`` were painted on the picture that is there now, by the number of their line (-1: all); ``awaited`` are those of the
    picture, by its pixels' hash, that is about to be there; ``restored`` is the hash of the input whose
    settings came back; ``doomed`` the learned edit that was asked once to be deleted.
    """

    user: str
    folder: Path
    limits: Limits
    results: list[Made] = field(default_factory=list)
    inversion: tuple[Any, Inversion] | None = None
    masks: dict[int, np.ndarray] = field(default_factory=dict)
    painted_on: str | None = None
    awaited: tuple[str, dict[int, np.ndarray]] | None = None
    restored: str | None = None
    doomed: str | None = None
    run: Run | None = None
    waiting: dict[int, Ticket] = field(default_factory=dict)
    grid: list[Made] = field(default_factory=list)
    current: dict[str, Made] = field(default_factory=dict)
    _pictures: OrderedDict[str, Path] = field(default_factory=OrderedDict)
    _copies: dict[tuple[Any, ...], Path] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def ask(self) -> Ticket:
        """A run is asked for, which may have to wait in line; ``twice`` where one is on its way already."""
        now = time.monotonic()
        busy = self.run is not None or any(now - ticket.asked < _TWICE for ticket in self.waiting.values())
        ticket = Ticket(number=next(self._numbers), asked=now, state="twice" if busy else "wanted")
        self.waiting[ticket.number] = ticket
        while len(self.waiting) > _WAITING:  # what never had its turn, since the line was full
            del self.waiting[next(iter(self.waiting))]
        return ticket

    def turn(self, number: Any) -> str:
        """The state of the ticket whose turn it is; ``wanted`` for a run that was not asked for before."""
        ticket = self.waiting.pop(number, None) if isinstance(number, int) else None
        return "wanted" if ticket is None else ticket.state

    def begin(self) -> Run:
        """A new run; the one before is stopped."""
        self._stop_running()
        self.run = Run(seconds=self.limits.seconds)
        return self.run

    def end(self, run: Run) -> None:
        """A run has ended; where files are too many, the oldest results go, and then what nothing here refers to."""
        if self.run is run:
            self.run = None
        while len(self.results) > 1 and sum(_size(path) for path in self._kept()) > self.limits.session_bytes:
            self._forget(self.results.pop())
        trim(self.folder, self.limits.session_bytes, keep=self._kept())

    def _kept(self) -> set[Path]:
        """The files of what is still to be seen."""
        made = [*self.results, *self.current.values()]
        return {path for one in made for path in (one.path, one.before, one.overlay) if path is not None}

    def _forget(self, made: Made) -> None:
        self.grid = [one for one in self.grid if one is not made]
        for path in (made.path, made.overlay):
            if path is not None and made not in self.current.values():
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # not empty
                    path.parent.rmdir()

    def stop(self) -> bool:
        """Stop what is running and what waits; whether there was something."""
        waits = [ticket for ticket in self.waiting.values() if ticket.state == "wanted"]
        for ticket in waits:
            ticket.state = "stopped"
        return self._stop_running() or bool(waits)

    def _stop_running(self) -> bool:
        running, self.run = self.run, None
        if running is not None:
            running.stop()
        return running is not None

    def keep(
        self,
        edit: Edit,
        *,
        caption: str,
        seconds: float = 0.0,
        room: str = "tell",
        masks: Mapping[int, np.ndarray] | None = None,
    ) -> Made:
        """Keep an edit as files, with the ``masks`` that were painted, as what its ``room`` shows.

        The telling room has a history; what is beyond the limit goes.
        """
        path, before = self.file(f"{_stem(edit)}.png"), self.remember_image(edit.source or edit.image)
        path.write_bytes(painted.with_masks(edit.png(), masks or {}))
        overlay = None
        if edit.masks and edit.source is not None and edit.keywords:
            overlay = self.file("places.png")
            edit.overlay().save(overlay)
        made = Made(
            path=path, before=before, overlay=overlay, caption=caption, notes=tuple(edit.notes), seed=edit.seed,
            seconds=seconds,
        )  # fmt: skip
        self.current[room] = made
        if room == "tell":
            self.results.insert(0, made)
            for old in self.results[self.limits.history :]:
                self._forget(old)
            del self.results[self.limits.history :]
        return made

    def put(self, pixels_sha256: str | None) -> None:
        """Another picture is there now, or the same once more: masks belong to one, and those that it awaits come with it."""
        if self.awaited is not None and self.awaited[0] == pixels_sha256:
            self.masks, self.awaited = dict(self.awaited[1]), None
        elif pixels_sha256 != self.painted_on:
            self.masks = {}
        self.painted_on = pixels_sha256

    def result(self, number: int) -> Made:
        """A result by its place, the newest first. Raises ``ShowtellError``."""
        if not 0 <= number < len(self.results):
            raise ShowtellError("this result is not kept any more: make it again from its PNG")
        return self.results[number]

    def tile(self, number: int) -> Made:
        """A picture of the grid by its place. Raises ``ShowtellError``."""
        if not 0 <= number < len(self.grid) or not self.grid[number].path.is_file():
            raise ShowtellError("this picture is not kept any more: make the grid again")
        return self.grid[number]

    def remember(self, picture: Picture, place: Path) -> None:
        """A picture that was given: a recipe that names it by its pixels will find it."""
        self._pictures[picture.pixels_sha256] = place
        self._pictures.move_to_end(picture.pixels_sha256)
        while len(self._pictures) > 4 * self.limits.history:
            self._pictures.popitem(last=False)

    def remember_image(self, image: Image.Image) -> Path:
        """A picture as a file; the same picture is one file."""
        path = (
            self.folder
            / f"{hashlib.sha256(f'{image.mode}{image.size}'.encode() + image.tobytes()).hexdigest()[:32]}.png"
        )
        if not path.exists():
            image.save(path)
        return path

    def before(self, place: Path) -> Path:
        """A picture that was given, as a result's input is shown: upright, without transparency, a PNG."""
        return self.remember_image(images.open_picture(place).rgb)

    def recall(self, pixels_sha256: str) -> Path | None:
        """The file of a picture that was given, if it is still there."""
        place = self._pictures.get(pixels_sha256)
        return place if place is not None and place.is_file() else None

    def file(self, name: str) -> Path:
        """A place for a file of this name, in a folder that nobody can guess."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir()
        return folder / name

    def copy(self, file: Path) -> Path:
        """A copy of a file where the server may serve it, under its own name; the same file is copied once."""
        status = file.stat()
        mark = (str(file), status.st_mtime_ns, status.st_size)
        if mark not in self._copies or not self._copies[mark].is_file():
            self._copies[mark] = Path(shutil.copyfile(file, self.file(file.name)))
        return self._copies[mark]

    def close(self) -> None:
        """Stop what runs, and remove the files."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _stem(edit: Edit) -> str:
    """What a result's file is called: after its input and its seed."""
    name = Path(edit.recipe.input.path or "picture").stem
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)[:40].strip('-') or 'picture'}-{edit.seed}"


def _size(path: Path) -> int:
    return max(0, files.size_of(path))


class Sessions:
    """The visitors, by the random name that their browser's tab has and their account; at most so many, the idlest goes.

    ``folder`` is that of the uploads; what they make is in their account's part of it.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self._all: OrderedDict[tuple[str, str], Session] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._all)

    def of(self, tab: str | None, user: str | None) -> Session:
        """A visitor's session, new where there is none. Raises ``ImageError`` for a name that no browser gives."""
        if tab is None or not 0 < len(tab) <= 200:
            raise ImageError("the request names no session")
        key = (user or "", tab)
        with self._lock:
            if key not in self._all:
                folder = part_of(self.folder, user) / secrets.token_hex(16)
                folder.mkdir(mode=0o700, parents=True)
                self._all[key] = Session(user=user or "", folder=folder, limits=self.limits)
            self._all.move_to_end(key)
            found = self._all[key]
            idle = [k for k, s in self._all.items() if s.run is None and s is not found]
            gone = [self._all.pop(k) for k in idle[: max(0, len(self._all) - self.limits.sessions)]]
        for each in gone:
            each.close()
        return found

    def folders(self) -> list[Path]:
        """The folders of all visitors."""
        with self._lock:
            return [session.folder for session in self._all.values()]

    def leave(self, tab: str | None, user: str | None) -> None:
        """A visitor has gone."""
        with self._lock:
            gone = self._all.pop((user or "", tab or ""), None)
        if gone is not None:
            gone.close()

    def close(self) -> None:
        """All have gone."""
        with self._lock:
            gone = list(self._all.values())
            self._all.clear()
        for each in gone:
            each.close()
