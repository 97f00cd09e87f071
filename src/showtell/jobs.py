"""What is asked of a picture becomes a job: the picture opened, the words read, the frame chosen."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import fitting, images, instruction, keywords, layout, models, requested, starts, wording
from .errors import MethodError, ShowtellError, TextError
from .guidance import check_scale
from .inversions import Inversion
from .recipe import MOST_WEIGHT, FileRecord, LearnedRecord, record_of
from .requested import Request

if TYPE_CHECKING:
    import numpy as np

#: Where a run's noise comes from: drawn anew, or what a learned instruction was learned with.
NOISES = ("random", "recorded")


@dataclass(kw_only=True)
class Job:
    """One picture, ready to be edited."""

    picture: images.Picture
    frame: fitting.Frame
    instructions: tuple[instruction.Instruction, ...]
    told: tuple[str, ...]
    segments: list[instruction.Segment]
    negative: instruction.Words
    learned: tuple[LearnedRecord, ...]
    recorded: starts.RecordedNoise | None
    mask: np.ndarray | None
    mask_record: FileRecord | None
    weights: tuple[float, ...]
    masks: tuple[np.ndarray | None, ...]
    mask_records: tuple[FileRecord | None, ...]
    seed: int | None
    generator: Any
    source: instruction.Instruction | None = None
    source_words: instruction.Words | None = None
    inversion: Inversion | None = None
    resolution: int | None = None
    notes: list[str] = field(default_factory=list)


def prepare_all(
    requests: Sequence[Request],
    pipe: Any,
    *,
    fit: str,
    words: str = "required",
    noise: str = "random",
    regions: bool = False,
    describes: bool = False,
    resolution: int | None = None,
) -> list[Any]:
    """A job for each request, or the error of one that cannot be done."""
    prepared: list[Any] = []
    weights = functools.cache(lambda: models.weights_hash(pipe))
    for request in requests:
        try:
            prepared.append(
                prepare(
                    request,
                    pipe,
                    weights,
                    fit=fit,
                    words=words,
                    noise=noise,
                    regions=regions,
                    describes=describes,
                    resolution=resolution,
                )  # fmt: skip
            )
        except ShowtellError as error:
            prepared.append(error)
    return prepared


def same_size(prepared: Sequence[Any], *, most: int) -> list[list[int]]:
    """Positions of the jobs that can run as one batch: those whose frames have one size, whose noise has one source, and
    which come from inversions of one kind or from none, at most ``most`` together.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, job in enumerate(prepared):
        if isinstance(job, Job):
            tuned = None if job.inversion is None else job.inversion.data.of or "trajectory"
            told = job.source is not None
            groups.setdefault((job.frame.frame, job.recorded is not None, tuned, told), []).append(index)
    return [group[first : first + most] for group in groups.values() for first in range(0, len(group), most)]


def prepare(
    request: Request,
    pipe: Any,
    weights: Callable[[], str],
    *,
    fit: str,
    words: str = "required",
    noise: str = "random",
    regions: bool = False,
    describes: bool = False,
    resolution: int | None = None,
) -> Job:
    """Open the picture, read the words, choose the frame. ``words``: whether the method requires an instruction;
    ``weights`` gives the pipeline's fingerprint; ``regions``: whether the method keeps each instruction in its own region;
    ``describes``: whether it is told what the result shows; ``resolution``: the longer side at which the model sees the
    picture, by default the one that it was made for.

    Raises ``ImageError``, ``TextError``, ``MethodError``, or ``ModelError`` for an instruction that was learned with
    another model.
    """
    told, looks = wording.written(request.instruction, request.learned, words)
    parsed = tuple(instruction.parse(text, looks) for text in told)
    picture = images.open_picture(request.image)
    notes = list(picture.notes)
    whole = instruction.join(parsed)
    check_regions(weights=request.weights, masks=request.masks, regions=regions)
    if regions or (describes and parsed):
        layout.lay_out(pipe, parsed)  # what is too long is an error here: no instruction may be cut off unseen
    segments = wording.segments(pipe, whole, looks, weights, notes)
    if request.negative_prompt is not None and not isinstance(request.negative_prompt, str):
        raise TextError(f"the negative prompt must be text, not {type(request.negative_prompt).__name__}")
    refused = request.negative_prompt
    if refused is None and request.inversion is not None:
        refused = request.inversion.negative_prompt
    negative = wording.fitted(pipe, refused or "", "the negative prompt", notes)
    mask = record = None
    if request.mask is not None:
        opened = images.open_picture(images.mask_like(request.mask))
        mask, record = images.open_mask(opened, size=picture.size), record_of(opened)
    masks, mask_records = own_masks(request.masks, len(parsed), picture.size)
    if regions:
        for part, own in zip(parsed, masks, strict=True):
            if own is None:
                keywords.known(layout.lay_out(pipe, [part]), 0)  # an instruction without a word is an error here, too
    source, source_words = _source(request, pipe, describes, notes)
    frame = fitting.frame_for(
        picture.size, fit=fit, resolution=resolution or models.resolution(pipe), multiple=models.size_multiple(pipe)
    )
    if frame.squeezed:
        wide, high = frame.frame
        notes.append(
            f"the picture ({picture.size[0]}x{picture.size[1]}) is too long for the model and was squeezed into "
            f"{wide}x{high} for it; fit pad keeps its proportions"
        )
    if request.inversion is not None:
        if resolution is not None:
            raise MethodError("resolution is that of the inversion: leave it out")
        request.inversion.check(
            pipe, weights, picture=picture, frame=frame, told=whole.text, source=source, negative=negative.text
        )
    recorded = wording.recorded(whole, pipe, frame, notes) if noise == "recorded" else None
    used = dict.fromkeys(name for text in told for name in instruction.names_in(text) if name in looks)
    seed = _seed_of(request.generator, notes) if request.seed is None else request.seed
    return Job(
        picture=picture, frame=frame, instructions=parsed, told=told, segments=segments, negative=negative, mask=mask,
        learned=tuple(LearnedRecord(name=name, parts=looks[name].made_of) for name in used), recorded=recorded,
        mask_record=record, weights=checked_weights(request.weights, len(parsed)), masks=masks, mask_records=mask_records,
        seed=seed, generator=request.generator, source=source, source_words=source_words, inversion=request.inversion,
        resolution=resolution, notes=notes,
    )  # fmt: skip


def _source(request: Request, pipe: Any, describes: bool, notes: list[str]) -> tuple[Any, Any]:
    """What the picture shows, as an instruction and as the words that the text encoder has room for."""
    told, held = request.source, request.inversion
    if not describes:
        check_described({"source": told, "inversion": held})
        return None, None
    if told is None and held is not None:
        told = held.source
    if told is None:
        return None, None
    if not isinstance(told, str) or not told.strip():
        raise TextError("source is empty: say what the picture shows, or leave it out")
    parsed = instruction.parse(told)
    return parsed, wording.fitted(pipe, parsed.text, "the source prompt", notes)


def check_described(told: Mapping[str, Any]) -> None:
    """Raise ``MethodError`` for what only methods that describe the result are told."""
    for name, value in told.items():
        if value is not None:
            raise MethodError(f"{name} is for methods that describe the result: use one such as 'pti'")


def check_regions(*, weights: Any, masks: Any, regions: bool) -> None:
    """Raise ``MethodError`` for weights or masks of instructions under a method without ``regions``."""
    for name, told in (("weights", weights), ("masks", masks)):
        if told is not None and not regions:
            raise MethodError(
                f"{name} are for a method that keeps each instruction in its own region: use method 'foi'"
            )


def checked_weights(told: Any, parts: int) -> tuple[float, ...]:
    """The weight of each instruction: 1 where none is told. Raises ``MethodError``."""
    if told is None:
        return (1.0,) * parts
    told = told.tolist() if hasattr(told, "tolist") else told  # an array or a tensor
    given = tuple(told) if isinstance(told, (list, tuple)) else (told,)
    if len(given) != parts:
        raise MethodError(f"weights has {len(given)} items for {_counted(parts)}: give one for each")
    for number, weight in enumerate(given, start=1):
        check_scale(f"weight {number}", weight, least=0.0, most=MOST_WEIGHT)
    return tuple(float(weight) for weight in given)


def own_masks(told: Any, parts: int, size: tuple[int, int]) -> tuple[tuple[Any, ...], tuple[FileRecord | None, ...]]:
    """The user's mask of each instruction, (H, W) bool, or None, and their records. Raises ``MethodError``, ``ImageError``."""
    if told is None:
        return (None,) * parts, (None,) * parts
    given = tuple(told) if isinstance(told, (list, tuple)) else (told,)
    if len(given) != parts:
        raise MethodError(f"masks has {len(given)} items for {_counted(parts)}: give one for each, or None")
    opened = [None if one is None else images.open_picture(images.mask_like(one)) for one in given]
    masks = tuple(None if one is None else images.open_mask(one, size=size) for one in opened)
    return masks, tuple(None if one is None else record_of(one) for one in opened)


def _counted(parts: int) -> str:
    return "one instruction" if parts == 1 else f"{parts} instructions"


def _seed_of(generator: Any, notes: list[str]) -> int | None:
    """The seed of a CPU generator that has not been drawn from; of any other there is none to record."""
    import torch

    seed = generator.initial_seed()
    if (
        generator.device.type == "cpu"
        and 0 <= seed < requested.SEED_LIMIT
        and torch.equal(generator.get_state(), starts.generator(seed).get_state())
    ):
        return seed
    notes.append("the generator given is not a fresh one on the CPU, so the recipe cannot record its seed")
    return None
