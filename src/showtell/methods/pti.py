"""Prompt Tuning Inversion (Dong et al. 2023), and DDIM-Edit, which it goes beyond."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..conditioning import PromptConditioning, SteppedConditioning
from ..ddim import Ddim
from ..errors import MethodError
from ..guidance import ClassifierFree, check_scale
from ..inversion.inverted import Inverted
from .base import Context, Plan
from .checks import check_choice, check_inverting, check_tuning
from .described import followed, limited, pair_of, started, tuned
from .local import Local, check_local

if TYPE_CHECKING:
    import torch

    from ..types import Latents

INTERPOLATIONS = ("condition", "latent")
OUTSIDE = ("reconstruction", "inverted")


@dataclass(frozen=True, kw_only=True)
class PromptTuningInversion:
    """Edit towards a target prompt, and stay near the picture by an embedding that was tuned to reconstruct it.

    The picture's latents are inverted by DDIM to ``encoding_ratio`` of the way. Stage 1 (Algorithm 1, lines 1-13) tunes an
    embedding c_t for each step so that a run guided with ``guidance_scale`` stays on that way; stage 2 (lines 14-21, equation 9)
    samples from the same latents with eta c* + (1 - eta) c_t, c* the target's embedding. eta = 0 reconstructs the picture;
    eta = 1, or ``learning_rate`` = 0, is DDIM-Edit.

    ``eta`` in [0, 1], paper 0.9; ``inner_steps`` N, iterations of Adam a step, 0 to 100, paper 1; ``learning_rate`` beta >= 0,
    paper 0.1; ``guidance_scale`` omega >= 0, 7.5; ``inversion_guidance_scale`` that of the inversion, 0; ``num_inference_steps``
    1 to 1000, 50; ``encoding_ratio`` in (0, 1], 0.8; ``scheduler`` a DDIM scheduler. ``start``: what the first c_t is, the
    ``target``'s embedding (the paper's way), the ``source``'s or the ``empty`` one. ``interpolate``: ``condition``, or, as an
    ablation, ``latent``, which mixes latents instead (equation 10) and needs no stage 1.

    The paper names local blending and re-weighting and leaves them open; ours are Prompt-to-Prompt's. ``blend``: ``attention``
    keeps what lies outside the words that matter (bracketed ones, else those whose maps are the most concentrated), where
    their map is above ``blend_threshold`` of its maximum, in [0, 1], 0.3, from ``blend_start`` of the steps on, 0; ``none``
    does not. ``outside``: what is kept there, the ``reconstruction`` of stage 1 or the ``inverted`` latents themselves.
    ``reweight``: words of the target and what their attention is multiplied by, such as {"red": 2.0}.

    None takes the model card's value, else the paper's. Raises ``MethodError`` for a value out of range.
    """

    name: ClassVar[str] = "pti"
    kinds: ClassVar[tuple[str, ...]] = ("base",)
    words: ClassVar[str] = "required"
    describes: ClassVar[bool] = True
    PAPER: ClassVar[Mapping[str, Any]] = {
        "num_inference_steps": 50,
        "encoding_ratio": 0.8,
        "guidance_scale": 7.5,
        "inversion_guidance_scale": 0.0,
        "inner_steps": 1,
        "learning_rate": 0.1,
        "eta": 0.9,
        "start": "target",
        "interpolate": "condition",
        "blend": "attention",
        "blend_threshold": 0.3,
        "blend_start": 0.0,
        "outside": "reconstruction",
        "reweight": None,
        "scheduler": "ddim",
    }

    num_inference_steps: int | None = None
    encoding_ratio: float | None = None
    guidance_scale: float | None = None
    inversion_guidance_scale: float | None = None
    inner_steps: int | None = None
    learning_rate: float | None = None
    eta: float | None = None
    start: str | None = None
    interpolate: str | None = None
    blend: str | None = None
    blend_threshold: float | None = None
    blend_start: float | None = None
    outside: str | None = None
    reweight: Any = None
    scheduler: Any = None

    def __post_init__(self) -> None:
        check_inverting(self)
        check_tuning(self)
        check_local(self)
        if self.eta is not None:
            check_scale("eta", self.eta, least=0.0, most=1.0)
        check_choice("interpolate", self.interpolate, INTERPOLATIONS)
        check_choice("outside", self.outside, OUTSIDE)

    def plan(self, context: Context) -> Plan:
        if any(getattr(self, name) is None for name, value in self.PAPER.items() if value is not None):
            raise MethodError("method 'pti' is not settled: fill its hyper-parameters with methods.settle first")
        pair = pair_of(self, context)
        local = Local.of(self, context, pair)
        trajectory = followed(context, pair, guidance_scale=self.inversion_guidance_scale or 0.0)
        found = Inverted(trajectory=trajectory)
        if self.interpolate == "condition":
            found = tuned_words(self, context, pair, trajectory)
        outside = reconstruction(found) if self.outside == "reconstruction" else found.arrived
        blend = local.blend(outside)
        if self.interpolate == "latent":
            blend = _after(_mixing(found, self.eta or 0.0), blend)
        return Plan(
            start=found.start,
            schedule=pair.schedule,
            step=pair.step,
            conditioning=self._told(context, found),
            guidance=ClassifierFree(guidance_scale=self.guidance_scale or 0.0),
            blend=limited(context, blend, outside),
            attention=local.installed(),
            attend=local.attend,
            regions=local.regions,
        )

    def _told(self, context: Context, found: Inverted) -> Any:
        """Equation 9: eta c* + (1 - eta) c_t."""
        import torch

        words, nothing, eta = context.prompt_embeds, context.negative_prompt_embeds, self.eta or 0.0
        if found.tuned is None:
            return PromptConditioning(prompt_embeds=words, negative_prompt_embeds=nothing)
        # lerp is exact at both ends, and where nothing was tuned
        mixed = torch.lerp(found.tuned, words[None].expand_as(found.tuned), eta)
        return SteppedConditioning(prompt_embeds=mixed, negative_prompt_embeds=nothing)


@dataclass(frozen=True, kw_only=True)
class DdimEdit:
    """DDIM inversion, then DDIM sampling under the target prompt: the baseline of Prompt Tuning Inversion (its section 1).

    ``num_inference_steps`` 50, ``encoding_ratio`` 0.8, ``guidance_scale`` 7.5, ``inversion_guidance_scale`` 0 and ``scheduler``
    as in :class:`PromptTuningInversion`. ``blend``: ``none`` edits everywhere (the paper's DDIM-Global); ``attention`` keeps the
    inverted latents outside the words that matter, with ``blend_threshold`` 0.3, ``blend_start`` 0 and ``reweight`` as there.
    """

    name: ClassVar[str] = "ddim-edit"
    kinds: ClassVar[tuple[str, ...]] = ("base",)
    words: ClassVar[str] = "required"
    describes: ClassVar[bool] = True
    PAPER: ClassVar[Mapping[str, Any]] = {
        "num_inference_steps": 50,
        "encoding_ratio": 0.8,
        "guidance_scale": 7.5,
        "inversion_guidance_scale": 0.0,
        "blend": "none",
        "blend_threshold": 0.3,
        "blend_start": 0.0,
        "reweight": None,
        "scheduler": "ddim",
    }

    num_inference_steps: int | None = None
    encoding_ratio: float | None = None
    guidance_scale: float | None = None
    inversion_guidance_scale: float | None = None
    blend: str | None = None
    blend_threshold: float | None = None
    blend_start: float | None = None
    reweight: Any = None
    scheduler: Any = None

    def __post_init__(self) -> None:
        check_inverting(self)
        check_local(self)

    def plan(self, context: Context) -> Plan:
        if self.guidance_scale is None or self.encoding_ratio is None:
            raise MethodError("method 'ddim-edit' is not settled: fill its hyper-parameters with methods.settle first")
        pair = pair_of(self, context)
        local = Local.of(self, context, pair)
        found = Inverted(trajectory=followed(context, pair, guidance_scale=self.inversion_guidance_scale or 0.0))
        return Plan(
            start=found.start,
            schedule=pair.schedule,
            step=pair.step,
            conditioning=PromptConditioning(
                prompt_embeds=context.prompt_embeds, negative_prompt_embeds=context.negative_prompt_embeds
            ),
            guidance=ClassifierFree(guidance_scale=self.guidance_scale),
            blend=limited(context, local.blend(found.arrived), found.arrived),
            attention=local.installed(),
            attend=local.attend,
            regions=local.regions,
        )


def tuned_words(method: Any, context: Context, pair: Ddim, trajectory: torch.Tensor) -> Inverted:
    """Stage 1 of a method with ``start``, ``inner_steps``, ``learning_rate`` and ``guidance_scale``."""
    return tuned(
        context,
        pair,
        trajectory,
        of="cond",
        start=started(context, method.start),
        constant=context.negative_prompt_embeds,
        guidance_scale=method.guidance_scale,
        inner_steps=method.inner_steps,
        rate=lambda i: method.learning_rate,
    )


def reconstruction(found: Inverted) -> Callable[[int], Latents]:
    """The latents of the tuned run where each step arrives; those of the inversion where nothing was tuned."""
    run = found.reconstruction
    return found.arrived if run is None else lambda i: run[i + 1]


def _mixing(found: Inverted, eta: float) -> Callable[[Latents, int], Latents]:
    """Equation 10: eta z_t + (1 - eta) z*_t."""
    return lambda x, i: eta * x + (1 - eta) * found.arrived(i)


def _after(
    first: Callable[[Latents, int], Latents], second: Callable[[Latents, int], Latents]
) -> Callable[[Latents, int], Latents]:
    return lambda x, i: second(first(x, i), i)
