"""A table of one's own, CSV or JSON lines: which picture, and what is to become of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import FileFormatError
from . import openers
from .reading import Found, Unusable, csv_lines, from_json, json_lines, there, within
from .rows import Dataset, Row, safe_id

COLUMNS = (
    "id", "before", "image", "after", "mask", "instruction", "instructions", "source_caption", "target_caption", "group",
    "pair_before", "pair_after",
)  # fmt: skip
"""What is read; ``image`` is another name of ``before``. Further columns are left alone."""
_SEVERAL = ("instruction", "instructions")


def load(path: str | os.PathLike[str], *, absolute: bool = False) -> Dataset:
    """Rows of a ``.csv`` (with a line of column names) or a ``.jsonl``, in their order.

    ``before`` (or ``image``) and one of ``instruction``, ``instructions`` and ``target_caption`` are needed. ``instructions`` is
    a list, in CSV parted by ``|``; ``[brackets]`` in them mark keywords. Paths are relative to the file's folder, in which
    they must stay; with ``absolute``, paths from the root are taken as they are.
    """
    file = Path(path)
    if file.is_dir():
        raise FileFormatError(f"{file}: is a folder; name the manifest in it")
    found = Found("manifest", path)
    opens = partial(_file, file.parent, absolute)
    for number, record in _records(file):
        label = (
            str(record.get("id") or f"{file.name}:{number}") if isinstance(record, Mapping) else f"{file.name}:{number}"
        )
        with found.row(label):
            found.add(_row(opens, record, number))
    return found.dataset()


def _records(file: Path) -> Iterator[tuple[int, Any]]:
    """The number of each line and what it says; a line of JSON that is none comes as its text."""
    if file.suffix.lower() in (".jsonl", ".ndjson"):
        for number, line in json_lines(file):
            try:
                yield number, _filled(from_json(line, "the line"))
            except FileFormatError as error:
                yield number, error
        return
    if file.suffix.lower() != ".csv":
        raise FileFormatError(f"{file}: a manifest is .csv or .jsonl")
    head, *lines = csv_lines(file) or [[]]
    head = [name.strip().lower() for name in head]
    if not {"before", "image"} & set(head):
        raise FileFormatError(
            f"{file}: its first line has no column 'before' or 'image'; there may be {', '.join(COLUMNS)}"
        )
    for number, line in enumerate(lines, start=2):
        if len(line) > len(head):
            yield number, FileFormatError(f"has {len(line)} cells under {len(head)} columns: quote cells with commas")
        else:
            record = {key: cell.strip() for key, cell in zip(head, line, strict=False) if cell.strip()}
            yield number, {key: cell.split("|") if key in _SEVERAL else cell for key, cell in record.items()}


def _filled(record: Any) -> Any:
    """An object without its NaNs, which tables write where there is nothing."""
    return {key: value for key, value in record.items() if value == value} if isinstance(record, dict) else record


def _file(root: Path, absolute: bool, text: Any, what: str) -> Path:
    if absolute and isinstance(text, str) and os.path.isabs(text):
        return there(Path(text), what, text)
    return within(root, text, what)


def _row(opens: Any, record: Any, number: int) -> Row:
    if isinstance(record, FileFormatError):
        raise record
    if not isinstance(record, Mapping):
        raise Unusable("damaged", f"is {type(record).__name__} where an object belongs")
    named = record.get("before") or record.get("image")
    before = opens(named, "the picture")
    instructions = _instructions(record)
    target = _text(record, "target_caption")
    if not instructions and not target:
        raise Unusable("missing words", "has neither instruction nor target_caption")
    masks = [opens(record["mask"], "the mask")] if record.get("mask") else []
    openers.check_masks(masks, before)
    shown = [opens(record.get(key), key) for key in ("pair_before", "pair_after")] if _shown(record) else []
    return Row(
        id=safe_id(str(record.get("id") or f"{Path(named).stem}-{number}")),
        before=openers.picture(before),
        after=openers.picture(opens(record["after"], "the result")) if record.get("after") else None,
        mask=openers.masks(masks, before) if masks else None,
        pair=openers.pair(*shown) if shown else None,
        instructions=instructions,
        source_caption=_text(record, "source_caption"),
        target_caption=target,
        group=_text(record, "group"),
    )


def _shown(record: Mapping[str, Any]) -> bool:
    return bool(record.get("pair_before") or record.get("pair_after"))


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, (str, int, float)):
        raise Unusable("damaged", f"{key} is {type(value).__name__}, not text")
    return " ".join(str(value).split())


def _instructions(record: Mapping[str, Any]) -> tuple[str, ...]:
    value = record.get("instructions") or record.get("instruction") or ()
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        raise Unusable("damaged", "instructions is neither text nor a list of texts")
    return tuple(" ".join(part.split()) for part in parts if part.strip())
