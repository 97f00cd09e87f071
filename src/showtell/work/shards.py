"""A folder of shards: rows are kept as small files, and packed when all rows of a shard are there.

recipe.json              what makes these rows; a folder of another recipe is refused
parts/000012/            rows of a shard that is not whole yet
data/train-000012.tar    the rows of which something is kept (or .parquet)
records/000012.jsonl     one line a row, also for those of which nothing is kept
records/000012.json      written last: the shard's entry in the manifest
manifest.json            all entries, with the hash of every file
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files
from ..errors import FileFormatError, UsageError
from . import packing, parts
from .rows import Done, Item

FORMAT = 1
RECIPE, MANIFEST = "recipe.json", "manifest.json"
_FREE = {"versions", "origin"}
"""Of a recipe what may differ: a value is the same whether it was given or is the card's."""


@dataclass(frozen=True, kw_only=True)
class ShardStore:
    """A store whose rows end up in shards. ``layout`` is "webdataset" or "datasets". Make one with :meth:`begin`."""

    folder: Path
    layout: str = "webdataset"

    @classmethod
    def begin(cls, folder: Path, recipe: Mapping[str, Any], *, layout: str = "webdataset") -> ShardStore:
        """The store of a new folder, or of one that was begun with the same recipe.

        Raises ``UsageError`` for a layout that is not known, ``FileFormatError`` for a folder of another recipe, or with other
        things in it, and ``OutputError``.
        """
        packing.check_layout(layout)
        told = json.loads(json.dumps({"format": FORMAT, **recipe, "layout": layout}))
        claim(folder, told)
        for name in ("data", "records", "parts"):
            files.make_folder(folder / name)
        return cls(folder=folder.absolute(), layout=layout)  # another process may stand elsewhere

    def pending(self, items: Sequence[Item]) -> list[Item]:
        """See ``Store``."""
        counts = Counter(item.shard for item in items)
        whole = {shard for shard, count in counts.items() if self._whole(shard, count)}
        there = {shard: parts.there(self._parts(shard)) for shard in counts.keys() - whole}
        return [
            item
            for item in items
            if item.shard not in whole and not (item.id in there[item.shard] and self._made(item))
        ]

    def keep(self, item: Item, done: Done) -> None:
        """See ``Store``."""
        parts.write(self._parts(item.shard), done)

    def close(self, shard: int, items: Sequence[Item]) -> None:
        """See ``Store``. Rows that failed stay out; while there are some, the others' parts stay, for a later run."""
        if self._whole(shard, len(items)):
            shutil.rmtree(self._parts(shard), ignore_errors=True)  # left by a run that was killed just here
            return
        found = [parts.read(self._parts(shard), item.id) for item in items]
        there = [part for part in found if part is not None]
        if len(there) < len(items):
            raise FileFormatError(f"{self._parts(shard)}: lacks a row that was kept: give the same command again")
        kept = [part for part in there if part.files and part.error is None]
        path = self.data(shard)
        if kept:  # an empty file is no shard to those who read it
            packing.pack(path, kept, self.layout)
        lines = [
            {"id": part.id, **part.record, "kept": bool(part.files) and part.error is None}
            | ({} if part.error is None else {"error": part.error})
            for part in there
        ]
        records = self.folder / "records" / f"{shard:06d}.jsonl"
        files.write_atomic(records, b"".join(parts.told_in_full(line) + b"\n" for line in lines), force=True)
        failed = [{"id": part.id, "what": part.error} for part in there if part.error is not None]
        entry = {
            "file": f"data/{path.name}" if kept else None, "sha256": sha256(path) if kept else None,
            "bytes": path.stat().st_size if kept else 0, "rows": len(kept),
            "records": f"records/{records.name}", "records_sha256": sha256(records), "asked": len(items), "failed": failed,
        }  # fmt: skip
        files.write_atomic(self._entry(shard), json.dumps(entry, indent=1).encode(), force=True)
        if not failed:
            shutil.rmtree(self._parts(shard), ignore_errors=True)

    def finish(self) -> None:
        """See ``Store``: writes the manifest."""
        entries = [_entry(path) for path in sorted((self.folder / "records").glob("*.json"))]
        failed = [one for entry in entries for one in entry.pop("failed")]
        told = {
            "format": FORMAT,
            "recipe": json.loads((self.folder / RECIPE).read_bytes()),
            "shards": entries,
            "rows": sum(entry["rows"] for entry in entries),
            "failed": failed,
        }
        text = json.dumps(told, indent=1, ensure_ascii=False)
        files.write_atomic(self.folder / MANIFEST, text.encode("utf-8", "backslashreplace"), force=True)
        with contextlib.suppress(OSError):  # there are parts in it: of rows that failed
            (self.folder / "parts").rmdir()

    def data(self, shard: int) -> Path:
        """The file of a shard's rows."""
        return self.folder / "data" / f"train-{shard:06d}{packing.ENDINGS[self.layout]}"

    def _parts(self, shard: int) -> Path:
        return self.folder / "parts" / f"{shard:06d}"

    def _entry(self, shard: int) -> Path:
        return self.folder / "records" / f"{shard:06d}.json"

    def _whole(self, shard: int, count: int) -> bool:
        """Whether a shard of at least so many rows is packed, its files are there, and none of the rows failed. One that was
        packed when fewer rows were asked for is made again.
        """
        if not self._entry(shard).is_file():
            return False
        entry = _entry(self._entry(shard))
        data = not entry["rows"] or files.size_of(self.data(shard)) == entry.get("bytes")
        records = (self.folder / "records" / f"{shard:06d}.jsonl").is_file()
        return data and records and not entry["failed"] and entry["asked"] >= count

    def _made(self, item: Item) -> bool:
        part = parts.read(self._parts(item.shard), item.id)
        return part is not None and part.error is None


def claim(folder: Path, told: dict[str, Any]) -> None:
    """Write a folder's recipe, or see that it has this one, or that nothing was made of it. Raises ``FileFormatError`` and
    ``OutputError``.
    """
    path = files.make_folder(folder) / RECIPE
    if path.is_file():
        old = _json(path)
        differs = sorted(key for key in {*told, *old} - _FREE if told.get(key) != old.get(key))
        differs = ["command"] if "command" in differs else differs  # then all the rest does, too
        if differs and any(one.is_file() for one in folder.rglob("[!.]*") if one != path):
            what = ", ".join(_differing(key, old.get(key), told.get(key)) for key in differs)
            raise FileFormatError(f"{folder}: was begun with another {what}: name another folder")
        if differs:  # nothing was made of it: a setting was a wrong one
            files.write_atomic(path, json.dumps(told, indent=1, ensure_ascii=False).encode(), force=True)
        return
    if stranger := next((one.name for one in sorted(folder.iterdir()) if not one.name.startswith(".")), None):
        raise FileFormatError(f"{folder}: has {stranger} but no {RECIPE} that says what it is: name another folder")
    files.write_atomic(path, json.dumps(told, indent=1, ensure_ascii=False).encode())


def _differing(key: str, old: Any, new: Any) -> str:
    """The name of what differs: of a setting, its own."""
    if isinstance(old, dict) and isinstance(new, dict):
        return ", ".join(sorted(one for one in old.keys() | new.keys() if old.get(one) != new.get(one)))
    return key


def sha256(path: Path) -> str:
    """The hash of a file's bytes, 64 hexadecimal digits. Raises ``UsageError`` for one that cannot be read."""
    try:
        return files.sha256(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from error


def _entry(path: Path) -> dict[str, Any]:
    found = _json(path)
    if not isinstance(found.get("failed"), list) or not all(isinstance(found.get(k), int) for k in ("rows", "asked")):
        raise FileFormatError(f"{path}: is not the entry of a shard: remove it to pack the shard again")
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise FileFormatError(f"{path}: does not hold an object")
    return found
