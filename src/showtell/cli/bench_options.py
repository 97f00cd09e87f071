"""Options that the benches share, and how each of them ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import console, outputs

if TYPE_CHECKING:
    from PIL import Image

Also = Annotated[
    list[str] | None,
    typer.Option(
        "--also", metavar="METHOD", help="One more method as a row, also of another package; may be repeated."
    ),
]
BaseModel = Annotated[
    str, typer.Option("--base-model", help="The text-to-image model of methods that describe the result.")
]
InstructModel = Annotated[
    str, typer.Option("--instruct-model", help="The editing model of methods that take instructions, for --also.")
]


def sayer(as_json: bool) -> Callable[[str], None]:
    """What tells the user how far a bench is: a line on stderr, nothing for machines."""

    def say(line: str) -> None:
        if not as_json:
            typer.echo(line, err=True)

    return say


def checked(also: list[str] | None) -> list[str]:
    """The methods of ``--also``, each once. Raises ``MethodError`` for a name that is not known."""
    from showtell import methods

    names = list(dict.fromkeys(also or []))
    for name in names:
        methods.resolve(name)
    return names


def finish(
    out: Path,
    figures: dict[str, Any],
    text: str,
    pictures: Mapping[str, Image.Image],
    *,
    force: bool,
    as_json: bool,
    notes: Sequence[str] = (),
) -> None:
    """Write figures, tables and pictures into the folder, and print the tables."""
    contents = {"figures.json": outputs.json_bytes(console.plain(figures)), "tables.md": text.encode()}
    contents |= {name: outputs.png(picture) for name, picture in pictures.items()}
    outputs.write_folder(out, contents, force=force)
    console.finish({"written": str(out), **figures}, f"{text}\nwrote {out}", as_json=as_json, notes=notes)
