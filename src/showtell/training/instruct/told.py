"""What a training tells of itself: lines of figures, notes on its rows, and what it leaves."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell import files
from showtell.training.loop import cut_log

if TYPE_CHECKING:
    from showtell.training.instruct.rows import Examples

_FIRST = 20
"""Rows that were left out are named up to so many."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a training leaves: ``model`` its folder, the last ``figures``, how many rows there were, and ``notes``."""

    model: Path
    step: int
    rows: int
    held_out: int
    left_out: int
    figures: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pushed: str | None = None


def notes_of(examples: Examples) -> tuple[str, ...]:
    """What a user should know of the rows: the first that were left out, and how many."""
    problems = examples.problems
    notes = [f"left out: {one.id}: {one.what}" for one in problems[:_FIRST]]
    if len(problems) > _FIRST:
        notes.append(f"left out: {len(problems) - _FIRST} more rows")
    if examples.cut:
        notes.append(f"the words of {examples.cut} rows were cut at the end: the text encoder has no room for them")
    return tuple(notes)


class Lines:
    """A file of JSON lines, cut back to the step that a run goes on from; nothing where ``step`` is None."""

    def __init__(self, path: Path, step: int | None) -> None:
        self.path, self.kept = (path, cut_log(path, step)) if step is not None else (None, [])

    def add(self, line: dict[str, Any]) -> None:
        """What is no finite number becomes null. Raises ``OutputError`` where the disk is full."""
        line = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in line.items()
        }
        self.kept = [*self.kept[-1:], line]
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise files.output_error(self.path, error) from error
