"""Evaluations: methods compared on a data set under a protocol, in a folder that a run goes on in. See ``run``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .folder import ROWS, SUMMARY, Folder, read_json
from .running import run
from .systems import SPECIAL, System, distinct, named, spec, swept

__all__ = ["SPECIAL", "Folder", "System", "check", "named", "rows", "run", "scores", "spec", "summary", "swept"]


def check(systems: Sequence[System]) -> None:
    """Raise ``UsageError`` for no system, for two of one name, and for what is wrong with one."""
    for system in distinct(systems):
        system.check()


def rows(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of an evaluation's folder, in order. Raises ``FileFormatError``."""
    return read_json(Path(folder) / ROWS)


def summary(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Its summary (see ``summary.summarise``). Raises ``FileFormatError``."""
    return read_json(Path(folder) / SUMMARY)


def scores(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """What every picture was measured as, system by system. Raises ``FileFormatError``."""
    place = Folder(Path(folder))
    return place.scores([one["name"] for one in place.head["systems"]], [one["id"] for one in rows(folder)])
