"""What is measured: the starters, or Stable Diffusion 1.5 by its configuration with weights drawn at random."""

from __future__ import annotations

import argparse
from typing import Any

UNET = {
    "sample_size": 64, "out_channels": 4, "block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2,
    "cross_attention_dim": 768, "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}  # fmt: skip
VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "sample_size": 512,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
TEXT = {
    "vocab_size": 49_408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "max_position_embeddings": 77, "hidden_act": "quick_gelu", "projection_dim": 768,
}  # fmt: skip
SCHEDULER = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1,
}  # fmt: skip


def unet(kind: str) -> Any:
    """The UNet of an ``instruct`` or a ``base`` model, on torch's default device and in its default dtype."""
    import diffusers

    return diffusers.UNet2DConditionModel(in_channels=8 if kind == "instruct" else 4, **UNET)


def pipeline(kind: str, *, device: str, dtype: Any) -> Any:
    """A whole pipeline, the same weights every time; the tokenizer is the starters'."""
    import diffusers
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    from showtell import loading

    words = loading.load_tokenizer("starter")
    cls = diffusers.StableDiffusionInstructPix2PixPipeline if kind == "instruct" else diffusers.StableDiffusionPipeline
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)  # drawn at once as it is kept
    try:
        with torch.device(device):
            parts = {
                "unet": unet(kind).eval(),
                "vae": diffusers.AutoencoderKL(**VAE).eval(),
                "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT)).eval(),
            }
    finally:
        torch.set_default_dtype(torch.float32)
    pipe = cls(
        **parts, tokenizer=words, scheduler=diffusers.EulerAncestralDiscreteScheduler(**SCHEDULER), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.to(device)  # what is made as constants, not drawn
    pipe.set_progress_bar_config(disable=True)
    return pipe


def editor(args: argparse.Namespace, kind: str = "instruct", *, dtype: str | None = None) -> Any:
    """An editor around the model that ``args`` ask for."""
    import showtell
    from showtell import loading

    wanted = loading.pick_dtype(dtype or args.dtype)
    if args.full_size:
        return showtell.Editor(
            pipeline(kind, device=args.device, dtype=wanted), model_id="Stable Diffusion 1.5, random"
        )
    return showtell.load("starter" if kind == "instruct" else "starter-base", device=args.device, dtype=wanted)


def pictures(editor: Any, count: int, *, after: bool = False) -> list[Any]:
    """Drawn scenes at the model's own size; ``after`` their edits."""
    from showtell import models, scenes

    side = models.resolution(editor.pipe)
    cases = [scenes.sample(seed=seed) for seed in range(count)]
    return [(case.after if after else case.before).resize((side, side)) for case in cases]
