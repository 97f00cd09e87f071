"""The inversions as methods: what each found is kept, and the picture that it makes is the reconstruction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..conditioning import PromptConditioning
from ..ddim import Ddim
from ..guidance import ClassifierFree
from ..inversion.inverted import Inverted
from .base import Context, Plan
from .checks import check_inverting, check_switch, check_tuning
from .described import followed, pair_of, tuned
from .pti import tuned_words


@dataclass(frozen=True, kw_only=True)
class DdimReconstruction:
    """DDIM inversion to ``encoding_ratio``, guided with ``inversion_guidance_scale``, and back, guided with ``guidance_scale``.

    Guided with 0 both ways, the picture comes back nearly as it was; with more on the way back it does not (Prompt Tuning
    Inversion, section 3.2 and Table 1). The words are those of the source, where it was told; else none.
    """

    name: ClassVar[str] = "ddim"
    kinds: ClassVar[tuple[str, ...]] = ("base",)
    words: ClassVar[str] = "optional"
    describes: ClassVar[bool] = True
    inverts: ClassVar[bool] = True
    PAPER: ClassVar[Mapping[str, Any]] = {
        "num_inference_steps": 50,
        "encoding_ratio": 0.8,
        "guidance_scale": 0.0,
        "inversion_guidance_scale": 0.0,
        "scheduler": "ddim",
    }

    num_inference_steps: int | None = None
    encoding_ratio: float | None = None
    guidance_scale: float | None = None
    inversion_guidance_scale: float | None = None
    scheduler: Any = None

    def __post_init__(self) -> None:
        check_inverting(self)

    def plan(self, context: Context) -> Plan:
        pair = pair_of(self, context)
        trajectory = followed(context, pair, guidance_scale=self.inversion_guidance_scale or 0.0)
        return Plan(
            start=trajectory[-1],
            schedule=pair.schedule,
            step=pair.step,
            conditioning=_shown(context),
            guidance=ClassifierFree(guidance_scale=self.guidance_scale or 0.0),
            inverted=Inverted(trajectory=trajectory),
        )


@dataclass(frozen=True, kw_only=True)
class PromptTuningReconstruction:
    """Stage 1 of :class:`~showtell.methods.pti.PromptTuningInversion`, with the same hyper-parameters; eta is 0.

    The tuning starts from ``start``: the ``target``'s embedding, and then belongs to that target; the ``source``'s, or the
    ``empty`` one, and then serves any target.
    """

    name: ClassVar[str] = "pti"
    kinds: ClassVar[tuple[str, ...]] = ("base",)
    words: ClassVar[str] = "optional"
    describes: ClassVar[bool] = True
    inverts: ClassVar[bool] = True
    PAPER: ClassVar[Mapping[str, Any]] = {
        "num_inference_steps": 50,
        "encoding_ratio": 0.8,
        "guidance_scale": 7.5,
        "inversion_guidance_scale": 0.0,
        "inner_steps": 1,
        "learning_rate": 0.1,
        "start": "empty",
        "scheduler": "ddim",
    }

    num_inference_steps: int | None = None
    encoding_ratio: float | None = None
    guidance_scale: float | None = None
    inversion_guidance_scale: float | None = None
    inner_steps: int | None = None
    learning_rate: float | None = None
    start: str | None = None
    scheduler: Any = None

    def __post_init__(self) -> None:
        check_inverting(self)
        check_tuning(self)

    def plan(self, context: Context) -> Plan:
        pair = pair_of(self, context)
        trajectory = followed(context, pair, guidance_scale=self.inversion_guidance_scale or 0.0)
        found = tuned_words(self, context, pair, trajectory)
        return _arrived(context, found, pair)


@dataclass(frozen=True, kw_only=True)
class NullTextReconstruction:
    """Null-Text Inversion (Mokady et al. 2023): beside the words of the ``source``, their absence is tuned, step by step.

    ``inner_steps`` 0 to 100, 10; ``learning_rate`` 0.01, of which step i takes the share 1 - i / 100; ``early_stop``: a step is
    over once its loss is below 1e-5 + 2e-5 i, as in the published code. Its ``encoding_ratio`` is 1; its inversion follows the
    words with ``inversion_guidance_scale`` 1 (Prompt Tuning Inversion's Table 2 takes 0 for all). It serves any target beside the
    same source. Where no source was told, the words are "".
    """

    name: ClassVar[str] = "nti"
    kinds: ClassVar[tuple[str, ...]] = ("base",)
    words: ClassVar[str] = "optional"
    describes: ClassVar[bool] = True
    inverts: ClassVar[bool] = True
    PAPER: ClassVar[Mapping[str, Any]] = {
        "num_inference_steps": 50,
        "encoding_ratio": 1.0,
        "guidance_scale": 7.5,
        "inversion_guidance_scale": 1.0,
        "inner_steps": 10,
        "learning_rate": 0.01,
        "early_stop": True,
        "scheduler": "ddim",
    }

    num_inference_steps: int | None = None
    encoding_ratio: float | None = None
    guidance_scale: float | None = None
    inversion_guidance_scale: float | None = None
    inner_steps: int | None = None
    learning_rate: float | None = None
    early_stop: bool | None = None
    scheduler: Any = None

    def __post_init__(self) -> None:
        check_inverting(self)
        check_tuning(self)
        check_switch("early_stop", self.early_stop)

    def plan(self, context: Context) -> Plan:
        pair = pair_of(self, context)
        trajectory = followed(context, pair, guidance_scale=self.inversion_guidance_scale or 0.0)
        found = tuned_nothing(self, context, pair, trajectory)
        return _arrived(context, found, pair)


def _shown(context: Context) -> PromptConditioning:
    return PromptConditioning(prompt_embeds=context.shown_embeds, negative_prompt_embeds=context.negative_prompt_embeds)


def _arrived(context: Context, found: Inverted, pair: Ddim) -> Plan:
    """The plan of what is already there: the tuning took every step of the reconstruction itself, so that none is run."""
    assert found.reconstruction is not None
    return Plan(
        start=found.reconstruction[-1],
        schedule=[],
        step=pair.step,
        conditioning=_shown(context),
        guidance=ClassifierFree(guidance_scale=0.0),
        inverted=found,
    )


def tuned_nothing(method: Any, context: Context, pair: Any, trajectory: Any) -> Inverted:
    """Null-Text Inversion for a method with ``inner_steps``, ``learning_rate``, ``early_stop`` and ``guidance_scale``."""
    return tuned(
        context,
        pair,
        trajectory,
        of="uncond",
        start=context.negative_prompt_embeds,
        constant=context.shown_embeds,
        guidance_scale=method.guidance_scale,
        inner_steps=method.inner_steps,
        rate=lambda i: method.learning_rate * max(0.0, 1 - i / 100),
        enough=(lambda i: 1e-5 + 2e-5 * i) if method.early_stop else (lambda i: -1.0),
    )
