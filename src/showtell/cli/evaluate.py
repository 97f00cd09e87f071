"""`showtell evaluate`: methods compared on a data set under a named protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import console, options
from showtell.errors import UsageError

if TYPE_CHECKING:
    from showtell.data import Dataset

EPILOG = "Example: showtell evaluate --dataset scenes --limit 2 --methods input,truth --protocol starter --out bounds"
_MOST_TOLD = 5


def register(app: typer.Typer) -> None:
    app.command("evaluate", epilog=EPILOG)(evaluate)


def evaluate(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results; a run goes on in it.")],
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            help="scenes, folder, manifest, pie-bench, magicbrush, ip2p, imagenet, coco, foi, tedbench, emuedit.",
        ),
    ] = ("scenes"),
    data: Annotated[Path | None, typer.Option("--data", help="Where the data set lies; scenes are drawn.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="NAME=VALUE for the data set's loader, such as edits=2.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first rows; of scenes, so many.")
    ] = None,
    methods: Annotated[str, typer.Option("--methods", help="Names with commas, such as ip2p,foi,pti.")] = "",
    system: Annotated[
        list[str] | None,
        typer.Option("--system", help="NAME=METHOD[@MODEL][,SETTING=VALUE...]; once for each."),
    ] = None,
    sweep: Annotated[
        list[str] | None, typer.Option("--sweep", help="METHOD.SETTING=VALUE,VALUE,...: a trade-off curve.")
    ] = None,
    protocol: Annotated[str, typer.Option("--protocol", help="Which figures, and how they are taken.")] = "starter",
    weights: Annotated[
        list[str] | None,
        typer.Option("--weights", help="KIND=PATH of the protocol's models: clip, dino, lpips, pick; once for each."),
    ] = None,
    model: Annotated[str, typer.Option("--model", help="The instruct model.")] = "starter",
    base_model: Annotated[str, typer.Option("--base-model", help="The text-to-image model.")] = "starter-base",
    shard: Annotated[
        str | None, typer.Option("--shard", help="I/N: only rows I, I+N, ..., from 0; machines share the folder.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Pictures edited together.")] = 8,
    seed: Annotated[int, typer.Option("--seed", min=0, help="With a row's name it makes the row's seed.")] = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    as_json: options.Json = False,
) -> None:
    """Edit a data set by several methods, measure every picture, and write tables, plots and an HTML report.

    Beside the methods of `showtell edit` there are sequential, visii (learns from a row's pair), reconstruct-ddim,
    reconstruct-nti, reconstruct-pti, autoencoder, and the bounds input and truth. Every picture and its figures are kept at
    once: the same command goes on where an interrupted one stopped, and another with more methods adds them. A row that
    cannot be used is reported and the rest goes on; the exit code is then 1.
    """
    from showtell import evaluation
    from showtell.evaluation import publishing, table

    table.check()
    wanted = [*evaluation.named(methods), *map(evaluation.spec, system or [])]
    wanted += [one for text in sweep or [] for one in evaluation.swept(text)]
    evaluation.check(wanted)
    part = _shard(shard)

    from showtell import data as sets
    from showtell.data.options import parse
    from showtell.metrics import protocols

    rows = sets.load(dataset, data, limit=limit, **parse(option or ()))
    meter = protocols.load(protocol, models=_texts("--weights", weights or []), device=device)
    with console.progress("evaluating", as_json=as_json) as tick:
        summary = evaluation.run(
            rows, wanted, meter, out, models={"instruct": model, "base": base_model}, seed=seed, batch_size=batch_size,
            device=device, dtype=dtype, shard=part, tick=lambda done, total, what: tick(done, total, what),
        )  # fmt: skip
    publishing.publish(out)
    notes = [*_problems(rows), *_failed(summary, out), *_reals(summary)]
    cut = [
        f"{row['system']}: the words of {row['cut']} pictures were too long and were cut"
        for row in summary["rows"]
        if row["cut"]
    ]
    text = f"{_table(summary)}\nwrote {out}"
    console.finish({"written": str(out), **summary}, text, as_json=as_json, notes=[*notes, *cut])
    if notes:
        raise typer.Exit(1)


def _table(summary: dict[str, Any]) -> str:
    measures = summary["evaluation"]["protocol"]["measures"]
    shown = [
        m
        for m in measures
        if any(row["measures"].get(m["name"], {}).get("value") is not None for row in summary["rows"])
    ]
    head = ["system", *(m["label"] for m in shown), "pictures", "failed"]
    wanted = summary["evaluation"]["dataset"]["count"]
    lines = [
        [
            row["label"],
            *(_cell(row["measures"][m["name"]]) for m in shown),
            f"{row['count']} of {wanted}",
            str(row["failed"]),
        ]
        for row in summary["rows"]
    ]
    return console.table(head, lines)


def _cell(found: dict[str, Any]) -> str:
    if found["value"] is None:
        return "-"
    spread = "" if found["low"] is None else f" ({found['low']:.3g}..{found['high']:.3g})"
    return f"{found['value']:.4g}{spread}"


def _problems(rows: Dataset) -> list[str]:
    told = [f"{one.id}: {one.what}" for one in rows.problems[:_MOST_TOLD]]
    more = len(rows.problems) - len(told)
    if not told:
        return []
    return [
        f"{len(rows.problems)} rows of {rows.source or rows.name} cannot be used",
        *told,
        *([f"and {more} more"] if more else []),
    ]


def _failed(summary: dict[str, Any], out: Path) -> list[str]:
    from showtell import evaluation

    names = [row["system"] for row in summary["rows"] if row["failed"]]
    if not names:
        return []
    ids = [one["id"] for one in evaluation.rows(out)]
    broken = [one for one in evaluation.Folder(out).scores(names, ids) if one["error"]]
    told = [f"{one['system']}, {one['id']}: {one['error']}" for one in broken[:_MOST_TOLD]]
    more = len(broken) - len(told)
    return [f"{len(broken)} pictures could not be made or measured", *told, *([f"and {more} more"] if more else [])]


def _reals(summary: dict[str, Any]) -> list[str]:
    """Real pictures of a class that did not open."""
    problems = summary.get("reals", {}).get("problems", [])
    told = [f"{len(problems)} real pictures of the classes cannot be used"] if problems else []
    more = len(problems) - _MOST_TOLD
    return [*told, *problems[:_MOST_TOLD], *([f"and {more} more"] if more > 0 else [])]


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, slash, step = text.partition("/")
    if not (slash and first.isdigit() and step.isdigit() and int(first) < int(step)):
        raise UsageError(f"--shard {text!r}: write it as I/N with I from 0 to N - 1, such as 0/4")
    return int(first), int(step)


def _texts(name: str, told: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in told:
        key, equals, value = text.partition("=")
        if not (equals and key.strip() and value.strip()):
            raise UsageError(f"{name} {text!r}: write it as NAME=VALUE")
        found[key.strip()] = value.strip()
    return found
