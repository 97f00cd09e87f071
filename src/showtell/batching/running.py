"""A batch from its input to its folder."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files, work
from ..errors import Cancelled, OutputError
from ..work import Item, Tick
from ..work.folder import FolderStore
from . import inputs, outputs, worker
from .asked import Asked
from .inputs import Input
from .packed import PackedStore


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a batch did: rows ``made`` now, rows that were there ``before``, rows ``skipped`` since something else had written a
    file of their name, and those that ``failed``, as (name, what). ``results`` lists every row.
    """

    made: int
    before: int
    skipped: int
    failed: tuple[tuple[str, str], ...]
    results: Path


def run(
    source: str | os.PathLike[str],
    words: str | Sequence[str] = (),
    *,
    out: str | os.PathLike[str],
    method: str = "ip2p",
    settings: Mapping[str, Any] | None = None,
    model: str | None = None,
    base_model: str | None = None,
    learned: Sequence[str | os.PathLike[str]] = (),
    seed: int = 0,
    batch_size: int = 8,
    limit: int | None = None,
    skip_existing: bool = False,
    force: bool = False,
    ray: str | None = None,
    actors: int = 1,
    gpus: float = 0.0,
    tick: Tick = lambda done, total: None,
    cancel: Callable[[], bool] | None = None,
    **asked: Any,
) -> Summary:
    """Edit every picture of ``source`` into the folder ``out``, and go on where an earlier call stopped.

    ``source``: a folder of pictures, a manifest (``.csv``, ``.jsonl``), or WebDataset shards (a ``.tar``, a folder or a pattern
    of them). ``words``, ``method``, ``settings`` and the others of :class:`Asked` hold for every row that has none of its own. A
    row's seed comes of its name and ``seed``, unless it has one. ``limit`` takes the first rows. ``skip_existing`` leaves files
    alone that something else wrote; ``force`` replaces them, and makes everything again. ``ray``, ``actors``, ``gpus``: see
    ``work.run``.

    Raises ``UsageError`` and its kin where nothing could start, ``OutputError``, and ``Cancelled`` on Ctrl-C or if ``cancel``
    says so.
    """
    told = Asked(
        words=(words,) if isinstance(words, str) else tuple(words), method=method, settings=dict(settings or {}),
        model=model, base_model=base_model, learned=tuple(os.fspath(path) for path in learned), seed=seed, **asked,
    )  # fmt: skip
    told.check()
    told = told.everywhere()  # also here: a model has one name in the folder, whoever works on it
    folder = Path(out)
    found = inputs.read(source, told, limit=limit, out=folder)
    with work.alone(files.make_folder(folder)):
        return _run(
            told, found, folder, skip_existing, force,
            batch_size=batch_size, ray=ray, actors=actors, gpus=gpus, tick=tick, cancel=cancel,
        )  # fmt: skip


def _run(told: Asked, found: Input, folder: Path, skip_existing: bool, force: bool, **how: Any) -> Summary:
    """Make what is not there yet, and list all rows."""
    store = _store(folder.absolute(), found)
    recipe, skipped = outputs.described(told, found, replaces=force), []
    if force:
        outputs.forget(folder)
    old = None if force else outputs.check(folder, recipe)
    if not (force or (old or {}).get("replaces")):
        skipped = _strangers(store, found, folder, skip=skip_existing)
    if old is None:
        outputs.claim(folder, recipe)
    store.tidy()
    left = {item.id for item in skipped}
    items = sorted(
        (item for item in found.items if item.id not in left), key=lambda one: (one.shard, worker.group(one))
    )
    claims = outputs.Claims(folder=folder.absolute())
    factory = functools.partial(worker.build, told, _models(store.pending(items)), claims)
    stopped: Cancelled | None = None
    report = work.Report()
    try:
        report = work.run(items, factory, store, **how)
    except Cancelled as error:
        stopped = error
    failed = outputs.write_results(folder, found, store, left)
    if stopped is not None:
        raise stopped
    return Summary(
        made=report.made,
        before=report.before,
        skipped=len(left),
        failed=tuple(failed),
        results=folder / outputs.RESULTS,
    )


def _store(folder: Path, found: Input) -> FolderStore | PackedStore:
    if found.kind == "shards":
        return PackedStore(folder, [path.name for path in found.shards])
    return FolderStore(folder, same=outputs.same)


def _strangers(store: FolderStore | PackedStore, found: Input, folder: Path, *, skip: bool) -> list[Item]:
    """The rows that are left alone, since something else wrote a file of their result's name.

    Raises ``OutputError`` for the first of them unless they are to be skipped.
    """
    if isinstance(store, FolderStore):
        taken = outputs.strangers(store, found.items)
        names = [store.path(item, "png") for item in taken[:1]]
    else:
        strange = [
            path.name for path in found.shards if not store.knows(path.name) and (store.folder / path.name).exists()
        ]
        taken = [item for item in found.items if found.shards[item.shard].name in strange]
        names = [store.folder / name for name in strange[:1]]
    if names and not skip:
        name = folder / names[0].relative_to(store.folder)
        raise OutputError(
            f"{name}: exists already, and this batch did not make it: leave such files with --skip-existing "
            "(skip_existing=True), or replace them with --force (force=True)"
        )
    return taken


def _models(items: Sequence[Item]) -> dict[str, tuple[str, ...]]:
    """The models that are wanted, and the methods that each is to serve."""
    found: dict[str, dict[str, None]] = {}
    for item in items:
        found.setdefault(item.told["model"], {})[item.told["method"]] = None
    return {name: tuple(served) for name, served in found.items()}
