"""DDIM inversion: from a picture's latents to the noise that deterministic sampling would make it of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import sampling
from ..ddim import Ddim

if TYPE_CHECKING:
    import torch

    from ..types import Latents


def trajectory(
    denoise: Callable[[Any, Any, int], Any],
    z: Latents,
    pair: Ddim,
    *,
    observe: Callable[[int, Any], None] = sampling.ignore,
) -> torch.Tensor:
    """z* at every level of ``pair``, from the clean latents ``z`` (B, C, h, w) to the noisiest: (K + 1, B, C, h, w).

    ``denoise(x, t, i)`` predicts in the network's own type; guided with 0, without words, as Prompt Tuning Inversion does
    (its section 3.2), or with any other scale. The loop is that of sampling, over the reversed schedule.
    """
    import torch

    passed = [z]

    def noted(i: int, x: Latents) -> None:
        passed.append(x)
        observe(i, x)

    sampling.sample(denoise, z, pair.inverse_schedule, pair.step_back, observe=noted)
    return torch.stack(passed)
