"""Which split a file of a sharded data set belongs to, as its name or its folder says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import FileFormatError

_KNOWN = ("train", "training", "validation", "valid", "val", "dev", "test", "eval")
_NAME = re.compile(rf"({'|'.join(_KNOWN)})(?=[-_.\d])", re.IGNORECASE)


def of(file: Path, root: Path) -> str | None:
    """``train`` of ``train-000012.tar``, ``train-00000-of-00002.parquet`` or ``train/0000.parquet``; None where neither says."""
    if found := _NAME.match(file.name):
        return found[1].lower()
    folders = file.relative_to(root).parts[:-1] if file != root else ()
    return next((name.lower() for name in reversed(folders) if name.lower() in _KNOWN), None)


def chosen(files: Sequence[Path], root: Path, split: str | None) -> list[Path]:
    """The files of a split, in their order; all of them for None. Raises ``FileFormatError`` for a split that is not there."""
    if split is None:
        return list(files)
    named = {file: of(file, root) for file in files}
    found = [file for file in files if named[file] == split.lower()]
    if not found:
        there = ", ".join(sorted({name for name in named.values() if name})) or "no split by name: leave split out"
        raise FileFormatError(f"{root}: has no split {split!r}, but {there}")
    return found


def below(root: Path, ending: str, *, depth: int = 2) -> list[Path]:
    """The files of an ending in a folder and the folders in it, by name; hidden ones are left out."""
    found: list[Path] = []
    for level in range(depth + 1):
        found += sorted(root.glob("*/" * level + f"*{ending}"))
    return [
        file for file in found if file.is_file() and not any(p.startswith(".") for p in file.relative_to(root).parts)
    ]
