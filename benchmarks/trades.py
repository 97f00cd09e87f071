"""What is lost where editing is made faster: every trade on the same held-out scenes, against the card's own settings.

python benchmarks/trades.py [--count 200] [--first 80000] [--model starter] [--only 'dpm++-*,cache-3']
    [-o benchmarks/results/trades.json]

The trades: more steps (what the card itself gives up), guidance in an interval of steps, features cached across steps, fewer
steps of other solvers, LCM steps with and without guidance. Success is the share of edits that the truth accepts; each trade is
compared with the reference on the same pictures and seeds (the standard error of the difference, and McNemar's exact p). Cost
is counted in rows of the UNet a picture (of them whole: those that also ran its deepest block) and measured in processor
seconds of `Editor.edit` a picture, one thread, all trades in turn on each batch.

What was measured is kept batch by batch in a folder beside the JSON (`trades.parts`), so that the same command goes on after a
kill, and a larger --count adds to it. `--table` and `--plot` write what the JSON says; with `--redraw` nothing is measured.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import common

BATCH = 25
REFERENCE = "reference"
UNGUIDED = {"guidance_scale": 1.0, "image_guidance_scale": 1.0}
# fmt: off
TRADES: dict[str, dict[str, Any]] = {
    REFERENCE: {},
    "steps-50": {"num_inference_steps": 50},
    "guided-0-0.5": {"guidance_interval": (0.0, 0.5)},
    "guided-0-0.75": {"guidance_interval": (0.0, 0.75)},
    "guided-0.2-0.8": {"guidance_interval": (0.2, 0.8)},
    **{f"cache-{n}": {"cache_interval": n} for n in (2, 3, 5)},
    **{f"cache-{n}-depth-2": {"cache_interval": n, "cache_depth": 2} for n in (2, 3, 5)},
    **{f"{scheduler}-{n}": {"scheduler": scheduler, "num_inference_steps": n}
       for scheduler in ("dpm++", "unipc", "ddim") for n in (20, 10, 8, 6, 4)},
    **{f"lcm-{n}": {"scheduler": "lcm", "num_inference_steps": n} for n in (4, 2, 1)},
    **{f"lcm-{n}-unguided": {"scheduler": "lcm", "num_inference_steps": n, **UNGUIDED} for n in (4, 2, 1)},
}
"""Name -> what `Editor.edit` is told beside the picture and the words; what is left out is the card's."""
# fmt: on
KINDS = {"heldout": "held-out", "train": "training"}
GROUPS = {
    REFERENCE: "card",
    "steps": "card",
    "guided": "guided",
    "cache": "cached",
    "dpm++": "dpm++",
    "unipc": "unipc",
    "ddim": "ddim",
    "lcm": "lcm",
}  # fmt: skip


class Metered:
    """An editor that counts the rows of its UNet, and the processor seconds of its edits."""

    def __init__(self, editor: Any) -> None:
        self.editor = editor
        self.seconds, self.rows, self.whole = 0.0, 0, 0
        self.settled: dict[str, Any] = {}
        editor.pipe.unet.register_forward_pre_hook(self._called)
        editor.pipe.unet.mid_block.resnets[0].register_forward_pre_hook(self._deep)

    def _called(self, module: Any, args: Any) -> None:
        self.rows += len(args[0])

    def _deep(self, module: Any, args: Any) -> None:
        self.whole += len(args[0])

    def edit(self, *args: Any, **options: Any) -> list[Any]:
        start = time.process_time()
        edits = self.editor.edit(*args, **options)
        self.seconds += time.process_time() - start
        told = edits[0].recipe
        self.settled = {**told.method.parameters, "scheduler": told.scheduler["_class_name"]}
        return edits


def measured(editor: Any, cases: Sequence[Any], options: dict[str, Any]) -> dict[str, Any]:
    """One trade on one batch: an entry for each picture, the cost, and every hyper-parameter's value."""
    from showtell.bench import editing

    meter = Metered(editor)
    hooks = (editor.pipe.unet._forward_pre_hooks, editor.pipe.unet.mid_block.resnets[0]._forward_pre_hooks)
    try:
        outcomes = editing.run(meter, cases, batch_size=BATCH, **options)  # ty: ignore[invalid-argument-type]
    finally:
        for each in hooks:
            each.popitem()
    entries = [
        {
            "seed": o.seed, "actions": o.actions, "success": o.score.success, "edit_error": o.score.edit_error,
            "outside_psnr": o.score.outside_psnr if math.isfinite(o.score.outside_psnr) else None,
        }
        for o in outcomes
    ]  # fmt: skip
    return {
        "entries": entries, "rows": meter.rows, "whole_rows": meter.whole, "seconds": meter.seconds, "settled": meter.settled,
    }  # fmt: skip


def paired(own: Sequence[bool], reference: Sequence[bool]) -> dict[str, Any]:
    """The difference of two shares over the same pictures, its standard error, and the exact p of McNemar's test."""
    n = len(own)
    gained = sum(a and not b for a, b in zip(own, reference, strict=True))
    lost = sum(b and not a for a, b in zip(own, reference, strict=True))
    apart = gained + lost
    p = min(1.0, 2 * sum(math.comb(apart, k) for k in range(min(gained, lost) + 1)) / 2**apart)
    error = math.sqrt(max(0.0, apart - (gained - lost) ** 2 / n)) / n
    return {
        "difference": round((gained - lost) / n, 4), "standard_error": round(error, 4), "gained": gained, "lost": lost,
        "p": float(f"{p:.3g}"),
    }  # fmt: skip


def row(name: str, parts: Sequence[dict[str, Any]], reference: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of a trade over all its batches."""
    entries = [entry for part in parts for entry in part["entries"]]
    base = [entry for part in reference for entry in part["entries"]]
    n = len(entries)
    share = sum(entry["success"] for entry in entries) / n
    psnr = sorted(math.inf if e["outside_psnr"] is None else e["outside_psnr"] for e in entries)[n // 2]
    found = {
        "name": name, "options": TRADES[name], "settled": parts[0]["settled"], "count": n, "success": round(share, 4),
        "standard_error": round(math.sqrt(share * (1 - share) / n), 4),
        "median_edit_error": round(sorted(entry["edit_error"] for entry in entries)[n // 2], 4),
        "median_outside_psnr": round(psnr, 2) if math.isfinite(psnr) else None,
    }  # fmt: skip
    for key in ("rows", "whole_rows", "seconds"):
        found[key] = round(sum(part[key] for part in parts) / n, 3)
    if name != REFERENCE:
        found["against_reference"] = paired([e["success"] for e in entries], [e["success"] for e in base])
    return found


def measure(args: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Measure what is not there yet, batch by batch, and write the JSON after each."""
    import torch
    from machine import described

    import showtell
    from showtell import models
    from showtell.bench import editing, kept

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    editor = showtell.load(args.model, device="cpu" if args.model.startswith("starter") else None)
    defaults = editor.card.get("defaults", {}).get("ip2p", {})
    machine = described()
    about = {**common.about("trades", args.told), **machine}
    folder = args.out.with_suffix(".parts")
    own = {"weights": models.weights_hash(editor.pipe), "card": defaults, "split": args.split}
    kept.claim(folder, own | {"versions": machine["versions"]})
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    result: dict[str, Any] = {}
    cases = editing.heldout(args.count, first=args.first, split=args.split)
    editor.edit(cases[0][1].before, cases[0][1].instructions, seed=0, num_inference_steps=2)  # warm
    for start in range(0, args.count, BATCH):
        batch = cases[start : start + BATCH]
        for name in names:
            path = folder / name / f"{batch[0][0]}-{len(batch)}.json"
            if not path.exists():
                kept.write(path, measured(editor, batch, TRADES[name]))
            found[name].append(kept.read(path))
        rows = [row(name, found[name], found[REFERENCE]) for name in names]
        seeds = [args.first, batch[-1][0]]
        result = {"model": args.model, "card": defaults, "split": args.split, "seeds": seeds, **about, "rows": rows}
        args.out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{start + len(batch)} of {args.count} pictures", flush=True)
    return result


def table(found: dict[str, Any]) -> str:
    """The figures as a Markdown table, with what was measured in a line below."""
    head = (
        "trade", "success", "against the reference", "p", "edit error", "outside, dB", "UNet rows (whole)", "seconds", "speed"
    )  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    base = next(each for each in found["rows"] if each["name"] == REFERENCE)
    for each in found["rows"]:
        against = each.get("against_reference")
        gap = "" if against is None else f"{against['difference']:+.1%} ± {against['standard_error']:.1%}"
        psnr = "∞" if each["median_outside_psnr"] is None else f"{each['median_outside_psnr']:.1f}"
        told = (
            f"`{each['name']}`", f"{each['success']:.1%} ± {each['standard_error']:.1%}", gap,
            "" if against is None else f"{against['p']:.2g}", f"{each['median_edit_error']:.3f}", psnr,
            f"{each['rows']:g} ({each['whole_rows']:g})", f"{each['seconds']:.2f}",
            f"{base['seconds'] / each['seconds']:.1f}×",
        )  # fmt: skip
        lines.append("| " + " | ".join(told) + " |")
    first, last = found["seeds"]
    lines.append(
        f"\n{found['rows'][0]['count']} {KINDS[found['split']]} scenes, seeds {first} to {last}, model {found['model']}, one "
        f"thread of {found['machine']}; medians of edit error and outside PSNR; p of McNemar's exact test."
    )
    return "\n".join(lines) + "\n"


def plot(found: dict[str, Any]) -> Any:
    """Success over processor seconds a picture, a line for each kind of trade."""
    from showtell.bench.plots import Series, curves

    groups: dict[str, list[dict[str, Any]]] = {}
    for each in found["rows"]:
        kind = GROUPS[each["name"].split("-")[0]]
        kind += next(
            (f" {ending}" for ending in ("unguided", "depth 2") if each["name"].replace("-", " ").endswith(ending)), ""
        )
        groups.setdefault(kind, []).append(each)
    series = []
    for kind, rows in groups.items():
        rows = sorted(rows, key=lambda each: each["seconds"])
        points = [(each["seconds"], each["success"]) for each in rows]
        series.append(Series(name=kind, points=points, errors=[each["standard_error"] for each in rows]))
    count = found["rows"][0]["count"]
    title = f"What faster editing costs ({found['model']}, {count} {KINDS[found['split']]} scenes)"
    return curves(title, series, x_label="processor seconds a picture", y_label="success")


def chosen(only: str | None) -> list[str]:
    """The names that any of the comma-separated patterns fits, and always the reference."""
    patterns = [part.strip() for part in only.split(",")] if only else ["*"]
    for pattern in patterns:
        if not fnmatch.filter(TRADES, pattern):
            raise SystemExit(f"--only {pattern!r} fits none of: {', '.join(TRADES)}")
    return [name for name in TRADES if name == REFERENCE or any(fnmatch.fnmatchcase(name, p) for p in patterns)]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure what faster editing costs.")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=80_000)
    parser.add_argument("--split", choices=("heldout", "train"), default="heldout", help="train, to choose settings by")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--only", help="names or patterns of the trades, with commas between them")
    parser.add_argument("-o", "--out", type=Path, default=common.RESULTS / "trades.json")
    common.drawing(parser)
    args = parser.parse_args(argv)
    args.told = list(sys.argv[1:] if argv is None else argv)

    found = json.loads(args.out.read_text()) if args.redraw else measure(args, chosen(args.only))
    common.show(args, table(found), lambda: plot(found))


if __name__ == "__main__":
    main()
