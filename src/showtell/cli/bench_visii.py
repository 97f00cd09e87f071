"""`showtell bench visii`: what a shown edit is worth, against the same edit told in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli import bench_options as shared
from showtell.cli import bench_real as real
from showtell.cli import console, options, outputs
from showtell.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

EPILOG = "Example: showtell bench visii --quick --out visii-quick"
NAMES = [
    "figures.json", "tables.md", "visii-kinds.png", "visii-steps.png", "visii-consistency.png", "visii-small.png",
    "visii-pair.png", "visii-segmentation.png", "visii-strength.png", "visii-histograms.png", "visii-noise.png",
    "visii-hybrid.png",
]  # fmt: skip


def visii(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the figures, tables and plots.")] = Path("visii"),
    edits: Annotated[
        int, typer.Option("--edits", min=0, help="Edits that are learned and told; 0 leaves this out.")
    ] = 50,
    histograms: Annotated[
        int, typer.Option("--histograms", min=0, help="Edits of Figure 7's histograms; 0 leaves them out.")
    ] = 50,
    four_edits: Annotated[
        int, typer.Option("--four-edits", min=0, help="Edits that are learned from four pairs, too; 0 leaves this out.")
    ] = 20,
    table_edits: Annotated[int, typer.Option("--table-edits", min=0, help="Edits of Table 1; 0 leaves it out.")] = 50,
    steps_edits: Annotated[
        int, typer.Option("--steps-edits", min=0, help="Edits for each number of steps; 0 leaves this out.")
    ] = 50,
    studies: Annotated[bool, typer.Option("--studies/--no-studies", help="The other analyses, with sheets.")] = True,
    study: Annotated[
        list[str] | None, typer.Option("--study", metavar="NAME", help="Only this analysis; may be repeated.")
    ] = None,
    model: options.Model = "starter",
    base_model: shared.BaseModel = "starter-base",
    also: shared.Also = None,
    tune: Annotated[
        int, typer.Option("--tune", min=0, help="Only choose the starter's settings, on so many training edits.")
    ] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A few edits of each part: minutes instead of hours.")] = False,
    dataset: real.Dataset = "",
    data: real.Data = None,
    option: real.Option = None,
    limit: real.Limit = None,
    protocol: real.Protocol = "visii",
    weights: real.Weights = None,
    batch_size: real.BatchSize = 8,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Learn held-out edits from pairs, repeat them on other scenes, and measure against the truth.

    Learned against told, and how the similarities are spread; one pair against four; the rows of VISII's Table 1; numbers of
    steps; other analyses (consistency, small, pair, segmentation, strength, noise, hybrid). Whatever
    is learned and measured is kept in OUT/work at once, so the same command goes on where an interrupted one stopped.
    The cases are those of the held-out seeds 50000, 50001, ... so that the same command gives the same figures.

    With --dataset the same tables are made on that data set, as evaluations in folders below OUT, with the figures of
    --protocol and nothing that only scenes know.
    """
    names = shared.checked(also)
    real.check(context, takes={"base_model"})
    if dataset:
        limit = real.rows(limit, quick)
        from showtell.bench import real_tables

        parts = real_tables.visii(limit=limit, names=names)
        real.run(
            parts, out, bench="visii", dataset=dataset, data=data, option=option, limit=limit, protocol=protocol,
            weights=weights, models={"instruct": model, "base": base_model}, batch_size=batch_size, device=device,
            dtype=dtype, force=force, as_json=as_json,
        )  # fmt: skip
        return
    outputs.check_folder(out, NAMES, force=force)

    import showtell
    from showtell.bench import visii_report as report
    from showtell.bench import visii_tune

    if unknown := [name for name in study or () if name not in report.STUDIES]:
        raise UsageError(f"--study {unknown[0]!r} is not known: choose one of {', '.join(report.STUDIES)}")
    counts = report.Counts(
        main=edits, histograms=histograms, four=four_edits, table=table_edits, steps_edits=steps_edits,
        studies=tuple(study) if study and studies else studies,
    )  # fmt: skip
    counts = report.QUICK if quick else counts
    say = shared.sayer(as_json)

    editor = showtell.load(model, device=device, dtype=dtype)
    if quick:  # the folder's claim has them: what is learned so is never mixed with the rest
        editor.card = report.quick_card(editor.card)
    if tune:
        found = visii_tune.tune(editor, out / "tune", count=tune, say=say)
        rows = [[str(v) for v in row.values()] for row in found["rows"]]
        text = f"{console.table(['settings', 'success', 'inside'], rows)}\nbest: {found['best']}"
        console.finish(found, text, as_json=as_json)
        return
    sheets: dict[str, Image.Image] = {}
    figures = report.measure(editor, out / "work", counts, say=say, sheets=sheets, base=base_model, also=names)
    shared.finish(
        out, figures, report.markdown(figures), {**report.charts(figures), **sheets}, force=force, as_json=as_json
    )
