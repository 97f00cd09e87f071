"""Global looks: what an instruction such as "make it a sketch" does to every pixel. Pictures are (B, 3, H, W) in [0, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)


def _luma(pictures: Tensor) -> Tensor:
    return (pictures * torch.tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)


def monochrome(pictures: Tensor) -> Tensor:
    return _luma(pictures).expand_as(pictures).clone()


def sepia(pictures: Tensor) -> Tensor:
    tone = torch.tensor((1.0, 0.8, 0.55))[:, None, None]
    return (0.1 + 0.9 * _luma(pictures)) * tone


def negative(pictures: Tensor) -> Tensor:
    return 1 - pictures


def mosaic(pictures: Tensor) -> Tensor:
    """Eight tiles a side, each tile its mean, with a dark line around it."""
    size = pictures.shape[-1]
    tiles = F.interpolate(F.adaptive_avg_pool2d(pictures, 8), size=pictures.shape[-2:], mode="nearest")
    position = torch.arange(size) % (size // 8)
    line = (position == 0).float()
    grout = torch.maximum(line[:, None], line[None, :])
    return tiles * (1 - 0.6 * grout)


def sketch(pictures: Tensor) -> Tensor:
    """Dark pencil lines where brightness or colour changes, on warm white paper."""
    smooth = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    right = F.pad(smooth, (0, 1, 0, 0), mode="replicate")[..., 1:] - smooth
    down = F.pad(smooth, (0, 0, 0, 1), mode="replicate")[..., 1:, :] - smooth
    edge = (right**2 + down**2).sum(1, keepdim=True).sqrt()
    ink = (edge * 3.0 - 0.12).clamp(0, 1)
    paper, pencil = torch.tensor((0.97, 0.95, 0.9))[:, None, None], torch.tensor((0.16, 0.16, 0.2))[:, None, None]
    return paper + (pencil - paper) * ink


APPLY = {"monochrome": monochrome, "sepia": sepia, "negative": negative, "mosaic": mosaic, "sketch": sketch}
