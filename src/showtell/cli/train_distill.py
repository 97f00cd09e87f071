"""`showtell train distill`: an instruct model that needs one evaluation a step, and few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from showtell.cli import options, training_run
from showtell.errors import UsageError

EPILOG = "Example: showtell train distill --preset starter-fast --set data.limit=40 --set train.batch_size=4 --steps 2 -o fast"


def register(train: typer.Typer) -> None:
    train.command("distill", epilog=EPILOG)(distill)


def distill(
    config: training_run.File = None,
    out: training_run.Out = Path("student"),
    overrides: training_run.Overrides = None,
    preset: Annotated[
        Literal["lcm-lora", "starter-fast"] | None,
        typer.Option(
            "--preset", help="Begin from adapters for a full-size model on one card of 24 GB, or for the starter."
        ),
    ] = None,
    kind: Annotated[
        Literal["consistency", "guidance"] | None,
        typer.Option(
            "--kind", help="consistency: few steps without guidance; guidance: as many steps, without guidance."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The teacher: an instruct model, as starter, a folder or a hub id.")
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
    """Distil an instruct model: one evaluation a step in place of three, and four steps in place of fifty.

    The student learns from the teacher's guided predictions on before and after pictures and the words between them. With LoRA
    (as the presets have it) it is a file of adapters. A run may be stopped at any moment, also by kill -9, and goes on with
    --resume as if it had not been. --model OUT/model then edits at the student's own settings.
    """
    told = training_run.shortcuts(model, data, path, option, steps, seed, check_pictures)
    if preset is None and config is None and not resume:
        told.setdefault("model", "starter")
    if kind is not None:
        told["distill"] = {"kind": kind}
    asked = any((preset, kind, config, resume))
    if not asked and not any(each.startswith("distill") for each in overrides or []):
        raise UsageError("say what is to be distilled: --kind consistency or --kind guidance, or a --preset")
    settings = training_run.config(config, preset, told, overrides or [], out if resume else None)
    if settings.distill is None:
        raise UsageError("the configuration distils nothing: give --kind consistency or --kind guidance")
    training_run.go(settings, out, resume=resume, dry_run=dry_run, device=device, as_json=as_json)
