"""Differences of pixels, everywhere or where a mask says: L1, L2, mean squared error, PSNR.

All take pictures in [0, 1] (see :mod:`~showtell.metrics.batches`) and give (B,), in float64. With a mask the mean is over the
pixels that count, not over a picture in which the others were made zero; a mask of nothing has no mean, and the value is NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .batches import as_mask, as_pair, mean_where

if TYPE_CHECKING:
    import torch

    from .batches import Pictures


def mse(a: Pictures, b: Pictures, mask: Any = None) -> torch.Tensor:
    """The mean of (a - b)^2 over pixels and channels: (B,) in [0, 1]. Raises ``UsageError`` for what is no pair of pictures."""
    first, second = as_pair(a, b)
    return _mean((first - second).square(), mask)


def l1(a: Pictures, b: Pictures, mask: Any = None) -> torch.Tensor:
    """The mean of |a - b| over pixels and channels: (B,) in [0, 1]. MagicBrush's L1."""
    first, second = as_pair(a, b)
    return _mean((first - second).abs(), mask)


def l2(a: Pictures, b: Pictures, mask: Any = None) -> torch.Tensor:
    """MagicBrush's L2, which is the mean of (a - b)^2 and not its root: (B,) in [0, 1]. The same as :func:`mse`."""
    return mse(a, b, mask)


def psnr(a: Pictures, b: Pictures, mask: Any = None) -> torch.Tensor:
    """The peak signal-to-noise ratio, -10 log10(mse), in dB, with a peak of 1: (B,), infinite for equal pictures."""
    return -10 * mse(a, b, mask).log10()


def _mean(values: torch.Tensor, mask: Any) -> torch.Tensor:
    return values.flatten(1).mean(1) if mask is None else mean_where(values, as_mask(mask, values))
