"""The table and the plots of what the benchmarks found, from their JSON files alone.

python benchmarks/report.py [--results benchmarks/results] [-o docs/results/speed] [--check]

Writes speed.md (the aims with their figures, then the figures of each benchmark) and aims.png and growth.png. What was not
run is said to be so. With --check nothing is written, and the exit code is 1 where speed.md is out of date.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import run_all

OUT = Path(__file__).parents[1] / "docs" / "results" / "speed"
NOT_RUN = {"cpu": "not run", "cuda": "not run: no GPU was at hand"}
#: What is not a figure.
ABOUT = {
    "benchmark", "command", "date", "device", "full_size", "quick", "repeats", "machine", "threads", "versions", "aims",
}  # fmt: skip


def found_in(results: Path, device: str) -> dict[str, dict[str, Any] | None]:
    """What each benchmark of a device left; None where it left nothing."""
    told: dict[str, dict[str, Any] | None] = {}
    for name, options in run_all.ALL.items():
        if options[0 if device == "cpu" else 1] is not None:
            path = run_all.place(name, device, results)
            told[name] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return told


def number(value: Any) -> str:
    """A figure as the table shows it: three digits, a spread with its quartiles, the rest as it is."""
    if isinstance(value, Mapping) and "median" in value:
        low, high = value.get("quartiles", (None, None))
        return number(value["median"]) + (f" ({number(low)} to {number(high)})" if low is not None else "")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}" if abs(value) < 1e7 else f"{value:.3g}"
    return f"{value:.3g}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def flat(row: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Nested figures side by side: {"seconds": {"ours": …}} becomes "seconds, ours"."""
    found: dict[str, str] = {}
    for key, value in row.items():
        name = f"{before}, {key}" if before else str(key)
        if isinstance(value, Mapping) and "median" not in value:
            found |= flat(value, name)
        elif not isinstance(value, list):
            found[name.replace("_", " ")] = number(value)
    return found


def figures(name: str, told: Mapping[str, Any]) -> list[str]:
    """A benchmark's figures as tables: its rows, and each group of its own."""
    lines: list[str] = []
    for key, value in told.items():
        if key in ABOUT:
            continue
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            rows = [flat(row) for row in value]
        elif isinstance(value, Mapping) and value and all(isinstance(each, Mapping) for each in value.values()):
            points = [isinstance(each.get("points"), list) for each in value.values()]
            value = {label: each.get("line", each) for label, each in value.items()} if all(points) else value
            rows = [{key.replace("_", " "): label, **flat(each)} for label, each in value.items()]
        else:
            continue
        head = list(dict.fromkeys(column for row in rows for column in row))
        lines += [*table(head, [[row.get(column, "") for column in head] for row in rows]), ""]
    return lines


def goal(told: Mapping[str, Any]) -> str:
    """≥ 1.5×"""
    sign, value = ("≥", told["least"]) if told["least"] is not None else ("≤", told["most"])
    return f"{sign} {value:g}{'' if told['unit'] == '×' else ' '}{told['unit']}".rstrip()


def page(everything: Mapping[str, Mapping[str, dict[str, Any] | None]], plots: Sequence[str]) -> str:
    """The whole page."""
    lines = ["# Speed, as measured", "", "*Made by `benchmarks/report.py` from `benchmarks/results/`.*", ""]
    rows, sections = [], []
    for device, benchmarks in everything.items():
        for name, told in benchmarks.items():
            where = "a CPU" if device == "cpu" else "a GPU, full size"
            if told is None:
                command = f"benchmarks/run_all.py --only {name}" + (
                    " --device cuda --full-size" if device == "cuda" else ""
                )
                rows.append([name, where, "", NOT_RUN[device], "", f"`python {command}`", "", ""])
                continue
            run = [f"`{told.get('command', f'python benchmarks/{name}.py')}`", told.get("date", ""), machine(told)]
            for aim in told.get("aims", []):
                rows.append([aim["what"], where, goal(aim), number(aim), "yes" if aim["met"] else "**no**", *run])
            if "benchmark" not in told:  # its own --table and --plot tell it
                rows += [] if told.get("aims") else [[name, where, "", "has a table of its own", "", *run]]
                continue
            sections += [f"## {name}, {where}", "", f"{run[0]} ({told['date']}; {machine(told)})", ""]
            sections += figures(name, told)
    lines += [*table(["what", "on", "aim", "figure", "met", "command", "date", "machine"], rows), ""]
    lines += [f"![{Path(name).stem}]({name})\n" for name in plots]
    return "\n".join([*lines, *sections]).rstrip() + "\n"


def machine(told: Mapping[str, Any]) -> str:
    """The processor or the GPU, and torch."""
    where = told.get("machine", "") if told.get("device", "cpu") == "cpu" else told["device"]
    threads = f", {told['threads']} thread{'s' if told['threads'] != 1 else ''}" if "threads" in told else ""
    versions = told.get("versions", {})
    return f"{where}{threads if told.get('device', 'cpu') == 'cpu' else ''}, torch {versions.get('torch', '?')}"


def aims_plot(aims: Sequence[Mapping[str, Any]]) -> Any:
    """Each figure over its aim, on a logarithmic axis, with quartiles: right of the line is better than the aim."""
    from PIL import Image, ImageDraw, ImageFont

    left, width, line = 500, 420, 26
    picture = Image.new("RGB", (left + width + 40, line * len(aims) + 70), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)

    def x(share: float) -> float:
        return left + width * (math.log2(min(max(share, 1 / 4), 32)) + 2) / 7

    for mark in (0.25, 0.5, 1, 2, 4, 8, 16, 32):
        pen.line((x(mark), 40, x(mark), picture.height - 26), fill="#22262b" if mark == 1 else "#e3e5e8")
        pen.text((x(mark), picture.height - 22), f"{mark:g}", fill="#8a9099", font=font, anchor="ma")
    pen.text((16, 10), "How many times better than the aim", fill="#22262b", font=ImageFont.load_default(16))
    for i, told in enumerate(aims):
        y = 44 + line * i + line / 2
        shares = [share(told, value) for value in (*told.get("quartiles", [told["median"]] * 2), told["median"])]
        colour = "#2e8b57" if told["met"] else "#cc5522"
        pen.text((16, y), told["what"], fill="#22262b", font=font, anchor="lm")
        pen.line((x(shares[0]), y, x(shares[1]), y), fill=colour, width=3)
        pen.ellipse((x(shares[2]) - 4, y - 4, x(shares[2]) + 4, y + 4), fill=colour)
    return picture


def share(told: Mapping[str, Any], value: float) -> float:
    """A figure over the aim, or the aim over it where less is better."""
    return value / told["least"] if told["least"] is not None else told["most"] / max(value, 1e-9)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the table and the plots.")
    parser.add_argument("--results", type=Path, default=run_all.RESULTS)
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--quick", action="store_true", help="also show what was only tried")
    args = parser.parse_args(argv)
    everything = {device: found_in(args.results, device) for device in ("cpu", "cuda")}
    if not args.quick:
        everything = {
            device: {name: None if told and told.get("quick") else told for name, told in each.items()}
            for device, each in everything.items()
        }
    aims = [
        {**aim, "what": f"{aim['what']}{' (GPU)' * (device == 'cuda')}"}
        for device, each in everything.items()
        for told in each.values()
        for aim in (told or {}).get("aims", [])
        if aim["unit"]
    ]
    growth = everything["cpu"].get("growth")
    plots = ["aims.png"] * bool(aims) + ["growth.png"] * bool(growth)
    text, target = page(everything, plots), args.out / "speed.md"
    if args.check:
        same = target.exists() and target.read_text(encoding="utf-8") == text
        if not same:
            print(f"{target}: out of date: run python benchmarks/report.py", file=sys.stderr)
        return 0 if same else 1
    args.out.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    if aims:
        aims_plot(aims).quantize(64).save(args.out / "aims.png", optimize=True)
    if growth:
        import growth as growing

        growing.plot(growth, args.out / "growth.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
