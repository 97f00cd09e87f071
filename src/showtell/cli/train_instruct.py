"""`showtell train instruct`: an instruction editor of your own, from pairs of pictures."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from showtell.cli import console, options
from showtell.errors import UsageError

if TYPE_CHECKING:
    from showtell.training.instruct.planning import Plan
    from showtell.training.instruct.settings import Config
    from showtell.training.loop import Report

EPILOG = "Example: showtell train instruct --preset starter --data scenes --option split=train --set data.limit=40 --steps 2 -o e"
_LINES = 10
"""About so many lines tell of a run in a pipe."""


def register(train: typer.Typer) -> None:
    train.command("instruct", epilog=EPILOG)(instruct)


def instruct(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="The configuration; what it leaves out has defaults.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the run; the trained model is its model/.")
    ] = Path("editor"),
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A key of the configuration, such as train.batch_size=64."),
    ] = None,
    preset: Annotated[
        Literal["paper", "24gb", "starter"] | None,
        typer.Option("--preset", help="Begin from InstructPix2Pix's own, one for 24 GB, or one for two cores."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="What to begin from: a starter, a folder, a hub id or a .safetensors file."),
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="The data set's loader, such as pairs or ip2p.")] = None,
    path: Annotated[Path | None, typer.Option("--path", help="Where the data set lies.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="An option of the data set's loader.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Steps of the optimiser.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, max=2**31 - 1, help="Random seed of the run.")] = None,
    check_pictures: Annotated[
        bool | None,
        typer.Option(
            "--check-pictures/--no-check-pictures", help="Look at every picture's header before the training."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Tell what would be done, what of the data is usable and what memory it takes."),
    ] = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Train an instruction editor on before and after pictures and the words between them.

    It begins from a text-to-image model, widened by the picture before, or from an instruct model. A run may be stopped at any
    moment, also by kill -9, and goes on with --resume as if it had not been. Under torchrun it runs in several processes.
    """
    shortcuts = _shortcuts(model, data, path, option, steps, seed, check_pictures)
    told = _config(config, preset, shortcuts, overrides or [], out if resume else None)
    from showtell import validating
    from showtell.training.instruct import planning, run

    first = os.environ.get("RANK", "0") == "0"
    with _reporting(as_json=as_json or not first) as report:
        if dry_run:
            _tell(planning.plan(told, device=device, report=report), as_json=as_json)
            return
        result = run.train(told, out, resume=resume, device=device, validate=validating.validator, report=report)
    if first:
        text = f"trained in {result.model} ({result.step} steps, seed {told.seed})"
        found = {
            "written": str(result.model),
            "steps": result.step,
            "seed": told.seed,
            "figures": result.figures,
            "rows": result.rows,
            "held_out": result.held_out,
            "left_out": result.left_out,
            "pushed": result.pushed,
        }
        console.finish(found, text, as_json=as_json, notes=result.notes)


def _shortcuts(
    model: str | None,
    data: str | None,
    path: Path | None,
    option: list[str] | None,
    steps: int | None,
    seed: int | None,
    check_pictures: bool | None,
) -> dict[str, Any]:
    """The options that stand for keys of the configuration, as nested mappings."""
    from showtell.data.options import parse

    told: dict[str, dict[str, Any]] = {
        "data": {
            "name": data,
            "path": str(path) if path is not None else None,
            "options": parse(option) if option else None,
            "check_pictures": check_pictures,
        },
        "train": {"steps": steps},
    }
    sections = {name: {key: value for key, value in one.items() if value is not None} for name, one in told.items()}
    return {key: value for key, value in {"model": model, "seed": seed, **sections}.items() if value not in (None, {})}


def _config(
    file: Path | None, preset: str | None, shortcuts: dict[str, Any], overrides: list[str], begun: Path | None
) -> Config:
    """The configuration: a preset, then the file, then the options; of a resumed run its own, where neither is given."""
    from showtell import files
    from showtell.training.instruct import beginning, configuring, presets

    parts: list[dict[str, Any]] = []
    if preset is not None:
        parts.append(presets.preset(preset))
    if file is not None:
        parts.append(configuring.read(file))
    if begun is not None and not parts and files.mode_of(begun / beginning.CONFIG):
        parts.append(beginning.read_config(begun))
    told = configuring.configure(*parts, shortcuts, configuring.overrides(overrides))
    return presets.fitted(told, preset, world_size=int(os.environ.get("WORLD_SIZE", "1")))


def _tell(plan: Plan, *, as_json: bool) -> None:
    import yaml

    from showtell.training.instruct import planning, preflight, run

    resolved = yaml.safe_dump(plan.config.as_dict(), sort_keys=False, allow_unicode=True).rstrip()
    text = "\n".join([resolved, "", *planning.described(plan), "", plan.fit.table(), "", "nothing was written"])
    notes = list(run.notes_of(plan.examples))
    try:
        plan.fit.check(preflight.free_memory(plan.fit.device))
    except UsageError as error:
        notes.append(f"it would not fit here: {error}")
    console.finish(planning.as_json(plan), text, as_json=as_json, notes=notes)


@contextmanager
def _reporting(*, as_json: bool) -> Iterator[Report]:
    """A bar for each stage on a terminal; in a pipe some lines on stderr, and nothing under ``--json``."""
    if as_json:
        yield lambda stage, step, steps, figures: None
        return
    if sys.stderr.isatty():
        from showtell.cli.train import bars

        with bars() as report:
            yield report
        return

    def report(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
        often = max(1, steps // _LINES)
        if stage == "validation" or (stage == "training" and (step % often == 0 or step == steps)):
            told = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
            typer.echo(f"{stage}: step {step} of {steps}  {told}".rstrip(), err=True)

    yield report
