"""What participants might hand back: files of answers as the page writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from showtell.study import Key, make
from showtell.study.plan import Question
from tests.helpers import results

Choose = Callable[[Question], str | None]
"""From a question to the system that is chosen; None leaves a check's right answer out, and a question unanswered."""


def answered(key: Key, choose: Choose, *, who: str = "AAAA-2222", pass_checks: bool = True) -> dict[str, Any]:
    """The content of a file: checks are answered rightly or all wrongly."""
    found = []
    for question in key.questions:
        if question.right is not None:
            codes = [choice.code for choice in question.choices]
            wrong = next(code for code in codes if code != question.right)
            code: str | None = question.right if pass_checks else wrong
        else:
            code = next((c.code for c in question.choices if c.system == choose(question)), None)
        if code is not None:
            found.append({"question": question.id, "choice": code, "place": 1, "seconds": 2.5})
    return {
        "format": 1, "kind": "study answer sheet", "study": key.study, "hash": key.hash, "participant": who,
        "complete": len(found) == len(key.questions), "answers": found,
    }  # fmt: skip


def write(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def example(*, finished: bool) -> None:
    """What the examples of the help need in the working folder: results, and when ``finished`` a study and its answers."""
    root = results.build("results", systems=("ip2p", "foi"), parquet=False)
    if finished:
        key = make(root, systems=["ip2p", "foi"], count=4, checks=2).key
        write(Path("study.key.json"), key.described())
        write(Path("answers.json"), answered(key, lambda question: "foi"))
