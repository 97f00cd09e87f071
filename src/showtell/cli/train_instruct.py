"""`showtell train instruct`: an instruction editor of your own, from pairs of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from showtell.cli import options, training_run

EPILOG = "Example: showtell train instruct --preset starter --data scenes --option split=train --set data.limit=40 --steps 2 -o e"


def register(train: typer.Typer) -> None:
    train.command("instruct", epilog=EPILOG)(instruct)


def instruct(
    config: training_run.File = None,
    out: training_run.Out = Path("editor"),
    overrides: training_run.Overrides = None,
    preset: Annotated[
        Literal["paper", "24gb", "starter"] | None,
        typer.Option("--preset", help="Begin from InstructPix2Pix's own, one for 24 GB, or one for two cores."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="What to begin from: a starter, a folder, a hub id or a .safetensors file."),
    ] = None,
    data: training_run.Data = None,
    path: training_run.Place = None,
    option: training_run.LoaderOptions = None,
    steps: training_run.Steps = None,
    seed: training_run.Seed = None,
    check_pictures: training_run.CheckPictures = None,
    resume: training_run.Resume = False,
    dry_run: training_run.DryRun = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Train an instruction editor on before and after pictures and the words between them.

    It begins from a text-to-image model, widened by the picture before, or from an instruct model. A run may be stopped at any
    moment, also by kill -9, and goes on with --resume as if it had not been. Under torchrun it runs in several processes.
    """
    told = training_run.shortcuts(model, data, path, option, steps, seed, check_pictures)
    settings = training_run.config(config, preset, told, overrides or [], out if resume else None)
    training_run.go(settings, out, resume=resume, dry_run=dry_run, device=device, as_json=as_json)
