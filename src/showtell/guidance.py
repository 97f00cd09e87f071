"""Guidance rules: which predictions a step needs, and how they become one.

A rule lists its branches as data. Instruct models have four: ``full`` = (c_I, c_T),
``image`` = (c_I, no text), ``text`` = (no picture, c_T) and ``none``; base models two: ``cond`` and ``uncond``.
A branch that would cancel is not listed, and so never computed.

The weights of a rule sum to one, and every prediction type is an affine function of epsilon at a given
x_t; so a rule may combine epsilon-, v- or sample-predictions alike.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .errors import MethodError

if TYPE_CHECKING:
    import torch

#: Every branch name, in the order in which batches are laid out.
INSTRUCT_BRANCHES = ("full", "image", "text", "none")
BASE_BRANCHES = ("cond", "uncond")


class Guidance(Protocol):
    """A guidance rule."""

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the predictions that :meth:`combine` needs, in the order of a batch."""
        ...

    def combine(self, eps: Mapping[str, torch.Tensor], *, text_mask: torch.Tensor | None = None) -> torch.Tensor:
        """One prediction (B, 4, h, w) from the branches' predictions of that shape."""
        ...


def at(rule: Guidance, step: int) -> Guidance:
    """The rule of one step (from 0): a rule that changes on the way says which with a method ``at(step)`` of its own."""
    changes = getattr(rule, "at", None)
    return rule if changes is None else changes(step)


@dataclass(frozen=True, kw_only=True)
class TwoCondition:
    """InstructPix2Pix's guidance on picture and text (its equation 3).

    ``guidance_scale`` is s_T, at least 1; ``image_guidance_scale`` is s_I, at least 0. Below 1, s_I follows the
    picture *less* than the model's own conditional prediction does; the equation holds there, and is used as it
    stands (diffusers' pipeline silently turns all guidance off instead).

    ``text_mask`` in :meth:`combine`, (B, 1, h, w) in [0, 1], multiplies the text term; a rule that will be
    given one says so with ``masked=True``, which keeps the branches that a mask needs.
    """

    guidance_scale: float = 7.5
    image_guidance_scale: float = 1.5
    masked: bool = False

    def __post_init__(self) -> None:
        check_scale("guidance_scale", self.guidance_scale, least=1.0)
        check_scale("image_guidance_scale", self.image_guidance_scale, least=0.0)

    @property
    def branches(self) -> tuple[str, ...]:
        s_T, s_I = self.guidance_scale, self.image_guidance_scale
        if s_T == s_I == 1 and not self.masked:
            return ("full",)
        if s_I == 1:
            return ("full", "image")
        if s_T == s_I and not self.masked:
            return ("full", "none")
        return ("full", "image", "none")

    def combine(self, eps: Mapping[str, torch.Tensor], *, text_mask: torch.Tensor | None = None) -> torch.Tensor:
        s_T, s_I = self.guidance_scale, self.image_guidance_scale
        if self.branches == ("full",):
            return eps["full"]
        if self.branches == ("full", "none"):
            return eps["none"] + s_T * (eps["full"] - eps["none"])
        text = s_T * (eps["full"] - eps["image"])
        if text_mask is not None:
            text = text_mask * text
        if s_I == 1:
            return eps["image"] + text
        return eps["none"] + text + s_I * (eps["image"] - eps["none"])


@dataclass(frozen=True, kw_only=True)
class InstructDiffusionGuidance:
    """The rule that InstructDiffusion's published weights are sampled with.

    0.5 (image + text) + s_T (full - image) + s_I (full - text), with s_T = 5.0 and s_I = 1.25.
    """

    guidance_scale: float = 5.0
    image_guidance_scale: float = 1.25

    branches = ("full", "image", "text")

    def __post_init__(self) -> None:
        check_scale("guidance_scale", self.guidance_scale, least=1.0)
        check_scale("image_guidance_scale", self.image_guidance_scale, least=0.0)

    def combine(self, eps: Mapping[str, torch.Tensor], *, text_mask: torch.Tensor | None = None) -> torch.Tensor:
        full, image, text = eps["full"], eps["image"], eps["text"]
        told = self.guidance_scale * (full - image)
        if text_mask is not None:
            told = text_mask * told
        return 0.5 * (image + text) + told + self.image_guidance_scale * (full - text)


@dataclass(frozen=True, kw_only=True)
class ClassifierFree:
    """Plain guidance of a base model: uncond + w (cond - uncond), ``guidance_scale`` = w >= 0."""

    guidance_scale: float = 7.5

    def __post_init__(self) -> None:
        check_scale("guidance_scale", self.guidance_scale, least=0.0)

    @property
    def branches(self) -> tuple[str, ...]:
        if self.guidance_scale == 1:
            return ("cond",)
        return ("uncond",) if self.guidance_scale == 0 else ("cond", "uncond")

    def combine(self, eps: Mapping[str, torch.Tensor], *, text_mask: torch.Tensor | None = None) -> torch.Tensor:
        if len(self.branches) == 1:
            return eps[self.branches[0]]
        text = self.guidance_scale * (eps["cond"] - eps["uncond"])
        return eps["uncond"] + (text if text_mask is None else text_mask * text)


def check_scale(name: str, value: float, *, least: float, most: float | None = None) -> None:
    """Raise ``MethodError`` unless ``value`` is a finite number of at least ``least``, and at most ``most``."""
    try:
        number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        number = False
    if most is not None and not (number and least <= value <= most):
        raise MethodError(f"{name}={shown(value)} is out of range: it must be a number from {least:g} to {most:g}")
    if not number or value < least:
        raise MethodError(f"{name}={shown(value)} is out of range: it must be a number of at least {least:g}")


def check_whole(name: str, value: Any, least: int, most: int) -> None:
    """Raise ``MethodError`` unless ``value`` is None or a whole number from ``least`` to ``most``."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if value is not None and (not whole or not least <= value <= most):
        raise MethodError(f"{name}={shown(value)} is out of range: it must be a whole number from {least} to {most}")


def shown(value: object) -> str:
    """A value as a message shows it: not at a length of thousands of digits."""
    try:
        text = str(value)
    except ValueError:  # Python does not print whole numbers of thousands of digits
        return "a huge number"
    return text if len(text) <= 40 else f"{text[:37]}..."
