"""What Prompt Tuning Inversion costs beside Null-Text Inversion, as a ratio in the same run.

python benchmarks/inversion_speed.py [--repeats 5] [-o benchmarks/results/inversion_speed.json]
python benchmarks/inversion_speed.py --device cuda --full-size [-o benchmarks/results/inversion_speed-cuda.json]

PTI with its one iteration a step against NTI with its ten and no early stop, alternately, on the same picture and the same
DDIM inversion, which neither repeats. A step of either predicts the branch that is not tuned once, runs the network forwards
and backwards in each iteration, and once more with what it found. Told apart: the tuning, and the whole call, which also
decodes the picture. The floor, in evaluations of the network on one picture: a step of N iterations has N + 2 forwards and N
backwards; a backward costs about two forwards, so that NTI's tuning is (12 + 20) / (3 + 2) = 6.4 times PTI's.
"""

from __future__ import annotations

from typing import Any

import common
import full_size

RUN = {"num_inference_steps": 50, "encoding_ratio": 0.8, "guidance_scale": 7.5}
LEAST = 5.0


class Counted:
    """Counts the evaluations of a network and those that keep a gradient."""

    def __init__(self, unet: Any) -> None:
        self.rows = self.backwards = 0
        unet.register_forward_hook(self._called, with_kwargs=True)

    def _called(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        sample = output[0] if isinstance(output, tuple) else output.sample
        self.rows += len(sample)
        self.backwards += len(sample) if sample.requires_grad else 0


def main(argv: list[str] | None = None) -> None:
    args = common.ready(common.options(__doc__, repeats=5), argv)
    from showtell import scenes
    from showtell.methods.reconstructions import NullTextReconstruction, PromptTuningReconstruction

    run = {**RUN, "num_inference_steps": 4} if args.quick else RUN
    editor, now = full_size.editor(args, "base"), common.clock(args.device)
    picture, source = full_size.pictures(editor, 1)[0], scenes.sample(seed=0).captions[0]
    settings = {name: value for name, value in run.items() if name != "guidance_scale"}
    inversion = editor.invert(picture, method="ddim", source=source, inversion_guidance_scale=0.0, **settings)
    methods = {
        "PTI, N = 1": PromptTuningReconstruction(start="source", inner_steps=1, learning_rate=0.1, **run),
        "NTI, 10 inner steps": NullTextReconstruction(inner_steps=10, learning_rate=0.01, early_stop=False, **run),
    }
    counted = Counted(editor.pipe.unet)

    def seconds(method: Any) -> tuple[float, float]:
        """Of the tuning and of the whole."""
        at: list[float] = []
        start = now()
        editor.edit(
            inversion, source, source=source, method=method, seed=0, on_phase=lambda name, i, n: at.append(now())
        )
        return at[-1] - start, now() - start

    rows: list[dict[str, Any]] = []
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for name, method in methods.items():
        counted.rows = counted.backwards = 0
        seconds(method)
        rows.append({"method": name, "forwards": counted.rows, "backwards": counted.backwards})
    for repeat in range(args.repeats):
        for name in list(methods) if repeat % 2 else list(reversed(methods)):
            times[name].append(seconds(methods[name]))
    found: dict[str, Any] = {}
    for part, title in enumerate(("tuning", "whole")):
        own = {name: [each[part] for each in times[name]] for name in methods}
        for row in rows:
            values = own[row["method"]]
            row[title] = {**common.spread(values), "least": round(min(values), 2), "most": round(max(values), 2)}
        fast, slow = own.values()
        found[title] = {**common.ratios(slow, fast), "ratio": common.ratios(slow, fast)["median"]}
    for row in rows:
        print(row)
    aims = [
        common.aim("NTI's tuning (10 inner steps) over PTI's (N = 1)", found["tuning"], least=LEAST),
        common.aim("NTI's reconstruction over PTI's", found["whole"], least=LEAST),
    ]
    common.record(
        "inversion_speed", args, aims=aims, model=editor.model_id, dtype=args.dtype, settings=run, rows=rows, **found
    )


if __name__ == "__main__":
    main()
