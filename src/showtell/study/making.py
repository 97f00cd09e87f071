"""From a result folder to a page and its key."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageError, UsageError
from . import assembling, folder, html, pictures, plan
from .folder import Line, Results, System
from .pictures import Shown
from .plan import Key

TITLE = "Which edit is better?"
CONSENT = (
    "You will see pictures and what was to be changed in them, and choose between several results. Your choices stay in this "
    "browser until you save them as a file and hand that over yourself; nothing is sent anywhere, and nothing about you is "
    "recorded. You may stop at any time."
)
COUNT = 40
"""Rows of a page: the paper's 20 of one instruction and 20 of several."""
CHECKS = 4
LARGE, TOO_LARGE = 32 * 2**20, 256 * 2**20

Tick = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Study:
    """A page, its key, and what must be said about them. ``rows`` are the ids that it asks about."""

    page: str
    key: Key
    rows: tuple[str, ...]
    notes: tuple[str, ...]


def make(
    results: str | Path,
    *,
    systems: Sequence[str] | None = None,
    count: int | None = COUNT,
    checks: int = CHECKS,
    seed: int = 0,
    side: int = 512,
    title: str = TITLE,
    consent: str = CONSENT,
    tick: Tick = lambda done, total: None,
) -> Study:
    """The study of a result folder of ``showtell evaluate``.

    ``systems`` chooses and names those to compare (2 to 9; all for None). ``count`` rows are drawn among those that every
    system has edited, as many with one instruction as with several where there are enough; None takes all. ``checks`` questions
    have a known answer: the picture unchanged, or the true result, among pictures of other rows. Pictures are at most ``side``
    pixels wide and high. The same arguments give the same page, byte for byte.

    Raises ``UsageError`` for a folder, a choice or a count that cannot be, ``FileFormatError`` for a damaged folder.
    """
    pictures.check_side(side)
    if (count is not None and count < 1) or checks < 0:
        raise UsageError(f"--count {count} and --checks {checks}: at least one row, and no less than no check")
    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed {seed}: must be from 0 to {2**63 - 1}")
    found = folder.read(Path(results))
    compared = folder.chosen(found, systems)
    rng = random.Random(seed)
    shown, notes = _drawn(found, compared, count, side, rng, tick)
    asked, data = assembling.assemble(shown, [system.name for system in compared], checks, rng)
    data |= {"format": plan.FORMAT, "title": title, "consent": consent}
    told = json.dumps(data, ensure_ascii=False, sort_keys=True)
    digest = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()
    key = Key(
        format=plan.FORMAT,
        kind=plan.KIND,
        study=digest[:12],
        hash=digest,
        title=title,
        dataset=found.dataset,
        seed=seed,
        systems=compared,
        questions=tuple(asked),
    )
    page = html.page({**data, "study": key.study, "hash": digest}, title=title)
    notes += [*_same_note(shown), *_size_note(page)]
    return Study(page=page, key=key, rows=tuple(s.row.id for s in shown), notes=tuple(notes))


def _drawn(
    found: Results, systems: Sequence[System], count: int | None, side: int, rng: random.Random, tick: Tick
) -> tuple[list[Shown], list[str]]:
    """The rows of the study with their pictures, and what was left out."""
    left: Counter[str] = Counter()
    usable = [row for row in found.rows if _usable(found, row, systems, left)]
    rng.shuffle(usable)
    opened: dict[str, Shown] = {}
    broken: list[str] = []
    while True:
        singles, multis = (
            [row.id for row in usable if (len(row.instructions) > 1) == several] for several in (False, True)
        )
        names = plan.pick(singles, multis, count)
        wanted = [row for row in usable if row.id in set(names)]
        for place, row in enumerate(wanted):
            if row.id not in opened:
                try:
                    opened[row.id] = pictures.load(found, row, systems, side=side)
                    _check_size(opened.values())
                except ImageError as error:
                    broken.append(str(error))
                    usable.remove(row)
            tick(place + 1, len(wanted))
        if all(row.id in opened for row in wanted):
            break
    notes = [f"{number} of {len(found.rows)} rows left out: {why}" for why, number in left.items()]
    notes += [f"left out: {what}" for what in broken]
    if not wanted:
        why = f" ({'; '.join(notes)})" if notes else ""
        raise UsageError(f"{found.folder}: no row has a picture of every system{why}; choose others with --systems")
    if count is not None and len(wanted) < count:
        notes.append(f"{len(wanted)} rows, not {count}: there are no more that every system has edited")
    return [opened[row.id] for row in wanted], notes


def _usable(found: Results, row: Line, systems: Sequence[System], left: Counter[str]) -> bool:
    if not assembling.words(row):
        left["neither an instruction nor a caption says what to change"] += 1
        return False
    missing = [system.name for system in systems if not found.edit(row, system).is_file()]
    if missing:
        left[f"not edited by {missing[0]}"] += 1
    elif not found.before(row).is_file():
        left["the picture before is missing"] += 1
        return False
    return not missing


def _same_note(shown: Sequence[Shown]) -> list[str]:
    """Between equal pictures people can only guess: their random places make that fair, and it is said."""
    alike = [each for each in shown if each.alike]
    why = "two systems have the very same picture: which of them is chosen is chance"
    return [f"in {len(alike)} of {len(shown)} rows {why}"] if alike else []


def _check_size(opened: Iterable[Shown]) -> None:
    if sum(each.length for each in opened) > TOO_LARGE:
        raise UsageError(
            f"the page would take over {TOO_LARGE // 2**20} MiB: ask for fewer rows (--count) or smaller ones (--side)"
        )


def _size_note(page: str) -> list[str]:
    size = len(page.encode())
    return [f"the page takes {size / 2**20:.0f} MiB; --count or --side makes it smaller"] if size > LARGE else []
