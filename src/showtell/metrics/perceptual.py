"""A perceptual distance after LPIPS (Zhang et al. 2018) that needs no weights of its own: any CLIP's picture tower will do.

Its name is only whole with the CLIP that it was made with: *perceptual distance over starter-clip layers*. It is not LPIPS,
whose networks are others and whose channels have learned weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    import torch

    from .clip import Clip


def distance(clip: Clip, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """How differently a CLIP sees pictures (B, 3, H, W) in [0, 1], pair by pair: (B,) in [0, 4], 0 for equal ones.

    The activations after each layer of the picture tower, without the class token, as unit vectors; their squared difference,
    summed over channels, averaged over positions and layers. Pictures of another size than the tower's are scaled to it. No
    gradient is kept. Raises ``UsageError`` for other shapes, or values that are not in [0, 1].
    """
    import torch

    if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3:
        raise UsageError(
            f"pictures of the shapes {tuple(a.shape)} and {tuple(b.shape)}: both must be the same (B, 3, H, W)"
        )
    for pictures in (a, b):
        if not pictures.isfinite().all() or pictures.min() < -1e-6 or pictures.max() > 1 + 1e-6:
            raise UsageError("pictures must be finite numbers from 0 to 1")
    with torch.no_grad():
        gaps = [
            (x - y).square().sum(-1).mean(-1) for x, y in zip(_activations(clip, a), _activations(clip, b), strict=True)
        ]
    return torch.stack(gaps).mean(0)


def _activations(clip: Clip, pictures: torch.Tensor) -> list[torch.Tensor]:
    """Unit vectors (B, positions, channels) after each layer."""
    import torch
    import torch.nn.functional as F

    side = clip.model.config.vision_config.image_size
    x = pictures.to(clip.device).float()
    if x.shape[-2:] != (side, side):
        x = F.interpolate(x, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
    mean, deviation = (
        torch.tensor(value, device=x.device)[:, None, None]
        for value in (clip.processor.image_mean, clip.processor.image_std)
    )
    found = clip.model.vision_model(pixel_values=(x - mean) / deviation, output_hidden_states=True).hidden_states
    return [F.normalize(layer[:, 1:], dim=-1) for layer in found[1:]]
