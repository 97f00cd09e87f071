"""What the benchmarks share: their options, the clock, runs in turn, and the JSON that they leave.

Every comparison runs peer and ours in one process, warmed up and in turn, the order turned round in every other repeat, and is
told as the median and the quartiles of the ratios within a repeat. On a CPU the time is the processor's, on one thread, so that
a busy machine disturbs it little; on a GPU it is that of the wall, with all queued work awaited.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

RESULTS = Path(__file__).parent / "results"


def options(description: str | None, *, repeats: int = 7) -> argparse.ArgumentParser:
    """A parser with what all benchmarks are told; the first line of ``description`` is shown."""
    parser = argparse.ArgumentParser(description=(description or "").strip().split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--full-size", action="store_true", help="Stable Diffusion 1.5's shapes at 512 pixels, random weights"
    )
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="bfloat16 on a GPU, else float32")
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see it run: the figures mean nothing")
    parser.add_argument("-o", "--out", type=Path, help="write the figures as JSON")
    return parser


def drawing(parser: argparse.ArgumentParser) -> None:
    """The options of a benchmark with a table and a plot of its own; :func:`show` makes them."""
    parser.add_argument("--table", type=Path, help="write the Markdown table here, too")
    parser.add_argument("--plot", type=Path, help="write the plot (PNG) here")
    parser.add_argument("--redraw", action="store_true", help="measure nothing: only read the JSON")


def show(args: argparse.Namespace, table: str, plot: Callable[[], Any]) -> None:
    """Print the table, and write it and the plot where that is asked."""
    print(table)
    if args.table:
        args.table.write_text(table)
    if args.plot:
        plot().save(args.plot)


def ready(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, with torch on one thread on a CPU. Exits where the GPU that is asked for is not there."""
    args = parser.parse_args(argv)
    args.told = list(sys.argv[1:] if argv is None else argv)
    args.dtype = args.dtype or ("bfloat16" if args.device == "cuda" else "float32")
    if args.quick:
        args.repeats = 1
    import torch

    warnings.simplefilter("ignore")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.exit(3, "not run: no GPU was at hand\n")
    if args.device == "cpu":
        torch.set_num_threads(1)
    return args


def clock(device: str) -> Callable[[], float]:
    """Seconds: of the processor on a CPU, of the wall after all work on a GPU."""
    if device != "cuda":
        return time.process_time
    import torch

    def seconds() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return seconds


def in_turn(
    runs: Mapping[str, Callable[[], Any]], *, repeats: int, now: Callable[[], float], warm: int = 1
) -> dict[str, list[float]]:
    """The seconds of each run in each repeat, after ``warm`` repeats that do not count."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(warm + repeats):
        for name in list(runs) if repeat % 2 else list(reversed(runs)):
            start = now()
            runs[name]()
            if repeat >= warm:
                found[name].append(now() - start)
    return found


def spread(values: Sequence[float], digits: int = 4) -> dict[str, Any]:
    """Median, quartiles and count."""
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    low, middle, high = (float(f"{q:.{digits}g}") for q in quartiles)
    return {"median": middle, "quartiles": [low, high], "count": len(values)}


def ratios(peer: Sequence[float], own: Sequence[float]) -> dict[str, Any]:
    """How many times as long the peer takes, repeat by repeat."""
    return spread([a / b for a, b in zip(peer, own, strict=True)])


def aim(what: str, figure: Mapping[str, Any] | float, *, least: float | None = None, most: float | None = None,
        unit: str = "×") -> dict[str, Any]:  # fmt: skip
    """One aim beside what was measured: a spread, or a number."""
    told = dict(figure) if isinstance(figure, Mapping) else {"median": figure}
    value = told["median"]
    met = (least is None or value >= least) and (most is None or value <= most)
    return {"what": what, "least": least, "most": most, "unit": unit, **told, "met": met}


def about(name: str, told: Sequence[str]) -> dict[str, Any]:
    """The ``command`` of a benchmark, without where its figures go, and the ``date``."""
    told = list(told)
    for flag in ("-o", "--out"):
        if flag in told:
            del told[told.index(flag) : told.index(flag) + 2]
    command = shlex.join(["python", f"benchmarks/{name}.py", *told])
    return {"command": command, "date": datetime.now(timezone.utc).strftime("%Y-%m-%d")}


def record(name: str, args: argparse.Namespace, *, aims: Sequence[Mapping[str, Any]] = (), **figures: Any) -> None:
    """Print what was found, and write it with where, when and how it was measured."""
    import torch
    from machine import described

    found: dict[str, Any] = {
        "benchmark": name,
        **about(name, args.told),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
        "full_size": args.full_size,
        "quick": args.quick,
        "repeats": args.repeats,
        **described(),
        "aims": list(aims),
        **figures,
    }
    for each in aims:
        print(aimed(each))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1) + "\n")


def aimed(told: Mapping[str, Any]) -> str:
    """An aim and its figure as one line."""
    wanted = f"at least {told['least']:g}" if told["least"] is not None else f"at most {told['most']:g}"
    between = f" ({told['quartiles'][0]:g} to {told['quartiles'][1]:g})" if "quartiles" in told else ""
    reached = "met" if told["met"] else "NOT MET"
    return f"{told['what']}: {told['median']:g}{between} {told['unit']}, aim {wanted}: {reached}"
