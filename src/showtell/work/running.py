"""Running rows of work, here or on Ray: each row is made once, and what is there already is not made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..errors import Cancelled, UsageError
from .rows import Factory, Item, Report, Store, Tick, attempt


def run(
    items: Sequence[Item],
    factory: Factory,
    store: Store,
    *,
    batch_size: int = 8,
    ray: str | None = None,
    actors: int = 1,
    gpus: float = 0.0,
    tick: Tick = lambda done, total: None,
    cancel: Callable[[], bool] | None = None,
) -> Report:
    """Make whatever of ``items`` the store has not got, in batches of ``batch_size``, and keep it there row by row.

    ``ray``: None works in this process; ``"local"`` on a Ray that is started for it, an address (or ``"auto"``) on a cluster that
    shares the store's folder, with that many ``actors`` of ``gpus`` GPUs each. A shard is closed as soon as all of its rows are
    there or have failed. A kill at any moment loses no row that was kept; the same call goes on.

    Raises ``UsageError`` for items of one id, ``Cancelled`` when ``cancel`` says so or on Ctrl-C, and what is wrong with the
    whole job (``ModelError``, ``MethodError``, ``OutputError``).
    """
    how = {"batch_size": batch_size, "ray": ray, "actors": actors, "gpus": gpus, "cancel": cancel}
    return run_in_parts([items], len(items), factory, store, tick=tick, **how)


def run_in_parts(
    parts: Iterable[Sequence[Item]],
    count: int,
    factory: Factory,
    store: Store,
    *,
    tick: Tick = lambda done, total: None,
    **how: Any,
) -> Report:
    """As :func:`run`, whose other options are ``how``, for more rows than memory holds: ``parts`` are looked at one after the
    other, and a shard lies in one of them. There are ``count`` rows in all; the ids of different parts are not compared.
    """
    made = before = 0
    failed: list[tuple[str, str]] = []
    for items in parts:
        so_far = made + before + len(failed)
        report = _run(items, factory, store, tick=lambda done, _, so_far=so_far: tick(so_far + done, count), **how)
        made, before = made + report.made, before + report.before
        failed += report.failed
    store.finish()
    return Report(made=made, before=before, failed=tuple(failed))


def _run(items: Sequence[Item], factory: Factory, store: Store, *, tick: Tick, **how: Any) -> Report:
    twice = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        raise UsageError(f"two rows of work have the id {twice[0]!r}: give each its own")
    pending = store.pending(items)
    shards = _Shards(items, pending, store)
    failed: dict[str, str] = {}
    done = before = len(items) - len(pending)
    tick(done, len(items))
    try:
        for item, error in _made(pending, factory, store, **how):
            done += 1
            if error is not None:
                failed[item.id] = error
            shards.count(item)
            tick(done, len(items))
    except KeyboardInterrupt as stop:
        raise Cancelled("interrupted; what was made is kept: give the same command to go on") from stop
    told = tuple((item.id, failed[item.id]) for item in pending if item.id in failed)
    return Report(made=len(pending) - len(failed), before=before, failed=told)


def _made(
    pending: Sequence[Item],
    factory: Factory,
    store: Store,
    *,
    batch_size: int = 8,
    ray: str | None = None,
    actors: int = 1,
    gpus: float = 0.0,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[tuple[Item, str | None]]:
    """Each item when it is kept, with the error of one that failed."""
    if not pending:
        return
    if ray is not None:
        from .rays import on_ray

        yield from on_ray(
            pending, factory, store, address=ray, batch_size=batch_size, actors=actors, gpus=gpus, cancel=cancel
        )
        return
    worker = factory()
    for first in range(0, len(pending), batch_size):
        if cancel is not None and cancel():
            raise Cancelled("cancelled; what was made is kept: give the same command to go on")
        part = pending[first : first + batch_size]
        for item, done in zip(part, attempt(worker, part), strict=True):
            store.keep(item, done)
            yield item, done.error


class _Shards:
    """Closes each shard once, when the last of its rows is kept."""

    def __init__(self, items: Sequence[Item], pending: Sequence[Item], store: Store) -> None:
        self._store, self._of = store, dict[int, list[Item]]()
        for item in items:
            self._of.setdefault(item.shard, []).append(item)
        self._left = Counter(item.shard for item in pending)
        for shard in self._of:
            if not self._left[shard]:  # a run that was killed may have left it open
                store.close(shard, self._of[shard])

    def count(self, item: Item) -> None:
        self._left[item.shard] -= 1
        if not self._left[item.shard]:
            self._store.close(item.shard, self._of[item.shard])
