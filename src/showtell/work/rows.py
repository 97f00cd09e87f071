"""A row of work, what was made of it, and where that is kept: the words that every large job here is written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import Cancelled, MethodError, ModelError, OutputError, ShowtellError


@dataclass(frozen=True, kw_only=True)
class Item:
    """One row of work, which can be handed to another process.

    ``id`` is unique and safe as a file's name (``data.safe_id``); ``shard`` the shard that the row belongs to, which follows from
    its place in the input alone; ``told`` all that a worker needs (words, paths, a seed), as JSON can hold it.
    """

    id: str
    shard: int = 0
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Done:
    """What was made of a row: a ``record`` as JSON can hold it, and ``files``, field -> bytes (``{"after.png": ...}``), none
    where nothing is to be kept of it. ``error`` is one line where the row failed; it is then listed, and tried again by the
    next run.
    """

    id: str
    record: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    error: str | None = None


Worker = Callable[[Sequence[Item]], list[Done]]
"""Makes one ``Done`` of each item, in their order. What is wrong with one row is that row's ``error``."""
Factory = Callable[[], Worker]
"""Builds a worker in the process that uses it. Picklable: a ``functools.partial`` of a module's function."""
Tick = Callable[[int, int], None]
"""Told (rows done, rows in all)."""


class Store(Protocol):
    """Where results are kept. Picklable, so that other processes keep what they make themselves."""

    def pending(self, items: Sequence[Item]) -> list[Item]:
        """The items of which there is nothing yet, or nothing but a failure."""
        ...

    def keep(self, item: Item, done: Done) -> None:
        """Keep a result, whole or not at all, whenever the process is killed. Raises ``OutputError``."""
        ...

    def close(self, shard: int, items: Sequence[Item]) -> None:
        """All items of a shard are kept now, failures included. Raises ``OutputError``."""
        ...

    def finish(self) -> None:
        """All shards are closed. Raises ``OutputError``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Report:
    """How many rows were ``made`` now, how many were there ``before``, and which failed: (id, what), in the input's order."""

    made: int = 0
    before: int = 0
    failed: tuple[tuple[str, str], ...] = ()


def attempt(worker: Worker, items: Sequence[Item]) -> list[Done]:
    """What a worker makes of a batch. Where the batch fails as a whole its rows are tried one by one, and one that fails alone
    is a failed row. What is wrong with the job (a model, a setting, the disk, an interruption) is raised.
    """
    try:
        found = worker(items)
        if [done.id for done in found] != [item.id for item in items]:
            raise ShowtellError("a worker did not give one result a row, in their order")
        return found
    except (ModelError, MethodError, OutputError, Cancelled):
        raise
    except Exception as error:  # noqa: BLE001 - a row's failure must not drop its neighbours
        if len(items) == 1:
            return [Done(id=items[0].id, error=_told(error))]
    return [done for item in items for done in attempt(worker, [item])]


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ShowtellError) and text else f"{type(error).__name__}: {text}"[:500]
