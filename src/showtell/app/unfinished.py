"""Learnings that were stopped or killed: what each was shown and asked, and how far it had come, in a folder of its own.

FOLDER/<id>/lesson.json              name, model, options; written once, with the pictures
FOLDER/<id>/before0, after0, ...     the bytes of the pictures
FOLDER/<id>/progress.safetensors     the learning's checkpoint, once there is one

The folder comes into being whole, and goes at once. It is locked while the learning runs: a lock does not outlive its process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import files, fitting, records, requested
from ..errors import FileFormatError, ImageError, MethodError, ShowtellError, TextError, UsageError
from ..images import MAX_BYTES
from ..inversion import progress
from ..inversion.visii import VisualInstructionInversion
from ..pairs import Pairs
from ..work.alone import alone, taken
from .library import clean_name

#: Version of the format; lessons of a later one are refused.
FORMAT = 1
#: Pairs that a lesson may have.
MOST_PAIRS = 8
#: What a lesson may say of how it is learned, beside the model's own values.
HYPERPARAMETERS = ("steps", "learning_rate", "timesteps_per_step", "num_tokens", "clip_weight", "mse_weight", "mirror")
OPTIONS = ("init", "seed", "record_noise", "fit", *HYPERPARAMETERS)
_KIND = "unfinished learning"
_LESSON, _CHECKPOINT = "lesson.json", "progress.safetensors"
_ID = re.compile(r"[0-9a-f]{16}")
_LONGEST_INIT, _MOST_BYTES = 4000, 2**16
# Seconds for which a lock is tried again: whoever asks whether a lesson is running holds it for a moment.
_PATIENCE = 0.5


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A learning that was begun: its ``name``, the ``model``'s id and the ``options`` of ``learning.study``; the files of the
    ``pairs``; the ``checkpoint``, which may not be there yet; when it was ``begun``.
    """

    id: str
    name: str
    model: str
    options: Mapping[str, Any]
    pairs: tuple[tuple[Path, Path], ...]
    checkpoint: Path
    begun: datetime

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return self.checkpoint.parent

    def shown(self) -> Sequence[tuple[bytes, bytes]]:
        """The pictures' bytes: what is learned from these, and not from ``pairs``, names no path of this machine."""
        return [(before.read_bytes(), after.read_bytes()) for before, after in self.pairs]

    def steps_done(self) -> int | None:
        """The steps that the checkpoint has; None where there is none that can be read."""
        return progress.steps_done(self.checkpoint)

    def running(self) -> bool:
        """Whether it is being learned at this moment, here or in another process."""
        return str(self.folder) in _here or taken(self.folder)


# Folders of the lessons that this process is learning: also where files cannot be locked, nobody takes them twice.
_here: set[str] = set()
_guard = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class _Record:
    """A lesson as its file has it; ``pairs`` counts them."""

    kind: str
    format: int
    name: str
    model: str
    options: dict[str, Any]
    pairs: int
    begun: datetime


class Unfinished:
    """The learnings that were begun and not finished, in a folder that is made, for its owner alone, with the first of them."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).absolute()

    def begin(self, name: str, pairs: Sequence[tuple[Any, Any]], options: Mapping[str, Any], model_id: str) -> Lesson:
        """Keep what a learning is to be shown and asked, the pictures as paths or bytes.

        A seed that is None is drawn. Raises ``ImageError`` for pairs that cannot teach, ``TextError``, ``MethodError``.
        """
        told = _checked({**options, "seed": requested.checked_seed(options.get("seed", 0))})
        if len(pairs) > MOST_PAIRS:
            raise ImageError(f"{len(pairs)} pairs are too many: at most {MOST_PAIRS} are learned from here")
        shown = [(_bytes(before), _bytes(after)) for before, after in pairs]
        Pairs.of(shown)
        record = _Record(
            kind=_KIND, format=FORMAT, name=clean_name(name), model=model_id, options=told, pairs=len(shown),
            begun=datetime.now(timezone.utc),
        )  # fmt: skip
        try:
            text = json.dumps(dataclasses.asdict(record) | {"begun": record.begun.isoformat()}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise MethodError(f"the options of a lesson are plain words and numbers ({error})") from error
        files.make_folder(self.folder, mode=0o700)
        place = self.folder / secrets.token_hex(8)
        with files.folder_atomic(place, marker=_LESSON) as folder:
            for (before, after), names in zip(shown, _names(len(shown)), strict=True):
                files.write_atomic(folder / names[0], before)
                files.write_atomic(folder / names[1], after)
            files.write_atomic(folder / _LESSON, text.encode())
        return _lesson(place)

    def list(self) -> Sequence[Lesson]:
        """The lessons, those begun last first, also those that are running. Damaged ones are left out."""
        found = []
        for place in self._places():
            with contextlib.suppress(ShowtellError):
                found.append(_lesson(place))
        return sorted(found, key=lambda lesson: lesson.begun, reverse=True)

    def broken(self) -> Sequence[str]:
        """The ids of lessons that are damaged."""
        damaged = []
        for place in self._places():
            try:
                _lesson(place)
            except ShowtellError:
                damaged.append(place.name)
        return damaged

    def get(self, id: str) -> Lesson:
        """The lesson of this id. Raises ``TextError`` if there is none, ``FileFormatError`` if it is damaged."""
        return _lesson(self._place(id))

    @contextlib.contextmanager
    def running(self, lesson: Lesson) -> Iterator[None]:
        """While the block learns it, nobody else does. Raises ``UsageError`` where somebody does, ``TextError`` if it is gone."""
        with _claimed(self._place(lesson.id)):
            self._place(lesson.id)  # it may have gone meanwhile
            yield

    def finish(self, id: str) -> None:
        """Remove a lesson that has been learned, also from within ``running``. Raises ``TextError`` if there is none."""
        _remove(self._place(id))

    def discard(self, id: str) -> None:
        """Remove a lesson that is to be learned no further. Raises ``UsageError`` for one that is running, ``TextError``."""
        place = self._place(id)
        with _claimed(place):
            _remove(place)

    def _place(self, id: str) -> Path:
        if not isinstance(id, str) or not _ID.fullmatch(id) or not _is(stat.S_ISDIR, self.folder / id):
            raise TextError(f"{id!r:.40} names no unfinished learning: it may have been finished or discarded")
        return self.folder / id

    def _places(self) -> Sequence[Path]:
        try:
            names = sorted(os.listdir(self.folder))
        except OSError:
            return []
        return [self.folder / name for name in names if _ID.fullmatch(name) and _is(stat.S_ISDIR, self.folder / name)]


def _names(count: int) -> Sequence[tuple[str, str]]:
    return [(f"before{number}", f"after{number}") for number in range(count)]


@contextlib.contextmanager
def _claimed(place: Path) -> Iterator[None]:
    """A lesson's folder for this block alone. Raises ``UsageError`` where somebody has it."""
    busy = UsageError("this edit is being learned at this moment: wait for its end, or stop it")
    with _guard:
        if str(place) in _here:
            raise busy
        _here.add(str(place))
    try:
        with contextlib.ExitStack() as until:
            end = time.monotonic() + _PATIENCE
            while True:
                try:
                    until.enter_context(alone(place))
                    break
                except UsageError:
                    if time.monotonic() > end:
                        raise busy from None
                time.sleep(0.02)
            yield
    finally:
        _here.discard(str(place))


def _remove(place: Path) -> None:
    """First out of sight, so that no half of it is ever seen."""
    gone = place.with_name(f".{place.name}.gone")
    try:
        os.replace(place, gone)
    except OSError as error:
        raise files.output_error(place, error) from error
    for left in place.parent.glob(".*.gone"):  # also what a kill left
        shutil.rmtree(left, ignore_errors=True)


def _is(kind: Any, path: Path) -> bool:
    """Whether a path is of this kind, such as ``stat.S_ISREG``; a link is none."""
    try:
        return kind(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def _bytes(picture: Any) -> bytes:
    """A picture's bytes. Raises ``ImageError``; whether they are a picture, whoever opens them finds out."""
    if isinstance(picture, (bytes, bytearray)):
        return bytes(picture)
    path = Path(picture)
    try:
        if not path.is_file():
            raise ImageError(f"{path}: no such file")
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(f"{path}: is over the limit of {MAX_BYTES / 2**20:.0f} MiB")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: cannot be read ({error})") from error


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, if a learning takes them. Raises ``MethodError`` or ``TextError``."""
    if unknown := [name for name in options if name not in OPTIONS]:
        raise MethodError(f"{unknown[0]!s:.40} is no option of a lesson: it has {', '.join(OPTIONS)}")
    VisualInstructionInversion(**{name: options[name] for name in HYPERPARAMETERS if name in options})
    init, fit = options.get("init"), options.get("fit", "fit")
    if init is not None and (not isinstance(init, str) or len(init) > _LONGEST_INIT):
        raise TextError(f"init must be words, at most {_LONGEST_INIT} letters of them, or None")
    if fit not in fitting.FITS:
        raise MethodError(f"fit={fit!r:.40} is not known: choose one of {', '.join(fitting.FITS)}")
    if not isinstance(options.get("record_noise", False), bool):
        raise MethodError("record_noise must be True or False")
    if options.get("seed", 0) is None:
        raise MethodError("seed is missing: a learning goes on only with the seed that it began with")
    requested.checked_seed(options.get("seed", 0))
    return dict(options)


def _lesson(place: Path) -> Lesson:
    """Read a lesson back. Raises ``FileFormatError``, one line, if anything of it is not as it was written."""
    path = place / _LESSON
    shown = f"the unfinished learning {place.name}"
    try:
        if not _is(stat.S_ISREG, path) or files.size_of(path) > _MOST_BYTES:
            raise FileFormatError(f"{shown}: is damaged (it has no {_LESSON})")
        record = records.parse(
            path.read_text(encoding="utf-8"), _Record, name=shown, what="its file", newest=FORMAT, kind=_KIND
        )
        options, name, begun = _checked(record.options), clean_name(record.name), record.begun.astimezone()
    except FileFormatError:
        raise
    except (ShowtellError, OSError, ValueError, OverflowError) as error:
        raise FileFormatError(f"{shown}: is damaged ({error!s:.200})") from error
    names = _names(record.pairs) if 0 < record.pairs <= MOST_PAIRS else []
    wanted = [place / each for pair in names for each in pair]
    if name != record.name or not wanted or not all(_is(stat.S_ISREG, each) for each in wanted):
        raise FileFormatError(f"{shown}: is damaged (its name or its pictures are not there)")
    checkpoint = place / _CHECKPOINT
    if os.path.lexists(checkpoint) and not _is(stat.S_ISREG, checkpoint):
        raise FileFormatError(f"{shown}: is damaged ({_CHECKPOINT} is no file)")
    return Lesson(
        id=place.name, name=name, model=record.model, options=options, checkpoint=checkpoint,
        pairs=tuple((place / before, place / after) for before, after in names), begun=begun,
    )  # fmt: skip
