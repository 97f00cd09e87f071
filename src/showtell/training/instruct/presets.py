"""Configurations to begin from: InstructPix2Pix's own, one for a card of 24 GB, and one for the starters on two cores."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import TYPE_CHECKING, Any

from showtell.errors import UsageError

if TYPE_CHECKING:
    from showtell.training.instruct.settings import Config

ROOM = {"24gb": 22 * 2**30}
"""Bytes of a device's memory that a preset counts on: a card of 24 GB lends some to the driver and to the screen."""

PRESETS: dict[str, str] = {
    "paper": "InstructPix2Pix's own: Stable Diffusion 1.5, 256 pixels, batches of 1024",
    "24gb": "Stable Diffusion 1.5 on one card of 24 GB: bf16, 8-bit AdamW or else LoRA, as many rows at once as fit",
    "starter": "starter-base on two cores, in an evening or less",
}
_SD = "stable-diffusion-v1-5/stable-diffusion-v1-5"
_PAPER: dict[str, Any] = {
    "model": _SD,
    "data": {"resolution": 256, "flip": True, "crop": "random"},
    "train": {
        "steps": 10_000,
        "batch_size": 1024,
        "micro_batch": 32,
        "learning_rate": 1e-4,
        "schedule": "constant",
        "ema": 0.9999,
        "drop_text": 0.05,
        "drop_image": 0.05,
        "drop_both": 0.05,
    },
    "validate": {"num_inference_steps": 100, "guidance_scale": 7.5, "image_guidance_scale": 1.5},
}
_GB24: dict[str, Any] = {
    "model": _SD,
    "data": {"resolution": 512, "flip": True, "cache": "latents", "workers": 4},
    "train": {
        "steps": 15_000,
        "batch_size": 64,
        "learning_rate": 5e-5,
        "warmup_steps": 500,
        "optimiser": "adamw8bit",
        "ema": 0.9999,
        "precision": "bf16",
        "gradient_checkpointing": True,
    },
}
_STARTER: dict[str, Any] = {
    "model": "starter-base",
    # No flip: the captions and instructions of scenes say left and right.
    "data": {"flip": False, "cache": "latents"},
    "train": {
        "steps": 3000,
        "batch_size": 32,
        "learning_rate": 5e-4,
        "warmup_steps": 100,
        "schedule": "linear",
        "fall": 0.5,
        "betas": [0.9, 0.99],
        "ema": 0.999,
        "noise_exponent": 0.5,
        "precision": "bf16",
    },
    "validate": {"num_inference_steps": 20, "guidance_scale": 2.0, "image_guidance_scale": 2.0},
}

DISTILL: dict[str, str] = {
    "lcm-lora": "four steps by adapters of rank 64 for a full-size instruct model on one card of 24 GB",
    "starter-fast": "the starter in four steps by adapters of rank 8, on two cores",
}
"""Presets of `showtell train distill`."""
_ALL_LAYERS = [
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "conv_shortcut",
    "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj",
]  # fmt: skip
_LCM_LORA: dict[str, Any] = {
    "model": "timbrooks/instruct-pix2pix",
    "data": {"resolution": 512, "flip": True, "cache": "latents", "workers": 4},
    "train": {
        "steps": 5000,
        "batch_size": 64,
        "micro_batch": 8,
        "learning_rate": 1e-4,
        "warmup_steps": 100,
        "ema": None,
        "precision": "bf16",
        "gradient_checkpointing": True,
    },
    "lora": {"rank": 64, "alpha": 64, "targets": _ALL_LAYERS},
    "distill": {"kind": "consistency"},
}
_STARTER_FAST: dict[str, Any] = {
    "model": "starter",
    "data": {"name": "scenes", "options": {"split": "train"}, "limit": 2500, "flip": False, "cache": "latents"},
    "train": {
        "steps": 400,
        "batch_size": 16,
        "learning_rate": 5e-4,
        "warmup_steps": 20,
        "schedule": "linear",
        "fall": 0.6,
        "betas": [0.9, 0.99],
        "weight_decay": 0.0,
        "ema": 0.99,
        "noise_exponent": 0.5,
    },
    "lora": {"rank": 8, "alpha": 8, "targets": _ALL_LAYERS},
    # The teacher goes all the way: with jump 5 and the student's own word the loss rose from the first hundred steps on.
    "distill": {"kind": "consistency", "jump": 50, "teacher_steps": 4},
}


def preset(name: str) -> dict[str, Any]:
    """A preset as nested mappings, for ``configuring.configure``. Raises ``UsageError`` for an unknown one."""
    known = {**PRESETS, **DISTILL}
    if name not in known:
        raise UsageError(f"preset {name!r} is not known: choose one of {', '.join(known)}")
    if name == "24gb" and importlib.util.find_spec("bitsandbytes") is None:
        train = _GB24["train"] | {"optimiser": "adamw", "learning_rate": 1e-4}
        return _GB24 | {"train": train, "lora": {"rank": 64, "alpha": 64}}
    return {
        "paper": _PAPER,
        "24gb": _GB24,
        "starter": _STARTER,
        "lcm-lora": _LCM_LORA,
        "starter-fast": _STARTER_FAST,
    }[name]


def fitted(config: Config, name: str | None, *, world_size: int = 1) -> Config:
    """The configuration of a preset that is made for a device's memory, with as many rows in a pass as that has room for, by
    the estimate; a ``micro_batch`` that is given stays. Raises ``ModelError`` for a model whose configuration cannot be read.
    """
    from showtell.training.instruct import preflight

    if name not in ROOM or config.train.micro_batch is not None:
        return config
    most = preflight.estimate(config, world_size=world_size, device="cuda").largest_micro_batch(ROOM[name])
    share = config.micro_batch(world_size)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, micro_batch=max(1, min(share, most))))
