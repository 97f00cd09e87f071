"""What Prompt Tuning Inversion costs beside Null-Text Inversion, as a ratio in the same run.

python benchmarks/inversion_speed.py [--model starter-base] [--repeats 5] [-o benchmarks/inversion_speed.json]

PTI with its one iteration a step against NTI with its ten and no early stop, alternately, on the same picture and the same
DDIM inversion, which neither repeats; the time is that of the processor, on one thread, so that a busy machine disturbs it
little. A step of either predicts the branch that is not tuned once, runs the network forwards and backwards in each iteration,
and once more with what it found. Told apart: the tuning, and the whole call, which also decodes the picture. The floor, in
evaluations of the network on one picture: a step of N iterations has N + 2 forwards and N backwards; a backward costs about
two forwards, so that NTI's tuning is (12 + 20) / (3 + 2) = 6.4 times PTI's.
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

RUN = {"num_inference_steps": 50, "encoding_ratio": 0.8, "guidance_scale": 7.5}


class Counted:
    """Counts the evaluations of a network and those that keep a gradient."""

    def __init__(self, unet: Any) -> None:
        self.rows = self.backwards = 0
        unet.register_forward_hook(self._called, with_kwargs=True)

    def _called(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        sample = output[0] if isinstance(output, tuple) else output.sample
        self.rows += len(sample)
        self.backwards += len(sample) if sample.requires_grad else 0


def main() -> None:
    parser = argparse.ArgumentParser(description="Time PTI's tuning against NTI's.")
    parser.add_argument("--model", default="starter-base")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", default=None)
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args()

    import torch

    import showtell
    from showtell.methods.reconstructions import NullTextReconstruction, PromptTuningReconstruction

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    editor = showtell.load(args.model, dtype=args.dtype)
    case = showtell.scenes.sample(seed=0)
    settings = {name: value for name, value in RUN.items() if name != "guidance_scale"}
    inversion = editor.invert(
        case.before, method="ddim", source=case.captions[0], inversion_guidance_scale=0.0, **settings
    )
    methods = {
        "PTI, N = 1": PromptTuningReconstruction(start="source", inner_steps=1, learning_rate=0.1, **RUN),
        "NTI, 10 inner steps": NullTextReconstruction(inner_steps=10, learning_rate=0.01, early_stop=False, **RUN),
    }
    counted = Counted(editor.pipe.unet)

    def seconds(method: Any) -> tuple[float, float]:
        """Of the tuning and of the whole."""
        at: list[float] = []
        start = time.process_time()
        editor.edit(
            inversion, case.captions[0], source=case.captions[0], method=method, seed=0,
            on_phase=lambda name, i, n: at.append(time.process_time()),
        )  # fmt: skip
        return at[-1] - start, time.process_time() - start

    rows: list[dict[str, Any]] = []
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for name, method in methods.items():
        counted.rows = counted.backwards = 0
        seconds(method)
        rows.append({"method": name, "forwards": counted.rows, "backwards": counted.backwards})
    for _ in range(args.repeats):
        for name, method in methods.items():
            times[name].append(seconds(method))
    found: dict[str, Any] = {}
    for part, title in enumerate(("tuning", "whole")):
        for row in rows:
            own = [each[part] for each in times[row["method"]]]
            row[title] = {
                "median": round(statistics.median(own), 2),
                "least": round(min(own), 2),
                "most": round(max(own), 2),
            }
        first, second = times.values()
        ratios = [slow[part] / fast[part] for fast, slow in zip(first, second, strict=True)]
        found[title] = {"ratio": round(statistics.median(ratios), 2), "ratios": [round(r, 2) for r in ratios]}
    machine = f"{platform.machine()}, one thread, torch {torch.__version__}, {editor.pipe.unet.dtype}"
    found |= {"machine": machine, "model": args.model, "settings": RUN, "repeats": args.repeats, "rows": rows}
    for row in rows:
        print(row)
    print(f"NTI takes {found['tuning']['ratio']} times as long to tune, {found['whole']['ratio']} times as a whole")
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
