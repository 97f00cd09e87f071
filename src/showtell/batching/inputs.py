"""What a batch is made of: a folder of pictures, a manifest, or WebDataset shards. Reading opens no picture."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.openers import SUFFIXES, pictures_in
from ..data.reading import Unusable, csv_lines, from_json, json_lines, read_text, there, within
from ..data.rows import safe_id
from ..errors import FileFormatError, OutputError, UsageError
from ..work import Item
from ..work.folder import OWN
from . import shards
from .asked import Asked, Picture, Told, item, told_of

_TABLES = (".csv", ".jsonl", ".ndjson")
_COLUMNS = (
    "id", "image", "instruction", "instructions", "target", "source", "method", "learned", "negative", "mask", "seed", "set",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Input:
    """The items of an input in its order, and the rows that cannot be used, as (name, what). ``kind`` is "folder", "manifest" or
    "shards"; ``shards`` are the shards' files.
    """

    kind: str
    source: str
    items: tuple[Item, ...]
    problems: tuple[tuple[str, str], ...] = ()
    shards: tuple[Path, ...] = field(default=())


def read(source: str | os.PathLike[str], asked: Asked, *, limit: int | None = None, out: Path | None = None) -> Input:
    """The rows of a folder of pictures, a ``.csv`` or ``.jsonl``, a ``.tar``, or a folder or glob of ``.tar`` files.

    ``limit`` takes the first rows. ``out`` is where results will go; pictures there are not read.
    Raises ``FileFormatError`` for an input without a row that can be used, ``UsageError`` for two rows of one name, or for an
    input in whose place a result would be.
    """
    found = _Found()
    path, tars = Path(source), _tars(source)
    if tars:
        kind, rows = "shards", _shard_rows(tars, asked, found, limit)
    elif path.is_dir():
        kind, rows = "folder", _folder_rows(path, asked, found, limit, out)
    elif path.suffix.lower() in _TABLES and path.is_file():
        kind, rows = "manifest", _manifest_rows(path, asked, found, limit)
    elif not path.exists():
        raise FileFormatError(f"{path}: there is no such folder, manifest or shard")
    else:
        raise FileFormatError(f"{path}: is no input: name a folder, a .csv or .jsonl, or .tar shards")
    items = tuple(rows)
    if not items:
        first = f" (first of {len(found.problems)}: {': '.join(found.problems[0])})" if found.problems else ""
        raise FileFormatError(f"{source}: holds no picture that can be edited{first}")
    if out is not None:
        _check_kept(items, tars if kind == "shards" else (), out.absolute())
    return Input(
        kind=kind, source=os.fspath(source), items=items, problems=tuple(found.problems),
        shards=tuple(tars) if kind == "shards" else (),
    )  # fmt: skip


class _Found:
    """What is wrong with single rows, and the names that are taken."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []
        self._taken: dict[str, str] = {}

    @contextmanager
    def row(self, name: str) -> Iterator[None]:
        try:
            yield
        except OutputError:
            raise
        except UsageError as error:
            self.problems.append((name, str(error)))

    def take(self, out: str, who: str, mend: str) -> None:
        """Raise ``UsageError`` for a result's name that two rows have: neither may overwrite the other."""
        other = self._taken.setdefault(out.casefold(), who)
        if other != who:
            raise UsageError(f"{other} and {who} would both be {out!r}: {mend}")


def _tars(source: str | os.PathLike[str]) -> list[Path]:
    """The shards that are meant, none where something else is."""
    text = os.fspath(source)
    path = Path(source)
    if path.is_dir():
        found = sorted(path.glob("*.tar")) or sorted((path / "data").glob("*.tar"))
        if found and pictures_in(path):
            raise FileFormatError(f"{path}: has shards and pictures: name '{path / '*.tar'}', or a folder of its own")
        return found
    if path.exists():
        return [path] if path.suffix == ".tar" else []
    found = sorted(Path(name) for name in glob.glob(text))
    if found and not all(one.suffix == ".tar" for one in found):
        stranger = next(one for one in found if one.suffix != ".tar")
        raise FileFormatError(f"{text}: also means {stranger}; a pattern is for .tar shards, a folder for pictures")
    return found


def _check_kept(items: Sequence[Item], tars: Sequence[Path], out: Path) -> None:
    """Raise ``UsageError`` for an input in whose place a result would be written."""
    places = [out / path.name for path in tars] or [out / f"{item.told['out']}.png" for item in items]
    taken = {path.resolve() for path in tars} or {Path(item.told["picture"]["path"]).resolve() for item in items}
    if lost := next((path for path in places if path.resolve() in taken), None):
        raise UsageError(f"{lost}: is read, and would be overwritten by its result: name another folder for results")


def _folder_rows(root: Path, asked: Asked, found: _Found, limit: int | None, results: Path | None) -> Iterator[Item]:
    """Every picture of the folder and those below it, without results of batches. Where no words are given for all, ``name.txt``
    has those of a picture.
    """
    if results is not None and results.resolve() == root.resolve():
        raise UsageError(f"{results}: its pictures are read: name another folder for results")
    seen = sorted((path.relative_to(root).as_posix(), path) for path in _pictures(root, results))
    outs = [(name, path, os.path.splitext(name)[0]) for name, path in seen]
    for name, _, out in outs:
        found.take(out, name, "rename one of them")
    for name, path, out in outs[:limit]:
        with found.row(name):
            told, beside = Told(), path.with_suffix(".txt")
            if not asked.words and beside.is_file():
                told = Told(words=tuple(line.strip() for line in read_text(beside).splitlines() if line.strip()))
            yield item(asked, told, _picture(path), name=out, out=out)


def _pictures(root: Path, out: Path | None) -> Iterator[Path]:
    """The pictures below a folder. What is hidden is left out, and so are folders of results: a batch may lie in its input."""
    for place, folders, names in os.walk(root):
        here = Path(place)
        folders[:] = [name for name in folders if name[0] != "." and not (here / name / OWN).is_dir()]
        if out is not None:
            folders[:] = [name for name in folders if (here / name).resolve() != out.resolve()]
        for name in names:
            if name[0] != "." and os.path.splitext(name)[1].lower() in SUFFIXES and (here / name).is_file():
                yield here / name


def _manifest_rows(path: Path, asked: Asked, found: _Found, limit: int | None) -> Iterator[Item]:
    """Rows of a table. Paths are relative to its folder, in which they must stay. A row's ``id`` is its result's name, else its
    picture's path is.
    """
    records = list(_records(path))
    rows = []
    for number, record in records[:limit]:
        with found.row(f"{path.name}:{number}"):
            if isinstance(record, FileFormatError):
                raise record
            if not isinstance(record, Mapping):
                raise Unusable("damaged", f"is {type(record).__name__} where an object belongs")
            image = record.get("image") or record.get("before")
            file = within(path.parent, image, "the picture")
            told = told_of(record, lambda text, what: within(path.parent, text, what))
            named = record.get("id")
            inside = file.relative_to(path.parent).as_posix()
            out = os.path.splitext(inside)[0] if named in (None, "") else str(named)
            rows.append((number, out, item(asked, told, _picture(file), name=out, out=out)))
    for number, out, _ in rows:
        found.take(out, f"{path.name}:{number}", "give each its own id")
    return iter([one for *_, one in rows])


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    """The number of each line and its record, or what is wrong with it."""
    if path.suffix.lower() != ".csv":
        for number, line in json_lines(path):
            try:
                yield number, _filled(from_json(line, "the line"))
            except FileFormatError as error:
                yield number, error
        return
    head, *lines = csv_lines(path) or [[]]
    head = [name.strip().lower() for name in head]
    if not {"image", "before"} & set(head):
        raise FileFormatError(f"{path}: its first line has no column 'image'; there may be {', '.join(_COLUMNS)}")
    for number, line in enumerate(lines, start=2):
        if len(line) > len(head):
            yield number, FileFormatError(f"has {len(line)} cells under {len(head)} columns: quote cells with commas")
        else:
            record = {key: cell.strip() for key, cell in zip(head, line, strict=False) if cell.strip()}
            several = ("instruction", "instructions", "learned")
            yield number, {key: cell.split("|") if key in several else cell for key, cell in record.items()}


def _filled(record: Any) -> Any:
    """An object without its NaNs, which tables write where there is nothing."""
    return {key: one for key, one in record.items() if one == one} if isinstance(record, dict) else record


def _picture(path: Path) -> Picture:
    found = there(path, "the picture").stat()
    stat = {"bytes": found.st_size, "mtime_ns": found.st_mtime_ns}
    return Picture(path=os.path.abspath(path), given=os.fspath(path), stat=stat)


def _shard_rows(tars: Sequence[Path], asked: Asked, found: _Found, limit: int | None) -> Iterator[Item]:
    """The samples of all shards. A sample's key is its result's."""
    for path in tars:
        found.take(path.name, os.fspath(path), "rename one of them")
    left = limit
    for number, path in enumerate(tars):
        if left == 0:
            return
        samples, broken = shards.index(path)
        for sample in samples if left is None else samples[:left]:
            with found.row(f"{path.name}: {sample.key}"):
                yield _sample(path, number, sample, asked)
        left = None if left is None else max(0, left - len(samples))
        if broken is not None:
            found.problems.append((path.name, broken))


def _sample(path: Path, number: int, sample: shards.Sample, asked: Asked) -> Item:
    record = shards.record(path, sample)
    inside: Callable[[Any, str], Path] = lambda text, what: within(path.parent, text, what)  # noqa: E731
    told = told_of(record, inside)
    if not (told.words or told.target or asked.words) and "txt" in sample.fields:
        text = shards.text(path, sample.fields["txt"])
        told = told_of({**record, "instructions": [line for line in text.splitlines() if line.strip()]}, inside)
    offset, size = shards.picture_of(sample)
    stat = {"bytes": size, "mtime_ns": path.stat().st_mtime_ns}
    picture = Picture(path=os.path.abspath(path), given=None, stat=stat, offset=offset, size=size)
    made = item(asked, told, picture, name=sample.key, out=sample.key, shard=number)
    # A key may come again in another shard; the seed is of the key alone, so that packing anew changes nothing.
    return Item(id=safe_id(f"{path.name}/{sample.key}"), shard=number, told={**made.told, "json": record})
