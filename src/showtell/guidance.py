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


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A rule in a part of a run only (Kynkäänniemi et al. 2024); in the other steps the ``full`` prediction alone.

    ``interval`` (low, high), shares of the run's ``steps`` from its noisy end on: guided are the steps i with
    round(low steps) <= i < round(high steps). (The paper gives its interval in noise levels.) (0, 1) is the rule itself, and
    an interval without a step is no guidance, scales of 1 and 1. Raises ``MethodError`` for bounds that are none.
    """

    rule: Guidance
    interval: tuple[float, float]
    steps: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", checked_interval("interval", self.interval))

    @property
    def branches(self) -> tuple[str, ...]:
        return self.rule.branches

    def combine(self, eps: Mapping[str, torch.Tensor], *, text_mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.rule.combine(eps, text_mask=text_mask)

    def at(self, step: int) -> Guidance:
        """The rule of a step, from 0."""
        first, end = (round(share * self.steps) for share in self.interval)
        if first <= step < end:
            return at(self.rule, step)
        return TwoCondition(guidance_scale=1.0, image_guidance_scale=1.0)


def checked_interval(name: str, value: Any) -> tuple[float, float]:
    """``value``, a pair or text such as ``0.2,0.8``, as shares (low, high), 0 <= low <= high <= 1. Raises ``MethodError`` if
    it is none.
    """
    try:
        low, high = map(float, value.split(",")) if isinstance(value, str) else value
        for bound in (low, high):
            check_scale(name, bound, least=0.0, most=1.0)
        good = low <= high
    except (MethodError, TypeError, ValueError):
        good = False
    if not good:
        raise MethodError(
            f"{name}={shown(value)} is out of range: it must be two shares of the steps, such as 0.2,0.8, the first no greater "
            "than the second, from 0 to 1"
        )
    return float(low), float(high)  # Python's own numbers, so that recipes can hold them


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
