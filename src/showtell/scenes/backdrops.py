"""Backgrounds as functions of the pixel grid: the same few lines for any size of picture."""

from __future__ import annotations

import torch
from torch import Tensor

from showtell.scenes.world import RGB, rgb


def _mix(low: Tensor, high: Tensor, share: Tensor) -> Tensor:
    return low + (high - low) * share


def _colour(value: RGB) -> Tensor:
    return torch.tensor(value)[:, None, None]


def _disc(x: Tensor, y: Tensor, cx: float, cy: float, r: float, size: int) -> Tensor:
    """Antialiased coverage of a disc."""
    return (0.5 - (((x - cx) ** 2 + (y - cy) ** 2).sqrt() - r) * size).clamp(0, 1)


def _day(x: Tensor, y: Tensor, size: int) -> Tensor:
    sky = _mix(_colour(rgb(120, 185, 235)), _colour(rgb(190, 225, 245)), y)
    cloud = torch.zeros_like(x)
    for cx, cy, r in (
        (0.14, 0.50, 0.05),
        (0.21, 0.48, 0.065),
        (0.28, 0.51, 0.05),
        (0.74, 0.93, 0.05),
        (0.81, 0.92, 0.06),
    ):
        cloud = torch.maximum(cloud, _disc(x, y, cx, cy, r, size))
    return _mix(sky, _colour(rgb(225, 238, 248)), cloud)


def _night(x: Tensor, y: Tensor, size: int) -> Tensor:
    sky = _mix(_colour(rgb(14, 16, 48)), _colour(rgb(38, 36, 84)), y)
    specks = torch.zeros_like(x)
    for cx, cy in (
        (0.08, 0.1),
        (0.5, 0.06),
        (0.92, 0.47),
        (0.49, 0.5),
        (0.06, 0.53),
        (0.53, 0.93),
        (0.94, 0.92),
        (0.1, 0.95),
    ):
        specks = torch.maximum(specks, _disc(x, y, cx, cy, 0.018, size))
    return _mix(sky, _colour(rgb(235, 230, 190)), specks)


def _horizon(y: Tensor, height: Tensor | float, size: int) -> Tensor:
    return (0.5 + (y - height) * size).clamp(0, 1)


def _sea(x: Tensor, y: Tensor, size: int) -> Tensor:
    water = _mix(
        _colour(rgb(86, 186, 192)), _colour(rgb(112, 204, 206)), 0.5 + 0.5 * torch.sin(50 * y + 2 * torch.sin(12 * x))
    )
    return _mix(_colour(rgb(205, 230, 240)), water, _horizon(y, 0.38, size))


def _meadow(x: Tensor, y: Tensor, size: int) -> Tensor:
    grass = _mix(
        _colour(rgb(150, 205, 95)), _colour(rgb(124, 186, 78)), 0.5 + 0.5 * torch.sin(38 * x) * torch.sin(38 * y)
    )
    return _mix(_colour(rgb(190, 222, 245)), grass, _horizon(y, 0.45 + 0.03 * torch.sin(7 * x), size))


def _desert(x: Tensor, y: Tensor, size: int) -> Tensor:
    near = _horizon(y, 0.72 + 0.06 * torch.sin(6 * x + 1), size)
    sand = _mix(_colour(rgb(216, 170, 108)), _colour(rgb(196, 146, 86)), near)
    return _mix(_colour(rgb(244, 208, 164)), sand, _horizon(y, 0.5 + 0.05 * torch.sin(5 * x), size))


def _plain(value: RGB):
    def paint(x: Tensor, y: Tensor, size: int) -> Tensor:
        return _colour(value).expand(3, *x.shape).clone()

    return paint


_PAINT = {
    "day": _day,
    "night": _night,
    "sea": _sea,
    "meadow": _meadow,
    "desert": _desert,
    "gray": _plain(rgb(140, 140, 140)),
    "pink": _plain(rgb(240, 172, 192)),
}


def paint(name: str, *, size: int, tint: RGB = (0.0, 0.0, 0.0), shift: float = 0.0) -> Tensor:
    """The background `name`, (3, size, size) in [0, 1], tinted, and moved sideways and down by `shift`."""
    step = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(step - shift, step - shift, indexing="ij")
    return (_PAINT[name](x, y, size) + _colour(tint)).clamp(0, 1)
