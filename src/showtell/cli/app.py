"""The typer application: which commands there are. Only the one that is asked for is imported."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

COMMANDS = {
    "edit": ("edit", "Edit a picture by words, by a learned instruction, by both, or by describing the result."),
    "batch": ("batch", "Edit a folder, a manifest or WebDataset shards of pictures into a folder of the same kind."),
    "app": ("studio", "Serve the studio on this machine, and open it in the browser."),
    "invert": ("invert", "Find what a picture came out of, as a file for `showtell edit --inversion`."),
    "learn": ("learn", "Learn an edit from before/after pairs (VISII), as a file for `showtell edit --learned`."),
    "token": (
        "token",
        "Learn a word for what pictures show (textual inversion), as a file for any pipeline of the same text encoder.",
    ),
    "caption": ("caption", "Find a caption for a picture by gradient descent on words (PEZ, Wen et al. 2023)."),
    "attend": (
        "attend",
        "Draw the cross-attention map of every word, in the first step of an edit by method foi. Nothing is edited.",
    ),
    "replay": ("replay", "Make the same pixels again from the recipe that an edited PNG carries."),
    "scenes": ("scenes", "Draw scenes: before, after, the mask of each edit, instructions and captions."),
    "evaluate": (
        "evaluate",
        "Edit a data set by several methods, measure every picture, and write tables, plots and an HTML report.",
    ),
    "doctor": (
        "doctor",
        "Check the installation: versions, devices, memory, the starters, and one small edit on DEVICE.",
    ),
    "demo": ("demo", "Edit pictures with the starter model: offline, in a minute or two on two cores."),
    "dataset": ("dataset", "Data sets: check one, make one."),
    "train": ("train", "Train models: the starters from nothing, an editor of your own, or a faster one."),
    "bench": ("bench", "Measure against the truth, on held-out scenes."),
    "study": ("study", "Ask people which result they prefer (FoI's Table 2)."),
    "models": (
        "models",
        "The starter models: list, describe, export; what fits into memory; and learned instructions.",
    ),
}
"""Of each command its module in ``showtell.cli``, and the first paragraph of its own help, so that ``showtell --help`` need not
import it (a test compares the two)."""


def everything() -> typer.Typer:
    """All commands, for the reference page."""
    made = _empty()
    for name in COMMANDS:
        _register(made, name)
    return made


def application(name: str | None) -> typer.Typer:
    """One command; or, for None, no more than the list of all."""
    made = _empty()
    if name is not None:
        _register(made, name)
        return made
    for each, (_, summary) in COMMANDS.items():
        made.command(each, help=summary)(_listed)
    return made


def named(arguments: list[str]) -> str | None:
    """The command that the arguments ask for; None where it is none, so that help or an error is all that there will be."""
    first = next((word for word in arguments if not word.startswith("-") or word in ("-h", "--help")), None)
    return first if first in COMMANDS else None


def _empty() -> typer.Typer:
    made = typer.Typer(
        help="Edit pictures by showing or by telling.",
        epilog='Example: showtell edit house.png "make the house blue" -o blue.png',
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(root)
    return made


def _register(made: typer.Typer, name: str) -> None:
    importlib.import_module(f"showtell.cli.{COMMANDS[name][0]}").register(made)


def _listed() -> None:
    """Stands for a command in the list."""


def _version(wanted: bool) -> None:
    if wanted:
        from showtell import __version__

        typer.echo(f"showtell {__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Edit pictures by showing or by telling."""
