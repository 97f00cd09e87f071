"""Signed distances of the things, in units of a thing's radius (negative inside, y downwards)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from showtell.scenes.world import RGB, rgb

Point = tuple[float, float]


@dataclass(frozen=True)
class Circle:
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Polygon:
    points: tuple[Point, ...]


Primitive = Circle | Polygon
Part = tuple[RGB | None, tuple[Primitive, ...]]
"""A part's fixed colour (None: the thing's own colour) and the primitives whose union it is."""

BROWN, DARK, CREAM, AMBER = rgb(118, 68, 38), rgb(70, 42, 30), rgb(250, 238, 205), rgb(255, 168, 0)


def circle(x: float, y: float, r: float) -> Primitive:
    return Circle(x, y, r)


def polygon(*points: Point) -> Primitive:
    return Polygon(points)


def box(left: float, top: float, right: float, bottom: float) -> Primitive:
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


def _star(outer: float = 1.12, inner: float = 0.5) -> Primitive:
    radii = (outer, inner) * 5
    return polygon(*((r * math.sin(i * math.pi / 5), -r * math.cos(i * math.pi / 5)) for i, r in enumerate(radii)))


def _heart(points: int = 28) -> Primitive:
    angles = [2 * math.pi * i / points for i in range(points)]
    return polygon(
        *(
            (
                16 * math.sin(a) ** 3 / 16,
                -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)) / 16,
            )
            for a in angles
        )
    )


def _petals(count: int = 5, reach: float = 0.6, size: float = 0.42) -> tuple[Primitive, ...]:
    angles = [2 * math.pi * i / count for i in range(count)]
    return tuple(circle(reach * math.sin(a), -reach * math.cos(a), size) for a in angles)


PARTS: dict[str, tuple[Part, ...]] = {
    "circle": ((None, (circle(0, 0, 1.0),)),),
    "square": ((None, (box(-0.88, -0.88, 0.88, 0.88),)),),
    "star": ((None, (_star(),)),),
    "heart": ((None, (_heart(),)),),
    "house": (
        (None, (box(-0.8, -0.1, 0.8, 0.98),)),
        (BROWN, (polygon((-1.05, -0.08), (1.05, -0.08), (0.0, -1.05)),)),
        (DARK, (box(-0.2, 0.42, 0.2, 0.98),)),
    ),
    "tree": (
        (BROWN, (box(-0.2, 0.3, 0.2, 1.08),)),
        (None, (circle(0, -0.62, 0.5), circle(-0.45, -0.02, 0.5), circle(0.45, -0.02, 0.5))),
    ),
    "boat": (
        (None, (polygon((-0.78, 0.3), (0.78, 0.3), (0.0, -1.1)),)),
        (BROWN, (polygon((-1.05, 0.4), (1.05, 0.4), (0.68, 0.95), (-0.68, 0.95)),)),
    ),
    "flower": ((None, _petals()), (AMBER, (circle(0, 0, 0.36),))),
}


def _distance_to_polygon(p: Tensor, points: Sequence[Point]) -> Tensor:
    """Exact signed distance of p (..., 2) to a closed polygon: nearest edge, sign by the crossing number."""
    nearest = torch.full(p.shape[:-1], torch.inf)
    sign = torch.ones(p.shape[:-1])
    for i, (bx, by) in enumerate(points):
        ax, ay = points[i - 1]
        edge_x, edge_y = ax - bx, ay - by
        to_x, to_y = p[..., 0] - bx, p[..., 1] - by
        along = ((to_x * edge_x + to_y * edge_y) / (edge_x**2 + edge_y**2)).clamp(0, 1)
        nearest = torch.minimum(nearest, (to_x - edge_x * along) ** 2 + (to_y - edge_y * along) ** 2)
        above, below, left = p[..., 1] >= by, p[..., 1] < ay, edge_x * to_y > edge_y * to_x
        crosses = (above & below & left) | ~(above | below | left)
        sign = torch.where(crosses, -sign, sign)
    return sign * nearest.sqrt()


def distance(p: Tensor, primitives: Sequence[Primitive]) -> Tensor:
    """Signed distance of points p (..., 2) to the union of `primitives`: shape (...)."""
    parts = [
        ((p[..., 0] - shape.x) ** 2 + (p[..., 1] - shape.y) ** 2).sqrt() - shape.radius
        if isinstance(shape, Circle)
        else _distance_to_polygon(p, shape.points)
        for shape in primitives
    ]
    return torch.stack(parts).amin(0)
