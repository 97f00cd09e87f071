"""Losses of the inversions: pure functions of predictions and features."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def reconstruction(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L_mse (VISII, equation 2): mean squared error of a prediction and what it should be, same shapes; a scalar.

    Both are of the network's own type, which is the paper's noise for networks that predict it. For a v-prediction network
    the error in noise would be the error in v times sqrt(alpha_bar), and so blind where the noise is strongest, which is
    where an edit is decided.
    """
    return (prediction.float() - target.float()).square().mean()


def edit_direction(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Delta (p,), of unit length: the mean CLIP feature of the afters less that of the befores, (N, p) each.

    The features are projected and *not* normalised first (VISII, section 3.3).
    """
    delta = after.float().mean(0) - before.float().mean(0)
    return delta / delta.norm().clamp(min=1e-12)


def alignment(direction: torch.Tensor, feature: torch.Tensor, *, ceiling: float = 0.5) -> torch.Tensor:
    """L_clip (VISII, equation 3): minus the cosine between an edit's direction and an instruction's feature, (p,) each.

    Above ``ceiling`` a greater cosine earns nothing more, as in the published code; 1 is the equation as printed.
    """
    import torch

    cosine = torch.nn.functional.cosine_similarity(direction.float(), feature.float(), dim=0)
    return -cosine.clamp(max=ceiling)
