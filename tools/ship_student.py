"""Put a student of the starter into the package: its adapters in half precision, and its card.

python tools/ship_student.py RUN FIGURES.json [FIGURES.json ...] [--notes "..."]

RUN is the folder of `showtell train distill --preset starter-fast`, FIGURES what `showtell bench student` wrote of it.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from showtell import loading
from showtell.bench import cards, student
from showtell.loading import ADAPTERS, CARD

NOTE = (
    "The starter in four steps and one evaluation each: low-rank adapters that were distilled from the starter, guided as its "
    "card says, on scenes with one instruction. Beside it in the figures stands the starter itself, as often asked and unguided."
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Put a student of the starter into the package.")
    parser.add_argument("run", type=Path)
    parser.add_argument("figures", type=Path, nargs="*")
    parser.add_argument("--notes", default="")
    args = parser.parse_args()
    root = loading.starters_dir()
    made = json.loads((args.run / "model" / CARD).read_text())
    configuration = made["training"]["configuration"]
    lines = [json.loads(line) for line in (args.run / "log.jsonl").read_text().splitlines()]
    training = {
        "command": "showtell train distill --preset starter-fast",
        "machine": f"cpu, one thread, {platform.machine()}",
        "minutes": round(lines[-1]["seconds"] / 60, 1),
        "notes": args.notes,
        "recipe": configuration,
    }
    (root / "unet-fast").mkdir(exist_ok=True)
    with safe_open(args.run / "model" / ADAPTERS, "pt") as file:
        tensors = {name: file.get_tensor(name).half() for name in file.keys()}  # noqa: SIM118
        save_file(tensors, root / "unet-fast" / ADAPTERS, file.metadata())
    (root / "unet-fast" / ADAPTERS).chmod(0o644)
    card = {
        "name": "starter-fast",
        "kind": "instruct",
        "note": NOTE,
        "license": "Apache-2.0",
        "command": student.COMMAND,
        "defaults": made["defaults"],
        "figures": {},
        "world": cards.world(),
        "training": training,
    }
    for path in args.figures:
        told = json.loads(path.read_text())
        rows = {
            row["system"]: {
                name: row[name] for name in ("success", "of_reference", "rows", "difference", "standard_error")
            }
            for row in told["rows"]
        }
        card["figures"][f"edits_{told['edits']}"] = {"count": told["count"], "first": told["first"], **rows}
    cards.write(root / "cards", {"starter-fast": card})


if __name__ == "__main__":
    main()
