"""An edit by InstructPix2Pix: `Editor.edit` beside stock diffusers' pipeline, with the same weights, seeds and result.

python benchmarks/edit_speed.py [--batches 1,4,16] [--steps 10] [-o benchmarks/results/edit_speed.json]
python benchmarks/edit_speed.py --device cuda --full-size [--no-compile] [-o benchmarks/results/edit_speed-cuda.json]

Both are given the same pictures, words, seeds, Euler ancestral steps and scales of 7.5 and 1.5, and both give pictures. Their
last latents and their pixels are compared in the same run. On a GPU the stock pipeline runs eagerly, and with its whole UNet
compiled; ours as it is, and compiled by `Editor.compile()`, which the warm-up pays for; and in float32, so that it is seen who
is nearer to it.
"""

from __future__ import annotations

import copy
import time
from typing import Any

import common
import full_size

SCALES = {"guidance_scale": 7.5, "image_guidance_scale": 1.5}
WORDS = ("make the circle red", "add a blue star in the top left", "remove the house", "put it at night")


def told(editor: Any, count: int) -> tuple[list[Any], list[str], list[int]]:
    """Pictures, words and seeds of a batch."""
    return full_size.pictures(editor, count), [WORDS[i % len(WORDS)] for i in range(count)], list(range(count))


def stock(
    pipe: Any, batch: tuple[list[Any], list[str], list[int]], steps: int, seen: list[Any] | None = None
) -> list[Any]:
    """The pictures of the stock pipeline; the last latents go into ``seen``."""
    import numpy as np
    import torch

    pictures, words, seeds = batch
    # It takes a batch as a tensor only.
    pixels = torch.stack([torch.from_numpy(np.asarray(p, dtype=np.float32) / 255).permute(2, 0, 1) for p in pictures])
    options: dict[str, Any] = {}
    if seen is not None:

        def look(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            seen[:] = [kwargs["latents"].float().cpu()]
            return kwargs

        options["callback_on_step_end"] = look
    return pipe(
        words, image=pixels, generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        num_inference_steps=steps, **SCALES, **options,
    ).images  # fmt: skip


def ours(editor: Any, batch: tuple[list[Any], list[str], list[int]], steps: int) -> list[Any]:
    """The edits."""
    pictures, words, seeds = batch
    edits = editor.edit(
        pictures, words, seed=seeds, method="ip2p", num_inference_steps=steps, scheduler="euler-ancestral",
        batch_size=len(pictures), **SCALES,
    )  # fmt: skip
    for edit in edits:
        if isinstance(edit, Exception):
            raise edit
    return edits


def apart(editor: Any, pipe: Any, batch: Any, steps: int) -> dict[str, float]:
    """The greatest differences of the last latents, and of the pixels (of 255)."""
    import numpy as np
    import torch

    seen: list[Any] = []
    expected, edits = stock(pipe, batch, steps, seen), ours(editor, batch, steps)
    latents = torch.stack([edit.latents for edit in edits])
    pixels = [
        np.abs(np.asarray(edit.image, int) - np.asarray(picture, int)).max()
        for edit, picture in zip(edits, expected, strict=True)
    ]
    return {"latents": float((latents - seen[0]).abs().max()), "pixels": int(max(pixels))}


def from_float32(editor: Any, pipe: Any, batch: Any, steps: int) -> dict[str, float]:
    """Root mean square of the last latents' differences from stock's in float32, of stock's and of ours as they are."""
    import torch

    exact = copy.deepcopy(pipe).to(torch.float32)
    found: list[list[Any]] = [[], []]
    for each, seen in zip((exact, pipe), found, strict=True):
        stock(each, batch, steps, seen)
    (truth,), (theirs,) = found
    own = torch.stack([edit.latents for edit in ours(editor, batch, steps)])
    return {name: float((x - truth).square().mean().sqrt()) for name, x in (("stock", theirs), ("ours", own))}


def as_loaded(pipe: Any) -> Any:
    """A pipeline of its own with the same weights, in the order in memory in which diffusers loads them."""
    import torch

    stock = copy.deepcopy(pipe)
    for part in (stock.unet, stock.vae):
        part.to(memory_format=torch.contiguous_format)
    return stock


def compiled(editor: Any, pipe: Any) -> dict[str, tuple[str, Any]]:
    """Ours and stock compiled, on copies: (who, what)."""
    import torch

    import showtell

    found: dict[str, tuple[str, Any]] = {}
    if hasattr(editor, "compile"):
        own = showtell.Editor(copy.deepcopy(editor.pipe), model_id=editor.model_id)
        own.compile()
        found["ours compiled"] = ("ours", own)
    theirs = copy.deepcopy(pipe)
    theirs.unet = torch.compile(theirs.unet)
    return {**found, "stock compiled": ("stock", theirs)}


def main(argv: list[str] | None = None) -> None:
    parser = common.options(__doc__)
    parser.add_argument("--batches", default="1,4,16")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--no-compile", action="store_true")
    args = common.ready(parser, argv)
    import diffusers

    steps = args.steps or (2 if args.quick else 20 if args.device == "cuda" else 10)
    editor = full_size.editor(args)
    pipe = as_loaded(editor.pipe)
    pipe.scheduler = diffusers.EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    who: dict[str, tuple[str, Any]] = {"stock": ("stock", pipe), "ours": ("ours", editor)}
    if args.device == "cuda" and not args.no_compile:
        who |= compiled(editor, pipe)
    rows, aims = [], []
    for count in (1, 2) if args.quick else (int(each) for each in args.batches.split(",")):
        batch = told(editor, count)
        runs = {
            name: (lambda kind=kind, what=what, batch=batch: (stock if kind == "stock" else ours)(what, batch, steps))
            for name, (kind, what) in who.items()
        }
        now, warming = common.clock(args.device), {}
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            warming[name] = round(time.perf_counter() - start, 2)
        seconds = common.in_turn(runs, repeats=args.repeats, now=now)
        fast = who.get("ours compiled", who["ours"])[1]
        row: dict[str, Any] = {"batch": count, "differences": apart(fast, pipe, batch, steps), "first_call": warming}
        if args.dtype != "float32":
            row["from_float32"] = from_float32(fast, pipe, batch, steps)
        row["seconds"] = {name: common.spread(each) for name, each in seconds.items()}
        row["times_stock"] = {
            name: common.ratios(seconds["stock"], each) for name, each in seconds.items() if name != "stock"
        }
        rows.append(row)
        best = "ours compiled" if "ours compiled" in runs else "ours"
        least = 1.5 if args.device == "cuda" else 1.0
        aims.append(common.aim(f"edit, batch {count}: stock's time over {best}", row["times_stock"][best], least=least))
    common.record("edit_speed", args, aims=aims, model=editor.model_id, dtype=args.dtype, steps=steps, rows=rows)


if __name__ == "__main__":
    main()
