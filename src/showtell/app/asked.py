"""What programs send to the endpoints, as it stands in their requests: each value is checked under its parameter's name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileFormatError, ImageError, MethodError, TextError
from ..inversions import Inversion
from ..requested import SEED_LIMIT
from . import telling

if TYPE_CHECKING:
    from .limits import Limits


def lines(limits: Limits, value: Any) -> tuple[str, ...]:
    """The instructions of a text, one a line. Raises ``TextError`` for what is no text."""
    return telling.lines_of(value if isinstance(value, str) else text(limits, "instruction", value))


def text(limits: Limits, name: str, value: Any) -> str:
    """A text; none is an empty one. Raises ``TextError``."""
    return "" if value is None else limits.text(name, value)


def seed(limits: Limits, value: Any) -> int | None:
    """A seed, or None to have one drawn. Raises ``MethodError``."""
    return whole(limits, "seed", value, 0, SEED_LIMIT - 1)


def whole(limits: Limits, name: str, value: Any, least: int, most: int) -> int | None:
    """A whole number, or None for the method's own. Raises ``MethodError``."""
    return None if value is None else limits.whole(name, value, least, most)


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """One of some words. Raises ``MethodError``."""
    if not isinstance(value, str) or value not in choices:
        raise MethodError(f"{name}: {value!r:.40} is not known; choose one of {', '.join(choices)}")
    return value


def weights(limits: Limits, value: Any, count: int) -> tuple[float, ...]:
    """One weight for each of ``count`` instructions; empty where there is none. Raises ``UsageError``."""
    found = telling.numbers(value, "weights")
    if found and len(found) != count:
        raise TextError(f"weights: {len(found)} for {count} instructions; give one for each")
    return found


def only_of(method: str, has: bool, **given: Any) -> None:
    """Refuse hyper-parameters that a method does not have: nobody is to believe that they did something."""
    for name, value in given.items():
        if value not in (None, ()) and not has:
            raise MethodError(f"{name}: method {method!r:.40} has none; leave it out, or choose another method")


def picture(name: str, value: Any) -> tuple[str, str]:
    """An uploaded picture, which must be there: its path, and the name that it had. Raises ``ImageError``."""
    given = file(name, value)
    if given is None:
        raise ImageError(f"{name}: is missing; upload a picture, and give what /upload answered")
    return given


def file(name: str, value: Any) -> tuple[str, str] | None:
    """An uploaded file, or None where there is none. Raises ``ImageError``."""
    if value is None:
        return None
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str) or not path:
        raise ImageError(f'{name}: is no uploaded file, such as {{"path": what /upload answered}}')
    return path, Path(str(value.get("orig_name") or path)).name


def files(name: str, value: Any) -> list[str]:
    """The paths of uploaded files. Raises ``ImageError``."""
    given = value if isinstance(value, list) else [] if value is None else [value]
    return [picture(f"{name} {number}", each)[0] for number, each in enumerate(given, start=1)]


def inversion(limits: Limits, value: Any) -> Inversion | None:
    """An inversion's file, read. Raises ``FileFormatError``, which says nothing of the server's folders."""
    given = file("inversion", value)
    if given is None:
        return None
    path, name = given
    try:
        found = Inversion.load(path)
    except FileFormatError as error:
        raise FileFormatError(str(error).replace(path, f"inversion {name:.100}")) from None
    width, height = found.picture.size
    if width * height > limits.pixels:
        raise ImageError(f"inversion {name:.100}: its picture is {width}x{height}, over {limits.pixels} pixels")
    return found
