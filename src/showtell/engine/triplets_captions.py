"""The captions that a model is asked about: lines of text, or a column of JSON lines or CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..data.reading import csv_lines, encodable, from_json, json_lines, read_text
from ..errors import FileFormatError
from ..work import Item
from .triplets_checks import TWICE, Checks, normal

COLUMNS = ("caption", "text", "source_caption", "input")
"""Columns that are looked for where none is named."""
DAMAGED = "no text"


def read(
    path: Path, checks: Checks, *, column: str | None = None, limit: int | None = None
) -> tuple[list[Item], Counter[str]]:
    """The rows to ask about, ``p000000`` that of the first caption, and how many captions were dropped for what.

    A caption that is empty, too long, holds a blocked word or was there before is not asked about; the others keep their
    numbers. ``limit`` takes the first captions. Raises ``FileFormatError`` for a file without captions.
    """
    items, dropped, seen, count = [], Counter[str](), set(), 0
    for number, caption in enumerate(_captions(path, column)):
        if number == limit:
            break
        count += 1
        why = DAMAGED if caption is None else checks.refuses(caption) or (TWICE if normal(caption) in seen else None)
        if why:
            dropped[f"caption {why}"] += 1
            continue
        assert caption is not None
        seen.add(normal(caption))
        items.append(Item(id=f"p{number:06d}", told={"caption": caption}))
    if not count:
        raise FileFormatError(f"{path}: holds no caption")
    return items, dropped


def _captions(path: Path, column: str | None) -> Iterator[str | None]:
    """Every caption on one line; None for one that is no text."""
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        values = _of_objects(path, column)
    elif suffix == ".csv":
        values = _of_cells(path, column)
    else:
        if column is not None:
            raise FileFormatError(f"{path}: has no columns; --column is for .jsonl and .csv")
        values = (line for line in read_text(path).split("\n") if line.strip())
    for value in values:
        if not isinstance(value, str):
            yield None
            continue
        plain = " ".join(value.split())
        yield plain if encodable(plain) else None


def _of_objects(path: Path, column: str | None) -> Iterator[object]:
    for number, line in json_lines(path):
        record = from_json(line, f"{path}:{number}")
        if isinstance(record, str) and column is None:
            yield record
            continue
        if not isinstance(record, dict):
            raise FileFormatError(f"{path}:{number}: is {type(record).__name__} where an object belongs")
        yield record[_column(f"{path}:{number}", column, list(record))]


def _of_cells(path: Path, column: str | None) -> Iterator[object]:
    head, *lines = csv_lines(path) or [[]]
    named = [name.strip() for name in head]
    place = named.index(_column(str(path), column, named))
    for line in lines:
        yield line[place] if place < len(line) else ""


def _column(where: str, column: str | None, there: list[str]) -> str:
    """The column that is named, or the first of ``COLUMNS``. Raises ``FileFormatError``."""
    found = next((name for name in ([column] if column else COLUMNS) if name in there), None)
    if found is None:
        wanted = repr(column) if column else " or ".join(COLUMNS[:2])
        raise FileFormatError(f"{where}: has no column {wanted}, but {', '.join(there):.200}: name it with --column")
    return found
