"""What is asked, and which code hides which system: pure, and the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .. import records
from ..errors import FileFormatError
from .folder import System

Criterion = Literal["instruction", "image"]
CRITERIA: tuple[Criterion, ...] = ("instruction", "image")
"""FoI's two: which follows the instruction best, and which keeps the rest of the picture best."""
FORMAT = 1
KIND = "study key"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A picture of a question: the opaque ``code`` that the page knows, and the ``system`` behind it, None in a check."""

    code: str
    system: str | None


@dataclass(frozen=True, kw_only=True)
class Question:
    """One screen of the study. ``id`` is opaque; ``parts`` counts the row's instructions; ``right`` is the code of the one right
    choice of an attention check, and None where people's preference is asked. ``choices`` are in the page's order.
    """

    id: str
    row: str
    criterion: Criterion
    parts: int
    choices: tuple[Choice, ...]
    right: str | None = None


@dataclass(frozen=True, kw_only=True)
class Key:
    """What turns answers into votes; whoever answers must not see it. ``hash`` is of everything that the page shows."""

    format: int
    kind: str
    study: str
    hash: str
    title: str
    dataset: str
    seed: int
    systems: tuple[System, ...]
    questions: tuple[Question, ...]

    def described(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


class Codes:
    """Opaque names, each given once."""

    def __init__(self, rng: random.Random) -> None:
        self._rng, self._given = rng, set()

    def new(self) -> str:
        """Eight hexadecimal digits."""
        while True:
            code = f"{self._rng.getrandbits(32):08x}"
            if code not in self._given:
                self._given.add(code)
                return code


def questions(
    rows: Iterable[tuple[str, int]], systems: Sequence[str], *, rng: random.Random, codes: Codes
) -> list[Question]:
    """Both questions of every row (id, number of instructions): each shows all systems, in an order of its own."""
    found = []
    for row, parts in rows:
        for criterion in CRITERIA:
            choices = [Choice(code=codes.new(), system=name) for name in systems]
            rng.shuffle(choices)
            found.append(Question(id=codes.new(), row=row, criterion=criterion, parts=parts, choices=tuple(choices)))
    return found


def check(
    row: str, parts: int, criterion: Criterion, *, wrong: int, rng: random.Random, codes: Codes
) -> tuple[Question, list[str]]:
    """An attention check with one right choice and ``wrong`` others, and the codes of those."""
    right, *others = (codes.new() for _ in range(wrong + 1))
    choices = [Choice(code=code, system=None) for code in (right, *others)]
    rng.shuffle(choices)
    found = Question(
        id=codes.new(), row=row, criterion=criterion, parts=parts, choices=tuple(choices), right=right
    )  # fmt: skip
    return found, others


def pick(singles: Sequence[str], multis: Sequence[str], count: int | None) -> list[str]:
    """The first rows of both lists, ``count`` together and half of each as far as they go; all for None."""
    if count is None:
        return [*singles, *multis]
    of_multi = min(len(multis), max(count // 2, count - len(singles)))
    return [*singles[: count - of_multi], *multis[:of_multi]]


def read_key(text: str, *, name: str) -> Key:
    """A key file's content. Raises ``FileFormatError``, which names the file."""
    key = records.parse(text, Key, name=name, what="the key", newest=FORMAT, kind=KIND)
    codes = [choice.code for question in key.questions for choice in question.choices]
    ids = {question.id for question in key.questions}
    known = {system.name for system in key.systems}
    whole = all(
        {choice.system for choice in q.choices} == known
        if q.right is None
        else {choice.system for choice in q.choices} == {None} and q.right in {choice.code for choice in q.choices}
        for q in key.questions
    )
    if not whole or len(set(codes)) < len(codes) or len(ids) < len(key.questions) or len(known) < len(key.systems):
        raise FileFormatError(f"{name}: the key is damaged (its questions and systems do not belong together)")
    return key
