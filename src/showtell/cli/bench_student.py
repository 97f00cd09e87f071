"""`showtell bench student`: what few steps cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from showtell.cli import bench_options, options, outputs

EPILOG = "Example: showtell bench student --count 2 -o few"


def student(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the measurement; it goes on there.")] = Path(
        "few"
    ),
    student: Annotated[str, typer.Option("--student", help="The model of few steps.")] = "starter-fast",
    teacher: Annotated[str, typer.Option("--teacher", help="The model that it was distilled from.")] = "starter",
    count: Annotated[int, typer.Option("--count", min=2, help="Held-out scenes.")] = 200,
    edits: Annotated[int, typer.Option("--edits", min=1, max=4, help="Instructions of each.")] = 1,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads: 1 makes the seconds comparable.")] = 1,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """A student of few steps beside its teacher, case by case on held-out scenes: right edits, evaluations, seconds.

    The reference is the teacher in 50 steps at its own guidance. Interrupt it at will: the same command goes on in its folder.
    """
    import platform

    import torch

    import showtell
    from showtell.bench import student as bench

    outputs.check_folder(out, ["figures.json", "tables.md"], force=force)
    torch.set_num_threads(threads)
    pair = [showtell.load(name, device=device, dtype=dtype) for name in (teacher, student)]
    figures = bench.run(pair[0], pair[1], out / "kept", count=count, edits=edits, say=bench_options.sayer(as_json))
    figures |= {
        "machine": f"{platform.machine()}, {threads} threads, torch {torch.__version__}, {pair[0].pipe.unet.dtype}",
        "teacher": teacher,
        "student": student,
    }
    bench_options.finish(out, figures, bench.table(figures), {}, force=force, as_json=as_json)
