"""The loaders' own options: checked by name and type, also as words from a command line."""

from __future__ import annotations

import inspect
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import UsageError


def parse(texts: Sequence[str]) -> dict[str, str]:
    """``["split=val", "count=20"]`` as a dict of text. Raises ``UsageError`` for one without ``=``."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"option {text!r}: write NAME=VALUE, such as split=val")
        found[name.strip().replace("-", "_")] = value
    return found


def checked(name: str, load: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """All of a loader's options: the given ones, of the right types, and the defaults of the others.

    Text is read as a number, yes or no, ``none`` or a list parted by commas where the option is one. Raises ``UsageError``.
    """
    hints = typing.get_type_hints(load)
    known = {
        key: one.default for key, one in inspect.signature(load).parameters.items() if one.kind is one.KEYWORD_ONLY
    }
    known.pop("limit", None)
    for key in given:
        if key not in known:
            there = f"it has {', '.join(known)}" if known else "it has none"
            raise UsageError(f"the data set {name!r} has no option {key!r}: {there}")
    return {
        key: _value(name, key, given[key], hints[key]) if key in given else default for key, default in known.items()
    }


def _value(name: str, key: str, value: Any, hint: Any) -> Any:
    from pydantic import TypeAdapter, ValidationError

    parts = typing.get_args(hint)
    if isinstance(value, str) and value.lower() == "none" and type(None) in parts:
        return None
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str) and any(typing.get_origin(part) is tuple for part in (hint, *parts)):
        value = tuple(item.strip() for item in value.split(",") if item.strip())
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        reason = error.errors(include_input=False, include_url=False)[0]["msg"]
        raise UsageError(f"the data set {name!r}: option {key}={value!r}: {reason}") from error
