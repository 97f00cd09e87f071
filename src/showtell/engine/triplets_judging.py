"""Moderation: an endpoint's, a function of one's own, or both look at each triplet, once, and the journal keeps what they say."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..data.asking import Endpoint, Unanswered
from ..data.triplets import Triplet
from ..errors import Cancelled, ShowtellError, UsageError
from .triplets_asked import Asked
from .triplets_crew import Crew
from .triplets_endpoint import GRACE, Told
from .triplets_journal import Journal

Judge = Callable[[Sequence[str]], str | None]
"""Given a triplet's three texts, says what is against them, or None."""


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Who looks at triplets: the ``endpoint``'s moderation, and the function ``own`` that is called ``name``."""

    endpoint: Endpoint | None = None
    own: Judge | None = None
    name: str = ""

    @property
    def by(self) -> str:
        """Who they are, in words; "" for nobody."""
        return "+".join(filter(None, ["endpoint" if self.endpoint else "", self.name if self.own else ""]))

    def __call__(self, one: Triplet) -> str:
        """What is against a triplet, or "". Raises ``Refused`` or ``Unanswered``, also where the function fails."""
        texts = (one.source_caption, one.instruction, one.target_caption)
        found = self.endpoint.flagged(texts) if self.endpoint else None
        if not found and self.own:
            try:
                found = self.own(texts)
            except Exception as error:  # noqa: BLE001 - it is the user's
                raise Unanswered(f"{self.name} failed ({type(error).__name__}: {error})") from error
            found = "flagged" if found is True else str(found) if found else None
        return " ".join(found.split())[:200] if found else ""


def own(named: str) -> Judge:
    """The function that ``module:function`` names, imported with the working directory among the places that are looked in.

    Raises ``UsageError``.
    """
    module, colon, function = named.partition(":")
    if not (module and colon and function):
        raise UsageError(f"--moderate-with {named!r}: write module:function")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:  # noqa: BLE001 - importing runs the user's code
        raise UsageError(f"--moderate-with {named!r}: cannot be imported ({type(error).__name__}: {error})") from error
    finally:
        sys.path.remove(os.getcwd())
    if not callable(found):
        raise UsageError(f"--moderate-with {named!r}: is no function")
    return found


def verdict(record: Mapping[str, Any], edit: int, judges: Judges) -> str | None:
    """What these judges said of an edit of a journal's record; None where they have not looked at it."""
    said = record.get("verdicts", {}).get(edit, {})
    return said.get("flag") if said.get("by") == judges.by and isinstance(said.get("flag"), str) else None


def judge_all(
    found: Sequence[Asked],
    judges: Judges,
    journal: Journal,
    *,
    concurrency: int = 4,
    told: Told = lambda done, total, figure="": None,
) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """What is against each triplet, by its id ("" for nothing), and those that got no answer, (id, what).

    What the journal has is not asked again. Raises ``Refused``, ``OutputError`` and ``Cancelled`` as ``ask_all`` does.
    """
    records, known, failed = journal.records(), {}, {}
    for one in found:
        if (said := verdict(records.get(one.row, {}), one.edit, judges)) is not None:
            known[one.triplet.id] = said
    todo = [one for one in found if one.triplet.id not in known]
    writing, before = threading.Lock(), len(known)

    def work(one: Asked) -> tuple[str, str]:
        try:
            flag = judges(one.triplet)
        except Unanswered as error:
            return "", str(error)
        with writing:
            journal.append({"id": one.row, "verdict": {"edit": one.edit, "by": judges.by, "flag": flag}})
        return flag, ""

    told(before, len(found))
    crew = Crew(todo, work, size=concurrency)
    try:
        for count, (one, (flag, error)) in enumerate(crew, start=before + 1):
            (failed if error else known)[one.triplet.id] = error or flag
            told(count, len(found))
    except KeyboardInterrupt as stop:
        for _ in crew.rest(GRACE):
            pass
        raise Cancelled("interrupted; what was moderated is kept: go on with --resume") from stop
    in_order = [one.triplet.id for one in found if one.triplet.id in failed]
    return known, tuple((label, f"moderation: {failed[label]}") for label in in_order)


def none_left(failed: Sequence[tuple[str, str]], count: int) -> None:
    """Raise ``ShowtellError`` where no triplet could be moderated: the fault is not a row's."""
    if failed and len(failed) == count:
        raise ShowtellError(f"no triplet could be moderated: {failed[0][1]}")
