"""The most memory that editing, learning, inverting and training hold, beside what was estimated before.

python benchmarks/memory.py [--side 256] [--only "edit;learn"] [-o benchmarks/results/memory.json]
python benchmarks/memory.py --full-size --side 256 --only "edit;learn" [-o FILE]
python benchmarks/memory.py --device cuda --full-size [-o benchmarks/results/memory-cuda.json]

Each case runs in a process of its own: once on the starter, small, so that libraries are there, then as it is measured. On a
CPU the memory is what the process has in main memory at the most while it runs, without what it had before, to which the
networks' weights belong, whose bytes are known; freed memory goes back to the system at once (MALLOC_MMAP_THRESHOLD_=65536).
On a GPU it is what torch had allocated at the most. ``estimate`` is what ``showtell models fit`` says of the same case, before
anything is loaded. The published form of VISII keeps a gradient for three branches, in float32.

Also: whether memory grows with the number of pictures (1, 4 and 16, in batches of 4) and of steps (5 and 20); and what the
estimate says of Stable Diffusion 1.5 at 512 x 512 in bfloat16, beside what was aimed at. The last is no measurement.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import common
import full_size

#: Case -> the model's kind, and the estimate's task and options; None where the estimate is another's.
CASES: dict[str, tuple[str, str, str] | None] = {
    "edit": ("instruct", "edit", ""),
    "edit, sequential": ("instruct", "edit", "sequential=True"),
    "learn": ("instruct", "learn", ""),
    "learn, checkpointing": ("instruct", "learn", "gradient_checkpointing=True"),
    "learn, published": ("instruct", "learn", ""),
    "invert": ("base", "invert by pti or nti", ""),
    "invert, checkpointing": ("base", "invert by pti or nti", "gradient_checkpointing=True"),
    "train": None,
    "train, checkpointing": None,
}
#: What is edited to see whether memory grows: pictures, in batches of 4, and steps.
GROWTH = [(1, 5), (4, 5), (16, 5), (4, 20)]
AIMED = [("edit", "", 4.0), ("learn", "", 8.0), ("invert by pti or nti", "", 8.0)]
MIB = 2**20


def main(argv: Sequence[str] | None = None) -> None:
    """What the file's first lines say."""
    parser = common.options(__doc__, repeats=1)
    parser.add_argument("--side", type=int, help="pixels of a square picture: 256 with the starters, else 512")
    parser.add_argument("--only", help="cases, with semicolons, or 'growth'")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = common.ready(parser, argv)
    args.side = args.side or (512 if args.full_size else 64 if args.quick else 256)
    if args.child:
        print(json.dumps(measured(args.child, args)))
        return
    wanted = args.only.split(";") if args.only else [*CASES, "growth"]
    if unknown := set(wanted) - {*CASES, "growth"}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {'; '.join((*CASES, 'growth'))}")
    rows = [row(name, args) for name in CASES if name in wanted and not (args.full_size and name.startswith("train"))]
    growth = [grown(pictures, steps, args) for pictures, steps in GROWTH] if "growth" in wanted else []
    estimates, aims = aimed()
    aims += [
        common.aim(f"memory of {each['pictures']} pictures in {each['steps']} steps, beside 4 in 5",
                   each["work"] / growth[1]["work"], most=1.1)
        for each in growth[2:]
    ] + compared(rows, args)  # fmt: skip
    common.record("memory", args, aims=aims, side=args.side, rows=rows, growth=growth, estimates=estimates)


def row(name: str, args: Any) -> dict[str, Any]:
    """A case, measured and estimated, in bytes."""
    found = child(name, args)
    found = {"case": name, **found, "ratio": round(found["work"] / found["estimate"], 3)}
    told = {key: f"{found[key] / MIB:.1f} MiB" for key in ("weights", "work", "estimate")}
    print(f"{name}: {told['work']} beside weights of {told['weights']}, {told['estimate']} estimated", flush=True)
    return found


def grown(pictures: int, steps: int, args: Any) -> dict[str, Any]:
    """So many pictures in batches of 4."""
    found = child(f"growth:{pictures}:{steps}", args)
    print(f"{pictures} pictures in {steps} steps: {found['work'] / MIB:.1f} MiB", flush=True)
    return {"pictures": pictures, "steps": steps, "work": found["work"]}


def compared(rows: Sequence[dict[str, Any]], args: Any) -> list[dict[str, Any]]:
    """Ours in its own precision beside the published form in float32, weights included."""
    total = {each["case"]: each["weights"] + each["work"] for each in rows}
    if args.device != "cuda" or not {"learn", "learn, published"} <= set(total):
        return []
    return [
        common.aim(
            "VISII's memory, share of the published form's", total["learn"] / total["learn, published"], most=0.5
        )
    ]


def aimed() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The estimates at full size in bfloat16, and the aims beside them."""
    from showtell import memory

    found, aims = [], []
    for kind in ("instruct", "base"):
        told = memory.estimate(shapes(kind), dtype="bfloat16", free=0).as_dict()
        told["model"] = f"Stable Diffusion 1.5, {kind}"
        for way in told["ways"]:
            del way["fits"]
            for task, options, most in AIMED:
                if (way["task"], way["options"]) == (task, options) and (kind == "base") == task.startswith("invert"):
                    what = f"{task}, 512 x 512 in bfloat16 (estimated, not measured)"
                    aims.append(common.aim(what, round(way["needed"] / 1e9, 2), most=most, unit="GB"))
        del told["free"]
        found.append(told)
    return found, aims


def shapes(kind: str) -> Any:
    """What Stable Diffusion 1.5 is made of."""
    from showtell.memory import shapes as shaping

    configs = {"vae": shaping.AUTOENCODER, "text_encoder": full_size.TEXT}
    return shaping.of_configs({"unet": shaping.stable_diffusion(channels=8 if kind == "instruct" else 4), **configs})


def child(case: str, args: Any) -> dict[str, Any]:
    """What a process of its own says of a case."""
    told = [
        "--device",
        args.device,
        "--dtype",
        args.dtype,
        "--side",
        str(args.side),
        *(["--full-size"] * args.full_size),
    ]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, "--child", case, *told]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{case}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# In the process of its own


def measured(case: str, args: Any) -> dict[str, int]:
    """Bytes of the weights, and what works beside them at the most: measured and estimated."""
    if case.startswith("train"):
        return trained(args, checkpointing=case.endswith("checkpointing"))
    small = argparse.Namespace(**{**vars(args), "full_size": False, "side": 64})
    if case.startswith("growth"):
        _, pictures, steps = case.split(":")
        kind, side = "instruct", min(args.side, 128) if not args.full_size else args.side
        work = edits(int(pictures), int(steps), side)
    else:
        told = CASES[case]
        assert told is not None
        kind, work = told[0], works(case, args.side)
    warm = works(case, 64) if ":" not in case else edits(4, 1, 64)
    warm(full_size.editor(small, kind))
    dtype = "float32" if case.endswith("published") else args.dtype
    editor = full_size.editor(args, kind, dtype=dtype)
    weights = sum(p.nbytes for part in ("unet", "vae", "text_encoder") for p in getattr(editor.pipe, part).parameters())
    held = most(args.device, lambda: work(editor))
    return {
        "weights": weights,
        "work": held,
        "estimate": 0 if ":" in case else estimated(case, editor, args.side, dtype),
    }


def works(case: str, side: int) -> Callable[[Any], Any]:
    """A case as a function of the editor: as few steps as show its most."""
    checkpointing = case.endswith("checkpointing")
    if case == "learn, published":
        return lambda editor: published(editor, side)
    if case.startswith("learn"):
        return lambda editor: editor.learn(
            [pair(editor, side)], steps=1, timesteps_per_step=1, clip_weight=0.0, check_every=1, check_timesteps=1,
            mirror=False, gradient_checkpointing=checkpointing,
        )  # fmt: skip
    if case.startswith("invert"):
        return lambda editor: sized(editor, side).invert(
            pair(editor, side)[0], source="a house", num_inference_steps=2, encoding_ratio=1.0, inner_steps=1,
            gradient_checkpointing=checkpointing,
        )  # fmt: skip
    return edits(1, 1, side, sequential=case.endswith("sequential"))


def edits(pictures: int, steps: int, side: int, *, sequential: bool = False) -> Callable[[Any], Any]:
    """Edits in batches of 4."""
    return lambda editor: sized(editor, side).edit(
        full_size.pictures(editor, pictures), ["make it red"] * pictures, seed=list(range(pictures)), batch_size=4,
        resolution=side, num_inference_steps=steps, sequential=sequential, guidance_scale=7.5, image_guidance_scale=1.5,
    )  # fmt: skip


def sized(editor: Any, side: int) -> Any:
    """The editor; its model counts as made for pictures of ``side`` pixels, also where no resolution can be told."""
    from showtell import models

    editor.pipe.unet.register_to_config(sample_size=side // models.latent_factor(editor.pipe))
    return editor


def pair(editor: Any, side: int) -> tuple[Any, Any]:
    """A scene before and after its edit."""
    sized(editor, side)
    return full_size.pictures(editor, 1)[0], full_size.pictures(editor, 1, after=True)[0]


def published(editor: Any, side: int) -> None:
    """One step of the published loop."""
    import published_visii
    import torch

    from showtell import lessons, methods
    from showtell.inversion import visii
    from showtell.pairs import Pairs

    value = visii.VisualInstructionInversion(clip_weight=0.0, mirror=False)
    settings = methods.settle(value, given={}, card={}, kind=editor.kind)[0]
    shown = Pairs.of([pair(editor, side)])
    own = lessons.prepare(editor, shown, settings, words="make it red", clip=None, fit="fit")[0]
    lesson = published_visii.Lesson.of(own)
    embeds, optimiser = published_visii.begin(lesson)
    published_visii.step(lesson, embeds, optimiser, torch.tensor(500), torch.randn_like(lesson.after))


def estimated(case: str, editor: Any, side: int, dtype: str) -> int:
    """What works beside the weights at the most, as the estimate has it."""
    from showtell import memory
    from showtell.memory import shapes as shaping
    from showtell.memory import working

    told, pipe = CASES[case], editor.pipe
    assert told is not None
    parts = {"unet": pipe.unet, "vae": pipe.vae, "text_encoder": pipe.text_encoder}
    found = shaping.Shapes(
        unet=dict(pipe.unet.config), vae=dict(pipe.vae.config), text_width=pipe.unet.config.cross_attention_dim, largest=0,
        counts={name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
    )  # fmt: skip
    if case == "learn, published":  # all three branches keep
        import torch

        return 3 * working.count(found, side=side, dtype=getattr(torch, dtype)).learning
    ways = memory.estimate(found, resolution=side, dtype=dtype, free=0).ways
    way = next(way for way in ways if (way.task, way.options) == told[1:])
    return max(way.network[1], way.autoencoder[1])


def trained(args: Any, *, checkpointing: bool) -> dict[str, int]:
    """A step of training on four pictures: all that it holds, for the trainer loads its own network."""
    from showtell.training.instruct import preflight, run
    from showtell.training.instruct.configuring import configure

    config = configure(
        {
            "model": "starter",
            "data": {
                "name": "scenes", "options": {"split": "train"}, "limit": 4, "held_out": 0.0,
                "resolution": min(args.side, 128),
            },
            "train": {
                "steps": 2, "batch_size": 4, "precision": "bf16" if args.device == "cuda" else "no",
                "gradient_checkpointing": checkpointing,
            },
            "validate": {"every": None},
        }
    )  # fmt: skip

    class Enough(Exception):
        """Before anything is saved."""

    def report(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
        if stage == "training" and step == steps:
            raise Enough

    def train() -> None:
        with tempfile.TemporaryDirectory() as folder:
            try:
                run.train(config, Path(folder) / "out", device=args.device, report=report)
            except Enough:
                return

    train()
    estimate = preflight.estimate(config, device=args.device).total
    return {"weights": 0, "work": most(args.device, train), "estimate": estimate}


def most(device: str, work: Callable[[], Any]) -> int:
    """Bytes at the most while something works, beyond what there was before."""
    gc.collect()
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the greatest size is counted from here
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def resident(name: str) -> int:
    """A size of this process, as Linux tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


if __name__ == "__main__":
    main()
