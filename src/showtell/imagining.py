"""Pairs of pictures out of noise: a source and its target that differ where their prompts do (Prompt-to-Prompt).

Nothing is inverted: both begin in the same noise. So InstructPix2Pix's training pictures were made (its section 3.1.2).
"""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from . import fitting, instruction, methods, models, networks, requested, sampling, schedulers, starts, watching
from .caching import constant_text
from .conditioning import PromptConditioning
from .errors import MethodError, ShowtellError, TextError
from .guidance import BASE_BRANCHES, ClassifierFree, Guidance, check_scale
from .layout import lay_out
from .methods.p2p import PromptToPrompt
from .methods.p2p_run import SideBySide
from .schedule import SchedulerStep

if TYPE_CHECKING:
    import torch

    from .editor import Editor
    from .instruction import Instruction
    from .types import StepCallback

# Of Prompt-to-Prompt's hyper-parameters those that an inversion has.
_OF_INVERSION = ("encoding_ratio", "inversion_guidance_scale", "inner_steps", "learning_rate", "early_stop")
_TOO_MUCH = "out of memory: use sequential=True, a smaller batch_size or size, dtype float16, or offload='model'"


@dataclass(frozen=True, kw_only=True, eq=False)
class Imagined:
    """A picture ``before``, which ``source`` describes, and with a ``target`` the picture ``after`` that it describes.

    ``mask`` (H, W) bool is where local blending let them differ, None without it. ``seed``, ``guidance_scale`` and
    ``self_replace_steps`` are those of this pair; ``notes`` say whatever a user may want to know.
    """

    before: Image.Image
    after: Image.Image | None
    source: str
    target: str | None
    seed: int
    guidance_scale: float
    self_replace_steps: float
    mask: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)


def pair(
    editor: Editor,
    source: Any,
    target: Any = None,
    *,
    seed: Any = None,
    guidance_scale: Any = None,
    self_replace_steps: Any = None,
    negative_prompt: str = "",
    size: tuple[int, int] | None = None,
    batch_size: int = 8,
    sequential: bool = False,
    callback: StepCallback | None = None,
    progress: bool = False,
    cancel: Any = None,
    **hyperparameters: Any,
) -> list[Imagined]:
    """Pictures of ``source``, each with one of ``target`` beside it; without a target, of ``source`` alone.

    ``source`` and ``target`` are prompts or lists of them, ``seed`` a whole number or a list, at random by default; a single
    one serves all, and as many pairs are made as the longest list has. ``guidance_scale`` and ``self_replace_steps`` may be
    lists, too. ``hyperparameters`` are those of ``methods.PromptToPrompt`` but for the inversion's; with ``scheduler`` any
    scheduler may be chosen, and one that draws noise draws the same for both. ``size`` (width, height) in pixels, the model's
    own by default. A batch equals the single pairs (within 1e-4 on latents).

    Raises ``MethodError``, ``TextError``, ``ModelError``, ``Cancelled``, or ``ShowtellError`` for a result that is not finite.
    """
    models.require_kind(editor.pipe, PromptToPrompt.kinds, method="p2p", model_id=editor.model_id)
    for name in _OF_INVERSION:
        if hyperparameters.get(name) is not None:
            raise MethodError(f"{name} is for pictures that are inverted: leave it out")
    method = _settled(editor, hyperparameters)
    asked = _asked(editor, method, source, target, seed, guidance_scale, self_replace_steps)
    size = _size(editor.pipe, size)
    if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
        raise MethodError(f"batch_size={batch_size} is out of range: it must be at least 1")
    watch = watching.Watch(callback=callback, progress=progress, cancel=cancel)
    found: list[Imagined] = []
    for first in range(0, len(asked), batch_size):
        part = asked[first : first + batch_size]
        found += _run(editor.pipe, part, method, negative_prompt, size, sequential=sequential, watch=watch)
    return found


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One pair, with all that may differ from pair to pair."""

    source: Instruction
    target: Instruction | None
    seed: int
    guidance_scale: float
    self_replace_steps: float


@dataclass(frozen=True, kw_only=True)
class _RowByRow:
    """Plain guidance with a scale for each row."""

    scales: tuple[float, ...]
    branches = BASE_BRANCHES

    def combine(self, eps: Mapping[str, torch.Tensor], *, text_mask: torch.Tensor | None = None) -> torch.Tensor:
        import torch

        scale = torch.tensor(self.scales).to(eps["cond"])[:, None, None, None]
        return eps["uncond"] + scale * (eps["cond"] - eps["uncond"])


def _settled(editor: Editor, given: dict[str, Any]) -> Any:
    card = editor.card.get("defaults", {}).get(PromptToPrompt.name, {})
    settled, _ = methods.settle(PromptToPrompt(), given=given, card=card, kind=editor.kind)
    return settled


def _asked(
    editor: Editor, method: Any, source: Any, target: Any, seed: Any, scale: Any, self_steps: Any
) -> list[_Asked]:
    columns = {
        "source": source,
        "target": target,
        "seed": seed,
        "guidance_scale": method.guidance_scale if scale is None else scale,
        "self_replace_steps": method.self_replace_steps if self_steps is None else self_steps,
    }
    lengths = {name: len(value) for name, value in columns.items() if isinstance(value, (list, tuple))}
    count = max(lengths.values(), default=1)
    for name, length in lengths.items():
        if length != count:
            raise MethodError(
                f"{name} is a list of {length}, and there are {count} pairs: give one for each, or one for all"
            )
    rows = [{name: value[b] if name in lengths else value for name, value in columns.items()} for b in range(count)]
    found = [_one(**row) for row in rows]
    if len({one.target is None for one in found}) > 1:
        raise TextError("some sources have a target and others do not: imagine them in two calls")
    return found


def _one(*, source: Any, target: Any, seed: Any, guidance_scale: Any, self_replace_steps: Any) -> _Asked:
    check_scale("guidance_scale", guidance_scale, least=0.0)
    check_scale("self_replace_steps", self_replace_steps, least=0.0, most=1.0)
    return _Asked(
        source=instruction.parse(source),
        target=None if target is None else instruction.parse(target),
        seed=requested.checked_seed(seed),
        guidance_scale=float(guidance_scale),
        self_replace_steps=float(self_replace_steps),
    )


def _size(pipe: Any, size: Any) -> tuple[int, int]:
    """(width, height) in pixels. Raises ``MethodError`` for sides that the model cannot take."""
    side, multiple = models.resolution(pipe), models.size_multiple(pipe)
    if size is None:
        return side, side
    good = isinstance(size, (list, tuple)) and len(size) == 2
    if not good or any(not isinstance(n, numbers.Integral) or n < multiple or n % multiple for n in size):
        raise MethodError(f"size={size} is out of range: it must be (width, height), both multiples of {multiple}")
    return int(size[0]), int(size[1])


def _run(
    pipe: Any,
    asked: Sequence[_Asked],
    method: Any,
    negative_prompt: str,
    size: tuple[int, int],
    *,
    sequential: bool,
    watch: watching.Watch,
) -> list[Imagined]:
    """One batch, sources first and then their targets. Each pair's start and draws come from its own seed, for both alike."""
    told = [one.source for one in asked] + [one.target for one in asked if one.target is not None]
    layouts, notes = [lay_out(pipe, [each]) for each in told], [list[str]() for _ in asked]
    generators = [starts.generator(asked[row % len(asked)].seed) for row in range(len(told))]
    steps = SchedulerStep(
        schedulers.fresh_scheduler(method.scheduler, pipe.scheduler.config),
        num_inference_steps=method.num_inference_steps,
        device=models.device_of(pipe),
        generators=generators,
    )
    factor = models.latent_factor(pipe)
    side = (size[1] // factor, size[0] // factor)
    run = None
    if len(told) > len(asked):
        run = SideBySide(
            method, pipe, layouts[: len(asked)], layouts[len(asked) :], latent_side=side, steps=len(steps),
            self_replace_steps=[one.self_replace_steps for one in asked], note=lambda b, text: notes[b].append(text),
        )  # fmt: skip
    denoise = sampling.GuidedDenoiser(
        network=networks.network(pipe),
        conditioning=_conditioning(pipe, told, negative_prompt),
        guidance=_guidance([asked[row % len(asked)].guidance_scale for row in range(len(told))]),
        scale_input=steps.scale_input,
        sequential=sequential,
        attend=None if run is None else run.control,
    )
    start = (
        starts.noise((pipe.vae.config.latent_channels, *side), generators, device=models.device_of(pipe))
        * steps.init_noise_sigma
    )
    held = contextlib.nullcontext() if run is None else run.control.installed()
    try:
        with models.memory_errors(_TOO_MUCH), held, constant_text(pipe.unet), watch.run(len(steps)) as observe:
            latents = sampling.sample(
                denoise,
                start,
                steps.schedule,
                steps.step,
                blend=sampling.keep if run is None else run.blend,
                observe=observe,
            )
            pixels = models.decode(pipe, latents)
            hidden = models.flagged(pipe, pixels)
    finally:
        models.release(pipe)
    if not (latents.isfinite().all() and pixels.isfinite().all()):
        raise ShowtellError("the result is not finite: use dtype float32 or bfloat16, or a smaller guidance_scale")
    pictures = [
        Image.new("RGB", size) if black else picture
        for picture, black in zip(fitting.to_images(pixels), hidden, strict=True)
    ]
    regions = [[] for _ in asked] if run is None else run.regions()
    return _packed(asked, pictures, [_mask(found, size) for found in regions], notes)


def _packed(
    asked: Sequence[_Asked],
    pictures: Sequence[Image.Image],
    masks: Sequence[np.ndarray | None],
    notes: Sequence[list[str]],
) -> list[Imagined]:
    after = pictures[len(asked) :] or [None] * len(asked)
    return [
        Imagined(
            before=pictures[b],
            after=after[b],
            source=one.source.text,
            target=None if one.target is None else one.target.text,
            seed=one.seed,
            guidance_scale=one.guidance_scale,
            self_replace_steps=one.self_replace_steps,
            mask=masks[b],
            notes=notes[b],
        )
        for b, one in enumerate(asked)
    ]


def _conditioning(pipe: Any, told: Sequence[Instruction], negative_prompt: str) -> PromptConditioning:
    import torch

    nothing, _ = instruction.assemble(pipe, [instruction.Words(text=negative_prompt)])
    return PromptConditioning(
        prompt_embeds=torch.stack([instruction.assemble(pipe, instruction.segments(each))[0] for each in told]),
        negative_prompt_embeds=torch.stack([nothing] * len(told)),
    )


def _guidance(scales: Sequence[float]) -> Guidance:
    """One rule for all rows where they have one scale, which may need no second branch."""
    return ClassifierFree(guidance_scale=scales[0]) if len(set(scales)) == 1 else _RowByRow(scales=tuple(scales))


def _mask(regions: Sequence[Any], size: tuple[int, int]) -> np.ndarray | None:
    """A region at the picture's size, (H, W) bool."""
    if not regions:
        return None
    small = Image.fromarray((regions[0].mask.cpu().numpy() * 255).astype(np.uint8))
    return np.asarray(small.resize(size, Image.Resampling.NEAREST)) > 127
