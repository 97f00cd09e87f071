"""Several instructions at once, each in its own place: Focus on Your Instruction, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .. import models
from ..blending import keep_outside
from ..conditioning import instructed
from ..errors import MethodError
from ..guidance import TwoCondition, check_scale, check_whole, shown
from ..sampling import keep
from .base import Context, Plan, check_steps
from .foi_run import FocusRun

#: What the columns of start, end, padding and the commas between sub-instructions take: the union of the masks, the text's
#: own scores everywhere, or the scores of the branch without text.
COLUMNS = ("union", "text", "image")
#: What a sub-instruction's weight acts on: the paper's alpha, the text term of the guidance in its region, or both.
WEIGHING = ("attention", "guidance", "both")
#: How a sub-instruction is encoded: in the joined sentence, as in the paper, or by itself.
ENCODINGS = ("joined", "apart")


@dataclass(frozen=True, kw_only=True)
class FocusOnInstruction:
    """Focus on Your Instruction (Guo and Lin 2024): sub-instructions joined in one sequence, each kept in its own region.

    The picture is noised to ``strength`` (above 0, at most 1; paper 0.8) and denoised from there. At step ``mask_step``
    (0, the first) each keyword's map becomes a mask: ``gamma`` (0 to 10; 3) times squared and normalised, and at least
    ``tau`` (above 0, at most 1; a pair of bounds draws it by the picture's seed: (0.4, 0.7)). In the later steps, up to
    the share ``modulation`` (0 to 1; 1) of all, cross-attention is modulated with ``xi`` (>= 0; 0.05); up to the share
    ``disentangle`` (0.75), the text term of the guidance is multiplied by the union of the masks. ``columns``: what start,
    end and padding take, ``union`` (our reading; the paper does not say), ``text`` or ``image``. ``weigh``: what the
    weights of sub-instructions act on: ``attention`` (the paper's alpha), ``guidance`` (the text term in their regions) or
    ``both``.

    Beyond the paper: ``grow`` (0 to 8; 0) widens each mask that was found by so many cells of the maps' grid. ``maps`` and
    ``text``, ``joined`` as in the paper, or ``apart``. Apart, each sub-instruction's map is read from a call of its own at
    the mask step, and in its region it is heard by itself, not as a part of the joined sentence. A model that knows joined
    sentences badly needs both. There ``columns`` says what is heard where no region is: what the ``image`` branch hears,
    or with ``text`` all sub-instructions evenly.

    ``guidance_scale``, ``image_guidance_scale``, ``num_inference_steps`` and ``scheduler`` are those of
    ``InstructPix2Pix``. None takes the model card's value, else the paper's. Raises ``MethodError`` for a value out of
    range.
    """

    name: ClassVar[str] = "foi"
    kinds: ClassVar[tuple[str, ...]] = ("instruct", "control")
    words: ClassVar[str] = "required"
    regions: ClassVar[bool] = True
    PAPER: ClassVar[Mapping[str, Any]] = {
        "guidance_scale": 7.5,
        "image_guidance_scale": 1.5,
        "num_inference_steps": 100,
        "scheduler": "euler-ancestral",
        "strength": 0.8,
        "gamma": 3,
        "tau": (0.4, 0.7),
        "grow": 0,
        "mask_step": 0,
        "modulation": 1.0,
        "disentangle": 0.75,
        "xi": 0.05,
        "columns": "union",
        "weigh": "both",
        "maps": "joined",
        "text": "joined",
    }
    PAPER_FOR: ClassVar[Mapping[str, Mapping[str, Any]]] = {"control": {"image_guidance_scale": 1.0}}

    guidance_scale: float | None = None
    image_guidance_scale: float | None = None
    num_inference_steps: int | None = None
    scheduler: Any = None
    strength: float | None = None
    gamma: int | None = None
    tau: Any = None
    grow: int | None = None
    mask_step: int | None = None
    modulation: float | None = None
    disentangle: float | None = None
    xi: float | None = None
    columns: str | None = None
    weigh: str | None = None
    maps: str | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        check_steps(self.num_inference_steps)
        for name, least, most in (
            ("guidance_scale", 1.0, None), ("image_guidance_scale", 0.0, None), ("xi", 0.0, None),
            ("strength", 0.0, 1.0), ("modulation", 0.0, 1.0), ("disentangle", 0.0, 1.0),
        ):  # fmt: skip
            if getattr(self, name) is not None:
                check_scale(name, getattr(self, name), least=least, most=most)
        if self.strength == 0:
            raise MethodError("strength=0 is out of range: it must be above 0, and at most 1")
        check_whole("gamma", self.gamma, 0, 10)
        check_whole("grow", self.grow, 0, 8)
        check_whole("mask_step", self.mask_step, 0, 1000)
        if self.tau is not None:
            object.__setattr__(self, "tau", _threshold(self.tau))
        for name, choices in (
            ("columns", COLUMNS), ("weigh", WEIGHING), ("maps", ENCODINGS), ("text", ENCODINGS),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or value not in choices):
                raise MethodError(f"{name}={shown(value)} is not known: choose one of {', '.join(choices)}")

    def plan(self, context: Context) -> Plan:
        s_T, s_I, strength = self.guidance_scale, self.image_guidance_scale, self.strength
        if s_T is None or s_I is None or strength is None or any(getattr(self, name) is None for name in self.PAPER):
            raise MethodError("method 'foi' is not settled: fill its hyper-parameters with methods.settle first")
        pipe, steps = context.pipe, context.steps
        image_latents = models.encode_image(pipe, context.pixels)
        z = models.scaled(pipe, image_latents)
        noise = context.noise(z.shape[1:], device=z.device)
        schedule = steps.last(strength)
        blend = keep
        if context.mask is not None:
            limit = context.mask.resized(*z.shape[-2:])
            blend = keep_outside(limit, lambda i: steps.noised(z, noise, schedule[i][1]))
        conditioning = instructed(
            pipe,
            context.prompt_embeds,
            context.negative_prompt_embeds,
            pixels=context.pixels,
            image_latents=image_latents,
        )
        run = FocusRun(self, context, schedule, conditioning, latent_side=(z.shape[-2], z.shape[-1]))
        return Plan(
            start=steps.noised(z, noise, schedule[0][0]),
            schedule=schedule,
            conditioning=conditioning,
            guidance=TwoCondition(guidance_scale=s_T, image_guidance_scale=s_I, masked=True),
            blend=blend,
            attention=run.control.installed(),
            attend=run.attend,
            text_mask=run.text_mask,
            regions=run.regions,
        )


def _threshold(tau: Any) -> Any:
    """One threshold, or the (low, high) that it is drawn from. Raises ``MethodError`` for anything else."""
    bounds = tuple(tau) if isinstance(tau, (list, tuple)) else (tau,)
    try:
        for bound in bounds:
            check_scale("tau", bound, least=0.0, most=1.0)
        good = 0 < bounds[0] <= bounds[-1] and len(bounds) <= 2
    except (MethodError, IndexError):
        good = False
    if not good:
        raise MethodError(
            f"tau={shown(tau)} is out of range: it must be a number above 0 and at most 1, or a pair of such bounds"
        )
    # Python's own numbers, so that recipes can hold them.
    return tuple(map(float, bounds)) if isinstance(tau, (list, tuple)) else float(tau)
