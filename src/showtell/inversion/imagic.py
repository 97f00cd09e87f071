"""Imagic's two tunings (Kawar et al. 2022, section 3.2): the embedding to the picture, then the model to both.

Stage A moves the target's embedding until the model, as it is, denoises the picture well under it; stage B fine-tunes a
copy of the network under that embedding. Both minimise the loss that the model was trained with (the paper's equation 2).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, ShowtellError
from ..networks import Network
from . import gradients
from .denoising import Noising

if TYPE_CHECKING:
    import torch

    from ..types import Latents, PromptEmbeds

Observe = Callable[[int, Any], None]


def tune_embedding(
    network: Network,
    noising: Noising,
    z: Latents,
    target: PromptEmbeds,
    *,
    steps: int,
    learning_rate: float,
    timesteps_per_step: int,
    generator: torch.Generator,
    observe: Observe,
) -> PromptEmbeds:
    """Stage A: e_opt (1, 77, d) float32 for the latents ``z`` (1, C, h, w), by Adam from e_tgt, ``target`` (1, 77, d).

    Each step looks at ``timesteps_per_step`` timesteps and noises of ``generator``; ``observe(i, z)`` after each may raise
    to stop. Raises ``ShowtellError``, saying at which step, if a loss or gradient is no finite number.
    """
    import torch

    embeds = target.detach().float().clone().requires_grad_()
    optimiser = torch.optim.Adam([embeds], lr=learning_rate)
    for i in range(steps):
        loss = noising.loss(network, z, embeds, *noising.draw((timesteps_per_step, *z.shape[1:]), generator))
        embeds.grad = gradients.of(loss, embeds)
        if not torch.isfinite(embeds.grad).all():
            raise _broken("tuning the embedding", i, steps, "embedding_lr")
        optimiser.step()
        observe(i, z)
    return embeds.detach()


def fine_tune(
    unet: Any,
    noising: Noising,
    z: Latents,
    embeds: PromptEmbeds,
    *,
    steps: int,
    learning_rate: float,
    timesteps_per_step: int,
    generator: torch.Generator,
    observe: Observe,
) -> None:
    """Stage B: fine-tune ``unet``, all of it, in place, by Adam under ``embeds`` (1, 77, d). See :func:`tune_embedding`."""
    import torch

    network, parameters = Network(unet=unet), list(unet.parameters())
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    for i in range(steps):
        loss = noising.loss(network, z, embeds, *noising.draw((timesteps_per_step, *z.shape[1:]), generator))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        # One number tells of all gradients, without a pause for each.
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not torch.isfinite(norm):
            raise _broken("fine-tuning the model", i, steps, "model_lr")
        optimiser.step()
        observe(i, z)
    for parameter in parameters:
        parameter.requires_grad_(False)
        parameter.grad = None


def copied(unet: Any, name: str) -> Any:
    """A copy of a UNet in float32, to be fine-tuned. ``name`` is the model's, for messages.

    Raises ``ModelError`` for one that is offloaded or quantised: it cannot be copied, or not be trained.
    """
    import torch

    unet = getattr(unet, "_orig_mod", unet)  # a compiled network wraps the plain one
    gradients.check_resting(unet, name, needed="Imagic fine-tunes a copy of its UNet")
    if not all(p.is_floating_point() and p.element_size() > 1 for p in unet.parameters()):
        raise ModelError(f"{name}: its UNet is quantised, and Imagic fine-tunes a copy of it: load it unquantised")
    return cast(copy.deepcopy(unet), torch.float32)


def cast(unet: Any, dtype: torch.dtype) -> Any:
    """The copy, in place, in another dtype; without diffusers' warning, which is about models that were loaded so."""
    import torch

    return torch.nn.Module.to(unet, dtype)


def _broken(what: str, i: int, steps: int, rate: str) -> ShowtellError:
    return ShowtellError(
        f"imagic: {what} broke at step {i + 1} of {steps}: its loss or gradient is not a finite number: use a smaller "
        f"{rate}, or dtype float32 or bfloat16"
    )
