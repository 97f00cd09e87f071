"""Editing by words, from noise: InstructPix2Pix, and the same with InstructDiffusion's guidance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .. import models
from ..blending import keep_outside
from ..conditioning import instructed
from ..errors import MethodError
from ..feature_cache import FeatureCache, whole_steps
from ..guidance import (
    Guidance,
    InstructDiffusionGuidance,
    Interval,
    TwoCondition,
    at,
    check_scale,
    check_whole,
    checked_interval,
)
from ..sampling import keep
from .base import Context, Plan, check_steps


@dataclass(frozen=True, kw_only=True)
class InstructPix2Pix:
    """InstructPix2Pix (Brooks, Holynski and Efros 2023): noise, denoised under the picture and the words.

    ``guidance_scale`` s_T >= 1, paper 7.5; ``image_guidance_scale`` s_I >= 0, paper 1.5 (see ``TwoCondition``);
    ``num_inference_steps`` 1 to 1000, paper 100; ``scheduler`` anything that ``fresh_scheduler`` takes, paper
    Euler ancestral. None takes the model card's value, else the paper's. Several instructions are joined with ", ".

    What makes it faster at a price: ``guidance_interval``, two shares of the steps (see ``Interval``; (0, 1), all of them):
    the others compute the conditional branch alone. ``cache_interval`` N, 1 to 100 (see ``FeatureCache``; 1): only every
    N-th step computes the whole network, the others ``cache_depth`` of its last layers (1) and what these are joined to.

    Through a ControlNet for instruction editing (Zhang, Rao and Agrawala 2023) the rule is the same, and s_I is 1
    unless told otherwise: plain guidance on the text, with the picture seen by both branches.
    """

    name: ClassVar[str] = "ip2p"
    kinds: ClassVar[tuple[str, ...]] = ("instruct", "control")
    words: ClassVar[str] = "required"
    PAPER: ClassVar[Mapping[str, Any]] = {
        "guidance_scale": 7.5,
        "image_guidance_scale": 1.5,
        "num_inference_steps": 100,
        "scheduler": "euler-ancestral",
        "guidance_interval": (0.0, 1.0),
        "cache_interval": 1,
        "cache_depth": 1,
    }
    SINCE: ClassVar[Mapping[str, int]] = {"guidance_interval": 6, "cache_interval": 6, "cache_depth": 6}
    PAPER_FOR: ClassVar[Mapping[str, Mapping[str, Any]]] = {"control": {"image_guidance_scale": 1.0}}

    guidance_scale: float | None = None
    image_guidance_scale: float | None = None
    num_inference_steps: int | None = None
    scheduler: Any = None
    guidance_interval: Any = None
    cache_interval: int | None = None
    cache_depth: int | None = None

    def __post_init__(self) -> None:
        _check(self)

    def plan(self, context: Context) -> Plan:
        s_T, s_I = _scales(self)
        if s_I < 1:
            for b in range(len(context.pixels)):
                context.note(b, f"image_guidance_scale {s_I:g} is below 1: the picture is followed less")
        return _plan(self, context, TwoCondition(guidance_scale=s_T, image_guidance_scale=s_I))


@dataclass(frozen=True, kw_only=True)
class InstructDiffusion:
    """InstructPix2Pix's sampling with InstructDiffusion's guidance, which its published weights need.

    ``guidance_scale`` >= 1, 5.0; ``image_guidance_scale`` >= 0, 1.25; ``num_inference_steps``, 100;
    ``scheduler``, Euler ancestral; ``guidance_interval``, ``cache_interval`` and ``cache_depth`` as those of
    ``InstructPix2Pix``.
    """

    name: ClassVar[str] = "instructdiffusion"
    kinds: ClassVar[tuple[str, ...]] = ("instruct",)
    words: ClassVar[str] = "required"
    PAPER: ClassVar[Mapping[str, Any]] = {**InstructPix2Pix.PAPER, "guidance_scale": 5.0, "image_guidance_scale": 1.25}
    SINCE: ClassVar[Mapping[str, int]] = InstructPix2Pix.SINCE

    guidance_scale: float | None = None
    image_guidance_scale: float | None = None
    num_inference_steps: int | None = None
    scheduler: Any = None
    guidance_interval: Any = None
    cache_interval: int | None = None
    cache_depth: int | None = None

    def __post_init__(self) -> None:
        _check(self)

    def plan(self, context: Context) -> Plan:
        s_T, s_I = _scales(self)
        return _plan(self, context, InstructDiffusionGuidance(guidance_scale=s_T, image_guidance_scale=s_I))


def _check(method: InstructPix2Pix | InstructDiffusion) -> None:
    check_steps(method.num_inference_steps)
    if method.guidance_scale is not None:
        check_scale("guidance_scale", method.guidance_scale, least=1.0)
    if method.image_guidance_scale is not None:
        check_scale("image_guidance_scale", method.image_guidance_scale, least=0.0)
    if method.guidance_interval is not None:
        interval = checked_interval("guidance_interval", method.guidance_interval)
        object.__setattr__(method, "guidance_interval", interval)
    check_whole("cache_interval", method.cache_interval, 1, 100)
    check_whole("cache_depth", method.cache_depth, 1, 100)


def _scales(method: InstructPix2Pix | InstructDiffusion) -> tuple[float, float]:
    """s_T and s_I of a method whose hyper-parameters are settled."""
    if method.guidance_scale is None or method.image_guidance_scale is None:
        raise MethodError(f"method {method.name!r} is not settled: fill its hyper-parameters with methods.settle first")
    return method.guidance_scale, method.image_guidance_scale


def _plan(method: InstructPix2Pix | InstructDiffusion, context: Context, guidance: Guidance) -> Plan:
    steps = context.steps
    count = len(steps.schedule)
    if method.guidance_interval not in (None, (0.0, 1.0)):
        guidance = Interval(rule=guidance, interval=method.guidance_interval, steps=count)
    caching: dict[str, Any] = {}
    if method.cache_interval not in (None, 1):
        needed = [at(guidance, i).branches for i in range(count)]
        whole = whole_steps(needed, every=method.cache_interval)
        cache = FeatureCache(context.pipe.unet, whole, depth=method.cache_depth or 1)
        caching = {"attention": cache.installed(), "attend": cache}
    image_latents = models.encode_image(context.pipe, context.pixels)
    noise = context.noise(image_latents.shape[1:], device=image_latents.device)
    blend = keep
    if context.mask is not None:
        z = models.scaled(context.pipe, image_latents)
        mask = context.mask.resized(*z.shape[-2:])
        # Outside the mask the latents are the picture's, at the noise level that the step arrives at.
        blend = keep_outside(mask, lambda i: steps.noised(z, noise, steps.schedule[i][1]))
    return Plan(
        start=noise * steps.init_noise_sigma,
        schedule=steps.schedule,
        conditioning=instructed(
            context.pipe,
            context.prompt_embeds,
            context.negative_prompt_embeds,
            pixels=context.pixels,
            image_latents=image_latents,
        ),
        guidance=guidance,
        blend=blend,
        **caching,
    )
