"""Masks over latents: one type, one resize rule, one overlay, and the paste at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import torch

    from .types import LatentMask, Latents

#: Width of the soft edge of a user's mask in a large picture, in pixels, inside the mask (see :func:`feather_width`).
FEATHER = 4


@dataclass(frozen=True, kw_only=True)
class Mask:
    """A mask over latents: ``values`` (B, 1, h, w) float32 in [0, 1]; 1 is where the edit happens."""

    values: LatentMask

    @classmethod
    def from_arrays(cls, arrays: list[np.ndarray]) -> Mask:
        """From B arrays (H, W) of one size, bool or float in [0, 1]."""
        import torch

        return cls(values=torch.stack([torch.from_numpy(np.asarray(a, dtype=np.float32)) for a in arrays])[:, None])

    def resized(self, height: int, width: int) -> Mask:
        """The mask at another size: the mean over each cell when shrinking, the nearest value when growing."""
        import torch.nn.functional as F

        values = self.values
        if values.shape[-2] > height or values.shape[-1] > width:
            values = F.adaptive_avg_pool2d(values, (height, width))
        elif values.shape[-2:] != (height, width):
            values = F.interpolate(values, size=(height, width), mode="nearest")
        return Mask(values=values)

    def overlay(self, inside: Latents, outside: Latents) -> Latents:
        """``inside`` where the mask is 1, ``outside`` where it is 0 (both (B, C, h, w)); exact at both ends."""
        values = self.values.to(device=inside.device, dtype=inside.dtype)
        return values * inside + (1 - values) * outside


def keep_outside(mask: Mask, trajectory: Callable[[int], torch.Tensor]) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """A blend for the loop: after step i, outside the mask the latents are ``trajectory(i)`` (B, 4, h, w)."""

    def blend(x: torch.Tensor, i: int) -> torch.Tensor:
        return mask.overlay(x, trajectory(i))

    return blend


def feather_width(size: tuple[int, int]) -> int:
    """Pixels of soft edge for a picture with sides ``size``: one for every 64 of the shorter side, 1 to 4."""
    return min(FEATHER, max(1, min(size) // 64))


def feathered(mask: np.ndarray, *, feather: int = FEATHER) -> np.ndarray:
    """Opacity (H, W) float32 in [0, 1] of a bool mask with a soft edge *inside* it.

    Exactly 0 outside; it rises with the distance from the outside and is 1 from ``feather`` pixels on. A mask
    too narrow to rise so far is scaled up until it reaches 1. The picture's border is not an edge.
    """
    depth = np.zeros(mask.shape, dtype=np.float32)
    level = mask.copy()
    for _ in range(feather):
        depth += level
        padded = np.pad(level, 1, constant_values=True)
        level = level & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return depth / max(float(depth.max()), 1.0)


def paste(edited: Image.Image, original: Image.Image, mask: np.ndarray) -> Image.Image:
    """``edited`` inside the bool mask (H, W), the pixels of ``original`` outside: exactly, softly at the edge
    inside.
    """
    opacity = feathered(mask, feather=feather_width(original.size))[:, :, None]
    before = np.asarray(original, dtype=np.float32)
    after = np.asarray(edited, dtype=np.float32)
    mixed = np.rint(opacity * after + (1 - opacity) * before).astype(np.uint8)
    return Image.fromarray(mixed)
