"""What the methods share that are told what the result shows: the inversion, its tuning, and what the network is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import models, networks, sampling
from ..blending import Mask, keep_outside
from ..conditioning import PromptConditioning
from ..ddim import Ddim
from ..errors import MethodError
from ..guidance import ClassifierFree
from ..inversion import ddim_inversion, gradients, tuning
from ..inversion.inverted import Inverted
from ..inversion.tuning import Task, Tuned
from .base import Context

if TYPE_CHECKING:
    import torch

    from ..types import Latents, PromptEmbeds


def pair_of(method: Any, context: Context) -> Ddim:
    """The DDIM pair of a settled method. Raises ``MethodError`` as ``Ddim.of`` does."""
    return Ddim.of(context.steps.scheduler, encoding_ratio=method.encoding_ratio)


def encoded(context: Context) -> Latents:
    """z of the pictures, (B, 4, h, w): the mode of the encoder, scaled."""
    return models.scaled(context.pipe, models.encode_image(context.pipe, context.pixels))


def followed(context: Context, pair: Ddim, *, guidance_scale: float = 0.0) -> torch.Tensor:
    """The trajectory of DDIM inversion, (K + 1, B, C, h, w): known already, or found now.

    Guided with ``guidance_scale``, 0 is without words; else by the words of what the picture shows, where they are known, of
    the target where not. Raises ``MethodError`` for an inversion of another number of steps.
    """
    if context.inverted is not None:
        steps = len(context.inverted.trajectory) - 1
        if steps != len(pair):
            raise MethodError(
                f"the inversion has {steps} steps and this edit {len(pair)}: leave num_inference_steps and encoding_ratio out"
            )
        return context.inverted.trajectory
    if context.tuned is not None and context.tuned.trajectory is not None:
        return context.tuned.trajectory
    denoise = sampling.GuidedDenoiser(
        network=networks.network(context.pipe),
        conditioning=PromptConditioning(
            prompt_embeds=context.shown_embeds, negative_prompt_embeds=context.negative_prompt_embeds
        ),
        guidance=ClassifierFree(guidance_scale=guidance_scale),
        scale_input=sampling.unscaled,
        sequential=context.sequential,
    )
    with context.phase("inverting", len(pair)) as observe:
        found = ddim_inversion.trajectory(denoise, encoded(context), pair, observe=observe)
    if context.tuned is not None:
        context.tuned.trajectory = found
    return found


def tuned(
    context: Context,
    pair: Ddim,
    trajectory: torch.Tensor,
    *,
    of: str,
    start: PromptEmbeds,
    constant: PromptEmbeds,
    guidance_scale: float,
    inner_steps: int,
    rate: Callable[[int], float],
    enough: Callable[[int], float] = lambda i: -1.0,
) -> Inverted:
    """The embeddings that keep a run guided with ``guidance_scale`` on the trajectory: known already, or tuned now."""
    if context.inverted is not None and context.inverted.of == of:
        return context.inverted
    with gradients.kept(context.pipe.unet), context.phase("tuning", len(pair)) as observe:
        task = Task(
            network=networks.network(context.pipe),
            pair=pair,
            # copies, since tensors that were made in inference mode take part in no gradient
            trajectory=trajectory.clone(),
            of=of,
            start=start.clone(),
            constant=constant.clone(),
            guidance_scale=guidance_scale,
            iterations=inner_steps,
            rate=rate,
            enough=enough,
        )
        return tuning.tune(task, progress=Tuned() if context.tuned is None else context.tuned, observe=observe)


def started(context: Context, start: str) -> PromptEmbeds:
    """The embedding (B, 77, d) that a tuning of the words starts from: ``target``, ``source``, or ``empty``, which is
    that of the negative prompt, "" unless one was told.

    Raises ``MethodError`` for ``source`` where it was not said what the picture shows.
    """
    if start == "empty":
        return context.negative_prompt_embeds
    if start == "target":
        return context.prompt_embeds
    if context.source_embeds is None:
        raise MethodError("start='source' needs source=, what the picture shows")
    return context.source_embeds


def limited(
    context: Context,
    blend: Callable[[Latents, int], Latents],
    outside: Callable[[int], Latents],
) -> Callable[[Latents, int], Latents]:
    """A blend, and after it the user's mask: outside that, the latents are ``outside(i)``."""
    if context.mask is None:
        return blend
    first = outside(0)
    mask = Mask(values=context.mask.resized(*first.shape[-2:]).values.to(first.device))
    kept = keep_outside(mask, outside)
    return lambda x, i: kept(blend(x, i), i)
