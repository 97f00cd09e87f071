"""From a journal of answers to triplets: which are there, which rows failed, and which are dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.triplets import Triplet
from ..errors import OutputError
from ..work import Item
from .triplets import beside
from .triplets_journal import Journal, answered

UNUSABLE, MODERATED = "unusable answer", "moderated"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A triplet, and where it stands in the journal: edit number ``edit`` (from 0) of the ``row``."""

    triplet: Triplet
    row: str
    edit: int


@dataclass(frozen=True, kw_only=True)
class Start:
    """How the journal beside a file is begun: ``fresh``, or gone on with. ``settings`` are what its answers depend on."""

    journal: Journal
    settings: Mapping[str, Any]
    fresh: bool

    def pending(self, items: Sequence[Item]) -> Sequence[Item]:
        """The rows that are left to be asked about."""
        return items if self.fresh else self.journal.pending(items)

    def begin(self) -> Journal:
        """The journal, ready to be written to. Raises ``OutputError``."""
        if self.fresh:
            self.journal.begin(self.settings)
        return self.journal


def start(out: Path, settings: Mapping[str, Any], *, resume: bool) -> Start:
    """Look at the journal beside the file; nothing is written yet.

    Raises ``UsageError`` where, with ``resume``, it was begun with other ``settings``, ``OutputError`` for a file without one.
    """
    journal = Journal(path=beside(out, "journal.jsonl"))
    there = journal.path.exists()
    if resume and not there and out.exists():
        raise OutputError(f"{out}: has no {journal.path.name} beside it to go on with; use --force to begin anew")
    if resume and there:
        journal.check(settings)
    return Start(journal=journal, settings=settings, fresh=not (resume and there))


def collect(
    items: Sequence[Item], journal: Journal, origin: str
) -> tuple[list[Asked], Counter[str], list[tuple[str, str]]]:
    """The edits of all rows in the rows' order, how many rows had no usable answer, and which rows failed, (id, what).

    The triplet of a row that was asked for one edit has the row's id; of several, ``p000007-v0``, ``p000007-v1`` ...
    """
    records, found, dropped, failed = journal.records(), [], Counter[str](), []
    for item in items:
        record = records.get(item.id)
        if record is None or not answered(item, record):
            failed.append((item.id, _why(item, record)))
        elif edits := _edits(record):
            found += [
                Asked(
                    row=item.id, edit=number, triplet=_triplet(item, edit, origin, number if len(edits) > 1 else None)
                )
                for number, edit in enumerate(edits)
            ]
        else:
            dropped[UNUSABLE] += 1
    return found, dropped, failed


def _why(item: Item, record: Mapping[str, Any] | None) -> str:
    asked = record is not None and record.get("caption") == item.told["caption"]
    return str(record["error"]) if record and asked and "error" in record else "was not asked"


def _edits(record: Mapping[str, Any]) -> list[Mapping[str, str]]:
    edits = record.get("edits")
    good = isinstance(edits, list) and all(
        isinstance(edit, dict)
        and isinstance(edit.get("instruction"), str)
        and isinstance(edit.get("target_caption"), str)
        for edit in edits
    )
    return edits if good else []  # type: ignore[return-value]


def _triplet(item: Item, edit: Mapping[str, str], origin: str, number: int | None) -> Triplet:
    return Triplet(
        id=item.id if number is None else f"{item.id}-v{number}",
        source_caption=item.told["caption"],
        instruction=edit["instruction"],
        target_caption=edit["target_caption"],
        origin=origin,
    )
