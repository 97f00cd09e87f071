"""The random draws of a sample: keyed by the seed, the step and its place in the whole batch, and by nothing else.

So a resumed run, other micro batches or more processes draw the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from showtell.training.denoiser import conditioning_kept
from showtell.training.instruct.settings import Config


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What one sample draws.

    ``level``: u in [0, 1), of which the noise level is made. ``text``, ``image``: whether it keeps its words and its picture.
    ``flip``: mirrored; ``crop``: where the frame lies in what is left over, each from 0 to 1. ``posterior`` and ``noise``: (4, h,
    w), normal: the sample of the autoencoder's posterior, and what is added.
    """

    level: float
    text: bool
    image: bool
    flip: bool
    crop: tuple[float, float]
    posterior: Tensor
    noise: Tensor


def generator(seed: int, step: int, position: int) -> torch.Generator:
    """A sample's own stream of random numbers, on the CPU."""
    digest = hashlib.sha256(f"{seed}:{step}:{position}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def draw(config: Config, step: int, position: int, shape: tuple[int, int, int]) -> Draw:
    """The draws of the sample at ``position`` in the whole batch of a step. ``shape``: of its latents."""
    stream, train = generator(config.seed, step, position), config.train
    # All are drawn, whatever is used of them: so no option changes what another one draws.
    level, r, mirror, x, y = torch.rand(5, generator=stream).tolist()
    text, image = conditioning_kept(torch.tensor(r), text=train.drop_text, image=train.drop_image, both=train.drop_both)
    random_crop = config.data.crop == "random"
    return Draw(
        level=level,
        text=bool(text),
        image=bool(image),
        flip=config.data.flip and mirror < 0.5,
        crop=(x, y) if random_crop else (0.5, 0.5),
        posterior=torch.randn(shape, generator=stream),
        noise=torch.randn(shape, generator=stream),
    )
