"""DiffEdit (Couairon et al. 2023): a mask from what two prompts say differently, and DDIM-Edit inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .. import networks, starts
from ..blending import Mask, keep_outside
from ..conditioning import PromptConditioning
from ..ddim import Ddim, check_ratio
from ..errors import MethodError
from ..guidance import ClassifierFree, check_scale, check_whole
from ..inversion.inverted import Inverted
from ..schedule import to_epsilon
from .base import Context, Plan, Region
from .checks import check_inverting
from .described import followed, limited, pair_of

if TYPE_CHECKING:
    import torch

    from ..types import LatentMask, PromptEmbeds


@dataclass(frozen=True, kw_only=True)
class DiffEdit:
    """DiffEdit, with a source prompt (``source=``) or against no words at all.

    Step 1: the picture is noised to ``mask_strength`` of the schedule, (0, 1], 0.5, with ``maps`` noises, 1 to 100, 10; the mean
    absolute difference of what the network predicts for the target and for the source (without one for ""), its outliers
    clipped at 3 times its mean and normalised, is the mask where it is at least ``mask_threshold``, in [0, 1], 0.5. Step 2: DDIM
    inversion to ``encoding_ratio``, 0.8, guided with ``inversion_guidance_scale``, 0. Step 3: DDIM sampling with the target, and
    ``guidance_scale`` 7.5, while the latents outside the mask are the inverted ones. ``num_inference_steps`` 50; ``scheduler``
    a DDIM scheduler. A mask of the user's limits the edit beside it. Raises ``MethodError`` for a value out of range.
    """

    name: ClassVar[str] = "diffedit"
    kinds: ClassVar[tuple[str, ...]] = ("base",)
    words: ClassVar[str] = "required"
    describes: ClassVar[bool] = True
    PAPER: ClassVar[Mapping[str, Any]] = {
        "num_inference_steps": 50,
        "encoding_ratio": 0.8,
        "guidance_scale": 7.5,
        "inversion_guidance_scale": 0.0,
        "mask_strength": 0.5,
        "mask_threshold": 0.5,
        "maps": 10,
        "scheduler": "ddim",
    }

    num_inference_steps: int | None = None
    encoding_ratio: float | None = None
    guidance_scale: float | None = None
    inversion_guidance_scale: float | None = None
    mask_strength: float | None = None
    mask_threshold: float | None = None
    maps: int | None = None
    scheduler: Any = None

    def __post_init__(self) -> None:
        check_inverting(self)
        if self.mask_strength is not None:
            check_ratio(self.mask_strength, "mask_strength")
        if self.mask_threshold is not None:
            check_scale("mask_threshold", self.mask_threshold, least=0.0, most=1.0)
        check_whole("maps", self.maps, 1, 100)

    def plan(self, context: Context) -> Plan:
        if self.guidance_scale is None or self.mask_strength is None or self.mask_threshold is None:
            raise MethodError("method 'diffedit' is not settled: fill its hyper-parameters with methods.settle first")
        pair = pair_of(self, context)
        found = Inverted(trajectory=followed(context, pair, guidance_scale=self.inversion_guidance_scale or 0.0))
        whole = Ddim.of(context.steps.scheduler)
        differing = difference(context, found.trajectory[0], whole, strength=self.mask_strength, maps=self.maps or 1)
        mask = Mask(values=(differing >= self.mask_threshold).float())
        for b, values in enumerate(mask.values):
            if not values.any():
                context.note(b, "the mask is empty, so nothing is edited: lower mask_threshold")
        return Plan(
            start=found.start,
            schedule=pair.schedule,
            step=pair.step,
            conditioning=PromptConditioning(
                prompt_embeds=context.prompt_embeds, negative_prompt_embeds=context.negative_prompt_embeds
            ),
            guidance=ClassifierFree(guidance_scale=self.guidance_scale),
            blend=limited(context, keep_outside(mask, found.arrived), found.arrived),
            regions=lambda: _regions(mask.values),
        )


def difference(context: Context, z: torch.Tensor, pair: Ddim, *, strength: float, maps: int) -> LatentMask:
    """How differently the network predicts the noise under the target and under the source, (B, 1, h, w) in [0, 1].

    DiffEdit, section 3.2, step 1: the mean over ``maps`` noises and over the channels of |eps(target) - eps(source)| at
    ``strength`` of the schedule; what is above 3 times its mean is clipped, and the largest value is then 1. ``pair`` is the
    whole schedule; each picture's noises come from its own generator.
    """
    import torch

    first = len(pair) - max(1, int(len(pair) * strength + 1e-6))
    t, alpha_bar = pair.timesteps[first], pair.levels[first]
    against = context.negative_prompt_embeds if context.source_embeds is None else context.source_embeds
    total = torch.zeros_like(z[:, :1])
    with context.phase("finding the mask", maps) as observe:
        for i in range(maps):
            noise = starts.noise(z.shape[1:], context.generators, device=z.device)
            x = alpha_bar**0.5 * z + (1 - alpha_bar) ** 0.5 * noise
            there, here = (_noise(context, x, t, words, pair, alpha_bar) for words in (context.prompt_embeds, against))
            total += (there - here).abs().mean(1, keepdim=True)
            observe(i, x)
    mean = total / maps
    clipped = torch.minimum(mean, 3 * mean.mean((1, 2, 3), keepdim=True))
    return clipped / clipped.amax((1, 2, 3), keepdim=True).clamp(min=1e-12)


def _noise(context: Context, x: Any, t: Any, words: PromptEmbeds, pair: Ddim, alpha_bar: Any) -> torch.Tensor:
    import torch

    with torch.no_grad():
        output = networks.network(context.pipe)(x, t, words)
    return to_epsilon(output, x, alpha_bar, pair.prediction_type)


def _regions(values: torch.Tensor) -> Sequence[Sequence[Region]]:
    return [[Region(part=0, mask=mask[0])] for mask in values]
