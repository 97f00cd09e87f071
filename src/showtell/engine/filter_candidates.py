"""Folders of candidates, as ``showtell dataset pictures`` (or ``filter`` itself) writes them, read in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Union

from ..data import columns, hf, pairs, tables, tars
from ..data.reading import Found, Unusable, from_json, json_lines, read_json, within
from ..data.rows import safe_id
from ..errors import FileFormatError, UsageError
from ..images import MAX_BYTES
from .filter_choose import Scores

_NAMES = columns.Names(before=("before",), after=("after",))
Opener = Union[tars.Slice, tables.Cell, hf.Slot]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A before and an after that are not judged yet. ``record`` is all that is known of it in words and figures; ``before`` and
    ``after`` open its pictures, None where it was judged when it was made and failed; ``name`` and ``pair`` are unique in all of
    the folders read together.
    """

    name: str
    pair: str
    record: Mapping[str, Any]
    before: Opener | None = None
    after: Opener | None = None


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Everything in the folders: ``rows`` with pictures, or with scores by which they failed, in the order of their names;
    ``sources``, the recipe and the hash of the manifest of each folder; ``pairs``, all caption pairs that were asked for;
    ``asked``, how many candidates; ``failed``, (id, what) of those without pictures, and of shards and rows that cannot be read.
    """

    rows: tuple[Candidate, ...]
    sources: tuple[dict[str, Any], ...]
    pairs: Mapping[str, Mapping[str, Any]]
    asked: int
    failed: tuple[tuple[str, str], ...] = field(default=())


def read(folders: Sequence[Path]) -> Candidates:
    """The candidates of these folders. Where two folders have a candidate of one name, all names begin with a hash of the
    folder's manifest, so that the order of the folders changes nothing.

    Raises ``FileFormatError`` for a folder that is none of ours or has not ended, ``UsageError`` for one that is given twice, and
    for folders without a candidate.
    """
    found = [_Folder(Path(folder)) for folder in folders]
    marks = [one.mark for one in found]
    if twice := next((one for one in found if marks.count(one.mark) > 1), None):
        raise UsageError(f"{twice.root}: its candidates are given twice: name each folder once")
    seen: set[str] = set()
    clash = any(name in seen or seen.add(name) for one in found for name in one.names)
    rows: list[Candidate] = []
    every: dict[str, Mapping[str, Any]] = {}
    failed: list[tuple[str, str]] = []
    for one in found:
        mark = f"{one.mark[:8]}-" if clash else ""
        every |= {f"{mark}{pair}": record for pair, record in one.pairs.items()}
        failed += [(f"{mark}{name}", what) for name, what in one.failed]
        rows += one.candidates(mark)
        failed += [(f"{mark}{name}", what) for name, what in one.unread]
    if not rows:
        more = f" (first of {len(failed)} problems: {failed[0][0]}: {failed[0][1]})" if failed else ""
        raise UsageError(f"{', '.join(str(one.root) for one in found)}: holds no candidate with pictures{more}")
    ordered = sorted(found, key=lambda one: one.mark)
    return Candidates(
        rows=tuple(sorted(rows, key=lambda row: row.name)),
        sources=tuple({"manifest": one.mark, "recipe": one.recipe} for one in ordered),
        pairs=dict(sorted(every.items())),
        asked=sum(len(one.names) for one in found),
        failed=tuple(sorted(failed)),
    )


class _Folder:
    """One folder: its recipe, its manifest and the records of its shards."""

    def __init__(self, root: Path) -> None:
        self.root = root
        if not root.is_dir():
            raise FileFormatError(f"{root}: is no folder: give what showtell dataset pictures wrote")
        if not (root / pairs.RECIPE).is_file():
            raise FileFormatError(f"{root}: has no {pairs.RECIPE}: give a folder that showtell dataset pictures wrote")
        if not (root / pairs.MANIFEST).is_file():
            raise FileFormatError(
                f"{root}: has no {pairs.MANIFEST}: what makes it has not ended; give its command again"
            )
        self.recipe = read_json(root / pairs.RECIPE, dict, "a recipe")
        self.mark = pairs.digest(root / pairs.MANIFEST)
        manifest = read_json(root / pairs.MANIFEST, dict, "a manifest")
        self.names: list[str] = []
        self.pairs: dict[str, Mapping[str, Any]] = {}
        self.failed: list[tuple[str, str]] = []
        self.unread: list[tuple[str, str]] = []
        self._records: dict[str, Mapping[str, Any]] = {}
        self._judged: list[Mapping[str, Any]] = []
        for entry in self._entries(manifest):
            self._read_records(entry)

    def _entries(self, manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        listed = manifest.get("shards")
        if (
            manifest.get("format") != 1
            or not isinstance(listed, list)
            or not all(isinstance(e, Mapping) for e in listed)
        ):
            raise FileFormatError(f"{self.root / pairs.MANIFEST}: is of another format than this version writes")
        return listed

    def _read_records(self, entry: Mapping[str, Any]) -> None:
        path = within(self.root, entry.get("records"), "the records")
        for number, line in json_lines(path):
            record = from_json(line, f"{path}, line {number}")
            if not isinstance(record, dict) or not isinstance(record.get("id"), str):
                raise FileFormatError(f"{path}, line {number}: is not the record of a candidate")
            name = record["id"]
            pair = str(record.get("pair") or name)
            self.names.append(name)
            self.pairs.setdefault(pair, record)
            if record.get("kept"):
                self._records[name] = record
            elif record.get("error") is None and Scores.read(record.get("scores")) is not None:
                self._judged.append(record)
            else:
                self.failed.append((name, str(record.get("error") or "no picture of it was kept")))

    def candidates(self, mark: str) -> Iterator[Candidate]:
        """Each row of the shards that has both pictures, and those that were judged and have none. What cannot be read is noted
        in ``unread``.
        """
        for record in self._judged:
            yield self._candidate(record, mark)
        found = Found("pairs", self.root)
        for shard in pairs.shards(self.root, found):
            with found.row(shard.name):
                for key, before, after in _pictures(shard, found):
                    with found.row(key):
                        if (record := self._records.pop(key, None)) is None:
                            raise Unusable("damaged", "is in a shard, but its records do not know it")
                        yield replace(self._candidate(record, mark), before=before, after=after)
        told = {problem.id for problem in found.problems}
        self.unread += [(problem.id, problem.what) for problem in found.problems]
        self.unread += [
            (name, "its pictures are in no shard that can be read") for name in self._records if name not in told
        ]

    def _candidate(self, record: Mapping[str, Any], mark: str) -> Candidate:
        pair = f"{mark}{record.get('pair') or record['id']}"
        return Candidate(name=safe_id(f"{mark}{record['id']}"), pair=pair, record=record)


def _pictures(shard: Path, found: Found) -> Iterator[tuple[str, Opener, Opener]]:
    """Key, before and after of each row of a shard that has them."""
    if shard.suffix == ".parquet":
        with hf.readable(shard):
            table = hf.Table.of(shard)
            for part, row, record in table.rows(["id"]):
                yield str(record["id"]), table.cell(part, row, "before"), table.cell(part, row, "after")
        return
    for group in tars.groups(shard, ("before", "after")):
        with found.row(group.key):
            yield group.key, pairs.picture(group, ("before",)), pairs.picture(group, ("after",))


_KINDS: dict[str, type] = {"slice": tars.Slice, "cell": tables.Cell, "slot": hf.Slot}
_FILES = ("shard", "file")


def placed(opener: Opener) -> dict[str, Any]:
    """Where a picture lies, as JSON can hold it."""
    kind = next(name for name, one in _KINDS.items() if isinstance(opener, one))
    told = {one.name: getattr(opener, one.name) for one in fields(opener)}
    return {"kind": kind, **{key: str(value.absolute()) if key in _FILES else value for key, value in told.items()}}


def opener(place: Mapping[str, Any]) -> Opener:
    """The inverse of :func:`placed`."""
    told = {key: Path(value) if key in _FILES else value for key, value in place.items() if key != "kind"}
    return _KINDS[place["kind"]](**told)


def encoded(place: Mapping[str, Any]) -> tuple[str, bytes]:
    """A picture's file as it was written: its ending (``.png``), and its bytes. Raises ``UsageError`` where it cannot be read."""
    one = opener(place)
    data = one.read(MAX_BYTES) if isinstance(one, tars.Slice) else one.read()
    endings = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp"}
    ending = next((ending for head, ending in endings.items() if data.startswith(head)), None)
    if ending is None:
        raise Unusable("damaged", f"{one}: is neither PNG nor JPEG nor WebP")
    return ending, data
