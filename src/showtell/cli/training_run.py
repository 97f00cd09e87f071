"""What the commands that train an editor share: options as a configuration, the run itself, and what is told of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import console
from showtell.errors import UsageError

if TYPE_CHECKING:
    from showtell.training.instruct.planning import Plan
    from showtell.training.instruct.settings import Config
    from showtell.training.loop import Report

_LINES = 10
"""About so many lines tell of a run in a pipe."""

File = Annotated[
    Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="The configuration; what it leaves out has defaults.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; the trained model is its model/.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A key of the configuration, such as train.batch_size=64."),
]
Data = Annotated[str | None, typer.Option("--data", help="The data set's loader, such as pairs or ip2p.")]
Place = Annotated[Path | None, typer.Option("--path", help="Where the data set lies.")]
LoaderOptions = Annotated[
    list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="An option of the data set's loader.")
]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Steps of the optimiser.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, max=2**31 - 1, help="Random seed of the run.")]
CheckPictures = Annotated[
    bool | None,
    typer.Option("--check-pictures/--no-check-pictures", help="Look at every picture's header before the training."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Tell what would be done, what of the data is usable and what memory it takes."),
]


def go(told: Config, out: Path, *, resume: bool, dry_run: bool, device: str, as_json: bool) -> None:
    """Train, or tell what would be done, and say what came of it."""
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


def shortcuts(
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


def config(
    file: Path | None, preset: str | None, told: dict[str, Any], overrides: list[str], begun: Path | None
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
    found = configuring.configure(*parts, told, configuring.overrides(overrides))
    return presets.fitted(found, preset, world_size=int(os.environ.get("WORLD_SIZE", "1")))


def _tell(plan: Plan, *, as_json: bool) -> None:
    import yaml

    from showtell.memory import free_memory
    from showtell.training.instruct import planning, run

    resolved = yaml.safe_dump(plan.config.as_dict(), sort_keys=False, allow_unicode=True).rstrip()
    text = "\n".join([resolved, "", *planning.described(plan), "", plan.fit.table(), "", "nothing was written"])
    notes = list(run.notes_of(plan.examples))
    try:
        plan.fit.check(free_memory(plan.fit.device))
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
