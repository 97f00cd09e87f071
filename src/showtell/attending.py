"""Where each word of an instruction looks: the cross-attention maps of the first step, from which FoI finds its regions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import (
    drawing,
    images,
    instruction,
    jobs,
    keywords,
    layout,
    models,
    networks,
    overlays,
    requested,
    runs,
    schedulers,
    starts,
)
from .attention import BranchContext
from .conditioning import instructed
from .errors import MethodError, ShowtellWarning
from .focus import CrossCondition
from .schedule import SchedulerStep

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from .editor import Editor
    from .layout import Layout
    from .methods import Context


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word or a learned instruction: ``part`` the number of its instruction, from 0 on; ``positions`` of its tokens in the
    sequence that was read; ``concentration`` of its map in nats, 0 where it is even; ``peak`` (x, y) the picture's pixel
    where it is greatest; ``keyword`` whether FoI would find the instruction's region by it.
    """

    text: str
    part: int
    positions: tuple[int, ...]
    concentration: float
    peak: tuple[int, int]
    keyword: bool


@dataclass(frozen=True, kw_only=True)
class Attention:
    """The maps of ``words``, (n, h, w) float32 on the grid of the layers that count as 16x16, over ``picture``.

    ``instructions`` as they were told; ``seed`` and ``strength`` of the noise; ``notes`` whatever a user may want to know.
    """

    words: list[Word]
    maps: np.ndarray
    picture: Image.Image
    instructions: tuple[str, ...]
    seed: int
    strength: float
    notes: list[str] = field(default_factory=list)

    def sheet(self) -> Image.Image:
        """The picture, and for each word its map as heat over it; the keywords have a frame."""
        sections: list[tuple[str, list[drawing.Tile]]] = []
        for part, told in enumerate(self.instructions):
            tiles = [] if part else [drawing.Tile(picture=self.picture, caption="the picture")]
            for word, values in zip(self.words, self.maps, strict=True):
                if word.part == part:
                    tiles.append(
                        drawing.Tile(
                            picture=overlays.heat(self.picture, values),
                            caption=f"{word.text} (keyword)" if word.keyword else word.text,
                            note=f"concentration {word.concentration:.2f}",
                            marked=word.keyword,
                        )
                    )
            sections.append((f"{part + 1}  {told}", tiles))
        noise = f"noise of strength {self.strength:g}, seed {self.seed}"
        subtitle = f"cross-attention in the first step ({noise}), each map from its least to its greatest value"
        return drawing.page("Where each word looks", sections, subtitle=subtitle, cell=160, columns=7)


def attend(
    editor: Editor,
    image: Any,
    instructions: Any = None,
    *,
    seed: Any = 0,
    learned: Any = None,
    **hyperparameters: Any,
) -> Attention:
    """The cross-attention map of every word in the first step of method ``foi``, in its (c_I, c_T) branch; nothing is edited.

    ``instructions``: one or several, as ``Editor.edit`` takes them; a learned one has one map, the mean over its tokens.
    ``hyperparameters``: those of ``FocusOnInstruction`` that matter to the first step: ``strength``, ``scheduler``,
    ``num_inference_steps``, and ``maps``, with ``apart`` for a call of its own for each instruction. What is left out is
    the card's value, else the paper's. Raises ``ImageError``, ``TextError``, ``ModelError``, and ``MethodError``, also if
    no attention was captured.
    """
    import torch

    settled, _ = editor._settle("foi", hyperparameters)
    job = _job(editor, image, instructions, learned, seed)
    pipe = editor.pipe
    with models.memory_errors("out of memory: use dtype float16, or a smaller picture"):
        try:
            steps = SchedulerStep(
                schedulers.fresh_scheduler(settled.scheduler, pipe.scheduler.config),
                num_inference_steps=settled.num_inference_steps,
                device=models.device_of(pipe),
                generators=[job.generator],
            )
            context = runs.context(pipe, job, steps)
            t, _ = steps.last(settled.strength)[0]
            apart = settled.maps == "apart"
            layouts = _layouts(pipe, job, apart=apart)
            with torch.no_grad():
                maps = [found.cpu() for found in _maps(pipe, context, t, apart=apart)]
        finally:
            models.release(pipe)
    words, shown = _words(layouts, maps, job.picture.size)
    for note in job.notes:
        warnings.warn(note, ShowtellWarning, stacklevel=2)
    return Attention(
        words=words, maps=shown, picture=job.picture.rgb, instructions=job.told, seed=job.seed or 0,
        strength=settled.strength, notes=job.notes,
    )  # fmt: skip


def _job(editor: Editor, image: Any, told: Any, learned: Any, seed: Any) -> jobs.Job:
    if requested.is_batch(image):
        raise MethodError("one picture is looked at at a time: give a picture, not a list")
    [request] = requested.requests(
        images.open_picture(image), told, negative_prompt=None, mask=None, seed=seed, generator=None, learned=learned
    )
    return jobs.prepare(request, editor.pipe, lambda: models.weights_hash(editor.pipe), fit="fit", regions=True)


def _layouts(pipe: Any, job: jobs.Job, *, apart: bool) -> list[tuple[Layout, int]]:
    """For each instruction, the layout of the sequence that its map is read from, and its number in it."""
    if apart:
        return [(layout.lay_out(pipe, [part]), 0) for part in job.instructions]
    whole = layout.lay_out(pipe, job.instructions)
    return [(whole, number) for number in range(whole.parts)]


def _maps(pipe: Any, context: Context, t: Any, *, apart: bool) -> Iterator[torch.Tensor]:
    """For each instruction, the maps (77, h, w) of every token at timestep ``t``."""
    steps = context.steps
    image_latents = models.encode_image(pipe, context.pixels)
    z = models.scaled(pipe, image_latents)
    noise = starts.noise(z.shape[1:], context.generators, device=z.device)
    start = steps.scale_input(steps.noised(z, noise, t), t)
    [parts] = context.instructions
    told = [context.prompt_embeds]
    if apart:
        told = [instruction.assemble(pipe, instruction.segments(part))[0][None] for part in parts]
    net, control = networks.network(pipe), CrossCondition(pipe.unet, (z.shape[-2], z.shape[-1]))
    found = []
    with control.installed():
        for embeds in told:
            conditioning = instructed(
                pipe, embeds, context.negative_prompt_embeds, pixels=context.pixels, image_latents=image_latents
            )
            full, beside = conditioning.told("full", 0)
            control.watching = True
            control(BranchContext(step=0, timestep=t, branches=("full",), batch=1, latents=start))
            net(start, t, full, [beside])
            found.append(control.maps.mean()[0])
            control.maps.layers.clear()
    yield from found if apart else found * len(parts)


def _words(
    layouts: Sequence[tuple[Layout, int]], maps: Sequence[torch.Tensor], size: tuple[int, int]
) -> tuple[list[Word], np.ndarray]:
    words, shown = [], []
    for part, ((placed, number), values) in enumerate(zip(layouts, maps, strict=True)):
        keyword = keywords.known(placed, number) or keywords.chosen(placed, number, values)
        for piece in placed.of(number):
            if not (piece.learned or piece.keyword or any(c.isalnum() for c in piece.text)):
                continue
            own = values[list(piece.positions)].mean(0)
            row, column = divmod(int(own.argmax()), own.shape[1])
            words.append(
                Word(
                    text=piece.text,
                    part=part,
                    positions=tuple(piece.positions),
                    concentration=keywords.concentration(own),
                    peak=(int((column + 0.5) / own.shape[1] * size[0]), int((row + 0.5) / own.shape[0] * size[1])),
                    keyword=set(piece.positions) <= set(keyword.positions),
                )
            )
            shown.append(own.numpy())
    return words, np.stack(shown)
