"""starter-base and starter: the text-to-image network, and the instruct network that grows out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from showtell.training.cache import Words, marks_of
from showtell.training.clip import WIDTH
from showtell.training.corpus import Corpus
from showtell.training.grounding import TrainingAttention, install
from showtell.training.loop import LossAt, Report, fit, generator, half_precision
from showtell.training.settings import Fit, Preset

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, UNet2DConditionModel

HEAD = 48
"""Width of an attention head."""
TEXT_DROPOUT = 0.1
"""Share of captions left out in the base model's training."""

SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "steps_offset": 1,
}
"""Stable Diffusion's noise schedule. v-prediction, because ε-prediction gives flat backgrounds and overall brightness,
which are decided at the highest noise levels, too little weight in a short training."""


def new_unet(channels: tuple[int, int], in_channels: int = 4) -> UNet2DConditionModel:
    """An untrained network on 16×16 latents with cross-attention at 16×16 and 8×8."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=WIDTH,
        attention_head_dim=tuple(c // HEAD for c in channels),  # diffusers' name for the number of heads
        norm_num_groups=16,
    )


def widen(base: UNet2DConditionModel) -> UNet2DConditionModel:
    """An 8-channel network that computes what the 4-channel one does: new input weights zero, everything else copied."""
    from diffusers import UNet2DConditionModel

    config = dict(base.config) | {"in_channels": 8}
    wide = UNet2DConditionModel.from_config(config)
    state = base.state_dict()
    kernel = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat((kernel, torch.zeros_like(kernel)), dim=1)
    wide.load_state_dict(state)
    return wide


def narrow(instruct: UNet2DConditionModel) -> UNet2DConditionModel:
    """A 4-channel network that computes what the 8-channel one does of no picture: the picture's input weights left out."""
    from diffusers import UNet2DConditionModel

    slim = UNet2DConditionModel.from_config(dict(instruct.config) | {"in_channels": 4})
    state = instruct.state_dict()
    state["conv_in.weight"] = state["conv_in.weight"][:, :4].clone()
    slim.load_state_dict(state)
    return slim


@cache
def noise_schedule() -> DDPMScheduler:
    from diffusers import DDPMScheduler

    return DDPMScheduler(**SCHEDULER)


@dataclass(frozen=True)
class Material:
    """Everything frozen that the denoisers learn from."""

    corpus: Corpus
    latents: np.ndarray
    scaling_factor: float
    empty: Tensor
    """The embedding of the empty text, (77, d)."""


def _noised(
    z: Tensor, draw: torch.Generator, device: str, *, exponent: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A batch at random noise levels t = 1000·u^exponent: z_t, t, the target v, and ᾱ_t of each sample."""
    schedule = noise_schedule()
    t = (1000 * torch.rand(len(z), generator=draw) ** exponent).long().clamp(max=999)
    noise = torch.randn(z.shape, generator=draw).to(device)
    alphas = schedule.alphas_cumprod[t].to(device)
    return schedule.add_noise(z, noise, t), t.to(device), schedule.get_velocity(z, noise, t), alphas


def base_loss(
    unet: UNet2DConditionModel,
    attention: TrainingAttention,
    material: Material,
    words: Words,
    preset: Preset,
    *,
    seed: int,
    device: str,
) -> LossAt:
    """‖v − v_θ(z_t, t, c_T)‖² on single pictures and their captions. `words` holds the before captions, then the after ones."""

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        draw = generator(seed, step, "cpu")
        n = preset.base.batch
        index = torch.randint(len(material.corpus), (n,), generator=draw).numpy()
        side = torch.randint(2, (n,), generator=draw).numpy()
        kept = torch.rand(n, generator=draw) >= TEXT_DROPOUT
        entry = index + side * len(material.corpus)
        context = torch.where(kept[:, None, None], words.of(entry), material.empty).to(device)
        z = torch.from_numpy(material.latents[index, side]).to(device).float() * material.scaling_factor
        z_t, t, target, alphas = _noised(z, draw, device)
        # where nothing can be seen yet no word can be placed: the noisier, the less a map counts
        attention.marks = marks_of(words, entry, material.corpus.regions[index], (kept.to(device) * alphas.sqrt()))
        with half_precision(device, wanted=preset.autocast):
            v = unet(z_t, t, context, return_dict=False)[0]
        return _total((v.float() - target).square().mean(), attention, preset)

    return loss_at


def conditioning_kept(
    r: Tensor, *, text: float = 0.05, image: float = 0.05, both: float = 0.05
) -> tuple[Tensor, Tensor]:
    """Which samples keep their text and which their picture, from one uniform r a sample: with the paper's shares text off below
    0.10, picture off from 0.05 to 0.15, so that 5 % lose the text, 5 % the picture and 5 % both (methods.md §7)."""
    return r >= text + both, (r < text) | (r >= text + both + image)


def instruct_loss(
    unet: UNet2DConditionModel,
    attention: TrainingAttention,
    material: Material,
    words: Words,
    preset: Preset,
    *,
    seed: int,
    device: str,
) -> LossAt:
    """InstructPix2Pix's loss (methods.md §1): ‖v − v_θ(z_t, t, E(c_I), c_T)‖². Where both are given the error
    inside the edited region counts `1 + inside` times:
    the region follows from the picture and the words, so the best prediction stays the same and is found sooner."""

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        draw = generator(seed, step, "cpu")
        n = preset.instruct.batch
        index = torch.randint(len(material.corpus), (n,), generator=draw).numpy()
        has_text, has_image = conditioning_kept(torch.rand(n, generator=draw))
        context = torch.where(has_text[:, None, None], words.of(index), material.empty).to(device)
        pair = torch.from_numpy(material.latents[index]).to(device).float()
        image = pair[:, 0] * has_image.to(device)[:, None, None, None]
        z = pair[:, 1] * material.scaling_factor
        z_t, t, target, _ = _noised(z, draw, device, exponent=preset.instruct_noise)
        regions = material.corpus.regions[index]
        both = (has_text & has_image).float().to(device)
        attention.marks = marks_of(words, index, regions, both)
        with half_precision(device, wanted=preset.autocast):
            v = unet(torch.cat((z_t, image), 1), t, context, return_dict=False)[0]
        error = (v.float() - target).square()
        inside = torch.from_numpy(regions[:, :4].max(1, keepdims=True)).to(device).float() / 255
        weight = 1 + preset.inside * inside * both[:, None, None, None]
        loss, figures = _total((error * weight).mean(), attention, preset)
        return loss, {"error": float(error.detach().mean())} | figures

    return loss_at


def _total(denoising: Tensor, attention: TrainingAttention, preset: Preset) -> tuple[Tensor, dict[str, float]]:
    assert attention.marks is not None
    grounding = attention.marks.loss()
    attention.marks = None
    figures = {"denoising": float(denoising.detach()), "grounding": float(grounding.detach())}
    return denoising + preset.grounding * grounding, figures


def train_denoiser(
    name: str,
    unet: UNet2DConditionModel,
    loss: Callable[..., LossAt],
    material: Material,
    words: Words,
    preset: Preset,
    settings: Fit,
    folder: Path,
    *,
    seed: int,
    device: str,
    report: Report,
) -> UNet2DConditionModel:
    """Train a denoiser and return it with its averaged weights and diffusers' own attention."""
    from diffusers.models.attention_processor import AttnProcessor2_0

    unet = unet.to(device).train()
    loss_at = loss(unet, install(unet), material, words, preset, seed=seed, device=device)
    ema = fit(name, unet, loss_at, settings, folder, report=report)
    unet.load_state_dict(ema)
    unet.set_attn_processor(AttnProcessor2_0())
    nn.Module.requires_grad_(unet, False)
    return unet.eval()
