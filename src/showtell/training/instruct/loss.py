"""InstructPix2Pix's loss, for a network of any prediction type, with min-SNR weighting as an option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from showtell.errors import ModelError
from showtell.schedule import PREDICTION_TYPES, to_target


def weight(alpha_bar: Tensor, prediction_type: str, gamma: float | None) -> Tensor:
    """The weight of each sample's error, (B,): 1, or min-SNR's (Hang et al. 2023) for ``gamma``.

    With SNR = alpha_bar / (1 - alpha_bar) it is min(SNR, gamma)/SNR for noise, min(SNR, gamma)/(SNR + 1) for v and
    min(SNR, gamma) for the clean sample.
    """
    if gamma is None:
        return torch.ones_like(alpha_bar)
    snr = alpha_bar / (1 - alpha_bar)
    if prediction_type == "epsilon":
        return (gamma / snr).clamp(max=1)  # also right where the signal is nothing at all
    least = snr.clamp(max=gamma)
    return least / (snr + 1) if prediction_type == "v_prediction" else least


def levels(u: Tensor, count: int, exponent: float) -> Tensor:
    """Timesteps t = count u^exponent, whole, from 0 to count - 1; u (B,) in [0, 1)."""
    return (count * u**exponent).long().clamp(max=count - 1)


def losses(
    network: Callable[..., Any],
    *,
    z: Tensor,
    image: Tensor,
    context: Tensor,
    noise: Tensor,
    t: Tensor,
    alphas: Tensor,
    prediction_type: str,
    min_snr: float | None = None,
) -> Tensor:
    """Each sample's loss, (B,) float32: the mean over its latents of the squared error of what the network says of
    (z_t, t, E(c_I), c_T), against what its prediction type makes it say.

    ``z`` (B, 4, h, w): scaled latents of the picture after; ``image`` the same shape: unscaled ones of the picture before, zeros
    where it was dropped; ``context`` (B, 77, d); ``noise`` like z; ``t`` (B,) and ``alphas`` the whole schedule's alpha_bar.
    """
    alpha_bar = alphas[t]
    level = alpha_bar[:, None, None, None]
    z_t = level**0.5 * z + (1 - level) ** 0.5 * noise
    target = to_target(z, noise, level, prediction_type)
    output = network(torch.cat((z_t, image), 1), t, context, return_dict=False)[0]
    error = (output.float() - target).square().mean(dim=(1, 2, 3))
    return error * weight(alpha_bar, prediction_type, min_snr)


def schedule_of(pipe: Any) -> tuple[Tensor, str]:
    """The training noise schedule of a pipeline, alpha_bar (T,) float32, and its prediction type. Raises ``ModelError``."""
    from showtell.schedulers import fresh_scheduler

    kind = pipe.scheduler.config.get("prediction_type", "epsilon")
    if kind not in PREDICTION_TYPES:
        raise ModelError(
            f"the model's scheduler has prediction type {kind!r}: one of {', '.join(PREDICTION_TYPES)} can be trained"
        )
    return fresh_scheduler("ddpm", pipe.scheduler.config).alphas_cumprod.float(), kind
