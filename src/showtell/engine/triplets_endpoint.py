"""Triplets from a model behind an endpoint: one question a caption, several at a time, each answer in the journal at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..data.asking import Endpoint, Unanswered, Usage, tokens
from ..data.reading import Unusable
from ..errors import Cancelled, ShowtellError
from ..work import Done, Item
from . import triplets_prompt as prompt
from .triplets_crew import Crew
from .triplets_journal import Journal

PATIENCE = 20
"""Rows in a row that may fail before it is taken for the endpoint's fault."""
GRACE = 15.0
"""Seconds that answers which are on their way are waited for after Ctrl-C."""
Told = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What a million tokens cost, read and written, in whatever money."""

    read: float = 0.0
    written: float = 0.0

    def of(self, usage: Usage) -> float:
        """What these tokens cost."""
        return (usage.read * self.read + usage.written * self.written) / 1e6


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Asks about one row, ``attempts`` times at most until an answer can be used. The record it gives has the ``edits``, or why
    the answers were ``unusable``; and the tokens.
    """

    endpoint: Endpoint
    count: int = 1
    attempts: int = 3

    def __call__(self, item: Item) -> Done:
        """Raises ``Refused`` where the endpoint refuses every question; a question without an answer is the row's ``error``."""
        first = talk = prompt.conversation(item.told["caption"], self.count)
        usage, wrong = Usage(), ""
        for _ in range(self.attempts):
            try:
                answer = self.endpoint.answer(talk)
            except Unanswered as error:
                return Done(id=item.id, record={"usage": _told(usage)}, error=str(error))
            usage += answer.usage
            try:
                edits = [vars(edit) for edit in prompt.understood(answer.text, self.count)]
                return Done(id=item.id, record={"edits": edits, "usage": _told(usage)})
            except Unusable as error:
                wrong = str(error)
                talk = prompt.again(first, answer.text, wrong)
        return Done(id=item.id, record={"unusable": wrong, "usage": _told(usage)})


def _told(usage: Usage) -> dict[str, int]:
    return {"read": usage.read, "written": usage.written, "rough": int(usage.rough)}


def usage_of(records: Mapping[str, Mapping[str, Any]]) -> Usage:
    """The tokens of all answers of a journal."""
    total = Usage()
    for record in records.values():
        told = record.get("usage")
        if isinstance(told, Mapping):
            read, written = (told.get(key) for key in ("read", "written"))
            if isinstance(read, int) and isinstance(written, int):
                total += Usage(read=read, written=written, rough=bool(told.get("rough")))
    return total


def estimate(items: Sequence[Item], count: int) -> Usage:
    """Roughly what asking once about each row takes: characters / 4, and answers as long as the examples'."""
    if not items:
        return Usage(rough=True)
    empty = tokens(prompt.conversation("", count))
    read = sum(empty + tokens(item.told["caption"]) for item in items)
    shown = [edit for _, edits in prompt.EXAMPLES for edit in edits]
    written = tokens('{"edits": []}') + count * tokens(prompt.answer(tuple(shown))) // len(shown)
    return Usage(read=read, written=written * len(items), rough=True)


def ask_all(
    items: Sequence[Item],
    ask: Callable[[Item], Done],
    journal: Journal,
    *,
    concurrency: int = 4,
    prices: Prices | None = None,
    spent: Usage | None = None,
    most: float | None = None,
    told: Told = lambda done, total, figure="": None,
) -> None:
    """Ask about every row that the journal has not got, and keep each answer there.

    ``most`` is the cost, with what was ``spent`` before, at which no further question is begun; those on their way still come.
    Raises ``Refused``, ``OutputError``, ``Cancelled`` on Ctrl-C, and ``ShowtellError`` where the cost is reached or ``PATIENCE``
    rows in a row got no answer. Whatever was answered is kept.
    """
    pending, writing = journal.pending(items), threading.Lock()

    def work(item: Item) -> Done:
        done = ask(item)
        with writing:
            journal.keep(item, done)
        return done

    usage, failed, last, count = spent or Usage(), 0, "", len(items) - len(pending)
    told(count, len(items))
    crew = Crew(pending, work, size=concurrency)
    cost = 0.0
    try:
        for _, done in crew:
            count += 1
            usage += _usage(done)
            failed, last = (failed + 1, done.error) if done.error else (0 if failed < PATIENCE else failed, last)
            cost = prices.of(usage) if prices else 0.0
            told(count, len(items), f"cost {cost:.4f}" if prices else "")
            if failed >= PATIENCE or (most is not None and cost >= most):
                crew.stop()
        where = f"stopped after {count} of {len(items)} rows"
        if failed >= PATIENCE:
            raise ShowtellError(f"{where}: {failed} in a row got no answer, the last: {last}; go on with --resume")
        if most is not None and cost >= most and count < len(items):
            raise ShowtellError(
                f"{where}: they cost {cost:.4f}, and --max-cost is {most:g}: go on with --resume and a higher one"
            )
    except KeyboardInterrupt as stop:
        count += sum(1 for _ in crew.rest(GRACE))
        raise Cancelled(
            f"interrupted; {count} of {len(items)} rows are answered and kept: go on with --resume"
        ) from stop


def _usage(done: Done) -> Usage:
    return usage_of({done.id: done.record})
