"""The published loop of Visual Instruction Inversion, written again from its description, as something to be compared with.

All three branches of the two-condition guidance keep a gradient, although two of them do not depend on what is learned; one
timestep a step, each of the 1000 once in random order with one noise of its own; float32; AdamW at a constant rate; gradient
values clipped at the largest value of the initial embedding; 4 L_mse + 0.1 L_clip, whose cosine earns nothing above 0.5; only
the tokens between start and end move. The tokens kept are those of the step with the least L_mse, as published, although
single steps at different timesteps can hardly be compared.

Nothing here goes through the package's own loss or loop: ``Lesson.of`` only takes over the encoded pair and text, so that
both learn from the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

STEPS = 1000
LEARNING_RATE = 1e-3
GUIDANCE_SCALE, IMAGE_GUIDANCE_SCALE = 7.5, 1.5
MSE_WEIGHT, CLIP_WEIGHT, CLIP_CEILING = 4.0, 0.1, 0.5
NUM_TOKENS = 10
"""Of the caption that the published recipe starts from."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What the loop is given. ``after`` z and ``before`` c_I, (1, 4, h, w) each; ``embeds`` (77, d) of the initial text and
    ``empty_embeds`` (77, d) of the empty one; ``span`` of the tokens that move; ``alphas_cumprod`` (T,). ``direction`` (p,) of
    the pair in CLIP's space and ``feature``, the mean token (d,) to that space; both None leaves L_clip out. All float32.
    """

    unet: torch.nn.Module
    after: torch.Tensor
    before: torch.Tensor
    embeds: torch.Tensor
    empty_embeds: torch.Tensor
    span: tuple[int, int]
    alphas_cumprod: torch.Tensor
    prediction_type: str = "epsilon"
    direction: torch.Tensor | None = None
    feature: Callable[[torch.Tensor], torch.Tensor] | None = None

    @classmethod
    def of(cls, ours: Any) -> Lesson:
        """The same lesson as one of ``showtell.inversion.visii`` for an instruct UNet, its first pair."""
        shown = ours.shown[0]
        told = shown.condition(ours.embeds[None], ours.empty_embeds[None])
        return cls(
            unet=ours.network.unet, after=shown.after.float(), before=told.image_latents.float(),
            embeds=ours.embeds.float(), empty_embeds=ours.empty_embeds.float(), span=ours.span,
            alphas_cumprod=ours.alphas_cumprod.float(), prediction_type=ours.prediction_type,
            direction=ours.direction, feature=ours.feature,
        )  # fmt: skip


def begin(lesson: Lesson) -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
    """What is learned, the whole embedding (77, d), and its optimiser. The UNet is frozen by it."""
    lesson.unet.requires_grad_(False)
    embeds = torch.nn.Parameter(lesson.embeds.detach().clone())
    return embeds, torch.optim.AdamW([embeds], lr=LEARNING_RATE)


def step(
    lesson: Lesson, embeds: torch.nn.Parameter, optimiser: torch.optim.Optimizer, t: torch.Tensor, noise: torch.Tensor
) -> float:
    """One step at timestep ``t`` (a scalar) with its ``noise`` (1, 4, h, w). Returns L_mse before the step."""
    alpha_bar = lesson.alphas_cumprod[t]
    x = alpha_bar**0.5 * lesson.after + (1 - alpha_bar) ** 0.5 * noise
    told = torch.stack([embeds, lesson.empty_embeds, lesson.empty_embeds])
    beside = torch.cat([lesson.before, lesson.before, torch.zeros_like(lesson.before)])
    with torch.enable_grad():
        # Stacked, so that all three rows run with a gradient.
        rows = torch.cat([torch.cat([x] * 3), beside], dim=1)
        full, image, none = lesson.unet(rows, t, encoder_hidden_states=told, return_dict=False)[0].chunk(3)
        guided = none + GUIDANCE_SCALE * (full - image) + IMAGE_GUIDANCE_SCALE * (image - none)
        mse = torch.nn.functional.mse_loss(guided, _target(lesson, alpha_bar, noise))
        loss = MSE_WEIGHT * mse
        if lesson.direction is not None and lesson.feature is not None:
            feature = lesson.feature(embeds.mean(0))
            cosine = torch.nn.functional.cosine_similarity(lesson.direction, feature, dim=0)
            loss = loss - CLIP_WEIGHT * cosine.clamp(max=CLIP_CEILING)
        optimiser.zero_grad()
        loss.backward()
    assert embeds.grad is not None
    torch.nn.utils.clip_grad_value_([embeds], float(lesson.embeds.max()))
    optimiser.step()
    with torch.no_grad():  # start, end and padding stay as the initial text's encoder left them
        start, end = lesson.span
        embeds[:start], embeds[end:] = lesson.embeds[:start], lesson.embeds[end:]
    return float(mse.detach())


def _target(lesson: Lesson, alpha_bar: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """The noise; for networks that predict v, that: the published code knows noise alone."""
    if lesson.prediction_type == "epsilon":
        return noise
    if lesson.prediction_type != "v_prediction":
        raise ValueError(f"prediction type {lesson.prediction_type!r}: neither noise nor v")
    return alpha_bar**0.5 * noise - (1 - alpha_bar) ** 0.5 * lesson.after


def learn(
    lesson: Lesson, *, seed: int, steps: int = STEPS, observe: Callable[[int, torch.Tensor], None] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``steps`` steps. ``observe(done, embeds)`` after each one, with a (77, d) that must not be changed.

    Returns the embedding (77, d) of the least single L_mse, which the published code keeps, and the last one.
    """
    generator = torch.Generator().manual_seed(seed)
    total = len(lesson.alphas_cumprod)
    order = torch.cat([torch.randperm(total, generator=generator) for _ in range(-(-steps // total))])[:steps]
    noises = torch.randn((total, *lesson.after.shape[1:]), generator=generator)
    embeds, optimiser = begin(lesson)
    best, least = embeds.detach().clone(), float("inf")
    for i, t in enumerate(order):
        before = embeds.detach().clone()
        noise = noises[t][None].to(lesson.after)
        mse = step(lesson, embeds, optimiser, t.to(lesson.after.device), noise)
        if mse < least:
            best, least = before, mse
        if observe is not None:
            observe(i + 1, embeds.detach())
    return best, embeds.detach().clone()
