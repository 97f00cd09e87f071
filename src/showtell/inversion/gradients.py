"""Gradients for what is learned and for nothing else, whatever the caller's mode."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import ModelError

if TYPE_CHECKING:
    import torch

# In float16 the gradient of a mean over a whole latent would underflow on its way back.
_SCALE = 2.0**12


@contextlib.contextmanager
def kept(*networks: Any) -> Iterator[None]:
    """Gradients are kept, whatever the caller's mode, but by no parameter of ``networks``; afterwards each is as it was."""
    import torch

    wanting = [p for network in networks if network is not None for p in network.parameters() if p.requires_grad]
    for parameter in wanting:
        parameter.requires_grad_(False)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for parameter in wanting:
            parameter.requires_grad_(True)


def of(loss: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """The gradient of a scalar ``loss`` by one float32 ``parameter``, also through networks in half precision."""
    import torch

    (gradient,) = torch.autograd.grad(loss * _SCALE, parameter)
    return gradient / _SCALE


def check_resting(network: Any, name: str, *, needed: str) -> None:
    """Raise ``ModelError`` for a network that is offloaded: what gradients must flow through has to stay where it is.

    ``name`` is the model's, ``needed`` what for.
    """
    hooked = any(hasattr(module, "_hf_hook") for module in network.modules())
    if hooked or any(p.is_meta for p in network.parameters()):
        raise ModelError(f"{name}: is offloaded, and {needed}: load it whole, without offloading")
