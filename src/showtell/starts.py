"""Where a run starts: generators and noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .types import Latents


def generator(seed: int) -> torch.Generator:
    """The CPU generator of one sample."""
    import torch

    return torch.Generator("cpu").manual_seed(seed)


def noise(shape: Sequence[int], generators: Sequence[Any], *, device: Any) -> Latents:
    """Standard normal noise (B, C, h, w), float32: one draw of ``shape`` = (C, h, w) from each sample's generator."""
    import torch

    draws = [torch.randn((1, *shape), generator=g, device=g.device, dtype=torch.float32) for g in generators]
    return torch.cat([draw.to(device) for draw in draws])
