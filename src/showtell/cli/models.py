"""`showtell models`: what the package carries, how to hand it to other programs, and what users have taught it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from showtell.cli import console, options
from showtell.cli import looks as learned
from showtell.errors import UsageError

SUMMARIES = {
    "starter": "edits pictures by instructions",
    "starter-base": "draws pictures from captions; starter was made from it",
    "starter-fast": "starter in four steps without guidance: adapters that were distilled from it",
    "starter-clip": "a CLIP with both towers; its text tower serves the other two",
}
Name = Annotated[str, typer.Argument(metavar="NAME", help="starter, starter-fast, starter-base or starter-clip.")]


def register(app: typer.Typer) -> None:
    models = typer.Typer(
        help="The starter models: list, describe, export; what fits into memory; and learned instructions.",
        epilog="Example: showtell models list",
    )
    models.command("list", epilog="Example: showtell models list --json")(list_models)
    models.command("show", epilog="Example: showtell models show starter")(show)
    models.command("looks", epilog=learned.EPILOG)(learned.looks)
    models.command("fit", epilog="Example: showtell models fit starter --resolution 256")(fit)
    models.command("export", epilog="Example: showtell models export starter starter-folder")(export)
    app.add_typer(models, name="models")


def list_models(as_json: options.Json = False) -> None:
    """List the models that the package carries."""
    from showtell import loading

    rows = []
    for name in loading.STARTERS:
        card = loading.starter_card(name)
        rows.append({"name": name, "kind": str(card.get("kind", "")), "summary": SUMMARIES[name]})
    text = console.table(["model", "kind", "what it is"], [[r["name"], r["kind"], r["summary"]] for r in rows])
    console.finish({"models": rows, "folder": str(loading.starters_dir())}, text, as_json=as_json)


def show(name: Name, as_json: options.Json = False) -> None:
    """Print a model's card: what it is, how it was trained, its figures, its defaults."""
    from showtell import loading

    card = loading.starter_card(name)
    console.finish({"name": name, "card": card}, "\n".join([name, *_lines(card, "  ")]), as_json=as_json)


def fit(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="A starter, a hub id, a folder or a .safetensors file.")],
    resolution: Annotated[
        int | None,
        typer.Option("--resolution", help="Side of a square picture, in pixels; by default the model's own."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Pictures edited or inverted together.")] = 1,
    timesteps_per_step: Annotated[
        int, typer.Option("--timesteps-per-step", min=1, help="Noise levels that each step of a learning looks at.")
    ] = 1,
    free: Annotated[
        float | None,
        typer.Option(
            "--free", min=0, help="GiB that are free on a GPU that is not here; by default what is free on DEVICE."
        ),
    ] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    as_json: options.Json = False,
) -> None:
    """Estimate how much memory editing, learning and inverting need, each with what saves it, before anything is loaded.

    Of a model on the hub only its configurations are fetched.
    """
    if free is not None and not math.isfinite(free):
        raise UsageError(f"--free {free}: give the GiB that are free, such as 8")

    from showtell import memory

    found = memory.estimate(
        name, resolution=resolution, dtype=dtype, batch_size=batch_size, timesteps_per_step=timesteps_per_step,
        device=device, free=None if free is None else int(free * 2**30),
    )  # fmt: skip
    console.finish(found.as_dict(), found.table(), as_json=as_json)


def export(
    name: Name,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Write a starter as a folder that stock diffusers (starter-clip: transformers) loads."""
    from showtell import loading

    written = loading.export(name, folder, force=force)
    console.finish({"name": name, "written": str(written)}, f"wrote {name} to {written}", as_json=as_json)


def _lines(value: Any, indent: str) -> list[str]:
    """A card as indented text."""
    lines = []
    for key, item in value.items():
        if isinstance(item, dict):
            lines += [f"{indent}{key}:", *_lines(item, indent + "  ")]
        elif isinstance(item, float):
            lines.append(f"{indent}{key}: {item:.4g}")
        elif isinstance(item, list):
            lines.append(f"{indent}{key}: {', '.join(map(str, item))}")
        else:
            lines.append(f"{indent}{key}: {item}")
    return lines
