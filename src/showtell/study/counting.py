"""From answers to shares: who is counted, how often each system was chosen, and how sure that is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import FileFormatError, UsageError
from . import answers as files
from . import folder, plan
from .answers import Answers, Refused
from .plan import Criterion, Key, Question

Z = 1.959963984540054
"""Of a 95 % interval."""
DRAWS = 2000
MIN_CHECKS = 0.75
Split = Literal["single", "multi", "all"]
SPLITS: tuple[Split, ...] = ("single", "multi", "all")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """How often a system was chosen: ``votes`` of ``answers``, and their ``share`` in [0, 1], None without an answer.

    ``wilson`` is Wilson's 95 % interval of the share, as if every answer stood for itself; ``bootstrap`` the middle 95 % of the
    shares of participants drawn again, None with fewer than two of them.
    """

    system: str
    criterion: Criterion
    split: Split
    votes: int
    answers: int
    share: float | None
    wilson: tuple[float, float] | None
    bootstrap: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A participant who is not counted, and why."""

    participant: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What a study found. ``places`` counts which place on the page was chosen, from the first: far from even, it tells of people
    who did not look. ``rows`` and ``checks`` count the study's; ``answers`` those that became votes.
    """

    study: str
    participants: int
    unfinished: int
    answers: int
    rows: dict[Split, int]
    checks: int
    min_checks: float
    cells: tuple[Cell, ...]
    places: tuple[int, ...]
    dropped: tuple[Dropped, ...]
    refused: tuple[Refused, ...]

    def cell(self, system: str, criterion: Criterion, split: Split) -> Cell:
        """One cell of the table."""
        return next(c for c in self.cells if (c.system, c.criterion, c.split) == (system, criterion, split))

    def described(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def tally(paths: Iterable[str | Path], key: str | Path | Key, *, min_checks: float = MIN_CHECKS) -> Tally:
    """Count the files of answers to a study.

    ``key`` is its key or the key's file. A participant counts who passed at least the share ``min_checks`` of the attention
    checks that they answered (and answered one, if the study has any and ``min_checks`` is above 0). What cannot be counted is
    in ``refused`` and ``dropped``, with the reason. Raises ``UsageError`` for a share outside [0, 1], ``FileFormatError`` for a
    damaged key or if no file can be counted at all.
    """
    if not 0 <= min_checks <= 1:
        raise UsageError(f"--min-checks {min_checks:g}: is a share, from 0 to 1")
    if not isinstance(key, Key):
        key = plan.read_key(folder.text(Path(key)), name=str(key))
    found, refused = files.read_all([Path(path) for path in paths], key)
    if not found:
        first = f" ({refused[0].path}: {refused[0].why})" if refused else ""
        raise FileFormatError(f"no file of answers to the study {key.study} can be counted{first}")
    counted: list[Answers] = []
    dropped: list[Dropped] = []
    for one in found:
        why = failed(one, key, min_checks)
        if why:
            dropped.append(Dropped(participant=one.participant, why=why))
        else:
            counted.append(one)
    asked = {question.id: question for question in key.questions if question.right is None}
    votes = [[answer for answer in one.answers if answer.question in asked] for one in counted]
    places = Counter(answer.place for each in votes for answer in each)
    most = max((len(question.choices) for question in asked.values()), default=0)
    return Tally(
        study=key.study,
        participants=len(counted),
        unfinished=sum(len(one.answers) < len(key.questions) for one in counted),
        answers=sum(map(len, votes)),
        rows={split: len({q.row for q in asked.values() if _in(q, split)}) for split in SPLITS},
        checks=len(key.questions) - len(asked),
        min_checks=min_checks,
        cells=tuple(_cells(key, asked, votes)),
        places=tuple(places[place] for place in range(1, most + 1)),
        dropped=tuple(dropped),
        refused=tuple(refused),
    )


def failed(one: Answers, key: Key, min_checks: float) -> str:
    """Why a participant is not counted, "" for one who is."""
    right = {question.id: question.right for question in key.questions if question.right is not None}
    tried = [answer for answer in one.answers if answer.question in right]
    passed = sum(answer.choice == right[answer.question] for answer in tried)
    if not any(answer.question not in right for answer in one.answers):
        return "answered no question"
    if not right or min_checks == 0:
        return ""
    if not tried:
        return f"answered none of the {len(right)} attention checks"
    if passed < min_checks * len(tried) - 1e-9:
        return f"passed {passed} of {len(tried)} attention checks"
    return ""


def wilson(votes: int, answers: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (Wilson 1927): ``answers`` at least 1."""
    share, z2 = votes / answers, Z * Z
    middle = (share + z2 / (2 * answers)) / (1 + z2 / answers)
    half = Z / (1 + z2 / answers) * math.sqrt(share * (1 - share) / answers + z2 / (4 * answers * answers))
    # At the ends the formula is exact, its rounding is not.
    return (0.0 if votes == 0 else middle - half, 1.0 if votes == answers else middle + half)


def bootstrap(votes: Sequence[int], answers: Sequence[int], *, seed: int = 0) -> tuple[float, float] | None:
    """The middle 95 % of the share when participants, each with ``votes`` of their ``answers``, are drawn again with replacement.

    None for fewer than two participants who answered. Answers of one person hang together; this says what that costs.
    """
    pairs = np.array([(v, n) for v, n in zip(votes, answers, strict=True) if n], dtype=np.float64)
    if len(pairs) < 2:
        return None
    drawn = np.random.default_rng(seed).integers(len(pairs), size=(DRAWS, len(pairs)))
    sums = pairs[drawn].sum(axis=1)
    low, high = np.percentile(sums[:, 0] / sums[:, 1], [2.5, 97.5])
    return float(low), float(high)


def _cells(key: Key, asked: dict[str, Question], votes: Sequence[Sequence[files.Answer]]) -> Iterable[Cell]:
    behind = {choice.code: choice.system for question in asked.values() for choice in question.choices}
    for split in SPLITS:
        for criterion in plan.CRITERIA:
            chosen = [
                [
                    behind[answer.choice]
                    for answer in each
                    if asked[answer.question].criterion == criterion and _in(asked[answer.question], split)
                ]
                for each in votes
            ]
            counts = [len(each) for each in chosen]
            for system in key.systems:
                own = [each.count(system.name) for each in chosen]
                total, all_of_them = sum(own), sum(counts)
                yield Cell(
                    system=system.name,
                    criterion=criterion,
                    split=split,
                    votes=total,
                    answers=all_of_them,
                    share=total / all_of_them if all_of_them else None,
                    wilson=wilson(total, all_of_them) if all_of_them else None,
                    bootstrap=bootstrap(own, counts),
                )


def _in(question: Question, split: Split) -> bool:
    return split == "all" or (question.parts > 1) == (split == "multi")
