"""Results of WebDataset shards: kept as files until all rows of a shard are there, then packed into a tar of its name."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import files
from ..errors import FileFormatError
from ..work import Done, Item
from ..work.folder import OWN, FolderStore, Line
from .outputs import read_json, same


class PackedStore:
    """A store whose shard number n becomes ``FOLDER/names[n]``: of each row ``<key>.png`` and ``<key>.json``.

    Rows that failed stay out of the tar, and the others' files stay beside it for the run that tries them again.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, tuple(names)
        self._rows = FolderStore(folder / OWN / "rows", same=same)

    def pending(self, items: Sequence[Item]) -> list[Item]:
        """See ``Store``."""
        due = {item.id for item in self._rows.pending([self._kept(item) for item in items])}
        of: dict[int, list[Item]] = {}
        for item in items:
            of.setdefault(item.shard, []).append(item)
        whole = {shard: self._whole(shard, rows) for shard, rows in of.items()}
        return [item for item in items if item.id in due and not whole[item.shard]]

    def keep(self, item: Item, done: Done) -> None:
        """See ``Store``."""
        self._rows.keep(self._kept(item), done)

    def line(self, item: Item) -> Line | None:
        """The last that is known of a row, as of the last ``pending``."""
        return self._rows.line(self._kept(item))

    def knows(self, name: str) -> bool:
        """Whether a tar of this name is the store's own."""
        return self._entry(name).exists()

    def tidy(self) -> None:
        """Remove what killed runs left behind."""
        self._rows.tidy()
        for left in self.folder.glob(".showtell.*.part"):
            with contextlib.suppress(OSError):
                left.unlink()

    def close(self, shard: int, items: Sequence[Item]) -> None:
        """See ``Store``."""
        name, kept = self.names[shard], [self._kept(item) for item in items]
        self._rows.pending(())
        if not self._whole(shard, items):
            self._begin(name)
            made = [item for item in kept if self._rows.made(item)]
            if made:
                self._pack(self.folder / name, made)
            path = self.folder / name
            told = {
                "bytes": path.stat().st_size if made else 0,
                "rows": {item.id: item.told["digest"] for item in made},
                "whole": len(made) == len(items),
            }
            files.write_atomic(self._entry(name), json.dumps(told).encode(), force=True)
        if self._whole(shard, items):
            shutil.rmtree(self._rows.folder / name, ignore_errors=True)

    def finish(self) -> None:
        """See ``Store``."""

    def _kept(self, item: Item) -> Item:
        """The item as it is kept until its shard is packed: under its shard and its id."""
        return replace(item, told={**item.told, "out": f"{self.names[item.shard]}/{item.id}"})

    def _entry(self, name: str) -> Path:
        return self.folder / OWN / "shards" / f"{name}.json"

    def _begin(self, name: str) -> None:
        """From now on a tar of this name is the store's own, also if the run is killed."""
        files.make_folder(self._entry(name).parent)
        if not self._entry(name).exists():
            files.write_atomic(self._entry(name), b'{"whole": false}')

    def _whole(self, shard: int, items: Sequence[Item]) -> bool:
        """Whether a shard is packed, with every one of these rows as they are now."""
        path = self._entry(self.names[shard])
        if not path.exists():
            return False
        told: dict[str, Any] = read_json(path)
        if not told.get("whole") or files.size_of(self.folder / self.names[shard]) != told.get("bytes"):
            return False
        lines = {item.id: self.line(item) for item in items}
        return all(
            told["rows"].get(item.id) == item.told["digest"]
            and (line := lines[item.id]) is not None
            and same(item, line["record"])
            for item in items
        )

    def _pack(self, path: Path, items: Sequence[Item]) -> None:
        """Write a shard, whole or not at all. The same rows give the same bytes."""
        with files.beside(path) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
            for item in items:
                for field in ("png", "json"):
                    _add(tar, f"{item.told['name']}.{field}", _bytes(self._rows.path(item, field)))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FileFormatError(f"{path}: was kept and is gone: give the same command again") from error


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # owner and time stay at zero: equal rows make equal files
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
