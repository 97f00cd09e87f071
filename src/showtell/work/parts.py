"""Rows of a shard that is not packed yet: a few small files each, the record last, so that a kill leaves a row or none."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import files
from .rows import Done


@dataclass(frozen=True, kw_only=True)
class Part:
    """A row as it lies there: its record, its error, and where its files are."""

    id: str
    record: Mapping[str, Any]
    error: str | None = None
    files: Mapping[str, Path] = field(default_factory=dict)


def write(folder: Path, done: Done) -> None:
    """Keep a row in the folder. Raises ``OutputError``."""
    files.make_folder(folder)
    for name, data in done.files.items():
        _put(folder / f"{done.id}.{name}", data)
    told = {
        "record": dict(done.record),
        "error": done.error,
        "files": {name: len(data) for name, data in done.files.items()},
    }
    _put(folder / f"{done.id}.row", told_in_full(told))


def there(folder: Path) -> frozenset[str]:
    """The names of the rows of which there is something: one look at the folder, where one at each row would take long."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name[:-4] for entry in entries if entry.name.endswith(".row"))
    except OSError:
        return frozenset()


def told_in_full(value: Any) -> bytes:
    """JSON in UTF-8; half of a character, which JSON can name and UTF-8 cannot hold, stays its name."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")


def read(folder: Path, row: str) -> Part | None:
    """The row, None where it is not there, or not whole."""
    try:
        told = json.loads((folder / f"{row}.row").read_bytes())
        found = {name: folder / f"{row}.{name}" for name in told["files"]}
        if any("/" in name or os.sep in name for name in found):
            return None
        if any(path.stat().st_size != told["files"][name] for name, path in found.items()):
            return None
        return Part(id=row, record=told["record"], error=told["error"], files=found)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _put(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all. It is not synced: what a power cut takes is noticed and made again."""
    with files.beside(path, sync=False) as temporary:
        temporary.write_bytes(data)
