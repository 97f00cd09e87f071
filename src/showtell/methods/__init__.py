"""The methods as values, and the table of their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import MethodError
from . import outside
from .base import Context, Method, Plan, Region, settle
from .diffedit import DiffEdit
from .foi import FocusOnInstruction
from .grid import Grid
from .imagic import Imagic
from .instruct import InstructDiffusion, InstructPix2Pix
from .p2p import PromptToPrompt
from .pti import DdimEdit, PromptTuningInversion
from .sdedit import SDEdit

#: Name -> what builds the method at its defaults.
METHODS: dict[str, Callable[..., Any]] = {
    "ip2p": InstructPix2Pix,
    "instructdiffusion": InstructDiffusion,
    "foi": FocusOnInstruction,
    "grid": Grid,
    "sdedit": SDEdit,
    "ddim-edit": DdimEdit,
    "diffedit": DiffEdit,
    "pti": PromptTuningInversion,
    "p2p": PromptToPrompt,
    "imagic": Imagic,
}

__all__ = [
    "METHODS", "Context", "DdimEdit", "DiffEdit", "FocusOnInstruction", "Grid", "Imagic", "InstructDiffusion", "InstructPix2Pix",
    "Method", "Plan", "PromptToPrompt", "PromptTuningInversion", "Region", "SDEdit", "names", "resolve", "settle",
]  # fmt: skip


def names() -> tuple[str, ...]:
    """Every method's name: those here, then those of other packages (see ``outside``)."""
    return (*METHODS, *(name for name in outside.points() if name not in METHODS))


def resolve(method: Any) -> Any:
    """A method from its name, or the value itself. Raises ``MethodError`` for what is neither."""
    if isinstance(method, str):
        if method in METHODS:
            return METHODS[method]()
        points = outside.points()
        if method not in points:
            raise MethodError(f"method {method!r} is not known: choose one of {', '.join(names())}")
        return outside.builder(points[method])()
    if isinstance(method, type) or not (hasattr(method, "plan") or isinstance(method, outside.Called)):
        raise MethodError(
            f"method={method!r} is not a method: give one of {', '.join(names())}, or a value such as InstructPix2Pix()"
        )
    return method
