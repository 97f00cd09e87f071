"""What a study needs of a result folder: its systems, its rows, and which pictures are there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from .. import records
from ..data import safe_id
from ..errors import FileFormatError, UsageError
from ..evaluation.folder import HEAD, ROWS, Folder
from ..evaluation.systems import NAME

FORMAT = 1
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Model:
    """The model of a system, as evaluation.json names it."""

    id: str = ""


@dataclass(frozen=True, kw_only=True)
class System:
    """One column of the study: ``name`` is the folder of its edits, ``method`` and ``model`` (None for none) what made them."""

    name: str
    method: str = ""
    model: Model | None = None


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of the data set, in words. ``after``: whether its true result is known."""

    id: str
    instructions: tuple[str, ...] = ()
    target_caption: str = ""
    after: bool = False


@dataclass(frozen=True, kw_only=True)
class Set:
    """The data set's name."""

    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The parts of evaluation.json that a study takes."""

    format: int
    systems: tuple[System, ...]
    dataset: Set = field(default_factory=Set)


@dataclass(frozen=True, kw_only=True)
class Results:
    """A result folder: the systems of ``evaluation.json`` and the rows of ``rows.json``, all names safe as a file's."""

    folder: Path
    dataset: str
    systems: tuple[System, ...]
    rows: tuple[Line, ...]

    def before(self, row: Line) -> Path:
        """The picture before the edit."""
        return Folder(self.folder).input(row.id)

    def truth(self, row: Line) -> Path:
        """The true result, where there is one."""
        return Folder(self.folder).truth(row.id)

    def edit(self, row: Line, system: System) -> Path:
        """What a system made of the row."""
        return Folder(self.folder).edit(system.name, row.id)


def read(folder: Path) -> Results:
    """The folder's systems and rows.

    Raises ``UsageError`` if it is no result folder, ``FileFormatError`` for a damaged one or a name that leads elsewhere.
    """
    place = folder / HEAD
    if not place.is_file():
        raise UsageError(
            f"{folder}: is no result folder (it has no evaluation.json): name one that `showtell evaluate` wrote"
        )
    told = records.parse(text(place), Evaluation, name=str(place), what="the evaluation", newest=FORMAT)
    rows = _rows(folder / ROWS)
    systems, ids = [system.name for system in told.systems], [row.id for row in rows]
    for where, names, safe in (
        (place, systems, NAME.fullmatch),
        (folder / ROWS, ids, lambda id: safe_id(id) == id),
    ):
        for name in names:
            if not safe(name):
                raise FileFormatError(
                    f"{where}: {name!a:.60} is no name that showtell gives: this folder was altered; evaluate again"
                )
        if len(set(names)) < len(names):
            raise FileFormatError(f"{where}: is damaged (a name is there twice); evaluate again")
    return Results(folder=folder, dataset=told.dataset.name, systems=told.systems, rows=rows)


def chosen(results: Results, names: Sequence[str] | None) -> tuple[System, ...]:
    """The systems of these names, in their order; all for None. Raises ``UsageError``."""
    known = {system.name: system for system in results.systems}
    names = list(known) if names is None else list(dict.fromkeys(names))
    for name in names:
        if name not in known:
            raise UsageError(f"--systems: {name!r} is not in {results.folder}; it has {', '.join(known)}")
    if not 2 <= len(names) <= 9:
        raise UsageError(f"{len(names)} system(s) to compare: a study takes 2 to 9; choose them with --systems a,b")
    return tuple(known[name] for name in names)


def _rows(path: Path) -> tuple[Line, ...]:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(tuple[Line, ...]).validate_python(json.loads(text(path)))
    except (ValueError, RecursionError) as error:
        first = error.errors(include_input=False, include_url=False)[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        raise FileFormatError(f"{path}: is damaged ({reason:.200}); evaluate again") from error


def text(path: Path, *, limit: int = 256 * 2**20) -> str:
    """A file as text. Raises ``FileFormatError`` for one that cannot be read, is too large, or is not UTF-8."""
    try:
        if path.stat().st_size > limit:
            raise FileFormatError(f"{path}: is larger than {limit // 2**20} MiB, which no such file is")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: is not text") from error
    except ValueError as error:  # a null character in the path
        raise FileFormatError(f"{path!s:.100}: cannot be read ({error})") from error
