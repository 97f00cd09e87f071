"""The journal of questions: one line of JSON for each answer, on the disk before the next is waited for.

A run that is killed at any moment goes on from it: half a line is no line, and its question is asked again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files
from ..data.reading import MAX_BYTES
from ..errors import FileFormatError, UsageError
from ..work import Done, Item

try:
    import fcntl
except ImportError:  # not on Windows: there, one process alone writes
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
KIND = "showtell triplets"


@dataclass(frozen=True, kw_only=True)
class Journal:
    """An append-only file that any process can write to: a ``Store`` of ``showtell.work`` whose rows are lines.

    A line has the row's ``id``, the ``caption`` that was asked about, and the record of what came of it; or a ``verdict`` on one
    of its edits. Of several of a row the last one counts, whose ``error``, if it has one, says that the row is to be tried again.
    """

    path: Path

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Begin a journal, in place of what is there. ``settings`` are what its answers depend on. Raises ``OutputError``."""
        head = {"kind": KIND, "format": FORMAT, "settings": dict(settings)}
        files.write_atomic(self.path, f"{json.dumps(head, ensure_ascii=False)}\n".encode(), force=True)

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise ``FileFormatError`` for a file that is no journal, ``UsageError`` for one that was begun with other settings."""
        lines = self._lines()
        try:
            head = json.loads(next(lines, "null"))
            begun = head["settings"] if head["kind"] == KIND else None
        except (ValueError, LookupError, TypeError, RecursionError):
            begun = None
        if not isinstance(begun, Mapping):
            raise FileFormatError(f"{self.path}: is no journal of triplets: begin anew with --force")
        if head["format"] != FORMAT:
            raise FileFormatError(
                f"{self.path}: has format {head['format']!s:.20}, newer than {FORMAT}: update showtell"
            )
        now = json.loads(json.dumps(dict(settings)))
        for key in sorted({*begun, *now}):
            if begun.get(key) != now.get(key):
                raise UsageError(
                    f"{self.path}: was begun with {key}={begun.get(key)!s:.60}, not {now.get(key)!s:.60}: give the same, or "
                    "begin anew with --force"
                )

    def is_empty(self) -> bool:
        """Whether it was begun and nothing was answered: the model, or the key, was a wrong one."""
        head = next(self._lines(), "")
        return f'"kind": "{KIND}"' in head and next(self.lines(), None) is None

    def records(self) -> dict[str, dict[str, Any]]:
        """What is known of each row: its last answer; under ``usage`` the tokens of all of them; under ``verdicts`` what was said
        of each edit of the last one.
        """
        found: dict[str, dict[str, Any]] = {}
        for record in self.lines():
            before = found.get(record["id"], {})
            if isinstance(verdict := record.get("verdict"), dict):
                before.setdefault("verdicts", {})[verdict.get("edit")] = verdict
                continue
            usage = _sum(before.get("usage"), record.get("usage"))
            found[record["id"]] = {**record, "usage": usage} if usage else record
        return found

    def lines(self) -> Iterator[dict[str, Any]]:
        """Every line that tells of a row."""
        for text in self._lines():
            with contextlib.suppress(ValueError, RecursionError):
                record = json.loads(text)
                if isinstance(record, dict) and isinstance(record.get("id"), str):
                    yield record

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a line, whole or not at all, and wait until it is on the disk. Raises ``OutputError``."""
        line = f"{json.dumps(dict(record), ensure_ascii=False)}\n".encode("utf-8", "backslashreplace")
        try:
            with open(self.path, "r+b", buffering=0) as file, _alone(file.fileno()):
                end = file.seek(0, os.SEEK_END)
                if end:
                    file.seek(end - 1)
                    line = line if file.read(1) == b"\n" else b"\n" + line  # after half a line of one that was killed
                try:
                    _write_all(file.fileno(), line)
                    os.fsync(file.fileno())
                except OSError:
                    with contextlib.suppress(OSError):
                        file.truncate(end)
                    raise
        except OSError as error:
            raise files.output_error(self.path, error) from error

    def pending(self, items: Sequence[Item]) -> list[Item]:
        """The rows that were not answered yet, or about another caption."""
        known = self.records()
        return [item for item in items if not answered(item, known.get(item.id))]

    def keep(self, item: Item, done: Done) -> None:
        """Append what came of a row. Raises ``OutputError``."""
        record = {"id": item.id, "caption": item.told["caption"], **done.record}
        self.append(record if done.error is None else {**record, "error": done.error})

    def close(self, shard: int, items: Sequence[Item]) -> None:
        """A journal has no shards."""

    def finish(self) -> None:
        """The file of triplets is made of the journal elsewhere."""

    def _lines(self) -> Iterator[str]:
        try:
            if self.path.stat().st_size > MAX_BYTES * 64:
                raise FileFormatError(f"{self.path}: is over the limit of {MAX_BYTES * 64 // 2**30} GiB for a journal")
            with open(self.path, encoding="utf-8", errors="replace", newline="\n") as file:
                yield from file
        except OSError as error:
            raise FileFormatError(f"{self.path}: cannot be read ({error.strerror or error})") from error


def answered(item: Item, record: Mapping[str, Any] | None) -> bool:
    """Whether a record is an answer to this row's question."""
    return record is not None and record.get("caption") == item.told["caption"] and "error" not in record


def _sum(*usages: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for usage in usages:
        for key, value in usage.items() if isinstance(usage, dict) else ():
            if type(value) is int:
                total[key] = total.get(key, 0) + value
    return total


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


@contextlib.contextmanager
def _alone(handle: int) -> Iterator[None]:
    """No other process writes meanwhile, where the file system knows locks."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_UN)
