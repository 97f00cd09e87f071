"""Structural similarity: SSIM (Wang et al. 2004) and MS-SSIM (Wang et al. 2003).

A Gaussian window of 11 x 11 with sigma 1.5, K = (0.01, 0.03), a range of 1, each colour channel on its own, population
covariances. At the border a picture is reflected, and every pixel's value counts, as in torchmetrics; scikit-image and the
paper leave out the five pixels at each border, which is the mean of :func:`ssim_map` without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ImageError, UsageError
from .batches import as_mask, as_pair, mean_where, only_where

if TYPE_CHECKING:
    import torch

    from .batches import Pictures

_WINDOW = 11
_BORDER = _WINDOW // 2
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2
#: The weights of MS-SSIM's five scales, finest first (Wang et al. 2003).
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ssim(a: Pictures, b: Pictures, mask: Any = None) -> torch.Tensor:
    """The mean SSIM over pixels and channels: (B,) in [-1, 1], 1 for equal pictures.

    With a mask, the mean over the pixels that count, NaN where none does; the others are taken from ``a`` in both pictures, so
    that windows at the mask's edge do not see what is not to count. Raises ``ImageError`` for pictures with fewer than 11
    pixels a side.
    """
    first, second = as_pair(a, b)
    if mask is None:
        return ssim_map(first, second).flatten(1).mean(1)
    weight = as_mask(mask, first)
    return mean_where(ssim_map(first, only_where(first, second, weight)), weight)


def ssim_map(a: Pictures, b: Pictures) -> torch.Tensor:
    """The SSIM around each pixel: (B, 3, H, W) in [-1, 1]."""
    first, second = as_pair(a, b)
    _large_enough(first, 1)
    luminance, contrast = _terms(first, second)
    return luminance * contrast


def ms_ssim(a: Pictures, b: Pictures, *, scales: Sequence[float] = SCALES) -> torch.Tensor:
    """MS-SSIM, prod_j cs_j^w_j times the luminance of the coarsest scale: (B,) in [0, 1], 1 for equal pictures.

    ``scales`` are the weights w_j, finest first; pictures are halved from each to the next by the mean of 2 x 2 pixels. As in
    torchmetrics, means over a scale that are negative count as zero, and a scale's contrast leaves out its borders. Raises
    ``ImageError`` for pictures with fewer than 11 pixels a side at the coarsest scale: 176 with the published five.
    """
    import torch.nn.functional as F

    first, second = as_pair(a, b)
    if not scales:
        raise UsageError("MS-SSIM needs the weight of one scale at least")
    _large_enough(first, len(scales))
    result = first.new_ones(len(first))
    for level, weight in enumerate(scales, start=1):
        luminance, contrast = _terms(first, second)
        last = level == len(scales)
        found = luminance * contrast if last else contrast[..., _BORDER:-_BORDER, _BORDER:-_BORDER]
        result = result * found.flatten(1).mean(1).clamp(min=0) ** weight
        first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
    return result


def _terms(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """SSIM's two factors around each pixel, (B, 3, H, W): luminance, and contrast with structure."""
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a = (_blurred(a * a) - mean_a.square()).clamp(min=0)  # rounding may leave it below zero
    var_b = (_blurred(b * b) - mean_b.square()).clamp(min=0)
    both = _blurred(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a.square() + mean_b.square() + _C1)
    return luminance, (2 * both + _C2) / (var_a + var_b + _C2)


def _blurred(x: torch.Tensor) -> torch.Tensor:
    """The Gaussian window's mean around each pixel; the window is a product of its rows and columns."""
    import torch
    import torch.nn.functional as F

    offsets = torch.arange(_WINDOW, dtype=torch.float64) - _BORDER
    line = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    first, *others = (line / line.sum()).tolist()
    found = F.pad(x, (_BORDER,) * 4, mode="reflect")
    for dim in (-1, -2):  # sums of shifted pictures: in float64 several times as quick as a convolution
        total = found.narrow(dim, 0, x.shape[dim]) * first
        for start, weight in enumerate(others, start=1):
            total.add_(found.narrow(dim, start, x.shape[dim]), alpha=weight)
        found = total
    return found


def _large_enough(x: torch.Tensor, scales: int) -> None:
    least, side = _WINDOW * 2 ** (scales - 1), min(x.shape[-2:])
    if side < least:
        many = f"MS-SSIM over {scales} scales: give fewer (scales=), or" if scales > 1 else "SSIM:"
        raise ImageError(
            f"pictures of {x.shape[-1]}x{x.shape[-2]} are too small for {many} pictures of {least} pixels a side at least"
        )
