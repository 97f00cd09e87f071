"""What the methods that describe the result share in their checks of hyper-parameters."""

from __future__ import annotations

from typing import Any

from ..ddim import check_ratio
from ..errors import MethodError
from ..guidance import check_scale, check_whole, shown
from .base import check_steps

#: What the tuning of an embedding may start from.
STARTS = ("target", "source", "empty")
# A float32 must hold what Adam makes of it.
_LARGEST = 1e30


def check_inverting(method: Any) -> None:
    """Raise ``MethodError`` for what an inversion cannot be told."""
    check_steps(method.num_inference_steps)
    if method.encoding_ratio is not None:
        check_ratio(method.encoding_ratio)
    for name in ("guidance_scale", "inversion_guidance_scale"):
        if getattr(method, name, None) is not None:
            check_scale(name, getattr(method, name), least=0.0)


def check_tuning(method: Any) -> None:
    """Raise ``MethodError`` for what a tuning cannot be told."""
    check_whole("inner_steps", method.inner_steps, 0, 100)
    if method.learning_rate is not None:
        check_scale("learning_rate", method.learning_rate, least=0.0, most=_LARGEST)
    check_start(getattr(method, "start", None))


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ``MethodError`` unless ``value`` is None or one of ``choices``."""
    if value is not None and (not isinstance(value, str) or value not in choices):
        raise MethodError(f"{name}={shown(value)} is not known: choose one of {', '.join(choices)}")


def check_switch(name: str, value: Any) -> None:
    """Raise ``MethodError`` unless ``value`` is None, True or False."""
    if value is not None and not isinstance(value, bool):
        raise MethodError(f"{name}={shown(value)} is not known: it must be True or False")


def check_start(start: Any) -> None:
    """Raise ``MethodError`` unless a tuning can start from it."""
    if start not in (None, *STARTS):
        raise MethodError(f"start={start!r} is not known: choose one of {', '.join(STARTS)}")
