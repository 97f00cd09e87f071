"""An editor trained on imagined pairs beside one trained on the renderer's truth: the whole data engine, on the starters.

python benchmarks/data_engine.py WORK [--pairs 320] [--candidates 6] [--steps 1200] [-o benchmarks/data_engine.json] [--quick]

    triplets  words of drawn scenes (training seeds from 500,000)
    pictures  candidates of each, imagined by starter-base (Prompt-to-Prompt from noise)
    filter    those that CLIP takes for the edit, the best of each pair: at the thresholds of its card, and at the published ones
    train     an editor on each, and one on the true pictures of the same words, from starter-base, alike in all else
    evaluate  all on held-out scenes, beside the picture as it is and the shipped starter

Every stage is a showtell command, which is printed, and goes on where it was stopped; a stage that is done is not done again.
--only STAGE does that stage alone. The figures compare two kinds of data at a small size. starter-base, which all begin from,
grew out of the shipped starter's own instruct network (docs/training.md): neither learns from nothing what an edit is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

PUBLISHED = ("--min-image", 0.7, "--min-direction", 0.2, "--min-caption", 0.2)
STAGES = ("triplets", "pictures", "filter", "train", "evaluate")
ARMS = {
    "imagined": ("pairs", "kept"),
    "published": ("pairs", "kept-published"),
    "truth": ("triplets", "triplets.jsonl"),
}
"""Each editor's data: loader and path."""
FIRST = 500_000
RUN = "num_inference_steps=20,guidance_scale=2,image_guidance_scale=2"
"""The guidance was tried on 40 scenes of the training split (seeds from 300,000 on), with the editor that the truth made."""
YIELD = (
    "pairs", "candidates", "failed", "passed", "kept", "pairs_with_one", "kept_of_a_pair", "tests", "groups", "settings",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the data engine and train on what it makes.")
    parser.add_argument("work", type=Path)
    parser.add_argument("--pairs", type=int, default=320)
    parser.add_argument("--candidates", type=int, default=6)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--count", type=int, default=200, help="held-out scenes")
    parser.add_argument("--only", choices=[*STAGES, *(f"train-{arm}" for arm in ARMS)])
    parser.add_argument("--quick", action="store_true", help="a few of everything, to see it run")
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--sheet", type=Path, help="a picture of the first held-out edits")
    args = parser.parse_args()
    if args.quick:
        args.pairs, args.candidates, args.steps, args.count = 6, 2, 4, 4
    args.work.mkdir(parents=True, exist_ok=True)
    stages = {
        "triplets": triplets, "pictures": pictures, "filter": filtered,
        **{f"train-{arm}": lambda a, arm=arm: trained(a, arm) for arm in ARMS}, "evaluate": evaluated,
    }  # fmt: skip
    for name, stage in stages.items():
        if args.only is None or args.only == name or name.startswith(f"{args.only}-"):
            stage(args)
    if args.only is None:
        told = report(args)
        print(table(told))
        if args.out is not None:
            args.out.write_text(json.dumps(told, indent=1) + "\n")
        if args.sheet is not None:
            sheet(args)


def run(*command: Any, cwd: Path, failures: bool = False) -> None:
    """A showtell command. ``failures``: some of its rows may fail."""
    words = [str(word) for word in command]
    print("$ showtell", shlex.join(words), flush=True)
    code = subprocess.run([sys.executable, "-m", "showtell.cli", *words], cwd=cwd, stdout=sys.stderr).returncode
    if code and not (failures and code == 1):
        sys.exit(code)


def triplets(args: Any) -> None:
    if not (args.work / "triplets.jsonl").exists():
        run("dataset", "triplets", "--from", "scenes", "--count", args.pairs, "--first", FIRST, "-o", "triplets.jsonl",
            cwd=args.work)  # fmt: skip


def pictures(args: Any) -> None:
    run("dataset", "pictures", "triplets.jsonl", "-o", "candidates", "--candidates", args.candidates, "--shard-size", 20,
        "--dtype", "bfloat16", cwd=args.work, failures=True)  # fmt: skip


def filtered(args: Any) -> None:
    run("dataset", "filter", "candidates", "-o", "kept", cwd=args.work)
    run("dataset", "filter", "candidates", "-o", "kept-published", "--scores", "kept", *PUBLISHED, cwd=args.work)


def trained(args: Any, arm: str) -> None:
    out = args.work / arm
    if (out / "model").exists():
        return
    data = ARMS[arm]
    told = {
        "data.name": data[0], "data.path": data[1], "data.held_out": 0, "train.steps": args.steps, "train.batch_size": 16,
        "save.every": 100,
    }  # fmt: skip
    sets = [word for key, value in told.items() for word in ("--set", f"{key}={value}")]
    run("train", "instruct", "--preset", "starter", *sets, "-o", arm, *(["--resume"] if out.exists() else []),
        cwd=args.work)  # fmt: skip


def evaluated(args: Any) -> None:
    models = {**{arm: f"{arm}/model" for arm in ARMS}, "starter": "starter"}
    systems = [word for name, model in models.items() for word in ("--system", f"{name}=ip2p@{model},{RUN}")]
    run("evaluate", "--dataset", "scenes", "--limit", args.count, "--methods", "input", *systems, "--protocol", "starter",
        "--dtype", "bfloat16", "--out", "evaluation", cwd=args.work)  # fmt: skip


def report(args: Any) -> dict[str, Any]:
    """What came out, with the settings it came out of."""
    summary = json.loads((args.work / "evaluation" / "summary.json").read_text())
    return {
        "command": "python benchmarks/data_engine.py WORK",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "settings": {name: getattr(args, name) for name in ("pairs", "candidates", "steps", "count")}
        | {"first": FIRST},
        "pictures": json.loads((args.work / "candidates" / "recipe.json").read_text())["settings"],
        "yield": {arm: _yield(args.work / ARMS[arm][1]) for arm in ("imagined", "published")},
        "systems": [{key: row[key] for key in ("system", "count", "failed", "measures")} for row in summary["rows"]],
    }


def _yield(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "report.json").read_text())
    return {name: found[name] for name in YIELD}


def sheet(args: Any, shown: int = 8) -> None:
    """What each editor made of the first held-out scenes."""
    from PIL import Image

    from showtell import drawing

    folder = args.work / "evaluation"
    sections = []
    for row in json.loads((folder / "rows.json").read_text())[:shown]:
        places = {
            "before": folder / "inputs",
            **{arm: folder / "edits" / arm for arm in ARMS},
            "true result": folder / "truths",
        }
        tiles = [
            drawing.Tile(picture=Image.open(place / f"{row['id']}.png").convert("RGB"), caption=name)
            for name, place in places.items()
        ]
        sections.append((", ".join(row["instructions"]), tiles))
    drawing.page("Editors that were trained on", sections, columns=5, cell=128).quantize(256).save(
        args.sheet, optimize=True
    )


def table(told: dict[str, Any]) -> str:
    """The held-out figures as Markdown."""
    names = list(told["systems"][0]["measures"])
    lines = ["| trained on | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    for row in told["systems"]:
        cells = [row["measures"][name] for name in names]
        shown = [
            "–" if one["value"] is None else f"{one['value']:.3g} ({one['low']:.3g}–{one['high']:.3g})" for one in cells
        ]
        lines.append(f"| {row['system']} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
