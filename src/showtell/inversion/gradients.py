"""Gradients for what is learned and for nothing else, whatever the caller's mode."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..caching import uncompiled
from ..errors import ModelError

if TYPE_CHECKING:
    import torch

# In float16 the gradient of a mean over a whole latent would underflow on its way back.
_SCALE = 2.0**12


@contextlib.contextmanager
def kept(*networks: Any) -> Iterator[None]:
    """Gradients are kept, whatever the caller's mode, but by no parameter of ``networks``; afterwards each is as it was.

    What is compiled in place runs uncompiled meanwhile: a backward would be compiled, too.
    """
    import torch

    wanting = [p for network in networks if network is not None for p in network.parameters() if p.requires_grad]
    for parameter in wanting:
        parameter.requires_grad_(False)
    try:
        with torch.inference_mode(False), torch.enable_grad(), uncompiled(*networks):
            yield
    finally:
        for parameter in wanting:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def checkpointed(pipe: Any, *, enabled: bool = True) -> Iterator[None]:
    """The denoising networks of a pipeline compute again, in a backward, what lies between their blocks, instead of keeping it:
    the same gradients with less memory and about a third more time. Afterwards each is as it was.
    """
    found = [getattr(pipe, part, None) for part in ("unet", "controlnet")] if enabled else []
    plain = [getattr(network, "_orig_mod", network) for network in found if network is not None]
    blocks = [module for network in plain for module in network.modules() if hasattr(module, "gradient_checkpointing")]
    names = ("gradient_checkpointing", "_gradient_checkpointing_func")
    before = [{name: vars(block)[name] for name in names if name in vars(block)} for block in blocks]
    try:
        for network in plain:
            network.enable_gradient_checkpointing()
        yield
    finally:
        for block, held in zip(blocks, before, strict=True):
            for name in names:
                vars(block).pop(name, None)
            vars(block).update(held)


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
