"""`showtell bench foi`: several instructions at once, each in its own place, against plain InstructPix2Pix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli import bench_options as shared
from showtell.cli import bench_real as real
from showtell.cli import console, options, outputs

if TYPE_CHECKING:
    from PIL import Image

EPILOG = "Example: showtell bench foi --quick --out foi-quick"
NAMES = [
    "figures.json", "tables.md", "foi-success.png", "foi-iou.png", "foi-guidance.png", "foi-steps.png",
    "foi-compared.png", "foi-ablations.png", "foi-robust.png", "foi-weights.png",
]  # fmt: skip


def foi(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the figures, tables and plots.")] = Path("foi"),
    model: options.Model = "starter",
    single: Annotated[int, typer.Option("--single", min=0, help="Cases of one instruction; 0 leaves them out.")] = 500,
    multi: Annotated[int, typer.Option("--multi", min=0, help="Cases of 2, of 3 and of 4 instructions each.")] = 200,
    variants: Annotated[
        int,
        typer.Option("--variants", min=0, help="Single cases of the variants and bounds; half as many of each other."),
    ] = 200,
    ablations: Annotated[
        int, typer.Option("--ablations", min=0, help="Cases of each number of instructions in the ablations.")
    ] = 20,
    table1: Annotated[
        int, typer.Option("--table1", min=0, help="Single cases of Table 1; a sixth as many of 2, of 3 and of 4.")
    ] = 48,
    table6: Annotated[int, typer.Option("--table6", min=0, help="Pictures of Table 6, what each method costs.")] = 8,
    base_model: shared.BaseModel = "starter-base",
    magicbrush: Annotated[str, typer.Option("--magicbrush", metavar="MODEL", help="MagicBrush's row of Table 1.")] = "",
    insdiff: Annotated[
        str, typer.Option("--insdiff", metavar="MODEL", help="InstructDiffusion's row of Table 1.")
    ] = "",
    dino: Annotated[str, typer.Option("--dino", metavar="MODEL", help="DINOv2 for Table 1's DINO-I.")] = "",
    pickscore: Annotated[
        str, typer.Option("--pickscore", metavar="MODEL", help="Weights for Table 1's PickScore.")
    ] = "",
    also: shared.Also = None,
    sheets: Annotated[bool, typer.Option("--sheets/--no-sheets", help="The figures as sheets of pictures.")] = True,
    tune: Annotated[
        int, typer.Option("--tune", min=0, help="Only choose the starter's settings, on so many training cases.")
    ] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A few cases of each part: minutes instead of hours.")] = False,
    dataset: real.Dataset = "",
    data: real.Data = None,
    option: real.Option = None,
    limit: real.Limit = None,
    protocol: real.Protocol = "foi",
    weights: real.Weights = None,
    batch_size: real.BatchSize = 8,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Edit held-out scenes by one to four instructions at once, and measure against the truth.

    Plain InstructPix2Pix, InstructPix2Pix one instruction after the other, and Focus on Your Instruction; its variants, with
    the true masks as the bound; the paper's Tables 1 and 6, with all that it is compared with; its ablations. Whatever is
    measured is kept in OUT/work at once, so the same command goes on where an interrupted one stopped. The cases are those of
    the held-out seeds 61000, 62000, 63000 and 64000 on, so that the same command gives the same figures.

    With --dataset the same tables are made on that data set, as evaluations in folders below OUT, with the figures of
    --protocol and nothing that only scenes know.
    """
    names = shared.checked(also)
    real.check(context, takes={"base_model", "magicbrush", "insdiff", "dino", "pickscore", "ablations", "table6"})
    if dataset:
        limit = real.rows(limit, quick)
        from showtell.bench import real_tables
        from showtell.bench.foi_compared import Extras

        extras = Extras(magicbrush=magicbrush, insdiff=insdiff, also=tuple(names))
        told = [*(weights or []), *(f"{kind}={path}" for kind, path in (("dino", dino), ("pick", pickscore)) if path)]
        parts = real_tables.foi(
            extras,
            limit=limit,
            ablations=min(ablations, 1) if quick else ablations,
            costs=min(table6, 1) if quick else table6,
        )
        real.run(
            parts, out, bench="foi", dataset=dataset, data=data, option=option, limit=limit, protocol=protocol,
            weights=told, models={"instruct": model, "base": base_model}, batch_size=batch_size, device=device,
            dtype=dtype, force=force, as_json=as_json,
        )  # fmt: skip
        return
    outputs.check_folder(out, [] if tune else NAMES, force=force)

    import showtell
    from showtell.bench import foi_report as report
    from showtell.bench import foi_tune
    from showtell.bench.foi_compared import Extras

    counts = (
        report.QUICK
        if quick
        else report.Counts(
            single=single,
            multi=multi,
            variants=variants,
            variants_multi=variants // 2,
            ablations=ablations,
            table1=table1,
            table1_multi=table1 // 6,
            table6=table6,
            sheets=sheets,
        )
    )

    say = shared.sayer(as_json)
    editor = showtell.load(model, device=device, dtype=dtype)
    if tune:
        found = foi_tune.tune(editor, out / "tune", count=tune, say=say)
        rows = [[row["settings"], *(str(row[k]) for k in ("success", "per_edit_success"))] for row in found["rows"]]
        text = f"{console.table(['settings', 'all right', 'each right'], rows)}\nbest: {found['best']}"
        console.finish(found, text, as_json=as_json)
        return
    drawn: dict[str, Image.Image] = {}
    extras = Extras(magicbrush=magicbrush, insdiff=insdiff, dino=dino, pickscore=pickscore, also=tuple(names))
    figures = report.measure(editor, out / "work", counts, say=say, sheets=drawn, base=base_model, extras=extras)
    shared.finish(
        out, figures, report.markdown(figures), {**report.charts(figures), **drawn}, force=force, as_json=as_json
    )
