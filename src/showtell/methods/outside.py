"""Methods of other packages: whatever an entry point of the group ``showtell.methods`` names.

An entry point is a method's class, as those here are, or a plain function ``edit(picture, instructions, *, seed)`` that takes an
RGB picture and a list of strings and returns a picture of the same size; it may have further keyword arguments with default
values, which are then its hyper-parameters. An attribute ``describes = True`` says that it is told what the result shows.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, ClassVar

from ..errors import MethodError

#: The group of entry points.
GROUP = "showtell.methods"


def points() -> dict[str, metadata.EntryPoint]:
    """The entry points by name. Nothing is imported. Raises ``MethodError`` for a name that two packages give."""
    found: dict[str, metadata.EntryPoint] = {}
    for point in metadata.entry_points(group=GROUP):
        if point.name in found and found[point.name].value != point.value:
            raise MethodError(
                f"method {point.name!r} is given by {found[point.name].value} and by {point.value}: uninstall one of them"
            )
        found[point.name] = point
    return found


def builder(point: metadata.EntryPoint) -> Callable[..., Any]:
    """What builds the method of an entry point at its defaults. Raises ``MethodError`` if it is neither class nor function."""
    try:
        target = point.load()
    except (Exception, SystemExit) as error:  # another package's code may raise whatever it likes
        raise MethodError(f"method {point.name!r}: {point.value} cannot be imported ({error})") from error
    if isinstance(target, type) and hasattr(target, "plan"):
        if getattr(target, "name", None) != point.name:
            raise MethodError(f"method {point.name!r}: {point.value} calls itself {getattr(target, 'name', None)!r}")
        return target
    if callable(target) and not isinstance(target, type):
        return called(point.name, target)
    raise MethodError(f"method {point.name!r}: {point.value} is neither a method's class nor a function")


def called(name: str, function: Callable[..., Any]) -> type:
    """A method that calls a function picture by picture, with the function's keyword arguments as its hyper-parameters."""
    own = {
        key: one.default
        for key, one in inspect.signature(function).parameters.items()
        if one.kind is one.KEYWORD_ONLY and key != "seed"
    }
    missing = [key for key, default in own.items() if default is inspect.Parameter.empty]
    if missing:
        raise MethodError(f"method {name!r}: its argument {missing[0]!r} has no default value")
    if taken := [key for key in own if key == "function" or hasattr(Called, key)]:
        raise MethodError(f"method {name!r}: its argument {taken[0]!r} means something else in every method: rename it")
    fields = [(key, Any, dataclasses.field(default=None)) for key in own]
    about = {
        "name": name, "PAPER": own, "function": staticmethod(function), "__doc__": function.__doc__,
        "describes": bool(getattr(function, "describes", False)),
    }  # fmt: skip
    return dataclasses.make_dataclass(name, fields, bases=(Called,), namespace=about, frozen=True, kw_only=True)


def failure(name: str, error: BaseException) -> MethodError:
    """What the failure of a method's own code is called: one line."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return MethodError(f"method {name!r} failed: {reason}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Called:
    """What methods that are functions have in common. They need no model, and take whichever is loaded."""

    name: ClassVar[str] = ""
    kinds: ClassVar[tuple[str, ...]] = ("instruct", "base", "control")
    words: ClassVar[str] = "optional"
    describes: ClassVar[bool] = False
    PAPER: ClassVar[Mapping[str, Any]] = {}
    function: ClassVar[Callable[..., Any]]

    def edit(self, picture: Any, instructions: list[str], *, seed: int | None) -> Any:
        """What the function makes of one picture. Raises ``MethodError`` for whatever goes wrong in it, or for no picture."""
        from PIL import Image

        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        try:
            result = type(self).function(picture, instructions, seed=seed, **given)
        except (Exception, SystemExit) as error:  # another package's code may raise whatever it likes
            raise failure(self.name, error) from error
        if not isinstance(result, Image.Image):
            raise MethodError(f"method {self.name!r} gave no picture but a {type(result).__name__}")
        if result.size != picture.size:
            raise MethodError(f"method {self.name!r} gave a picture of {result.size}, not of {picture.size}")
        return result.convert("RGB")
