"""`showtell bench`: measurements that anyone can run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from showtell.cli import bench_foi, bench_inversion, bench_ip2p, bench_student, bench_visii, console, options, outputs

EPILOG = "Example: showtell bench starter --count 100 -o figures.json"


def register(app: typer.Typer) -> None:
    bench = typer.Typer(help="Measure against the truth, on held-out scenes.", epilog=EPILOG)
    bench.callback()(lambda: None)
    bench.command("starter", epilog=EPILOG)(starter)
    bench.command("visii", epilog=bench_visii.EPILOG)(bench_visii.visii)
    bench.command("foi", epilog=bench_foi.EPILOG)(bench_foi.foi)
    bench.command("inversion", epilog=bench_inversion.EPILOG)(bench_inversion.inversion)
    bench.command("ip2p", epilog=bench_ip2p.EPILOG)(bench_ip2p.ip2p)
    bench.command("student", epilog=bench_student.EPILOG)(bench_student.student)
    app.add_typer(bench, name="bench")


def starter(
    count: Annotated[
        int, typer.Option("--count", min=2, help="Single edits; of 2, 3 and 4 joined ones 0.4, 0.2, 0.2 as many.")
    ] = 500,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the figures as JSON, too.")] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """The starters' held-out figures: editing, grounding, autoencoder, and matching of captions.

    The cases are those of the held-out seeds 0, 1, ... so that the same command gives the same figures.
    """
    from showtell import files

    if out is not None:
        files.check_output(out, force=force)

    import showtell
    from showtell.bench import cards

    def say(line: str) -> None:
        if not as_json:
            typer.echo(line, err=True)

    figures = cards.measure(showtell.load("starter", device=device, dtype=dtype), count=count, say=say)
    if out is not None:
        files.write_atomic(out, outputs.json_bytes(console.plain(figures)), force=force)
    console.finish(
        figures, console.table(["figure", "value"], [list(row) for row in cards.flat(figures)]), as_json=as_json
    )
