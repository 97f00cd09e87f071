"""`showtell bench ip2p`: InstructPix2Pix's sweep of the picture guidance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from showtell.cli import bench_options as shared
from showtell.cli import bench_real as real
from showtell.cli import options, outputs

EPILOG = "Example: showtell bench ip2p --quick --out ip2p-quick"
NAMES = ["figures.json", "tables.md", "ip2p-tradeoff.png", "ip2p-truth.png"]


def ip2p(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the figures, the table and plots.")] = Path(
        "ip2p"
    ),
    model: options.Model = "starter",
    base_model: shared.BaseModel = "starter-base",
    count: Annotated[int, typer.Option("--count", min=2, help="Scenes of one instruction.")] = 60,
    also: shared.Also = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few scenes and points: a minute.")] = False,
    dataset: real.Dataset = "",
    data: real.Data = None,
    option: real.Option = None,
    limit: real.Limit = None,
    protocol: real.Protocol = "ip2p",
    weights: real.Weights = None,
    batch_size: real.BatchSize = 8,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Sweep s_I from 1.0 to 2.2 as InstructPix2Pix's evaluation does: directional similarity against image similarity.

    At s_T 7.5 as published, and at the s_T of the model's card; SDEdit over its strength is the other curve. Right edits
    against the truth beside it. Whatever is measured is kept in OUT/work at once, so the same command goes on where an
    interrupted one stopped. The cases are those of the held-out seeds 77000, 77001, ...

    With --dataset the same tables are made on that data set, as evaluations in folders below OUT, with the figures of
    --protocol and nothing that only scenes know.
    """
    names = shared.checked(also)
    real.check(context, takes={"base_model"})
    if dataset:
        limit = real.rows(limit, quick)
        from showtell.bench import ip2p as points
        from showtell.bench import real_tables

        sweep = points.QUICK if quick else points.Counts()
        parts = real_tables.ip2p(real.defaults(model, "ip2p"), sweep, limit=limit, names=names)
        real.run(
            parts, out, bench="ip2p", dataset=dataset, data=data, option=option, limit=limit, protocol=protocol,
            weights=weights, models={"instruct": model, "base": base_model}, batch_size=batch_size, device=device,
            dtype=dtype, force=force, as_json=as_json,
        )  # fmt: skip
        return
    outputs.check_folder(out, NAMES, force=force)

    import showtell
    from showtell.bench import ip2p as bench

    counts = bench.QUICK if quick else bench.Counts(count=count)
    editor = showtell.load(model, device=device, dtype=dtype)
    figures = bench.measure(editor, out / "work", counts, say=shared.sayer(as_json), base=base_model, also=names)
    shared.finish(out, figures, bench.markdown(figures), bench.charts(figures), force=force, as_json=as_json)
