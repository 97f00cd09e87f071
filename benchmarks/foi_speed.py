"""What a step of Focus on Your Instruction costs, as a ratio to a step of InstructPix2Pix in the same run.

python benchmarks/foi_speed.py [--model starter] [--repeats 15] [-o benchmarks/foi_speed.json]

Both run the same number of steps on the same picture, alternately; the time is that of the processor, on one thread, so
that a busy machine disturbs it little. The floor, for one cross-attention layer of n queries, 77 keys and width c: IP2P
does 3 rows of 2 c (2 n c + 2 * 77 c + 2 * 77 n) operations; FoI as published adds the scores of one more row, 2 * 77 n c, and
a few passes over 77 n numbers a head; the regional form the scores and sums of k - 1 more, 4 * 77 n c each. All other
layers are the same. Reading the maps is extra in one step only: nothing for joined maps, k rows of the UNet for maps apart.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

STEPS = 10
SCALES = {"guidance_scale": 7.5, "image_guidance_scale": 1.5}
"""The papers'. Where the two are equal, as on the starter's card, IP2P needs one branch less, and FoI does not."""
TOLD = ["make the circle red", "add a blue star in the top left", "remove the house", "put it at night"]


def seconds(editor: Any, picture: Any, told: list[str], **options: Any) -> float:
    """Processor seconds of one edit."""
    start = time.process_time()
    editor.edit(picture, [told], seed=0, num_inference_steps=STEPS, **SCALES, **options)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Time FoI's steps against IP2P's.")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--dtype", default=None)
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args()

    import torch

    import showtell

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    editor = showtell.load(args.model, dtype=args.dtype)
    picture = [showtell.scenes.sample(seed=0).before]
    published = {"maps": "joined", "text": "joined"}
    forms: dict[str, dict[str, Any]] = {
        "as published": published,
        "maps apart": {**published, "maps": "apart"},
        "maps and text apart": {"maps": "apart", "text": "apart"},
    }
    rows = []
    for count in (1, 2, 4):
        told = TOLD[:count]
        for name, form in forms.items():
            options = {"method": "foi", "strength": 1.0, **form}
            for warm in ({}, options):
                seconds(editor, picture, told, **warm)
            ratios = []
            for _ in range(args.repeats):
                plain = seconds(editor, picture, told)
                ratios.append(seconds(editor, picture, told, **options) / plain)
            rows.append({"instructions": count, "form": name, "ratio": round(statistics.median(ratios), 3)})
            rows[-1]["quartiles"] = [round(q, 3) for q in statistics.quantiles(ratios, n=4)]
            print(rows[-1], flush=True)
    machine = f"{platform.machine()}, one thread, torch {torch.__version__}, {editor.pipe.unet.dtype}"
    found = {"machine": machine, "steps": STEPS, "repeats": args.repeats, "model": args.model, "rows": rows}
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
