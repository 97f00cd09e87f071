"""Cheap fingerprints of networks: names, shapes, and some of the values."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def of(networks: Mapping[str, Any], *, samples: int = 64) -> str:
    """Of ``networks`` by name, in float32: 16 hexadecimal digits.

    It covers every tensor's name and shape and up to ``samples`` values spread over each; so it notices other weights or a
    LoRA, and costs milliseconds. How tensors lie in memory and whether networks are compiled does not matter. Tensors that
    are offloaded to the meta device count by name and shape.
    """
    import torch

    digest = hashlib.sha256()
    for part, network in networks.items():
        drawn: dict[torch.device, list[torch.Tensor]] = {}
        for name, tensor in network.state_dict().items():
            # torch.compile wraps what it compiles, and names it so
            digest.update(f"{part}.{name.replace('_orig_mod.', '')}{tuple(tensor.shape)}".encode())
            if tensor.device.type != "meta" and tensor.is_floating_point() and tensor.numel():
                drawn.setdefault(tensor.device, []).append(_spread(tensor, samples).float())
        for values in drawn.values():
            digest.update(torch.cat(values).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _spread(tensor: torch.Tensor, samples: int) -> torch.Tensor:
    """At most ``samples`` values, evenly spread over a tensor in the order of its indices, without a copy of it."""

    step, tensor = max(1, tensor.numel() // samples), tensor.detach()
    if tensor.is_contiguous():
        return tensor.view(-1)[: step * samples : step]
    size, places = _places(tuple(tensor.shape), tensor.stride(), step, samples)
    return tensor.as_strided((size,), (1,))[places.to(tensor.device)]


@functools.lru_cache(maxsize=4096)
def _places(shape: tuple[int, ...], stride: tuple[int, ...], step: int, samples: int) -> tuple[int, torch.Tensor]:
    """Where these values lie, counted from a tensor's first one, and how far that goes."""
    import torch

    found = []
    for at in range(0, math.prod(shape), step)[:samples]:
        place = 0
        for size, width in zip(reversed(shape), reversed(stride), strict=True):
            at, index = divmod(at, size)
            place += index * width
        found.append(place)
    return max(found) + 1, torch.tensor(found)
