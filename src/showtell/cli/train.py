"""`showtell train`: the starter models, again, from nothing; and an editor of your own."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from showtell import files
from showtell.cli import console, options, train_distill, train_instruct
from showtell.errors import Cancelled, OutputError, UsageError

if TYPE_CHECKING:
    from showtell.training.loop import Report

EPILOG = "Example: showtell train starter --preset smoke --out trained"
Stage = Literal["data", "clip", "autoencoder", "base", "instruct"]


def register(app: typer.Typer) -> None:
    train = typer.Typer(
        help="Train models: the starters from nothing, an editor of your own, or a faster one.", epilog=EPILOG
    )
    train.command("starter", epilog=EPILOG)(starter)
    train_instruct.register(train)
    train_distill.register(train)
    app.add_typer(train, name="train")


def starter(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run and of the trained models.")] = Path("trained"),
    preset: Annotated[
        Literal["cpu", "cpu-single", "cpu-base", "gpu", "smoke"],
        typer.Option(
            "--preset",
            help="cpu: an evening on two cores; cpu-single, cpu-base: one network of it; gpu: half an hour; smoke: a few steps.",
        ),
    ] = "cpu",
    until: Annotated[Stage, typer.Option("--until", help="The last stage to train.")] = "instruct",
    only_instruct: Annotated[
        bool, typer.Option("--only-instruct", help="Take all but the instruct network from the installed starters.")
    ] = False,
    only_base: Annotated[
        bool,
        typer.Option("--only-base", help="Take all but the base network, which grows out of the instruct network."),
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="In the end tune the defaults, measure, and write the cards.")
    ] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Random seed of the run.")] = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Train the starter models: CLIP, autoencoder, base and instruct, on scenes that are drawn first.

    In the end the defaults are tuned on training seeds, everything is measured on held-out ones, and model cards are
    written.
    A run may be stopped at any moment, also by kill -9, and goes on with --resume. Use what was trained by setting
    SHOWTELL_STARTERS to the folder.
    """
    if only_instruct and only_base:
        raise UsageError("--only-instruct and --only-base leave nothing to do together: give one of them")
    _check(out, resume=resume)

    from showtell.bench import cards
    from showtell.loading import pick_device
    from showtell.training.settings import STAGES
    from showtell.training.starter import train_starter

    stages, device_name = STAGES.index(until) + 1, pick_device(device)
    try:
        with _reporting(as_json=as_json) as report:
            folder = train_starter(
                out=out,
                preset_name=preset,
                seed=seed,
                device=device_name,
                stages=stages,
                only="instruct" if only_instruct else "base" if only_base else None,
                report=report,
            )
        if measure and stages == len(STAGES):
            cards.finish(folder, preset_name=preset, seed=seed, device=device_name, say=_say(as_json=as_json))
    except KeyboardInterrupt as stop:
        raise Cancelled(
            f"interrupted; the run is kept: give the same command with --resume to go on in {out}"
        ) from stop
    result = {"written": str(folder), "preset": preset, "seed": seed, "until": until}
    console.finish(result, f"trained in {folder} (seed {seed})", as_json=as_json)


def _say(*, as_json: bool) -> Callable[[str], None]:
    return lambda line: None if as_json else typer.echo(f"measuring: {line}", err=True)


def _check(out: Path, *, resume: bool) -> None:
    mode = files.mode_of(out)
    if mode and not stat.S_ISDIR(mode):
        raise OutputError(f"{out}: is a file; name a folder")
    begun = (out / "run").exists()
    if begun and not resume:
        raise OutputError(f"{out}: holds a run already; go on with it by --resume, or name another folder with --out")
    if resume and not begun:
        raise UsageError(f"{out}: holds no run to resume; leave --resume out to begin one")


@contextmanager
def _reporting(*, as_json: bool) -> Iterator[Report]:
    """A bar for each stage on a terminal; in a pipe one line on stderr when a stage begins."""
    if sys.stderr.isatty() and not as_json:
        with bars() as report:
            yield report
        return
    begun: set[str] = set()

    def report(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
        if stage not in begun and not as_json:
            begun.add(stage)
            typer.echo(f"training: {stage}, {steps} steps", err=True)

    yield report


@contextmanager
def bars() -> Iterator[Report]:
    """A bar for each stage, with its figures beside it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=steps, figures="")
            text = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
            bars.update(tasks[stage], completed=step, total=steps, figures=text)

        yield report
