"""Prompt-to-Prompt (Hertz et al. 2022) on pictures that are there already, by Null-Text Inversion (Mokady et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .. import models
from ..blending import Mask
from ..conditioning import SteppedConditioning
from ..errors import MethodError
from ..guidance import ClassifierFree, check_scale
from ..layout import lay_out
from .base import Context, Plan
from .checks import check_choice, check_inverting, check_switch, check_tuning
from .described import followed, pair_of
from .local import check_local
from .p2p_run import SideBySide
from .reconstructions import tuned_nothing

if TYPE_CHECKING:
    from ..types import Latents

MODES = ("auto", "replace", "refine")


@dataclass(frozen=True, kw_only=True)
class PromptToPrompt:
    """Edit by two prompts, what the picture shows (``source=``) and what it is to show, which share their attention.

    The picture is inverted by Null-Text Inversion; then source and target are sampled side by side, and the target's
    cross-attention is the source's for the first ``cross_replace_steps`` of the steps, its self-attention for the first
    ``self_replace_steps``, shares in [0, 1], paper 0.8 and 0.4. ``mode``: ``replace`` gives word n the attention of word n and
    needs as many words in both; ``refine`` aligns the prompts, and new words keep their own attention; ``auto`` is ``replace``
    where the numbers of words are equal, else ``refine``. ``reweight``: words of the target and what their attention is
    multiplied by, in every step, such as {"red": 2.0}.

    ``blend``: ``attention`` keeps the target at its source outside the words that matter (those in brackets, else those in
    which the prompts differ, else the most concentrated one), where their map is above ``blend_threshold`` of its maximum, in
    [0, 1], 0.3, from ``blend_start`` of the steps on, 0.2; ``none`` does not.

    ``num_inference_steps`` 1 to 1000, 50; ``encoding_ratio`` in (0, 1], 1; ``guidance_scale`` >= 0, 7.5; ``scheduler`` a DDIM
    scheduler. Of the inversion: ``inversion_guidance_scale`` >= 0, 1; ``inner_steps`` 0 to 100, 10; ``learning_rate`` >= 0, 0.01,
    of which step i takes the share 1 - i / 100; ``early_stop``: a step is over once its loss is below 1e-5 + 2e-5 i.

    None takes the model card's value, else the paper's. Raises ``MethodError`` for a value out of range.
    """

    name: ClassVar[str] = "p2p"
    kinds: ClassVar[tuple[str, ...]] = ("base",)
    words: ClassVar[str] = "required"
    describes: ClassVar[bool] = True
    PAPER: ClassVar[Mapping[str, Any]] = {
        "num_inference_steps": 50,
        "encoding_ratio": 1.0,
        "guidance_scale": 7.5,
        "inversion_guidance_scale": 1.0,
        "inner_steps": 10,
        "learning_rate": 0.01,
        "early_stop": True,
        "mode": "auto",
        "cross_replace_steps": 0.8,
        "self_replace_steps": 0.4,
        "reweight": None,
        "blend": "attention",
        "blend_threshold": 0.3,
        "blend_start": 0.2,
        "scheduler": "ddim",
    }

    num_inference_steps: int | None = None
    encoding_ratio: float | None = None
    guidance_scale: float | None = None
    inversion_guidance_scale: float | None = None
    inner_steps: int | None = None
    learning_rate: float | None = None
    early_stop: bool | None = None
    mode: str | None = None
    cross_replace_steps: float | None = None
    self_replace_steps: float | None = None
    reweight: Any = None
    blend: str | None = None
    blend_threshold: float | None = None
    blend_start: float | None = None
    scheduler: Any = None

    def __post_init__(self) -> None:
        check_inverting(self)
        check_tuning(self)
        check_local(self)
        check_choice("mode", self.mode, MODES)
        for name in ("cross_replace_steps", "self_replace_steps"):
            if getattr(self, name) is not None:
                check_scale(name, getattr(self, name), least=0.0, most=1.0)
        check_switch("early_stop", self.early_stop)

    def plan(self, context: Context) -> Plan:
        import torch

        if self.guidance_scale is None or self.inversion_guidance_scale is None or self.encoding_ratio is None:
            raise MethodError("method 'p2p' is not settled: fill its hyper-parameters with methods.settle first")
        told = [source for source in context.sources if source is not None]
        if context.source_embeds is None or len(told) != len(context.pixels):
            raise MethodError("method 'p2p' needs source=, what the picture shows, beside the target")
        pair = pair_of(self, context)
        sources = [lay_out(context.pipe, [source]) for source in told]
        targets = [context.layout(b) for b in range(len(told))]
        _, height, width = models.latent_shape(context.pipe, context.pixels)
        run = SideBySide(
            self,
            context.pipe,
            sources,
            targets,
            latent_side=(height, width),
            steps=len(pair),
            note=context.note,
        )
        trajectory = followed(context, pair, guidance_scale=self.inversion_guidance_scale)
        found = tuned_nothing(self, context, pair, trajectory)
        assert found.tuned is not None
        return Plan(
            start=torch.cat([found.start] * 2),
            schedule=pair.schedule,
            step=pair.step,
            conditioning=SteppedConditioning(
                prompt_embeds=torch.cat([context.source_embeds, context.prompt_embeds]),
                negative_prompt_embeds=torch.cat([found.tuned] * 2, dim=1),
            ),
            guidance=ClassifierFree(guidance_scale=self.guidance_scale),
            blend=_within(context.mask, run.blend, side=(height, width)),
            attention=run.control.installed(),
            attend=run.control,
            latents=lambda rows: rows[len(told) :],
            regions=run.regions if self.blend == "attention" else None,
            inverted=found,
        )


def _within(
    mask: Mask | None, blend: Callable[[Latents, int], Latents], *, side: tuple[int, int]
) -> Callable[[Latents, int], Latents]:
    """A blend of pairs, and after it the user's mask: outside that, a target is its source."""
    if mask is None:
        return blend
    limit = mask.resized(*side)

    def limited(x: Latents, i: int) -> Latents:
        import torch

        source, target = blend(x, i).chunk(2)
        return torch.cat([source, limit.overlay(target, source)])

    return limited
