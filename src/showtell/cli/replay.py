"""`showtell replay`: make an edit again from the recipe in its file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from showtell.cli import asked, console, options, parts
from showtell.cli.edit import report


def register(app: typer.Typer) -> None:
    app.command("replay", epilog="Example: showtell replay blue.png -o again.png")(replay)


def replay(
    edited: Annotated[Path, typer.Argument(metavar="EDITED", help="A PNG that showtell wrote.")],
    out: options.Out,
    picture: Annotated[Path | None, typer.Option("--input", help="The input, if it has moved.")] = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="The mask, if it has moved.")] = None,
    mask_for: Annotated[
        list[str] | None,
        typer.Option(
            "--mask-for", metavar="N=FILE", help="The mask of instruction N, if it has moved; may be repeated."
        ),
    ] = None,
    learned: Annotated[
        list[Path] | None, typer.Option("--learned", help="A learned file, if it has moved; may be repeated.")
    ] = None,
    before: Annotated[Path | None, typer.Option("--before", help="For method grid: the pair, if it has moved.")] = None,
    after: Annotated[Path | None, typer.Option("--after", help="For method grid: the pair, if it has moved.")] = None,
    token: Annotated[
        list[Path] | None, typer.Option("--token", help="A learned word of the edit, which recipes do not hold.")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"] | None, typer.Option("--device", help="By default the recipe's.")
    ] = None,
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"] | None, typer.Option("--dtype", help="By default the recipe's.")
    ] = None,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Make the same pixels again from the recipe that an edited PNG carries.

    The seed is the recipe's. On the same machine, with the same versions and number of threads, the pixels are
    identical; those of a picture that was edited in a batch, within 1/255. The notes say what differs.
    """
    from showtell import edits, methods, recipe
    from showtell.replaying import replay as again

    edits.check_picture_path(out, force=force)
    made = recipe.read(edited)
    edits.check_picture_path(out, size=made.size, force=force)
    shown = before is not None or after is not None
    pairs = asked.pairs([methods.resolve(made.method.name)], before, after) if shown else None
    masks = parts.mask_files(mask_for, instructions=len(made.instructions)) if mask_for else None
    looks = asked.learned_files(learned or [])
    with console.progress("editing", as_json=as_json) as tick:
        result = again(
            edited, picture, mask=mask, masks=masks, learned=looks, pairs=pairs, device=device, dtype=dtype,
            tokens=token, callback=lambda i, n, _: tick(i + 1, n), on_phase=lambda name, i, n: tick(i, n, title=name),
        )  # fmt: skip
    result.save(out, force=force)
    report(result, out, masks=[], as_json=as_json)
