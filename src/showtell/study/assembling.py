"""The questions and checks of a page, in random order, and what the page is told of them."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any, Union

import numpy as np

from ..errors import UsageError
from . import pictures, plan
from .folder import Line
from .pictures import Shown
from .plan import Codes, Criterion, Question

Name = tuple[str, str, Union[str, None]]
"""Of a picture: its row, what it is (before, edit, truth), and of an edit the system."""
_MARKED = re.compile(r"\[([^\[\]]*)\]")


def assemble(
    shown: Sequence[Shown], systems: Sequence[str], checks: int, rng: random.Random
) -> tuple[list[Question], dict[str, Any]]:
    """The questions in the page's order, and the page's own view of them: codes, words, and numbers of pictures.

    The pictures lie in random order, so that no number says whose a picture is. Raises ``UsageError`` for too many checks.
    """
    codes = Codes(rng)
    every = [picture for each in shown for picture in _pictures(each, systems)]
    rng.shuffle(every)
    number = {name: place for place, (name, _) in enumerate(every)}
    rows = {each.row.id: each for each in shown}
    behind: dict[str, int] = {}  # code -> number of its picture
    asked = plan.questions([(each.row.id, parts(each.row)) for each in shown], systems, rng=rng, codes=codes)
    for question in asked:
        behind |= {choice.code: number[question.row, "edit", choice.system] for choice in question.choices}
    for each, criterion, others in _checks(shown, checks, rng):
        wrong = rng.sample(others, min(len(systems) - 1, len(others)))
        question, rest = plan.check(each.row.id, parts(each.row), criterion, wrong=len(wrong), rng=rng, codes=codes)
        behind[str(question.right)] = number[each.row.id, "before" if criterion == "image" else "truth", None]
        behind |= {code: number[other.row.id, "before", None] for code, other in zip(rest, wrong, strict=True)}
        asked.append(question)
    rng.shuffle(asked)
    told = [_told(question, rows[question.row], number, behind) for question in asked]
    return asked, {"questions": told, "pictures": [url for _, url in every]}


def words(row: Line) -> list[str]:
    """What the page says was to be changed: the instructions without the brackets of their keywords, else the caption."""
    told = [_MARKED.sub(r"\1", text).strip() for text in row.instructions] or [row.target_caption.strip()]
    return [
        text.encode("utf-8", "replace").decode() for text in told if text
    ]  # JSON can hold half a letter, a page not


def parts(row: Line) -> int:
    """How many instructions a row has; a caption alone counts as one."""
    return len(row.instructions) or 1


def _pictures(shown: Shown, systems: Sequence[str]) -> list[tuple[Name, str]]:
    """A row's pictures with their names."""
    row = shown.row.id
    found: list[tuple[Name, str]] = [((row, "before", None), shown.before)]
    found += [((row, "edit", system), url) for system, url in zip(systems, shown.edits, strict=True)]
    return found + ([((row, "truth", None), shown.truth)] if shown.truth is not None else [])


def _told(question: Question, shown: Shown, number: dict[Name, int], behind: dict[str, int]) -> dict[str, Any]:
    return {
        "id": question.id,
        "ask": question.criterion,
        "before": number[shown.row.id, "before", None],
        "words": words(shown.row),
        "caption": not shown.row.instructions,
        "choices": [{"code": choice.code, "picture": behind[choice.code]} for choice in question.choices],
    }


def _checks(shown: Sequence[Shown], count: int, rng: random.Random) -> list[tuple[Shown, Criterion, list[Shown]]]:
    """Rows for the attention checks, each at most once for either question, with the rows whose pictures are plainly wrong.

    Both questions by turns: the picture unchanged keeps the rest best; the true result, where it is known, is what was told.
    """
    if not count:
        return []
    others = _strangers(shown)
    pools: dict[Criterion, list[int]] = {
        "image": [i for i, far in enumerate(others) if far],
        "instruction": [i for i, far in enumerate(others) if far and shown[i].truth is not None],
    }
    most = sum(map(len, pools.values()))
    if count > most:
        raise UsageError(
            f"--checks {count}: the pictures of these rows differ plainly enough for {most} at most; "
            "ask for fewer checks, or more rows"
        )
    for pool in pools.values():
        rng.shuffle(pool)
    found: list[tuple[Shown, Criterion, list[Shown]]] = []
    turns: list[Criterion] = ["image", "instruction"]
    while len(found) < count:
        if pools[turns[0]]:
            i = pools[turns[0]].pop()
            found.append((shown[i], turns[0], [shown[j] for j in others[i]]))
        turns.reverse()
    return found


def _strangers(shown: Sequence[Shown]) -> list[list[int]]:
    """Of each row, the rows whose picture nobody takes for this one's, neither before nor after."""
    before = np.stack([each.afar[0] for each in shown])
    found = []
    for i, each in enumerate(shown):
        far = np.all([np.abs(before - own).mean(axis=1) >= pictures.APART for own in each.afar], axis=0)
        found.append([int(j) for j in np.flatnonzero(far) if j != i])
    return found
