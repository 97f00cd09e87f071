"""Rows of work that are trouble, for processes that import nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path

from showtell.errors import ModelError
from showtell.work import Done, Item


def build(folder: Path):
    """A worker that writes down that it was built; some rows are trouble."""
    (folder / f"built-{os.getpid()}").touch()

    def worker(items: list[Item]) -> list[Done]:
        return [one(item) for item in items]

    def one(item: Item) -> Done:
        kind = item.told.get("trouble")
        if kind == "dies once" and not (folder / "died").exists():
            (folder / "died").touch()
            os._exit(9)
        if kind == "dies":
            os._exit(9)
        if kind == "raises":
            raise RuntimeError("no\nsuch thing")
        if kind == "fails":
            return Done(id=item.id, error="is bad")
        return Done(id=item.id, record={"by": os.getpid()}, files={"txt": item.id.encode()})

    return worker


def rows(count: int, **trouble: str) -> list[Item]:
    ids = [f"r{n:02d}" for n in range(count)]
    return [Item(id=one, told={"out": one, **({"trouble": trouble[one]} if one in trouble else {})}) for one in ids]


def no_model(folder: Path):
    raise ModelError("there is no such model")
