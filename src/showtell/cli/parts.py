"""Reading what is said of single sub-instructions, weights and masks, and of a method's own hyper-parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import options
from showtell.errors import MethodError, UsageError

if TYPE_CHECKING:
    from showtell.images import Picture

Weights = Annotated[
    str | None, typer.Option("--weights", help="For foi: how strong each instruction is, 0 to 10, such as 1,0.5.")
]
MaskFor = Annotated[
    list[str] | None,
    typer.Option("--mask-for", metavar="N=FILE", help="For foi: your mask for instruction N; may be repeated."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other hyper-parameter of the method; may be repeated."),
]
#: Hyper-parameters that have an option of their own.
_OPTIONS = {
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance-scale",
    "image_guidance_scale": "--image-guidance-scale",
    "scheduler": "--scheduler",
    "pairs": "--before and --after",
}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What `editor.edit` is to be told of each instruction, None for what was not said."""

    weights: list[float] | None = None
    masks: list[Picture | None] | None = None


def count(instruction: Any) -> int:
    """How many instructions a request has."""
    return len(instruction) if isinstance(instruction, list) else 1


def read(
    weights: str | None, masks: Sequence[str], *, instructions: int, size: tuple[int, int], regions: bool
) -> Parts:
    """``--weights`` and ``--mask-for`` for so many instructions on a picture of ``size``.

    Raises ``MethodError`` for a method without ``regions``, and for what does not fit the instructions; ``ImageError`` for
    a mask that cannot be used.
    """
    from showtell import jobs

    told = Parts(weights=_numbers(weights), masks=mask_files(masks, instructions=instructions) if masks else None)
    jobs.check_regions(weights=told.weights, masks=told.masks, regions=regions)
    jobs.checked_weights(told.weights, instructions)
    jobs.own_masks(told.masks, instructions, size)
    return told


def _numbers(weights: str | None) -> list[float] | None:
    if weights is None:
        return None
    try:
        return [float(item) for item in weights.split(",")]
    except ValueError:
        raise MethodError(
            f"--weights {weights!r:.60}: write a number for each instruction with commas between them, such as 1,0.5"
        ) from None


def mask_files(told: Sequence[str], *, instructions: int) -> list[Picture | None]:
    """``N=FILE`` in a row of its own for each instruction, opened. Raises ``MethodError``, ``ImageError``."""
    from showtell import images

    found: list[Picture | None] = [None] * instructions
    for item in told:
        number, sign, path = item.partition("=")
        if not (number.strip().isdecimal() and sign and path):
            raise MethodError(
                f"--mask-for {item!r:.60}: write an instruction's number and its mask, such as 2=roof.png"
            )
        place = int(number) if len(number) < 10 else 0
        if not 1 <= place <= instructions:
            there = {0: "there is no instruction", 1: "there is one instruction"}.get(
                instructions, f"there are {instructions} instructions"
            )
            raise MethodError(f"--mask-for {item!r:.60}: {there}, so there is no number {number.strip():.20}")
        if found[place - 1] is not None:
            raise MethodError(f"--mask-for {item!r:.60}: instruction {place} has a mask already; give it one")
        found[place - 1] = images.open_picture(Path(path))
    return found


def settings(told: Sequence[str]) -> dict[str, Any]:
    """``NAME=VALUE`` as hyper-parameters; a value is read as JSON, else as text. Raises ``UsageError``."""
    found: dict[str, Any] = {}
    for item in told:
        options.check_text(item)
        name, sign, value = (part.strip() for part in item.partition("="))
        if not (name.isidentifier() and sign and value):
            raise UsageError(f"--set {item!r:.60}: write a name and a value, such as tau=0.1 or tau=[0.4,0.7]")
        if name in _OPTIONS:
            raise UsageError(f"--set {item!r:.60}: {name} has an option of its own: {_OPTIONS[name]}")
        if name in found:
            raise UsageError(f"--set {name} is given twice: give it once")
        found[name] = _value(value)
        if found[name] is None:
            raise UsageError(f"--set {item!r:.60}: null is no value; leave it out for the model card's or the paper's")
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
