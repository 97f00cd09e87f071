"""A folder of files: each row is a file or a few, where its name says, and a journal knows which of them are whole.

FOLDER/<out>.png                    what was made: ``out`` is what the item is told of it, ``png`` the field
FOLDER/.showtell/journal/*.jsonl    a line a row, one file for each process that writes

A row's line is written before its files are moved into place: whatever the moment of a kill, a file that is there has a line, and
a row whose files are not there as its line says is made again. The disk is waited for once a second: a power cut may take the
last rows, which are then made again.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import files
from .rows import Done, Item

OWN = ".showtell"
"""The folder in the folder for what is not a result."""
_PATIENCE = 1.0
"""Seconds after which the disk is waited for."""
Line = Mapping[str, Any]
"""What the journal says of a row: ``id``, ``digest``, ``record``, ``error``, ``files`` (field -> bytes), ``at`` (seconds)."""
Same = Callable[[Item, Mapping[str, Any]], bool]
"""Told an item and the record of what was made of it: whether it was made of what the item is now."""


def always(item: Item, record: Mapping[str, Any]) -> bool:
    """A row stays what it was."""
    return True


class FolderStore:
    """A store whose rows are files of a folder.

    An item is told ``out``, a path below the folder without its ending, and may be told ``digest``, a hash of what it asks for:
    what was made for another digest, or of something that is not the ``same`` now, is made again. The field of a file is its
    ending. Nothing is packed.
    """

    def __init__(self, folder: Path, *, same: Same = always) -> None:
        self.folder, self._same = folder, same
        self._journal = Journal(folder / OWN / "journal")

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "same": self._same}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"], same=state["same"])

    def pending(self, items: Sequence[Item]) -> list[Item]:
        """See ``Store``."""
        self._journal.read()
        return [item for item in items if not self.made(item)]

    def keep(self, item: Item, done: Done) -> None:
        """See ``Store``."""
        targets = {field: self.path(item, field) for field in done.files}
        line = {
            "id": item.id, "digest": item.told.get("digest"), "record": dict(done.record), "error": done.error,
            "files": {field: len(data) for field, data in done.files.items()}, "at": round(time.time(), 3),
        }  # fmt: skip
        waiting: dict[str, str] = {}
        try:
            for field, data in done.files.items():
                waiting[field] = self._beside(data)
            for target in targets.values():
                files.make_folder(target.parent)
                target.unlink(missing_ok=True)  # what was there must not be taken for what the line says
            self._journal.add(line)
            for field, target in targets.items():
                os.replace(waiting.pop(field), target)
        except OSError as error:
            raise files.output_error(next(iter(targets.values()), self.folder), error) from error
        finally:
            for left in waiting.values():
                with contextlib.suppress(OSError):
                    os.unlink(left)

    def close(self, shard: int, items: Sequence[Item]) -> None:
        """See ``Store``."""

    def finish(self) -> None:
        """See ``Store``."""

    def path(self, item: Item, field: str) -> Path:
        """Where a row's file lies."""
        return self.folder / f"{item.told['out']}.{field}"

    def made(self, item: Item) -> bool:
        """Whether a row is there, whole, and of what the item is now; as of the last ``pending``."""
        line = self.line(item)
        if line is None or line["error"] is not None or not self._same(item, line["record"]):
            return False
        return all(files.size_of(self.path(item, field)) == size for field, size in line["files"].items())

    def line(self, item: Item) -> Line | None:
        """The last that is known of a row, None where that is nothing; as of the last ``pending``."""
        return self._journal.lines.get((item.id, item.told.get("digest")))

    def knows(self, item: Item) -> bool:
        """Whether this row's files were ever written by this store, whatever it was told then; as of the last ``pending``."""
        return item.id in self._journal.ids

    def tidy(self) -> None:
        """Remove what killed runs left behind; call it while no other run works on this folder."""
        for left in (self.folder / OWN).glob("*.part"):
            with contextlib.suppress(OSError):
                left.unlink()

    def forget(self) -> None:
        """Forget every row, so that all are made again. Raises ``OutputError``."""
        self._journal.remove()

    def _beside(self, data: bytes) -> str:
        """A file with these bytes on the folder's disk."""
        handle, name = tempfile.mkstemp(suffix=".part", dir=files.make_folder(self.folder / OWN))
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(name, 0o644)
        except OSError:
            os.unlink(name)
            raise
        return name


class Journal:
    """Lines that several processes add at once, on one machine or on many: each to a file of its own.

    ``lines`` is the last line of each row and digest, ``ids`` every row that ever had files; both as of the last ``read``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: dict[tuple[str, Any], Line] = {}
        self.ids: set[str] = set()
        self._seen: dict[str, int] = {}
        self._own: tuple[int, Any] = (0, None)
        self._synced = 0.0

    def read(self) -> None:
        """Take in what was added since the last time. A line that a kill cut short is left out."""
        for path in sorted(self.folder.glob("*.jsonl")):
            start = self._seen.get(path.name, 0)
            with path.open("rb") as file:
                file.seek(start)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._seen[path.name] = start + len(whole)
            self._take(whole.splitlines())

    def _take(self, lines: Iterable[bytes]) -> None:
        for text in lines:
            try:
                line = json.loads(text)
                key = (line["id"], line["digest"])
                if not isinstance(line["files"], dict) or not isinstance(line["record"], dict):
                    continue
                old = self.lines.get(key)
                if old is None or old["at"] <= line["at"]:
                    self.lines[key] = line
                if line["files"]:
                    self.ids.add(line["id"])
            except (ValueError, LookupError, TypeError):  # a line that a disk damaged: its row is made again
                continue

    def add(self, line: Line) -> None:
        """Add a line. Raises ``OutputError``."""
        path = self.folder
        try:
            if self._own[0] != os.getpid():  # a process that was forked begins a file of its own
                path = files.make_folder(self.folder) / f"{os.getpid()}-{secrets.token_hex(6)}.jsonl"
                self._own = (os.getpid(), path.open("xb", buffering=0))
            self._own[1].write((json.dumps(line, ensure_ascii=True) + "\n").encode())
            if time.monotonic() - self._synced > _PATIENCE:
                os.fsync(self._own[1].fileno())
                self._synced = time.monotonic()
        except OSError as error:
            self._own = (0, None)  # nothing follows a line that may be half there
            raise files.output_error(path, error) from error

    def remove(self) -> None:
        """Remove every line. Raises ``OutputError``."""
        for path in self.folder.glob("*.jsonl"):
            try:
                path.unlink()
            except OSError as error:
                raise files.output_error(path, error) from error
        self.__init__(self.folder)
