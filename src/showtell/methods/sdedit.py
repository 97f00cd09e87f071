"""SDEdit (Meng et al. 2022): the picture noised, and denoised again under the words of the target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..conditioning import PromptConditioning
from ..ddim import check_ratio
from ..errors import MethodError
from ..guidance import ClassifierFree, check_scale
from ..sampling import keep
from .base import Context, Plan, check_steps
from .described import encoded, limited


@dataclass(frozen=True, kw_only=True)
class SDEdit:
    """SDEdit with a text-to-image model, as stock image-to-image pipelines do it.

    ``strength`` in (0, 1], the share of the steps that the noised picture runs, 0.8; ``guidance_scale`` >= 0, 7.5;
    ``num_inference_steps`` 1 to 1000, 50; ``scheduler`` anything that ``fresh_scheduler`` takes, DDIM. These are Stable
    Diffusion's usual values: SDEdit's own models had no words. None takes the model card's value, else these.
    """

    name: ClassVar[str] = "sdedit"
    kinds: ClassVar[tuple[str, ...]] = ("base",)
    words: ClassVar[str] = "required"
    describes: ClassVar[bool] = True
    PAPER: ClassVar[Mapping[str, Any]] = {
        "strength": 0.8,
        "guidance_scale": 7.5,
        "num_inference_steps": 50,
        "scheduler": "ddim",
    }

    strength: float | None = None
    guidance_scale: float | None = None
    num_inference_steps: int | None = None
    scheduler: Any = None

    def __post_init__(self) -> None:
        check_steps(self.num_inference_steps)
        if self.guidance_scale is not None:
            check_scale("guidance_scale", self.guidance_scale, least=0.0)
        if self.strength is not None:
            check_ratio(self.strength, "strength")

    def plan(self, context: Context) -> Plan:
        if self.strength is None or self.guidance_scale is None:
            raise MethodError("method 'sdedit' is not settled: fill its hyper-parameters with methods.settle first")
        steps = context.steps
        z = encoded(context)
        noise = context.noise(z.shape[1:], device=z.device)
        schedule = steps.last(self.strength)
        return Plan(
            start=steps.noised(z, noise, schedule[0][0]),
            schedule=schedule,
            conditioning=PromptConditioning(
                prompt_embeds=context.prompt_embeds, negative_prompt_embeds=context.negative_prompt_embeds
            ),
            guidance=ClassifierFree(guidance_scale=self.guidance_scale),
            blend=limited(context, keep, lambda i: steps.noised(z, noise, schedule[i][1])),
        )
