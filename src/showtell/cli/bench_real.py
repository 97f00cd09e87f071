"""The benches' other half: the papers' tables on a data set of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import bench_options, console, outputs
from showtell.cli import evaluate as evaluating
from showtell.errors import UsageError

if TYPE_CHECKING:
    from showtell.bench.real import Part

Dataset = Annotated[
    str,
    typer.Option("--dataset", help="Make the tables on this data set instead of scenes (see `showtell evaluate`)."),
]
Data = Annotated[Path | None, typer.Option("--data", help="Where the data set lies.")]
Option = Annotated[
    list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="For the data set's loader; may be repeated.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first rows of the data set.")]
Protocol = Annotated[
    str, typer.Option("--protocol", help="Which figures, for a data set; by default those of the bench's paper.")
]
Weights = Annotated[
    list[str] | None,
    typer.Option("--weights", metavar="KIND=MODEL", help="The protocol's models: clip, dino, lpips, pick."),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Pictures of a data set edited together.")]


QUICK_ROWS = 4
_COMMON = {"out", "model", "also", "quick", "device", "dtype", "as_json", "force"}
_OWN = {"dataset", "data", "option", "limit", "protocol", "weights", "batch_size"}


def check(context: typer.Context, *, takes: set[str]) -> None:
    """Raise ``UsageError`` for an option that was given and would mean nothing: one of data sets without ``--dataset``, or with
    it one that is about scenes alone. ``takes`` are the bench's options that data sets have a use for, beside those of all.
    """
    given = [
        name for name in context.params if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]
    on_data = bool(context.params["dataset"])
    for name in given:
        option = f"--{name.replace('_', '-')}"
        if on_data and name not in _COMMON | _OWN | takes:
            raise UsageError(f"{option} is about scenes: leave it out with --dataset")
        if not on_data and name in _OWN:
            raise UsageError(f"{option} is for a data set: name it with --dataset, or leave {option} out")


def rows(limit: int | None, quick: bool) -> int | None:
    """How many rows: under ``--quick`` a few."""
    return min(limit or QUICK_ROWS, QUICK_ROWS) if quick else limit


def defaults(model: str, method: str) -> dict[str, Any]:
    """What a starter's card has for a method; nothing for any other model, whose card its loading would not give either."""
    from showtell import loading

    return loading.starter_card(model).get("defaults", {}).get(method, {}) if model in loading.STARTERS else {}


def run(
    parts: Sequence[Part],
    out: Path,
    *,
    bench: str,
    dataset: str,
    data: Path | None,
    option: list[str] | None,
    limit: int | None,
    protocol: str,
    weights: list[str] | None,
    models: dict[str, str],
    batch_size: int,
    device: str,
    dtype: Any,
    force: bool,
    as_json: bool,
) -> None:
    """Make the parts' tables in ``out``. Rows that cannot be used and pictures that failed are told, with exit code 1."""
    outputs.check_folder(out, ["figures.json", "tables.md"], force=force)

    from showtell import data as sets
    from showtell.bench import real
    from showtell.data.options import parse
    from showtell.evaluation import table
    from showtell.metrics import protocols

    table.check()
    rows = sets.load(dataset, data, limit=limit, **parse(option or ()))
    told = evaluating._texts("--weights", weights or [])
    meters: dict[str, Any] = {}

    def meter(name: str) -> Any:
        if name not in meters:
            own = told if not name else {}
            meters[name] = protocols.load(name or protocol, models=own, device=device)
        return meters[name]

    if any(not part.protocol for part in parts):
        meter("")  # what is wrong with it is said before the work
    with console.progress(f"bench {bench}", as_json=as_json) as tick:
        found = real.measure(
            parts, rows, out, meters=meter, models=models, batch_size=batch_size, device=device, dtype=dtype,
            tick=lambda done, total, what: tick(done, total, what),
        )  # fmt: skip
    text = real.markdown(parts, found, head=f"made by `showtell bench {bench} --dataset {dataset}`")
    notes = evaluating._problems(rows)
    for name, summary in found.items():
        notes += evaluating._failed(summary, out / name) if summary else []
    bench_options.finish(out, found, text, {}, force=force, as_json=as_json, notes=notes)
    if notes:
        raise typer.Exit(1)
