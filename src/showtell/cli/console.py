"""What the commands print: results on stdout, notes and progress on stderr."""

from __future__ import annotations

import json
import math
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

Tick = Callable[..., None]
"""Told (steps done, steps in all), and a figure to show beside the bar, or another title for it, if there is one."""
_HARMLESS = "\u200c\u200d"


def finish(result: dict[str, Any], text: str, *, as_json: bool, notes: Iterable[str] = ()) -> None:
    """Print a command's result: one JSON object, or text with the notes on stderr."""
    if as_json:
        told = json.dumps(plain({**result, "notes": list(notes)}), ensure_ascii=False, allow_nan=False)
        typer.echo(printable(told, escape=_in_json))
        return
    for note in notes:
        typer.echo(f"note: {one_line(note)}", err=True)
    if text:
        typer.echo("\n".join(printable(line) for line in text.split("\n")))


def one_line(text: str) -> str:
    """Text from anywhere on one line of a terminal."""
    return printable(" ".join(text.split()))


def printable(text: str, *, escape: Callable[[str], str] = lambda c: ascii(c)[1:-1]) -> str:
    """Text from anywhere without what a terminal would obey, such as escape sequences: ``\\x1b`` is seen instead.

    Spaces of every width stay, and so do the joiners without which some scripts and emoji are not written right.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in _HARMLESS or unicodedata.category(c) == "Zs" else escape(c) for c in text
    )


def _in_json(c: str) -> str:
    """The character as JSON may write it, so that a reader finds what was there."""
    return json.dumps(c)[1:-1] if ord(c) != 0x7F else "\\u007f"


@contextmanager
def progress(title: str, *, as_json: bool) -> Iterator[Tick]:
    """A progress bar on stderr where that is a terminal; nothing in a pipe or under ``--json``."""
    if as_json or not sys.stderr.isatty():
        yield lambda done, total, figure="", title=title: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    figures = TextColumn("{task.fields[figure]}")
    with Progress(*columns, figures, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, figure="")

        def tick(done: int, total: int, figure: str = "", title: str = title) -> None:
            bar.update(task, completed=done, total=total, figure=figure, description=title)

        yield tick


def table(head: list[str], rows: list[list[str]]) -> str:
    """Aligned plain text: it reads the same on a terminal and in a file. Each cell is one line, whatever is in it."""
    head, *rows = [[printable(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows])


def plain(value: Any) -> Any:
    """As JSON can hold it: it has no infinity and no NaN, which become null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
