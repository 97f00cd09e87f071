"""What a step of Focus on Your Instruction costs, as a ratio to a step of InstructPix2Pix in the same run.

python benchmarks/foi_speed.py [--repeats 15] [--steps 10] [-o benchmarks/results/foi_speed.json]
python benchmarks/foi_speed.py --device cuda --full-size [-o benchmarks/results/foi_speed-cuda.json]

Both run the same number of steps on the same picture, in turn, with three branches: the scales are the papers', since where
the two are equal IP2P needs one branch less, and FoI does not. `step` is the time from the end of the first step to the end of
the last, over the steps between; `whole` that of the edit, which also encodes and decodes the picture, and in which FoI finds
its masks once. The floor, for one cross-attention layer of n queries, 77 keys and width c: IP2P does 3 rows of
2 c (2 n c + 2 * 77 c + 2 * 77 n) operations; FoI as published adds the scores of one more row, 2 * 77 n c, and a few passes
over 77 n numbers a head; the regional form the scores and sums of k - 1 more, 4 * 77 n c each. All other layers are the same.
Reading the maps is extra in one step only: nothing for joined maps, k rows of the UNet for maps apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import common
import full_size

SCALES = {"guidance_scale": 7.5, "image_guidance_scale": 1.5}
TOLD = ["make the circle red", "add a blue star in the top left", "remove the house", "put it at night"]
PUBLISHED = {"maps": "joined", "text": "joined"}
FORMS: dict[str, dict[str, Any]] = {
    "as published": PUBLISHED,
    "maps apart": {**PUBLISHED, "maps": "apart"},
    "maps and text apart": {"maps": "apart", "text": "apart"},
}
MOST = 1.10


def timed(
    editor: Any, picture: list[Any], told: list[str], now: Callable[[], float], steps: int, **options: Any
) -> tuple[float, float]:
    """Seconds of a step and of the whole edit."""
    at: list[float] = []
    start = now()
    edits = editor.edit(
        picture,
        [told],
        seed=0,
        num_inference_steps=steps,
        callback=lambda i, n, x: at.append(now()),
        **SCALES,
        **options,
    )
    whole = now() - start
    if isinstance(edits[0], Exception):
        raise edits[0]
    return (at[-1] - at[0]) / (len(at) - 1), whole


def main(argv: list[str] | None = None) -> None:
    parser = common.options(__doc__, repeats=15)
    parser.add_argument("--steps", type=int, default=10)
    args = common.ready(parser, argv)
    editor, now = full_size.editor(args), common.clock(args.device)
    picture, steps = full_size.pictures(editor, 1), (3 if args.quick else args.steps)
    rows, aims = [], []
    for count in (1,) if args.quick else (1, 2, 4):
        told = TOLD[:count]
        for name, form in FORMS.items():
            options = {"method": "foi", "strength": 1.0, **form}
            found: dict[str, list[tuple[float, float]]] = {"ip2p": [], "foi": []}
            for repeat in range(args.repeats + 1):
                for who in ("ip2p", "foi") if repeat % 2 else ("foi", "ip2p"):
                    more = options if who == "foi" else {"method": "ip2p"}
                    found[who].append(timed(editor, picture, told, now, steps, **more))
            row: dict[str, Any] = {"instructions": count, "form": name}
            for part, title in enumerate(("step", "whole")):
                foi, plain = ([each[part] for each in found[who][1:]] for who in ("foi", "ip2p"))
                row[title] = common.ratios(foi, plain)
            rows.append(row)
            print(row, flush=True)
            if name == "as published":
                aims.append(
                    common.aim(
                        f"FoI's step over IP2P's, {count} instruction{'s' * (count > 1)}", row["step"], most=MOST
                    )
                )
    common.record("foi_speed", args, aims=aims, model=editor.model_id, dtype=args.dtype, steps=steps, rows=rows)


if __name__ == "__main__":
    main()
