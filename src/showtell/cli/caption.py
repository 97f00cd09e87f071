"""`showtell caption`: say what a picture shows, in the words that a text encoder finds nearest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import console, options

if TYPE_CHECKING:
    from showtell.inversion.pez import Caption


def register(app: typer.Typer) -> None:
    app.command("caption", epilog="Example: showtell caption house.png --tokens 6 --steps 300 --seed 1")(caption)


def caption(
    picture: Annotated[Path, typer.Argument(metavar="IN", help="The picture to describe.")],
    tokens: Annotated[int, typer.Option("--tokens", help="Length of the caption in tokens, 1 to 75.")] = 10,
    steps: Annotated[int, typer.Option("--steps", help="Steps of the search; 300 often come near the end.")] = 3000,
    clip: Annotated[
        str, typer.Option("--clip", help="starter-clip, a folder or a hub id of a CLIP with both towers.")
    ] = "starter-clip",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A text file to write the caption to as well.")
    ] = None,
    seed: options.Seed = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Find a caption for a picture by gradient descent on words (PEZ, Wen et al. 2023).

    The words are those whose CLIP feature is nearest to the picture's; they need not make a sentence. Another seed finds
    other words. The caption is on stdout; similarity and seed are on stderr, or in the JSON.
    """
    from showtell import files, images
    from showtell.inversion import pez

    pez.check(num_tokens=tokens, steps=steps)
    if out is not None:
        files.check_output(out, force=force)
    opened: Any = images.open_picture(picture)

    from showtell.metrics.clip import Clip

    seed = options.draw_seed(seed)
    loaded = Clip.load(clip, device=device)
    with console.progress("searching", as_json=as_json) as tick:
        found = pez.caption(
            opened, clip=loaded, num_tokens=tokens, steps=steps, seed=seed, callback=lambda i, n, _: tick(i + 1, n)
        )
    if out is not None:
        files.write_atomic(out, f"{found.text}\n".encode(), force=force)
    _report(found, tokens, clip, seed, out, list(opened.notes), as_json=as_json)


def _report(
    found: Caption, tokens: int, clip: str, seed: int, out: Path | None, notes: list[str], *, as_json: bool
) -> None:
    if not found.fits:
        notes.append(
            f"no text of at most {tokens} tokens was found: this one has {len(found.ids)}; try another seed, or more steps"
        )
    if not as_json:
        notes.append(f"similarity {found.similarity:.3f} to {clip} after {found.steps} steps (seed {seed})")
        notes += [f"wrote {out}"] if out is not None else []
    result = {
        "text": found.text,
        "ids": list(found.ids),
        "similarity": found.similarity,
        "steps": found.steps,
        "fits": found.fits,
        "clip": clip,
        "seed": seed,
        "written": str(out) if out is not None else None,
    }
    console.finish(result, found.text, as_json=as_json, notes=notes)
