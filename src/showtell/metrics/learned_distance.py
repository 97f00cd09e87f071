"""LPIPS (Zhang et al. 2018): the distance of activations, weighted channel by channel as people judged.

The weights are the user's own, one safetensors file: a backbone's ``features.N.weight`` and ``.bias`` as in torchvision's
files, and the published linear layers' ``linK.model.1.weight``. ``docs/metrics.md`` shows how to make it from the published
files, once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import loading
from ..errors import ImageError, ModelError, UsageError
from .batches import as_mask, as_pair, only_where

if TYPE_CHECKING:
    import torch

    from .batches import Pictures

#: What becomes of a picture in [-1, 1] before the backbone sees it: (x - SHIFT) / SCALE, channel by channel.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_NETWORKS = ("alex", "vgg", "squeeze")
_TINY = 1e-10
_LEAST = {"alex": 31, "vgg": 16, "squeeze": 17}


@dataclass(frozen=True, kw_only=True, eq=False)
class Lpips:
    """A backbone's ``layers``, the ``weights`` (C,) of each tapped layer's channels, the ``network``'s name, and its file's
    ``name``.
    """

    layers: Any
    weights: tuple[torch.Tensor, ...]
    network: str
    name: str = "lpips"

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.weights[0].device


def load_lpips(path: str | os.PathLike[str], *, network: str = "alex", device: str = "cpu") -> Lpips:
    """LPIPS from a safetensors file with the weights of a ``network``: ``alex``, ``vgg`` or ``squeeze``.

    Raises ``UsageError`` for another network, ``ModelError`` for a file that is missing, no safetensors, or not that network's.
    """
    from . import backbones

    if network not in _NETWORKS:
        raise UsageError(f"LPIPS has no network {network!r}: choose one of {', '.join(_NETWORKS)}")
    target, tensors = loading.pick_device(device), loading.load_tensors(path)
    layers = backbones.build(network)
    wanted = {f"features.{key}": tensor.shape for key, tensor in layers.state_dict().items()}
    heads = {f"lin{i}.model.1.weight": (1, c, 1, 1) for i, c in enumerate(backbones.TAPS[network].values())}
    for key, shape in {**wanted, **heads}.items():
        found = tuple(tensors[key].shape) if key in tensors else None
        if found != tuple(shape):
            has = "has no" if found is None else f"has another shape ({found}) of"
            raise ModelError(
                f"{path}: {has} {key} {tuple(shape)}: it is not LPIPS with the network {network!r}; docs/metrics.md shows how "
                "to make the file"
            )
    layers.load_state_dict({key.removeprefix("features."): tensors[key].float() for key in wanted})
    return Lpips(
        layers=layers.eval().requires_grad_(False).to(target),
        weights=tuple(tensors[key].float().flatten().to(target) for key in heads), network=network, name=os.fspath(path),
    )  # fmt: skip


def lpips(model: Lpips, a: Pictures, b: Pictures, mask: Any = None) -> torch.Tensor:
    """LPIPS, sum over layers l of the mean over positions of sum_c w_lc (f_lc(a) - f_lc(b))^2, f unit vectors over c: (B,),
    float32, 0 for equal pictures.

    With a mask a position counts by the share of its area that counts, NaN where none does; pixels that do not are taken from
    ``a`` in both pictures, so that the network does not see them change. Raises ``UsageError`` for what is no pair of pictures,
    ``ImageError`` for one that is too small.
    """
    import torch
    import torch.nn.functional as F

    first, second = as_pair(a, b)
    if min(first.shape[-2:]) < _LEAST[model.network]:
        raise ImageError(
            f"pictures of {first.shape[-1]}x{first.shape[-2]} are too small for LPIPS with {model.network}: "
            f"{_LEAST[model.network]} pixels a side are the least"
        )
    weight = None if mask is None else as_mask(mask, first)
    if weight is not None:
        second = only_where(first, second, weight)
    with torch.no_grad():
        seen = (_activations(model, x) for x in (first, second))
        total = torch.zeros(len(first), device=model.device)
        for x, y, w in zip(*seen, model.weights, strict=True):
            gap = ((_unit(x) - _unit(y)).square() * w[:, None, None]).sum(1)
            if weight is None:
                total = total + gap.flatten(1).mean(1)
            else:
                share = F.adaptive_avg_pool2d(weight.to(gap), gap.shape[-2:])[:, 0]
                total = total + (gap * share).flatten(1).sum(1) / share.flatten(1).sum(1)
    return total


def _activations(model: Lpips, x: torch.Tensor) -> list[torch.Tensor]:
    """Of pictures in [0, 1]: each tapped layer's, (B, C, h, w)."""
    import torch

    from .backbones import activations

    x = x.to(model.device).float() * 2 - 1
    shift, scale = (torch.tensor(value, device=x.device)[:, None, None] for value in (SHIFT, SCALE))
    return activations(model.layers, model.network, (x - shift) / scale)


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + _TINY)
