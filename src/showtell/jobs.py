"""Reading what a user asks for: pictures, instructions, seeds and masks become one job a picture."""

from __future__ import annotations

import operator
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import fitting, images, instruction, models, starts
from .errors import ImageError, MethodError, ShowtellError, TextError
from .learned import Hybrid, LearnedInstruction
from .recipe import FileRecord, LearnedRecord, record_of

if TYPE_CHECKING:
    import numpy as np

_SEED_LIMIT = 2**63
_EXAMPLE = 'say what to change, for example "make it a watercolor"'
#: Where a run's noise comes from: drawn anew, or what a learned instruction was learned with.
NOISES = ("random", "recorded")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One picture and what is asked of it; ``seed`` is that of ``generator``, None where the user gave a generator."""

    image: Any
    instruction: Any
    negative_prompt: Any
    mask: Any
    seed: int | None
    generator: Any
    learned: Mapping[str, LearnedInstruction]


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
    seed: int | None
    generator: Any
    notes: list[str] = field(default_factory=list)


def is_batch(image: Any) -> bool:
    """Whether several pictures were given."""
    return isinstance(image, (list, tuple))


def requests(
    image: Any, instruction: Any, *, negative_prompt: Any, mask: Any, seed: Any, generator: Any, learned: Any = None
) -> list[Request]:
    """One request a picture. A list of pictures takes a list of instructions of the same length, whose items may
    be lists, or one learned instruction for all; seed, generator, mask and negative prompt may be lists of that length too.
    One seed serves all; without one, each picture gets its own at random. ``learned``: see :func:`named`. Raises
    ``UsageError`` for lists of another length."""
    if generator is not None and seed is not None:
        raise MethodError("give seed or generator, not both")
    looks = named(learned)
    if instruction is None and looks:
        instruction = _only(looks)
    if not is_batch(image):
        if isinstance(generator, (list, tuple)) and len(generator) != 1:
            raise MethodError(f"one picture takes one generator (got {len(generator)})")
        generator = generator[0] if isinstance(generator, (list, tuple)) else generator
        return [_request(image, instruction, negative_prompt, mask, seed, generator, looks)]
    n = len(image)
    if n == 0:
        raise ImageError("the list of pictures is empty")
    if instruction is None or isinstance(instruction, (LearnedInstruction, Hybrid)):
        instruction = [instruction] * n
    if not isinstance(instruction, (list, tuple)) or len(instruction) != n:
        got = f"{len(instruction)} instructions" if isinstance(instruction, (list, tuple)) else "one instruction"
        raise TextError(f"{n} pictures need a list of {n} instructions, one for each (got {got})")
    columns = (
        image,
        instruction,
        _each("negative_prompt", negative_prompt, n),
        _each("mask", mask, n),
        _each("seed", seed, n),
        _each("generator", generator, n, shared=n == 1),
        [looks] * n,
    )
    return [_request(*row) for row in zip(*columns, strict=True)]


def named(learned: Any) -> dict[str, LearnedInstruction]:
    """Learned instructions by the names that they have in words: from one or several of them, or of their files.

    Raises ``FileFormatError`` for a file that is none, ``TextError`` for two of one name.
    """
    if learned is None:
        return {}
    if isinstance(learned, Mapping):
        return {str(name): _opened(look).renamed(str(name)) for name, look in learned.items()}
    found: dict[str, LearnedInstruction] = {}
    for item in learned if isinstance(learned, (list, tuple)) else [learned]:
        look = _opened(item)
        if look.name in found:
            raise TextError(f"two learned instructions are called <{look.name}>: rename one of their files")
        found[look.name] = look
    return found


def _opened(item: Any) -> LearnedInstruction:
    if isinstance(item, LearnedInstruction):
        return item
    if isinstance(item, (str, os.PathLike)):
        return LearnedInstruction.load(item)
    raise TextError(f"learned: {type(item).__name__} is not a learned instruction or the path of one")


def _only(looks: Mapping[str, LearnedInstruction]) -> LearnedInstruction:
    if len(looks) > 1:
        names = " ".join(f"<{name}>" for name in looks)
        raise TextError(f"several learned instructions and no words: say how they go together, for example {names!r}")
    return next(iter(looks.values()))


def _request(
    image: Any,
    instruction: Any,
    negative_prompt: Any,
    mask: Any,
    seed: Any,
    generator: Any,
    learned: Mapping[str, LearnedInstruction],
) -> Request:
    if generator is None:
        seed = _seed(seed)
        generator = starts.generator(seed)
    elif not hasattr(generator, "initial_seed"):
        raise MethodError(f"generator={generator!r} is not a torch.Generator")
    return Request(
        image=image, instruction=instruction, negative_prompt=negative_prompt, mask=mask, seed=seed, generator=generator,
        learned=learned,
    )  # fmt: skip


def prepare_all(
    requests: Sequence[Request], pipe: Any, *, fit: str, words: str = "required", noise: str = "random"
) -> list[Any]:
    """A job for each request, or the error of one that cannot be done."""
    prepared: list[Any] = []
    for request in requests:
        try:
            prepared.append(prepare(request, pipe, fit=fit, words=words, noise=noise))
        except ShowtellError as error:
            prepared.append(error)
    return prepared


def same_size(prepared: Sequence[Any], *, most: int) -> list[list[int]]:
    """Positions of the jobs that can run as one batch: those whose frames have one size and whose noise has one source, at
    most ``most`` together.
    """
    groups: dict[tuple[tuple[int, int], bool], list[int]] = {}
    for index, job in enumerate(prepared):
        if isinstance(job, Job):
            groups.setdefault((job.frame.frame, job.recorded is not None), []).append(index)
    return [group[first : first + most] for group in groups.values() for first in range(0, len(group), most)]


def prepare(request: Request, pipe: Any, *, fit: str, words: str = "required", noise: str = "random") -> Job:
    """Open the picture, read the words, choose the frame. ``words``: whether the method requires an instruction.

    Raises ``ImageError``, ``TextError``, or ``ModelError`` for an instruction that was learned with another model.
    """
    told, looks = _written(request.instruction, request.learned, words)
    parsed = tuple(instruction.parse(text, looks) for text in told)
    picture = images.open_picture(request.image)
    notes = list(picture.notes)
    whole = instruction.join(parsed)
    segments = _segments(pipe, whole, looks, notes)
    if request.negative_prompt is not None and not isinstance(request.negative_prompt, str):
        raise TextError(f"the negative prompt must be text, not {type(request.negative_prompt).__name__}")
    negative = _fitted(pipe, request.negative_prompt or "", "the negative prompt", notes)
    mask = record = None
    if request.mask is not None:
        opened = images.open_picture(images.mask_like(request.mask))
        mask, record = images.open_mask(opened, size=picture.size), record_of(opened)
    frame = fitting.frame_for(
        picture.size, fit=fit, resolution=models.resolution(pipe), multiple=models.size_multiple(pipe)
    )
    if frame.squeezed:
        wide, high = frame.frame
        notes.append(
            f"the picture ({picture.size[0]}x{picture.size[1]}) is too long for the model and was squeezed into "
            f"{wide}x{high} for it; fit pad keeps its proportions"
        )
    recorded = _recorded(whole, pipe, frame, notes) if noise == "recorded" else None
    used = dict.fromkeys(name for text in told for name in instruction.names_in(text) if name in looks)
    seed = _seed_of(request.generator, notes) if request.seed is None else request.seed
    return Job(
        picture=picture, frame=frame, instructions=parsed, told=told, segments=segments, negative=negative, mask=mask,
        learned=tuple(LearnedRecord(name=name, parts=looks[name].made_of) for name in used), recorded=recorded,
        mask_record=record, seed=seed, generator=request.generator, notes=notes,
    )  # fmt: skip


def _fitted(pipe: Any, text: str, what: str, notes: list[str]) -> instruction.Words:
    words, rest = instruction.cut(pipe, text)
    if rest:
        notes.append(f"{what} is too long for the text encoder; this was cut off its end: {rest!r}")
    return words


def _written(
    told: Any, learned: Mapping[str, LearnedInstruction], words: str
) -> tuple[tuple[str, ...], dict[str, LearnedInstruction]]:
    """Instructions as text, with ``<name>`` for each learned one, and what the names stand for."""
    looks = dict(learned)
    if told is None:
        if words == "required":
            raise TextError(f"the instruction is missing: {_EXAMPLE}")
        return (), looks
    items = tuple(told) if isinstance(told, (list, tuple)) else (told,)
    if not items:
        raise TextError(f"the list of instructions is empty: {_EXAMPLE}")
    return tuple(_spelled(item, looks) for item in items), looks


def _spelled(item: Any, looks: dict[str, LearnedInstruction]) -> str:
    parts = item.parts if isinstance(item, Hybrid) else (item,)
    spelled = []
    for part in parts:
        if not isinstance(part, LearnedInstruction):
            if not isinstance(part, str):
                raise TextError(f"an instruction must be text or a learned instruction, not {type(part).__name__}")
            spelled.append(part)
            continue
        name, number = part.name, 2
        while name in looks and looks[name].sha256 != part.sha256:
            name, number = f"{part.name[:90]}-{number}", number + 1
        looks[name] = part
        spelled.append(f"<{name}>")
    return " ".join(text for text in spelled if text) if isinstance(item, Hybrid) else spelled[0]


def _segments(
    pipe: Any, whole: instruction.Instruction, looks: Mapping[str, LearnedInstruction], notes: list[str]
) -> list[instruction.Segment]:
    """Words that are too long are cut, as stock pipelines do; with learned tokens among them, that is an error."""
    _check_names(pipe, whole.text, looks, notes)
    if not whole.looks:
        return [_fitted(pipe, whole.text, "the instruction", notes)]
    for _, look in whole.looks:
        look.check(pipe)
    segments = instruction.segments(whole)
    instruction.lay_out(pipe, segments)
    return segments


def _check_names(pipe: Any, text: str, looks: Mapping[str, LearnedInstruction], notes: list[str]) -> None:
    """A ``<name>`` may be a word that textual inversion gave to the tokenizer; else it should have been given."""
    for name in instruction.names_in(text):
        if name in looks or f"<{name}>" in pipe.tokenizer.get_vocab():
            continue
        if looks:
            raise TextError(f"<{name}> names no learned instruction: there is {', '.join(f'<{n}>' for n in looks)}")
        notes.append(f"<{name}> was read as plain words: no learned instruction was given")


def _recorded(
    whole: instruction.Instruction, pipe: Any, frame: fitting.Frame, notes: list[str]
) -> starts.RecordedNoise | None:
    """The noises of the first learned instruction that has some; None, and a note, where they do not fit this picture."""
    kept = [look.noise for _, look in whole.looks if look.noise is not None]
    if not kept:
        raise MethodError(
            "noise='recorded' needs a learned instruction with its noises in the file: learn it with --record-noise "
            "(record_noise=True)"
        )
    factor = models.latent_factor(pipe)
    shape = (pipe.vae.config.latent_channels, frame.frame[1] // factor, frame.frame[0] // factor)
    if kept[0].shape == shape:
        return kept[0]
    notes.append(f"the recorded noise is for latents of {kept[0].shape}, this picture has {shape}: noise is random")
    return None


def _each(name: str, value: Any, n: int, *, shared: bool = True) -> Sequence[Any]:
    if isinstance(value, (list, tuple)):
        if len(value) != n:
            raise MethodError(f"{name} has {len(value)} items for {n} pictures: give one for each")
        return value
    if value is not None and not shared:
        raise MethodError(f"{n} pictures need a list of {n} {name}s, one for each")
    return [value] * n


def _seed(seed: Any) -> int:
    if seed is None:
        return secrets.randbelow(2**32)
    try:
        number = operator.index(seed)
    except TypeError as error:
        raise MethodError(f"seed={seed!r} is not a whole number") from error
    if isinstance(seed, bool) or not 0 <= number < _SEED_LIMIT:
        raise MethodError(f"seed={seed} is out of range: it must be a whole number from 0 to 2^63 - 1")
    return number


def _seed_of(generator: Any, notes: list[str]) -> int | None:
    """The seed of a CPU generator that has not been drawn from; of any other there is none to record."""
    import torch

    seed = generator.initial_seed()
    if (
        generator.device.type == "cpu"
        and 0 <= seed < _SEED_LIMIT
        and torch.equal(generator.get_state(), starts.generator(seed).get_state())
    ):
        return seed
    notes.append("the generator given is not a fresh one on the CPU, so the recipe cannot record its seed")
    return None
