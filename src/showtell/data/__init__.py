"""Data sets: each loader reads a layout as it is published and gives rows. :func:`load` finds the loader by its name."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from typing import Any

from ..errors import UsageError
from .options import checked
from .rows import Dataset, Problem, Row, dataset, safe_id

__all__ = ["LOADERS", "Dataset", "Problem", "Row", "dataset", "load", "safe_id"]

#: Name -> the module here whose ``load(path, **options)`` reads it.
LOADERS: dict[str, str] = {
    "scenes": "scenes",
    "folder": "folder",
    "manifest": "manifest",
    "pie-bench": "pie_bench",
    "magicbrush": "magicbrush",
    "ip2p": "ip2p",
    "imagenet": "imagenet",
    "coco": "coco",
    "foi": "foi",
    "tedbench": "tedbench",
    "emuedit": "emuedit",
    "pairs": "pairs",
    "hf": "hf",
    "triplets": "triplets",
}


def load(name: str, path: str | os.PathLike[str] | None = None, *, limit: int | None = None, **options: Any) -> Dataset:
    """A data set by its loader's name: ``scenes`` (drawn, needs no path) or one of ``LOADERS`` with the folder or file where it
    lies. ``limit`` keeps the first rows; other ``options`` are the loader's own, also as text (``count="20"``), and with their
    defaults they become the data set's ``settings``.

    Rows that cannot be used are in ``problems`` and do not stop the rest. Raises ``UsageError`` for a name or option that is not
    known or a path that is not there, ``FileFormatError`` for a layout that is not this data set's.
    """
    if name not in LOADERS:
        raise UsageError(f"data set {name!r} is not known: choose one of {', '.join(LOADERS)}")
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}: one row is the least")
    loader = importlib.import_module(f".{LOADERS[name]}", __name__)
    settings = checked(name, loader.load, options)
    if name == "scenes":
        if path is not None:
            raise UsageError("the data set 'scenes' is drawn: it takes no path")
        told = {key: value for key, value in settings.items() if (key, value) not in loader.LATER.items()}
        return replace(loader.load(limit=limit, **settings), settings=told)
    if path is None:
        raise UsageError(f"the data set {name!r} needs the path where it lies")
    if not os.path.exists(path):
        raise UsageError(f"{os.fspath(path)}: does not exist: give the path where the data set {name!r} lies")
    return replace(loader.load(path, **settings).first(limit), settings=settings)
