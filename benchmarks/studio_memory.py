"""Whether a studio that serves for long grows: its memory and its scratch folder over many edits in a row.

python benchmarks/studio_memory.py [--count 200] [--steps 4] [--learn] [--sessions] [--bound 48] [--scratch 64]

A fresh studio on the starters is asked by gradio_client for one edit after the other, of 8 scenes of the training split, with
seeds 0, 1, 2, ...; --learn puts, after every 20 edits, a learning of 20 steps, an inversion, and an edit out of it in between;
--sessions gives every edit a visitor of its own, as curl has one. After every 20 edits it prints how much of the process is
in main memory and what its scratch folder holds. It fails (exit code 1) if, from the first 20 edits on, the memory has grown by
more than --bound MiB, a quarter of a MiB for each edit, or the folder ever holds more than --scratch MiB. Of a visitor about
half a MiB is remembered, of 64 visitors at most. Linux only, for it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EVERY = 20
PICTURES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description="Watch a studio's memory over many edits.")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--learn", action="store_true")
    parser.add_argument("--sessions", action="store_true")
    parser.add_argument("--bound", type=float, default=48)
    parser.add_argument("--scratch", type=float, default=64)
    args = parser.parse_args()
    if not Path("/proc/self/status").exists():
        sys.exit("this reads /proc, which only Linux has")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        pictures = drawn(place)
        (place / "temp").mkdir()
        process, address = started(place)
        try:
            grown, largest = watched(args, process.pid, address, pictures, place)
        finally:
            process.terminate()
            process.wait(timeout=60)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    options = f"{args.count} edits of {args.steps} steps, seeds from 0{', learning' * args.learn}{', visitors' * args.sessions}"
    print(f"{machine}: {options}: memory grew by {grown:+.1f} MiB (bound {args.bound:g}), "
          f"scratch at most {largest:.1f} MiB (bound {args.scratch:g})")  # fmt: skip
    sys.exit(1 if grown > args.bound or largest > args.scratch else 0)


def drawn(place: Path) -> list[tuple[Path, Path]]:
    """Scenes before and after an edit, as files."""
    from showtell import scenes

    found = []
    for seed in range(PICTURES):
        case = scenes.sample(seed=seed, split="train")
        pair = place / f"{seed}-before.png", place / f"{seed}-after.png"
        case.before.save(pair[0])
        case.after.save(pair[1])
        found.append(pair)
    return found


def started(place: Path) -> tuple[subprocess.Popen[str], str]:
    """A studio in a process of its own, and its address."""
    command = [sys.executable, "-m", "showtell.cli", "app", "--no-browser", "--json", "--port", "0", "--device", "cpu"]
    env = {**os.environ, "TMPDIR": str(place / "temp"), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [*command, "--library", str(place / "library")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=env,
    )  # fmt: skip
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())["url"].rstrip("/")


def watched(args: Any, pid: int, address: str, pictures: list[tuple[Path, Path]], place: Path) -> tuple[float, float]:
    """By how many MiB the memory grew from the first ``EVERY`` edits on, and the most that the scratch folder held."""
    from gradio_client import Client, handle_file

    print(f"{'edits':>6} {'memory MiB':>11} {'scratch MiB':>12} {'seconds':>8}")
    client, first, largest, began = Client(address, verbose=False), 0.0, 0.0, time.monotonic()
    for number in range(args.count):
        before, after = pictures[number % len(pictures)]
        if args.sessions:
            client.reset_session()
        client.predict(
            image=handle_file(before), instruction="make it night", seed=number, steps=args.steps, api_name="/edit"
        )
        if (number + 1) % EVERY:
            continue
        if args.learn:
            learn(client, before, after)
        now, held = (
            memory(pid),
            sum(file.stat().st_size for file in (place / "temp").rglob("*") if file.is_file()) / 2**20,
        )
        first, largest = first or now, max(largest, held)
        print(f"{number + 1:6} {now:11.1f} {held:12.1f} {time.monotonic() - began:8.1f}", flush=True)
    return memory(pid) - first, largest


def learn(client: Any, before: Path, after: Path) -> None:
    """A learning, an inversion, and an edit out of it."""
    from gradio_client import handle_file

    client.predict(before=[handle_file(before)], after=[handle_file(after)], steps=20, api_name="/learn")
    _, file, _ = client.predict(image=handle_file(before), source="a house", steps=10, api_name="/invert")
    client.predict(
        image=handle_file(before), instruction="a house at night", method="pti", inversion=handle_file(file),
        api_name="/edit",
    )  # fmt: skip


def memory(pid: int) -> float:
    """What a process has in main memory, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


if __name__ == "__main__":
    main()
