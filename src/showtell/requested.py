"""Reading what a user asks for: a request for each picture, checked as far as it can be without opening it."""

from __future__ import annotations

import operator
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import starts, wording
from .errors import ImageError, MethodError, TextError
from .inversions import Inversion
from .learned import Hybrid, LearnedInstruction

#: Seeds are below this.
SEED_LIMIT = 2**63


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
    weights: Any = None
    masks: Any = None
    source: Any = None
    inversion: Inversion | None = None


def is_batch(image: Any) -> bool:
    """Whether several pictures were given."""
    return isinstance(image, (list, tuple))


def requests(
    image: Any,
    instruction: Any,
    *,
    negative_prompt: Any,
    mask: Any,
    seed: Any,
    generator: Any,
    learned: Any = None,
    weights: Any = None,
    masks: Any = None,
    source: Any = None,
    inversion: Any = None,
) -> list[Request]:
    """One request a picture. A list of pictures takes a list of instructions of the same length, whose items may
    be lists, or one learned instruction for all; seed, generator, mask and negative prompt may be lists of that length too.
    One seed serves all; without one, each picture gets its own at random. ``learned``: see :func:`wording.named`. An
    inversion stands for its picture, or beside it. Raises ``UsageError`` for lists of another length.
    """
    if generator is not None and seed is not None:
        raise MethodError("give seed or generator, not both")
    looks = wording.named(learned)
    if instruction is None and looks:
        instruction = wording.only(looks)
    else:
        wording.check_called(instruction, looks)
    if not is_batch(image):
        if isinstance(generator, (list, tuple)) and len(generator) != 1:
            raise MethodError(f"one picture takes one generator (got {len(generator)})")
        generator = generator[0] if isinstance(generator, (list, tuple)) else generator
        return [
            _request(
                image, instruction, negative_prompt, mask, seed, generator, looks, weights, masks, source, inversion
            )
        ]
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
        _each_list("weights", weights, n),
        _each_list("masks", masks, n),
        _each("source", source, n),
        _each("inversion", inversion, n, shared=n == 1),
    )
    return [_request(*row) for row in zip(*columns, strict=True)]


def _request(
    image: Any,
    instruction: Any,
    negative_prompt: Any,
    mask: Any,
    seed: Any,
    generator: Any,
    learned: Mapping[str, LearnedInstruction],
    weights: Any,
    masks: Any,
    source: Any,
    inversion: Any,
) -> Request:
    image, inversion = _inverted(image, inversion)
    if generator is None:
        seed = checked_seed(seed)
        generator = starts.generator(seed)
    elif not hasattr(generator, "initial_seed"):
        raise MethodError(f"generator={generator!r} is not a torch.Generator")
    return Request(
        image=image, instruction=instruction, negative_prompt=negative_prompt, mask=mask, seed=seed, generator=generator,
        learned=learned, weights=weights, masks=masks, source=source, inversion=inversion,
    )  # fmt: skip


def _inverted(image: Any, inversion: Inversion | None) -> tuple[Any, Inversion | None]:
    """The picture, and its inversion if there is one: given as the picture, or beside it."""
    if isinstance(image, Inversion):
        return image.picture, image
    return image, inversion


def _each_list(name: str, value: Any, n: int) -> Sequence[Any]:
    """For n pictures, what is itself a list for each picture. One picture's list serves all."""
    if isinstance(value, (list, tuple)) and any(isinstance(item, (list, tuple)) for item in value):
        if len(value) != n:
            raise MethodError(f"{name} has {len(value)} lists for {n} pictures: give one for each")
        return value
    return [value] * n


def _each(name: str, value: Any, n: int, *, shared: bool = True) -> Sequence[Any]:
    if isinstance(value, (list, tuple)):
        if len(value) != n:
            raise MethodError(f"{name} has {len(value)} items for {n} pictures: give one for each")
        return value
    if value is not None and not shared:
        raise MethodError(f"{n} pictures need a list of {n} {name}s, one for each")
    return [value] * n


def checked_seed(seed: Any) -> int:
    """A seed, drawn if it is None. Raises ``MethodError`` unless it is a whole number from 0 to 2^63 - 1."""
    if seed is None:
        return secrets.randbelow(2**32)
    try:
        number = operator.index(seed)
    except TypeError as error:
        raise MethodError(f"seed={seed!r} is not a whole number") from error
    if isinstance(seed, bool) or not 0 <= number < SEED_LIMIT:
        raise MethodError(f"seed={seed} is out of range: it must be a whole number from 0 to 2^63 - 1")
    return number
