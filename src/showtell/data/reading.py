"""What every loader needs to read what others wrote: paths that stay in their folder, JSON, words, and a place for problems."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..errors import FileFormatError, ImageError, UsageError
from .rows import Dataset, Problem, Row, dataset

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 512 * 1024 * 1024
"""Largest listing that is read, in bytes."""
_DRIVE = re.compile(r"[A-Za-z]:")


class Unusable(FileFormatError):
    """Why one row cannot be used. ``kind`` is what ``Problem`` counts it by."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind


class Found:
    """Rows and problems, as a loader finds them."""

    def __init__(self, name: str, source: str | os.PathLike[str]) -> None:
        self.name, self.source = name, os.fspath(source)
        self.rows: list[Row] = []
        self.problems: list[Problem] = []
        self._ids: set[str] = set()

    @contextmanager
    def row(self, label: str) -> Iterator[None]:
        """Whatever is wrong with one row is noted under ``label``, and the rest goes on."""
        try:
            yield
        except UsageError as error:
            kind = getattr(error, "kind", "picture" if isinstance(error, ImageError) else "damaged")
            self.problem(label, kind, str(error))

    def problem(self, label: str, kind: str, what: str) -> None:
        self.problems.append(Problem(id=_writable(label), kind=kind, what=_writable(what)))

    def add(self, row: Row) -> None:
        """Raises ``Unusable`` for an id that is there already, and for words that no file can hold."""
        for text in (*row.instructions, row.source_caption, row.target_caption, row.group):
            if not encodable(text):
                raise Unusable("damaged", f"has half of a character in its words, {_writable(text)!r:.100}")
        if row.id in self._ids:
            raise Unusable("twice", f"another row has the id {row.id!r}, too")
        self._ids.add(row.id)
        self.rows.append(row)

    def dataset(self, *, reals: Mapping[str, tuple[Callable[[], Image.Image], ...]] | None = None) -> Dataset:
        """What was found. Raises ``FileFormatError`` if that is no row at all."""
        from dataclasses import replace

        return replace(dataset(self.name, self.rows, self.problems, source=self.source), reals=reals or {})


def encodable(text: str) -> bool:
    """Whether UTF-8 can hold a text: not so with half of a character, which JSON can name."""
    return _writable(text) == text


def _writable(text: str) -> str:
    """Text without lone surrogates, which JSON can name and names of files can have, but UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def within(root: Path, text: Any, what: str) -> Path:
    """The file that a path from a listing names, which must lie in ``root`` and be there. ``what`` is how to call it.

    Raises ``Unusable`` for a path that is missing, absolute or climbs with ``..``, and for a file that is not there.
    """
    if not isinstance(text, str) or not text.strip():
        raise Unusable("missing file", f"{what} is not named")
    parts = PurePosixPath(text.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or "\0" in text or any(map(_DRIVE.match, parts.parts)):
        raise Unusable("path", f"{what} {text[:200]!r} leaves the data set's folder: name a file inside it")
    return there(root / parts, what, text)


def there(path: Path, what: str, text: str = "") -> Path:
    """The path, if a file is there. Raises ``Unusable``."""
    if not os.path.isfile(path):
        raise Unusable("missing file", f"{what} {text or path.name:.200} is not there")
    return path


def read_bytes(path: Path) -> bytes:
    """A listing's bytes. Raises ``FileFormatError`` for one that cannot be read, or is larger than ``MAX_BYTES``."""
    try:
        with path.open("rb") as file:
            large = os.fstat(file.fileno()).st_size > MAX_BYTES
            data = b"" if large else file.read(MAX_BYTES + 1)  # a device has no size, and no end
        if large or len(data) > MAX_BYTES:
            raise FileFormatError(f"{path}: is over the limit of {MAX_BYTES // 2**20} MiB for a listing")
        return data
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_text(path: Path) -> str:
    """A listing's text. Raises ``FileFormatError`` for one that is not UTF-8."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: is not text in UTF-8 (byte {error.start})") from error


def read_json(path: Path, shape: type | tuple[type, ...], what: str) -> Any:
    """A JSON file that holds a ``dict`` or a ``list``. Raises ``FileFormatError`` for anything else."""
    value = from_json(read_text(path), str(path))
    if not isinstance(value, shape):
        raise FileFormatError(f"{path}: does not hold {what}")
    return value


def from_json(text: str, name: str) -> Any:
    """JSON text as a value. Raises ``FileFormatError``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{name}: is not JSON ({str(error) or type(error).__name__})") from error


def json_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The number, from 1, and the text of each line that is not empty."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line


def csv_lines(path: Path) -> list[list[str]]:
    """The lines of a CSV file that are not empty, as cells. Raises ``FileFormatError``."""
    try:
        return [line for line in csv.reader(io.StringIO(read_text(path), newline="")) if any(line)]
    except csv.Error as error:
        raise FileFormatError(f"{path}: is not CSV ({error})") from error


def words(record: Any, *keys: str, what: str = "") -> str:
    """The text under the first of ``keys`` that a record has. Raises ``Unusable`` if there is none."""
    if not isinstance(record, Mapping):
        raise Unusable("damaged", f"is {type(record).__name__} where an object with {', '.join(keys)} belongs")
    for key in keys:
        value = record.get(key)
        if isinstance(value, str) and value.strip():
            if not encodable(value):
                raise Unusable("damaged", f"has half of a character in its words, {_writable(value)!r:.100}")
            return " ".join(value.split())
    raise Unusable("missing words", f"the {what or keys[0].replace('_', ' ')} is missing")


def unbracketed(text: str) -> str:
    """Words without the brackets that a data set uses for its own ends: in ours they mark a keyword."""
    return " ".join(text.replace("[", "").replace("]", "").split())


def bracketed(text: str, keyword: str) -> str:
    """The instruction with the last place of its keyword, as whole words, in brackets; as it is where it has no such place."""
    if not keyword.strip():
        return text
    found = list(re.finditer(rf"(?<!\w){re.escape(keyword.strip())}(?!\w)", text, re.IGNORECASE))
    if not found:
        return text
    start, end = found[-1].span()
    return f"{text[:start]}[{text[start:end]}]{text[end:]}"
