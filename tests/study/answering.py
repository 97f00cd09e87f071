"""What participants might hand back: files of answers as the page writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from showtell.study import Key
from showtell.study.plan import Question

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
        "format": 1, "kind": "study answers", "study": key.study, "hash": key.hash, "participant": who,
        "complete": len(found) == len(key.questions), "answers": found,
    }  # fmt: skip


def write(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
