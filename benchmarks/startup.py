"""How long the command line takes to begin: fresh processes, on the wall.

python benchmarks/startup.py [--repeats 9] [-o benchmarks/results/startup.json]

`--version`, the two helps, and the first picture of `showtell edit` on the starter. Every run is a new process, the commands in
turn; the libraries' files have been read before (the first round does not count), so that it is not the disk that is timed. A
python that does nothing is timed beside them: less is not to be had. The processor's seconds are told, too: on a busy machine the
wall says more of its other work.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common

COMMANDS = {
    "--version": ["--version"],
    "--help": ["--help"],
    "edit --help": ["edit", "--help"],
    "edit IN": ["edit", "in.png", "make it night", "-o", "out.png", "--seed", "0", "--force"],
}
AIMS = {"--version": 0.3, "--help": 0.3, "edit IN": 8.0}


def seconds(command: list[str], folder: Path) -> tuple[float, float]:
    """Of a process, from its start to its end: of the wall and of the processor."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    found, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return found, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(argv: list[str] | None = None) -> None:
    args = common.ready(common.options(__doc__, repeats=9), argv)
    from showtell import scenes

    times: dict[str, list[tuple[float, float]]] = {"python -c pass": [], **{name: [] for name in COMMANDS}}
    with tempfile.TemporaryDirectory() as folder:
        scenes.sample(seed=0).before.save(Path(folder) / "in.png")
        for repeat in range(args.repeats + 1):
            for name, found in times.items():
                more = ["-m", "showtell.cli", *COMMANDS[name]] if name in COMMANDS else ["-c", "pass"]
                if name == "edit IN" and args.device != "cpu":
                    more += ["--device", args.device]
                taken = seconds([sys.executable, *more], Path(folder))
                if repeat:
                    found.append(taken)
    rows: list[dict[str, Any]] = [
        {
            "command": name,
            "seconds": common.spread([wall for wall, _ in found]),
            "processor_seconds": common.spread([busy for _, busy in found]),
        }
        for name, found in times.items()
    ]
    for row in rows:
        print(row)
    aims = [
        common.aim(f"showtell {name}", row["seconds"], most=AIMS[name], unit="s")
        for row in rows
        if (name := row["command"]) in AIMS
    ]
    common.record("startup", args, aims=aims, files="read before", rows=rows)


if __name__ == "__main__":
    main()
