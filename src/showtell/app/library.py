"""The studio's learned edits: a folder with a file for each. No name leads out of it, and no link in it is followed."""

from __future__ import annotations

import difflib
import itertools
import os
import re
import stat
import tempfile
import threading
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files, instruction, learned_file
from ..errors import FileFormatError, OutputError, ShowtellError, TextError, UsageError
from ..learned_file import SUFFIX
from ..recipe import readable

if TYPE_CHECKING:
    from PIL import Image

    from ..learned import LearnedInstruction

#: Bytes of a name in UTF-8.
_LONGEST = 100
# Windows has devices of these names; the two letters of Korean are blanks.
_DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]", re.IGNORECASE)
_BLANK = "\u115f\u1160"


def clean_name(text: str) -> str:
    """What ``text`` is as a name: without folders and ending, its spaces dashes, its letters, digits, - and _ kept.

    A clean name stays as it is. Raises ``TextError`` where nothing is left.
    """
    plain = re.split(r"[/\\]", _normal(text))[-1].strip()
    if plain.lower().endswith(SUFFIX):
        plain = plain[: -len(SUFFIX)]
    dashed = re.sub(r"\s+", "-", plain)
    kept = _normal("".join(c for c in dashed if (c.isalnum() and c not in _BLANK) or c in "-_"))
    name = _cut(kept, _LONGEST)
    if not name:
        raise TextError(f"{text!r:.60} names no learned edit: a name is made of letters, digits, - and _")
    return f"{name}_" if _DEVICES.fullmatch(name) else name


def _normal(text: str) -> str:
    """One spelling for letters that can be spelled in several ways."""
    return unicodedata.normalize("NFKC", text)


def _cut(name: str, most: int) -> str:
    """As much of a name as ``most`` bytes hold."""
    return name.encode(errors="ignore")[:most].decode(errors="ignore").strip("-")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A learned edit of the library, without what it has learned.

    ``model`` is the one that it was learned with, ``learned`` when, ``words`` what it started from. ``steps`` done and ``loss``
    kept are None where the file does not say. ``tokens`` is the length of its span, ``thumbnails`` are (before, after)
    pictures, ``sha256`` is the look's.
    """

    name: str
    path: Path
    model: str
    learned: datetime
    words: str
    steps: int | None
    loss: float | None
    tokens: int
    thumbnails: tuple[tuple[Image.Image, Image.Image], ...]
    sha256: str


class Library:
    """Learned edits in a folder, which is made, for its owner alone, with the first of them. Threads may share it."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._lock = threading.RLock()
        # What each file was when it was read, and what it held; None for one that is no learned edit.
        self._known: dict[str, tuple[tuple[int, ...], Entry | None]] = {}

    def list(self, search: str = "") -> Sequence[Entry]:
        """The learned edits, newest first, whose names or first words hold every word of ``search``."""
        wanted = _normal(search).casefold().split()
        there = [entry for entry in self._read().values() if entry is not None]
        there.sort(key=lambda entry: (-entry.learned.timestamp(), entry.name))
        return [entry for entry in there if all(word in f"{entry.name} {entry.words}".casefold() for word in wanted)]

    def broken(self) -> Sequence[str]:
        """Names of the files that end as learned edits do and are none, or are links, or have names that words cannot call."""
        return sorted(readable(file) for file, entry in self._read().items() if entry is None)

    def load(self, name: str) -> LearnedInstruction:
        """The learned edit of this name. Raises ``TextError`` if there is none, ``FileFormatError`` if it is damaged."""
        path = self._there(name)
        return _opened(path, path.name)

    def looks(self, text: str) -> dict[str, LearnedInstruction]:
        """Those that words call by ``<name>`` or ``<name:0.5>``. Raises ``TextError`` for one that is not there."""
        found = {}
        for name in dict.fromkeys(instruction.names_in(text)):
            if not re.search(r"\w", name) or clean_name(name) != _normal(name):
                raise self._missing(name)
            found[name] = self.load(name)
        return found

    def by_sha(self, sha256: str) -> LearnedInstruction | None:
        """The learned edit with this hash, ``LearnedInstruction.sha256``; None if there is none."""
        for entry in self.list():
            if entry.sha256 == sha256:
                try:
                    return self.load(entry.name)
                except UsageError:  # it has just gone
                    return None
        return None

    def add(self, look: LearnedInstruction, name: str, *, force: bool = False) -> Entry:
        """Keep a learned edit under a name. Raises ``OutputError`` where one is called so and ``force`` is not set."""
        return self._keep(learned_file.to_bytes(look), clean_name(name), force=force)

    def import_file(
        self, path: str | os.PathLike[str], name: str | None = None, *, max_bytes: int = 256 * 2**20
    ) -> Entry:
        """Take a copy of a file, under its own name or another; one that is taken gets -2, -3 and so on behind it.

        Raises ``FileFormatError`` for what is no learned edit, or larger than ``max_bytes``.
        """
        path = Path(path)
        wanted = clean_name(path.name if name is None else name)
        data = _content(path, max_bytes)
        with self._lock:
            endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
            names = (_cut(wanted, _LONGEST - len(ending)) + ending for ending in endings)
            free = next(name for name in names if not os.path.lexists(self._path(name)))
            return self._keep(data, free, shown=path.name)

    def export(self, name: str) -> Path:
        """The file of a learned edit. Raises ``TextError`` if there is none of this name."""
        return self._there(name)

    def rename(self, old: str, new: str) -> Entry:
        """Give a learned edit another name. Raises ``TextError`` if it is not there, ``OutputError`` if that name is taken."""
        name = clean_name(new)
        with self._lock:
            path = self._there(old)
            if name != path.stem:
                self._check_free(name)
                try:
                    files.move(path, self._path(name))
                except OSError as error:
                    raise files.output_error(path, error) from error
            return self._entry(name)

    def delete(self, name: str) -> None:
        """Remove a learned edit. Raises ``TextError`` if there is none of this name."""
        with self._lock:
            path = self._there(name)
            try:
                path.unlink()
            except OSError as error:
                raise files.output_error(path, error) from error

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"

    def _there(self, name: str) -> Path:
        path = self._path(clean_name(name))
        if not stat.S_ISREG(_stat(path)[0]):
            raise self._missing(name)
        return path

    def _missing(self, name: str) -> TextError:
        """What is said of a name that there is not: those most like it come first."""
        names = difflib.get_close_matches(name, [entry.name for entry in self.list()], n=5, cutoff=0)
        there = f"there is {', '.join(f'<{each}>' for each in names)}" if names else "the library is empty"
        return TextError(f"<{readable(name):.100}> names no learned edit: {there}")

    def _check_free(self, name: str) -> None:
        if os.path.lexists(self._path(name)):
            raise OutputError(f"<{name}> is there already: choose another name")

    def _keep(self, data: bytes, name: str, *, force: bool = False, shown: str | None = None) -> Entry:
        """Write a file that has been read as a learned edit before; errors call it ``shown``."""
        with tempfile.TemporaryDirectory(prefix="showtell-") as place:
            copy = files.write_atomic(Path(place, f"look{SUFFIX}"), data)
            _opened(copy, shown or f"<{name}>")
        with self._lock:
            files.make_folder(self.folder, mode=0o700)
            if not force:
                self._check_free(name)
            files.write_atomic(self._path(name), data, force=force)
            return self._entry(name)

    def _entry(self, name: str) -> Entry:
        entry = self._read().get(self._path(name).name)
        if entry is None:
            raise self._missing(name)
        return entry

    def _read(self) -> dict[str, Entry | None]:
        """What is in each file, by its name. One is read anew only if it has changed."""
        with self._lock:
            known = {}
            for file in _listed(self.folder):
                path = self.folder / file
                mark, before = _stat(path), self._known.get(file)
                if before is not None and before[0] == mark:
                    known[file] = before
                elif mark[0]:  # it has not just gone
                    known[file] = mark, _described(path, mark)
            self._known = known
            return {file: entry for file, (_, entry) in known.items()}


def _listed(folder: Path) -> Sequence[str]:
    """Names of the files that end as learned edits do; what we have not finished writing is hidden."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read ({error.strerror})") from error
    return [name for name in names if name.lower().endswith(SUFFIX) and not name.startswith(".")]


def _stat(path: Path) -> tuple[int, ...]:
    """What tells whether a file is as it was: its mode, number, size and time. A link is its own; (0,) if there is nothing."""
    try:
        found = path.lstat()
    except (OSError, ValueError):
        return (0,)
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns


def _described(path: Path, mark: tuple[int, ...]) -> Entry | None:
    """A file as an entry; None if it is no learned edit, or its name none that words can call."""
    try:
        if not stat.S_ISREG(mark[0]) or path.name != f"{clean_name(path.name)}{SUFFIX}":
            return None
        look = learned_file.load(path)
    except ShowtellError:
        return None
    how, seconds = look.how, min(max(mark[3] / 1e9, 0), 2**33)
    steps, loss = _number(how.get("steps_done")), _number(how.get("kept_loss"))
    return Entry(
        name=look.name, path=path, model=_line(look.model.id), words=_line(how.get("init_words")), tokens=len(look.token_ids),
        learned=datetime.fromtimestamp(seconds).astimezone(), steps=None if steps is None else int(steps), loss=loss,
        thumbnails=look.thumbnails, sha256=look.sha256,
    )  # fmt: skip


def _line(value: Any) -> str:
    """A file's own text on one short line; nothing, if it is no text."""
    return " ".join(readable(value[:400]).split())[:200] if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    """A file's own number, which may also be 1e400, NaN or ten to the thousandth."""
    return float(value) if type(value) in (int, float) and abs(value) < 2**53 else None


def _opened(path: Path, shown: str) -> LearnedInstruction:
    """What a file holds. Raises ``FileFormatError``, which calls it ``shown`` and says nothing of its folder."""
    try:
        return learned_file.load(path)
    except FileFormatError as error:
        known = " ".join(str(path).split())
        raise FileFormatError(str(error).replace(known, f"{readable(shown):.100}")) from error


def _content(path: Path, most: int) -> bytes:
    """The bytes of a file that somebody gave. Raises ``FileFormatError``."""
    shown = f"{readable(path.name):.100}"
    if path.suffix.lower() != SUFFIX:
        raise FileFormatError(f"{shown}: is no learned edit; such files end in {SUFFIX}")
    try:
        if not path.is_file():
            raise FileFormatError(f"{shown}: no such file")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{shown}: cannot be read ({error})") from error
    if len(data) > most:
        raise FileFormatError(f"{shown}: is larger than the {most / 2**20:g} MiB that a learned edit may have here")
    return data
