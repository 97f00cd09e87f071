"""TEdBench: 100 pictures, each with a text that says what the result is to show (Kawar et al., "Imagic", 2023)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import FileFormatError
from . import openers
from .reading import Found, Unusable, csv_lines, read_json, within, words
from .rows import Dataset, Row, safe_id

_LISTS = ("input_list.json", "input_list.csv")
_IMAGE = ("img_name", "image", "input", "original", "file")
_TEXT = ("target_text", "text", "target", "prompt")
_FOLDERS = (".", "originals", "input", "inputs", "images")


def load(path: str | os.PathLike[str]) -> Dataset:
    """The rows of ``input_list.json`` or ``input_list.csv``: a picture's name and the target text.

    ``path`` is the list or its folder. Pictures lie beside the list, or in ``originals/``, ``input/``, ``inputs/`` or
    ``images/`` there. There is no instruction, and no caption of the picture before.
    """
    root = Path(path)
    if root.is_dir():
        file = next((root / name for name in _LISTS if (root / name).is_file()), None)
        if file is None:
            raise FileFormatError(f"{root}: has neither {' nor '.join(_LISTS)}")
    else:
        root, file = root.parent, root
    found = Found("tedbench", path)
    for number, record in enumerate(_records(file), start=1):
        with found.row(f"{file.name}:{number}"):
            found.add(_row(root, record))
    return found.dataset()


def _records(file: Path) -> list[Any]:
    if file.suffix.lower() == ".json":
        return read_json(file, list, "a list of pictures with target texts")
    lines = csv_lines(file)
    if lines and set(lines[0]) & {*_IMAGE, *_TEXT}:
        return [dict(zip(lines[0], line, strict=False)) for line in lines[1:]]
    return [dict(zip(("image", "target_text"), line, strict=False)) for line in lines]


def _row(root: Path, record: Any) -> Row:
    target = words(record, *_TEXT, what="target text")
    name = next((record[key] for key in _IMAGE if isinstance(record.get(key), str)), None)
    file = _find(root, name)
    return Row(id=safe_id(f"{file.stem}-{target}"), before=openers.picture(file), target_caption=target)


def _find(root: Path, name: Any) -> Path:
    """The picture, in whichever of the folders it lies."""
    first: Unusable | None = None
    for folder in _FOLDERS:
        try:
            return within(root / folder, name, "the picture")
        except Unusable as error:
            first = first or error
    assert first is not None
    raise first
