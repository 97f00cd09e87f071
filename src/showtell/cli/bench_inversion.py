"""`showtell bench inversion`: Prompt Tuning Inversion and the methods beside it, which are told what the result shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from showtell.cli import bench_options as shared
from showtell.cli import bench_real as real
from showtell.cli import console, options, outputs

if TYPE_CHECKING:
    from PIL import Image

EPILOG = "Example: showtell bench inversion --quick --out inversion-quick"
NAMES = [
    "figures.json", "tables.md", "inversion-iterations.png", "inversion-tradeoff.png", "inversion-truth.png",
    "inversion-eta.png", "inversion-omega.png", "inversion-compared.png", "inversion-eta-pictures.png",
    "inversion-several.png",
]  # fmt: skip


def inversion(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the figures, tables and plots.")] = Path(
        "inversion"
    ),
    model: options.Model = "starter-base",
    table1: Annotated[int, typer.Option("--table1", min=0, help="Pictures of Table 1; 0 leaves it out.")] = 12,
    table2: Annotated[int, typer.Option("--table2", min=0, help="Pictures of Table 2.")] = 16,
    table3: Annotated[int, typer.Option("--table3", min=0, help="Pictures of Table 3.")] = 8,
    figure4: Annotated[int, typer.Option("--figure4", min=0, help="Cases of Figure 4, the trade-off curves.")] = 36,
    figure6: Annotated[int, typer.Option("--figure6", min=0, help="Cases of Figure 6, eta and beta.")] = 36,
    figure7: Annotated[int, typer.Option("--figure7", min=0, help="Cases of Figure 7, several things.")] = 16,
    starts: Annotated[int, typer.Option("--starts", min=0, help="Cases of what the tuning starts from.")] = 24,
    slow: Annotated[int, typer.Option("--slow", min=0, help="Cases of null-text inversion's edits.")] = 8,
    precision: Annotated[
        int, typer.Option("--precision", min=0, help="Pictures in both precisions, where --dtype is not float32.")
    ] = 4,
    instruct_model: shared.InstructModel = "starter",
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
    protocol: real.Protocol = "pti",
    weights: real.Weights = None,
    batch_size: real.BatchSize = 8,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    tables_dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option("--tables-dtype", help="Number format of Tables 1 to 3.")
    ] = "float32",
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Reconstruct held-out scenes and edit them by describing the result, and measure against the truth.

    Tables 1 to 3 and Figures 3 to 7 of Prompt Tuning Inversion on its terms, for DDIM, Null-Text Inversion, DiffEdit, DDIM-Edit
    and PTI. The tables are made in float32 unless ``--tables-dtype`` says otherwise; ``--dtype`` is that of the rest, and what
    it moves in Table 2 is told. Whatever
    is measured is kept in OUT/work at once, so the same command goes on where an interrupted one stopped. The cases are
    those of the held-out seeds from 71000 on, so that the same command gives the same figures.

    With --dataset the same tables are made on that data set, as evaluations in folders below OUT, with the figures of
    --protocol and nothing that only scenes know.
    """
    names = shared.checked(also)
    real.check(context, takes={"instruct_model", "table1", "table2", "table3", "figure4", "figure6"})
    if dataset:
        limit = real.rows(limit, quick)
        from showtell.bench import inversion_report, real_tables

        asked = inversion_report.Counts(table1=table1, table2=table2, table3=table3, figure4=figure4, figure6=figure6)
        parts = real_tables.inversion(inversion_report.QUICK if quick else asked, names=names)
        real.run(
            parts, out, bench="inversion", dataset=dataset, data=data, option=option, limit=limit, protocol=protocol,
            weights=weights, models={"instruct": instruct_model, "base": model}, batch_size=batch_size, device=device,
            dtype=dtype, force=force, as_json=as_json,
        )  # fmt: skip
        return
    outputs.check_folder(out, [] if tune else NAMES, force=force)

    import showtell
    from showtell.bench import inversion_report as report
    from showtell.bench import inversion_tune

    say = shared.sayer(as_json)
    editor = showtell.load(model, device=device, dtype=dtype)
    if tune:
        found = inversion_tune.tune(editor, out / "tune", count=tune, say=say)
        rows = [[row["method"], row["settings"], str(row["success"]), str(row["inside"])] for row in found["rows"]]
        text = f"{console.table(['method', 'settings', 'right', 'inside'], rows)}\nbest: {found['best']}"
        console.finish(found, text, as_json=as_json)
        return
    counts = report.Counts(
        table1=table1, table2=table2, table3=table3, figure4=figure4, figure6=figure6, figure7=figure7,
        starts=starts, slow=slow, precision=precision, sheets=sheets,
    )  # fmt: skip
    counts = report.QUICK if quick else counts
    loaded = {str(editor.pipe.unet.dtype).removeprefix("torch."): editor}
    for name in (tables_dtype, "float32"):
        if name not in loaded:
            loaded[name] = showtell.load(model, device=device, dtype=name)
    drawn: dict[str, Image.Image] = {}
    figures = report.measure(
        editor, loaded[tables_dtype], loaded["float32"], out / "work", counts, say=say, sheets=drawn,
        instruct=instruct_model, also=names,
    )  # fmt: skip
    shared.finish(
        out, figures, report.markdown(figures), {**report.charts(figures), **drawn}, force=force, as_json=as_json
    )
