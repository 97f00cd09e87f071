"""Every benchmark, one after the other, each in a process of its own, and the table and plots of what they found.

python benchmarks/run_all.py [--only edit_speed,floors] [--quick]
python benchmarks/run_all.py --device cuda --full-size

What each finds goes to benchmarks/results/NAME.json, or NAME-cuda.json; report.py makes docs/results/speed/ out of these files.
With --quick everything goes to a folder of its own (--results), for those figures mean nothing. One that fails does not stop the
others; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"
#: Name -> what a run on a CPU and one on a GPU are told beside device, size and place; None: not run there.
ALL: dict[str, tuple[list[str] | None, list[str] | None]] = {
    "edit_speed": ([], []),
    "foi_speed": ([], []),
    "visii_speed": ([], []),
    "visii_to_error": ([], None),
    "inversion_speed": ([], []),
    "training_speed": ([], []),
    "startup": ([], None),
    "growth": ([], []),
    "memory": ([], []),
    "floors": ([], []),
    "trades": ([], None),
}
#: Of those that have no --quick, what takes its place.
QUICK = {
    "trades": ["--count", "2", "--only", "reference,dpm++-4"],
    "visii_to_error": [
        "--lessons", "1", "--others", "1", "--caption-steps", "2", "--published-steps", "2", "--ours-steps", "1", "2",
    ],
}  # fmt: skip


def place(name: str, device: str, results: Path = RESULTS) -> Path:
    """Where the figures of a benchmark lie."""
    return results / f"{name}{'' if device == 'cpu' else '-' + device}.json"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run every benchmark.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--full-size", action="store_true")
    parser.add_argument("--only", help="names, with commas")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    if args.full_size and args.device == "cpu":
        parser.error("--full-size is for a GPU: a CPU would take days")
    if args.quick and args.results == RESULTS:
        parser.error("--quick needs a --results folder of its own: its figures mean nothing")
    wanted = args.only.split(",") if args.only else list(ALL)
    if unknown := set(wanted) - set(ALL):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    args.results.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in wanted:
        more = ALL[name][0 if args.device == "cpu" else 1]
        if more is None or not (HERE / f"{name}.py").exists():
            continue
        flags = [*(["--device", args.device] if args.device != "cpu" else []), *(["--full-size"] * args.full_size)]
        flags += QUICK.get(name, ["--quick"]) if args.quick else []
        command = [f"benchmarks/{name}.py", *flags, *more]
        command += ["-o", str(place(name, args.device, args.results))]
        print("$ python", shlex.join(command), flush=True)
        code = subprocess.run(
            [sys.executable, *command], cwd=HERE.parent, env={"OMP_NUM_THREADS": "1", **os.environ}
        ).returncode
        if code:
            failed.append(f"{name} ({code})")
    if not args.quick:
        subprocess.run([sys.executable, str(HERE / "report.py"), "--results", str(args.results)], check=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
