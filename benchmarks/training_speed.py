"""Steps a second of `showtell train instruct`, beside a plain loop of the same step, in turn.

python benchmarks/training_speed.py [--steps 12] [--batch 4] [-o benchmarks/results/training_speed.json]
python benchmarks/training_speed.py --device cuda --full-size [-o benchmarks/results/training_speed-cuda.json]

The plain loop has the shape of diffusers' own training script for InstructPix2Pix: each step encodes its pictures and its words,
draws noise and timesteps, drops words and pictures, runs the UNet, and takes AdamW's step after a clipped backward pass. Its
pictures are tensors already; ours are read from the data set, at the same batch, size and precision. Ours runs twice: encoding
each picture in each step as that loop does, and with the latents kept, as the presets have it. Neither keeps an average of the
weights.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import full_size

RATE, WEIGHT_DECAY, CLIP_NORM, DROPPED = 1e-4, 0.01, 1.0, 0.05


class Plain:
    """The literal loop, on a copy of the network; it draws from torch's global generator."""

    def __init__(self, editor: Any, batch: int, *, autocast: bool) -> None:
        import diffusers
        import torch

        pipe = editor.pipe
        self.unet = copy.deepcopy(pipe.unet).float().train().requires_grad_(True)
        self.vae, self.encoder, self.autocast = pipe.vae, pipe.text_encoder, autocast
        self.noising = diffusers.DDPMScheduler.from_config(pipe.scheduler.config)
        self.optimiser = torch.optim.AdamW(self.unet.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
        before, after = (full_size.pictures(editor, batch, after=after) for after in (False, True))
        self.before, self.after = (tensors(each).to(pipe.device, pipe.vae.dtype) for each in (before, after))
        words = pipe.tokenizer(
            ["make the circle red"] * batch, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        )
        empty = pipe.tokenizer([""], padding="max_length", max_length=77, return_tensors="pt")
        self.ids = words.input_ids.to(pipe.device)
        with torch.no_grad():
            self.nothing = self.encoder(empty.input_ids.to(pipe.device))[0].float()

    def step(self) -> float:
        import torch

        with torch.no_grad():
            latents = self.vae.encode(self.after).latent_dist.sample().float() * self.vae.config.scaling_factor
            image = self.vae.encode(self.before).latent_dist.mode().float()
            embeds = self.encoder(self.ids)[0].float()
        noise, count = torch.randn_like(latents), len(latents)
        t = torch.randint(0, self.noising.config.num_train_timesteps, (count,), device=latents.device)
        noisy = self.noising.add_noise(latents, noise, t)
        p = torch.rand(count, device=latents.device)
        embeds = torch.where((p < 2 * DROPPED)[:, None, None], self.nothing, embeds)
        image = image * (1 - ((p >= DROPPED) & (p < 3 * DROPPED)).float())[:, None, None, None]
        target = noise
        if self.noising.config.prediction_type == "v_prediction":
            target = self.noising.get_velocity(latents, noise, t)
        with torch.autocast(latents.device.type, torch.bfloat16, enabled=self.autocast):
            output = self.unet(torch.cat([noisy, image], dim=1), t, embeds, return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(output.float(), target.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), CLIP_NORM)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return float(loss.detach())


def tensors(pictures: list[Any]) -> Any:
    """Pictures as (B, 3, H, W) in [-1, 1]."""
    import numpy as np
    import torch

    return torch.stack([torch.from_numpy(np.asarray(p, np.float32) / 127.5 - 1).permute(2, 0, 1) for p in pictures])


class Enough(Exception):
    """Ends a training before it saves anything."""


def trained(model: str, args: Any, batch: int, side: int, *, cache: str, after: Callable[[int], None]) -> None:
    """Ours: ``after(step)`` is called at the end of each step, and ends it by raising ``Enough``."""
    from showtell.training.instruct import run
    from showtell.training.instruct.configuring import configure

    config = configure(
        {
            "model": model,
            "data": {
                "name": "scenes", "options": {"split": "train"}, "limit": 4 * batch, "held_out": 0.0, "resolution": side,
                "cache": cache,
            },
            "train": {
                "steps": 100_000, "batch_size": batch, "learning_rate": RATE, "weight_decay": WEIGHT_DECAY,
                "clip_norm": CLIP_NORM, "ema": None, "precision": "bf16" if args.device == "cuda" else "no",
            },
            "validate": {"every": None}, "save": {"every": 100_000},
        }
    )  # fmt: skip

    def report(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
        if stage == "training":
            after(step)

    with tempfile.TemporaryDirectory() as folder:
        try:
            run.train(config, Path(folder) / "out", device=args.device, report=report)
        except Enough:
            return


def side_by_side(model: str, plain: Plain, args: Any, batch: int, side: int, steps: int, cache: str) -> dict[str, Any]:
    """Steps of ours, each followed by one of the plain loop; the first two of each warm up."""
    now, own, theirs = common.clock(args.device), [], []
    state = {"start": 0.0}

    def after(step: int) -> None:
        if step > 2:
            own.append(now() - state["start"])
        start = now()
        plain.step()
        if step > 2:
            theirs.append(now() - start)
        if step == steps + 2:
            raise Enough
        state["start"] = now()

    trained(model, args, batch, side, cache=cache, after=after)
    return {
        "latents": "kept" if cache == "latents" else "encoded in each step",
        "seconds": {"plain": common.spread(theirs), "ours": common.spread(own)},
        "steps_a_second": {"plain": round(len(theirs) / sum(theirs), 4), "ours": round(len(own) / sum(own), 4)},
        "times_plain": common.ratios(theirs, own),
    }


def main(argv: list[str] | None = None) -> None:
    parser = common.options(__doc__)
    parser.add_argument("--steps", type=int, default=12, help="pairs of steps that are timed")
    parser.add_argument("--batch", type=int, default=4)
    args = common.ready(parser, argv)
    from showtell import models

    steps, batch = (2, 2) if args.quick else (args.steps, args.batch)
    editor = full_size.editor(args)
    with tempfile.TemporaryDirectory() as folder:
        model = "starter"
        if args.full_size:
            model = str(Path(folder) / "model")
            editor.pipe.save_pretrained(model)
        plain = Plain(editor, batch, autocast=args.device == "cuda")
        side = models.resolution(editor.pipe)
        rows = [side_by_side(model, plain, args, batch, side, steps, cache) for cache in ("none", "latents")]
    args.repeats = steps
    aims = [
        common.aim(
            f"training step, latents {row['latents']}: the plain loop's time over ours", row["times_plain"], least=1.0
        )
        for row in rows
    ]
    common.record(
        "training_speed", args, aims=aims, model=editor.model_id, batch=batch, side=side, rows=rows,
        precision="bf16" if args.device == "cuda" else "float32",
    )  # fmt: skip


if __name__ == "__main__":
    main()
