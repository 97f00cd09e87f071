"""From scenes as data to pixels: vectorised over scenes and antialiased, the same to 1/255 on every machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from showtell.scenes import backdrops, styles
from showtell.scenes.shapes import PARTS, distance
from showtell.scenes.world import RGB, Scene, Thing

SIZE = 64
"""Side of a picture in pixels, unless another is asked for."""


@lru_cache(maxsize=64)
def _plain_backdrop(name: str, size: int) -> Tensor:
    return backdrops.paint(name, size=size)


def _backdrop(name: str, size: int, tint: RGB, shift: float) -> Tensor:
    if shift == 0:  # most of the cost of a background is its drawing; a tint alone does not need it again
        return (_plain_backdrop(name, size) + torch.tensor(tint)[:, None, None]).clamp(0, 1)
    return backdrops.paint(name, size=size, tint=tint, shift=shift)


def _coverage(kind: str, things: Sequence[Thing], size: int) -> list[Tensor]:
    """Coverage in [0, 1] of each part of things of one kind: a list over parts of (N, size, size)."""
    step = (torch.arange(size) + 0.5) / size
    centre = torch.tensor([(t.x, t.y) for t in things])
    radius = torch.tensor([t.radius for t in things])[:, None, None]
    y, x = torch.meshgrid(step, step, indexing="ij")
    grid = torch.stack((x, y), -1)[None] - centre[:, None, None]
    local = grid / radius[..., None]
    return [(0.5 - distance(local, part) * radius * size).clamp(0, 1) for _, part in PARTS[kind]]


def render(scenes: Sequence[Scene], *, size: int = SIZE) -> Tensor:
    """Pictures of `scenes`: (B, 3, size, size), float32 in [0, 1]."""
    pictures = torch.stack([_backdrop(s.backdrop, size, s.tint, s.shift) for s in scenes])
    for layer in range(max((len(s.things) for s in scenes), default=0)):
        groups: dict[str, list[tuple[int, Thing]]] = defaultdict(list)
        for b, scene in enumerate(scenes):
            if layer < len(scene.things):
                groups[scene.things[layer].kind].append((b, scene.things[layer]))
        for kind, members in groups.items():
            where = torch.tensor([b for b, _ in members])
            things = [t for _, t in members]
            canvas = pictures[where]
            own = torch.tensor([t.rgb for t in things])[:, :, None, None]
            for (fixed, _), cover in zip(PARTS[kind], _coverage(kind, things, size), strict=True):
                colour = own if fixed is None else torch.tensor(fixed)[None, :, None, None]
                canvas = canvas + (colour - canvas) * cover[:, None]
            pictures[where] = canvas
    for name in sorted({s.style for s in scenes if s.style}):
        where = torch.tensor([i for i, s in enumerate(scenes) if s.style == name])
        pictures[where] = styles.APPLY[name](pictures[where])
    return pictures


def silhouettes(things: Sequence[Thing], *, size: int = SIZE) -> Tensor:
    """How much of each pixel each thing covers: (N, size, size) in [0, 1]."""
    out = torch.zeros(len(things), size, size)
    groups: dict[str, list[int]] = defaultdict(list)
    for i, thing in enumerate(things):
        groups[thing.kind].append(i)
    for kind, members in groups.items():
        clear = torch.ones(len(members), size, size)
        for cover in _coverage(kind, [things[i] for i in members], size):
            clear = clear * (1 - cover)
        out[torch.tensor(members)] = 1 - clear
    return out
