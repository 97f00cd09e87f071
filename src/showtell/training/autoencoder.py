"""The starters' autoencoder: diffusers' AutoencoderKL, 64×64 pictures to 4×16×16 latents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from showtell.training.corpus import Corpus
from showtell.training.loop import Report, fit, generator, half_precision
from showtell.training.settings import Preset

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

KL_WEIGHT = 2e-5
"""Weight of the KL term (mean over latent entries) beside the mean squared error: enough to keep latents near unit size."""


def new_autoencoder() -> AutoencoderKL:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=64,
        scaling_factor=1.0,
    )


def train_autoencoder(
    corpus: Corpus, preset: Preset, folder: Path, *, seed: int, device: str, report: Report
) -> AutoencoderKL:
    """Train it on the pictures of the corpus; the scaling factor is set to one over the latents' measured deviation."""
    torch.manual_seed(seed)
    vae = new_autoencoder().to(device)

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        draw = generator(seed, step)
        index = torch.randint(len(corpus), (preset.autoencoder.batch,), generator=draw).numpy()
        pictures = corpus.picture(index, step % 2).to(device) * 2 - 1
        with half_precision(device, wanted=preset.autocast):
            posterior = vae.encode(pictures).latent_dist
            mean, deviation = posterior.mean.float(), posterior.std.float()
            noise = torch.randn(mean.shape, generator=draw).to(device)
            out = vae.decode(mean + deviation * noise).sample
        error = (out.float() - pictures).square().mean()
        kl = 0.5 * (mean.square() + deviation.square() - 1 - 2 * deviation.log()).mean()
        psnr = -10 * torch.log10(error.detach() / 4)
        return error + KL_WEIGHT * kl, {"psnr": float(psnr)}

    ema = fit("autoencoder", vae, loss_at, preset.autoencoder, folder, report=report)
    vae.load_state_dict(ema)
    vae.eval().requires_grad_(False)
    vae.register_to_config(scaling_factor=round(1 / _deviation(vae, corpus, device), 5))
    return vae


@torch.no_grad()
def _deviation(vae: AutoencoderKL, corpus: Corpus, device: str) -> float:
    index = torch.arange(min(256, len(corpus))).numpy()
    latents = vae.encode(corpus.picture(index, 0).to(device) * 2 - 1).latent_dist.mean
    return float(latents.std())
