"""Asking about captions from begin to end: the questions, what is moderated, and the file of what is left."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..data.asking import Usage
from ..work import Item, run
from . import triplets_prompt as prompt
from .triplets import Made, finish
from .triplets_asked import MODERATED, Start, collect, start
from .triplets_checks import Checks, sift
from .triplets_endpoint import Asker, Prices, Told, ask_all, usage_of
from .triplets_journal import Journal
from .triplets_judging import Judges, judge_all, none_left
from .triplets_local import Drawing, build

Progress = Callable[[str], AbstractContextManager[Told]]
"""A bar of that title."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is asked about, and what becomes of the answers.

    ``items`` are the captions (``triplets_captions``), ``dropped`` counts those that are not asked about, ``count`` are the edits
    of each. ``recipe`` is what the file's recipe says beside the figures. ``concurrency`` questions are on their way at a time.
    """

    out: Path
    items: Sequence[Item]
    checks: Checks = field(default_factory=Checks)
    judges: Judges = field(default_factory=Judges)
    dropped: Mapping[str, int] = field(default_factory=dict)
    count: int = 1
    concurrency: int = 4
    recipe: Mapping[str, Any] = field(default_factory=dict)


def start_of(job: Job, settings: Mapping[str, Any], *, resume: bool) -> Start:
    """How the job's journal begins. ``settings`` are what answers depend on; the question's wording joins them."""
    told = prompt.text(prompt.conversation("", job.count))
    worded = hashlib.sha256(told.encode()).hexdigest()[:16]
    return start(job.out, {**settings, "per_caption": job.count, "prompt": worded}, resume=resume)


def from_endpoint(
    job: Job,
    asker: Asker,
    begun: Start,
    progress: Progress,
    *,
    prices: Prices | None = None,
    most: float | None = None,
) -> Made:
    """Ask an endpoint about what the journal has not got, and write the file. Raises as ``ask_all`` and ``finish`` do."""
    before, journal = len(job.items) - len(begun.pending(job.items)), begun.begin()
    spent = usage_of(journal.records())
    with progress("asking") as told:
        ask_all(
            job.items, asker, journal, concurrency=job.concurrency, prices=prices, spent=spent, most=most, told=told
        )
    usage = usage_of(journal.records())
    return _close(job, journal, progress, "endpoint", before, usage, prices.of(usage) if prices else None)


def from_local(
    job: Job,
    model: str,
    drawing: Drawing,
    begun: Start,
    progress: Progress,
    *,
    device: str = "auto",
    dtype: str | None = None,
    attempts: int = 3,
    batch_size: int = 8,
    ray: str | None = None,
    actors: int = 1,
    gpus: float = 0.0,
) -> Made:
    """Ask a language model here, or in Ray's processes, about what the journal has not got, and write the file.

    Raises ``ModelError``, ``OutputError``, ``Cancelled``, and what ``finish`` raises.
    """
    before, journal = len(job.items) - len(begun.pending(job.items)), begun.begin()
    factory = partial(build, model, device=device, dtype=dtype, count=job.count, attempts=attempts, drawing=drawing)
    with progress("asking") as told:
        run(job.items, factory, journal, batch_size=batch_size, ray=ray, actors=actors, gpus=gpus, tick=told)
    return _close(job, journal, progress, "local", before, usage_of(journal.records()), None)


def _close(
    job: Job, journal: Journal, progress: Progress, origin: str, before: int, usage: Usage, cost: float | None
) -> Made:
    """Drop, moderate, and write what is left."""
    found, unusable, failed = collect(job.items, journal, origin)
    kept, dropped = sift([one.triplet for one in found], job.checks)
    dropped.update(unusable)
    dropped.update(job.dropped)
    if job.judges.by:
        names = {one.id for one in kept}
        asked = [one for one in found if one.triplet.id in names]
        with progress("moderating") as told:
            flags, unsaid = judge_all(asked, job.judges, journal, concurrency=job.concurrency, told=told)
        none_left(unsaid, len(asked))
        failed += unsaid
        kept = [one for one in kept if flags.get(one.id) == ""]
        if flagged := sum(flag != "" for flag in flags.values()):
            dropped[MODERATED] += flagged
    return finish(
        job.out, kept, job.checks, recipe=job.recipe, dropped=dropped, failed=tuple(failed), kept=before,
        usage={key: int(value) for key, value in asdict(usage).items()}, cost=cost,
    )  # fmt: skip
