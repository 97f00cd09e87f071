"""Reading the JSON that files of ours carry: a recipe, a learned instruction's header."""

from __future__ import annotations

import json
from typing import TypeVar

from .errors import FileFormatError

T = TypeVar("T")


def parse(text: str, shape: type[T], *, name: str, what: str, newest: int, kind: str | None = None) -> T:
    """JSON text as a value of the dataclass ``shape``, strictly.

    ``what`` is what the file ``name`` carries, as in "its recipe"; it has a whole number ``format`` from 1 to ``newest``,
    and ``kind`` under that name, if one is given. Raises ``FileFormatError``, one line that names the file and the first
    thing that is wrong.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{name}: {what} is damaged ({error})") from error
    if kind is not None and (not isinstance(data, dict) or data.get("kind") != kind):
        raise FileFormatError(f"{name}: is not {'an' if kind[:1] in 'aeiou' else 'a'} {kind}")
    version = data.get("format") if isinstance(data, dict) else None
    if type(version) is not int or version < 1:
        raise FileFormatError(f"{name}: {what} is damaged (it has no format number)")
    if version > newest:
        raise FileFormatError(f"{name}: {what} has format {version!s:.20}, newer than {newest}: update showtell")
    try:
        return TypeAdapter(shape).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FileFormatError(f"{name}: {what} is damaged ({where:.100}: {first['msg']:.200})") from error
