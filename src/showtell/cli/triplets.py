"""`showtell dataset triplets`: captions, instructions and edited captions, the first stage of the data engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from showtell.cli import console, options
from showtell.errors import ShowtellError, UsageError

if TYPE_CHECKING:
    from showtell.engine.triplets import Made

EPILOG = "Example: showtell dataset triplets --from scenes --count 20 -o triplets.jsonl"
SHOWN = 20
"""Failed rows that are listed one by one on a terminal; ``--json`` has them all."""
ACTIONS = "recolour, replace, remove, add, resize, move, background, style"
OWN = {
    "scenes": ("count", "first", "split", "edits", "action", "places"),
    "endpoint": (),
    "local": (),
}
"""Options that only one of the sources has."""


def register(group: typer.Typer) -> None:
    group.command("triplets", epilog=EPILOG)(triplets)


def triplets(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file of JSON lines to write, .jsonl.")],
    source: Annotated[
        Literal["scenes", "endpoint", "local"],
        typer.Option("--from", help="Drawn scenes, a model behind an endpoint, or a language model of your own."),
    ],
    count: Annotated[int, typer.Option("--count", min=1, max=10_000_000, help="scenes: how many.")] = 100,
    first: Annotated[int, typer.Option("--first", min=0, max=2**62, help="scenes: the first seed.")] = 0,
    split: Annotated[
        Literal["train", "heldout"],
        typer.Option("--split", help="scenes: the part of the world; heldout is for measuring."),
    ] = "train",
    edits: Annotated[int, typer.Option("--edits", min=1, max=4, help="scenes: edits in each.")] = 1,
    action: Annotated[
        list[str] | None, typer.Option("--action", help=f"scenes: only these edits; may be repeated: {ACTIONS}.")
    ] = None,
    places: Annotated[
        Literal["auto", "always", "never"],
        typer.Option(
            "--places", help="scenes: whether captions say where things are; auto: where they would be the same."
        ),
    ] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with OUT: what was answered is not asked again.")
    ] = False,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Write triplets: what a picture shows, an instruction, and what it shows then.

    What changes nothing, is too long or was there before is dropped and counted. OUT.recipe.json beside OUT tells what it was
    made with. The exit code is 1 if some rows failed.
    """
    from showtell.engine import triplets as engine

    _only_own(context, source)
    engine.check(out, resume=resume, force=force)
    made = _scenes(out, count, first, split, edits, tuple(action or ()), places, as_json=as_json)
    _report(made, out, as_json=as_json)


def _only_own(context: typer.Context, source: str) -> None:
    """Raise ``UsageError`` for an option that was given and that this source does not have."""
    for other, names in OWN.items():
        for name in names if other != source else ():
            given = context.get_parameter_source(name)
            if given is not None and given.name == "COMMANDLINE" and name not in OWN[source]:
                raise UsageError(f"--{name.replace('_', '-')} is an option of --from {other}, not of --from {source}")


def _scenes(
    out: Path, count: int, first: int, split: Any, edits: int, actions: tuple[str, ...], places: Any, *, as_json: bool
) -> Made:
    from showtell.engine import triplets as engine
    from showtell.engine import triplets_scenes as drawn
    from showtell.engine.triplets_checks import Checks

    settings = {"from": "scenes", "count": count, "split": split, "edits": edits, "actions": actions, "places": places}
    with console.progress("drawing", as_json=as_json) as tick:
        found = drawn.draw(count, first=first, split=split, edits=edits, actions=actions, places=places, told=tick)
    return engine.finish(
        out, found, Checks(), recipe={"settings": settings, "seed": first, "source": None, "model": None}
    )


def _report(made: Made, out: Path, *, as_json: bool) -> None:
    """Say what a run came to, and exit with 1 if some rows failed."""
    dropped = ", ".join(f"{count} {why}" for why, count in made.dropped.items())
    if not made.triplets:
        raise ShowtellError(f"{out}: not written, since there is no triplet ({_why_none(made, dropped)})")
    lines = [f"{out}: {len(made.triplets)} triplets" + (f" (dropped: {dropped})" if dropped else "")]
    lines += [console.one_line(f"{label}: {what}") for label, what in made.failed[:SHOWN]]
    if (rest := len(made.failed) - SHOWN) > 0:
        lines.append(f"... and {rest} more (--json lists all)")
    console.finish({"written": str(out), **made.told()}, "\n".join(lines), as_json=as_json)
    if made.failed:
        raise typer.Exit(1)


def _why_none(made: Made, dropped: str) -> str:
    if made.failed:
        return f"{len(made.failed)} failed, the first: {made.failed[0][1]}"
    return f"dropped: {dropped}" if dropped else "nothing was asked"
