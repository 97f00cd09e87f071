"""The files that participants hand back, read strictly: what a page did not write is refused by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .. import records
from ..errors import FileFormatError
from .folder import text
from .plan import Key

FORMAT = 1
KIND = "study answer sheet"
LARGEST = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The ``choice`` (its code) that was made at a ``question``; ``place`` is where it stood, from 1; ``seconds`` of looking."""

    question: str
    choice: str
    place: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Answers:
    """One participant's file. ``complete``: whether every question is answered."""

    format: int
    kind: str
    study: str
    hash: str
    participant: str
    answers: tuple[Answer, ...]
    complete: bool = False


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A file that is not counted: its ``path``, and ``why``, one line."""

    path: str
    why: str


def read(path: Path, key: Key) -> Answers:
    """One file of answers to this study. Raises ``FileFormatError``, which names the file, for anything else."""
    found = records.parse(
        text(path, limit=LARGEST), Answers, name=str(path), what="the list of answers", newest=FORMAT, kind=KIND
    )
    if (found.study, found.hash) != (key.study, key.hash):
        raise FileFormatError(f"{path}: belongs to another study ({found.study:.20}, not {key.study})")
    if not found.participant.strip() or len(found.participant) > 64:
        raise FileFormatError(f"{path}: the list of answers is damaged (it has no participant's code)")
    codes = {question.id: {choice.code for choice in question.choices} for question in key.questions}
    seen: set[str] = set()
    for answer in found.answers:
        if answer.question not in codes or answer.choice not in codes[answer.question]:
            raise FileFormatError(f"{path}: the list of answers is damaged (an answer that the study does not have)")
        if answer.question in seen:
            raise FileFormatError(f"{path}: the list of answers is damaged (a question is answered twice)")
        seen.add(answer.question)
    return found


def read_all(paths: Iterable[Path], key: Key) -> tuple[list[Answers], list[Refused]]:
    """The files that count, one a participant, and those that do not.

    Of several files of one participant the one with the most answers counts, the first among equals.
    """
    kept: dict[str, tuple[Path, Answers]] = {}
    refused: list[Refused] = []
    for path in paths:
        try:
            found = read(path, key)
        except FileFormatError as error:
            refused.append(Refused(path=str(path), why=str(error).removeprefix(f"{path}: ")))
            continue
        rival = kept.get(found.participant)
        pair = (path, found)
        if rival is not None and len(rival[1].answers) < len(found.answers):
            pair, rival = rival, pair
            kept[found.participant] = rival
        elif rival is None:
            kept[found.participant] = pair
            continue
        refused.append(Refused(path=str(pair[0]), why=f"is of the same participant as {rival[0]}, which is counted"))
    return [found for _, found in kept.values()], refused
