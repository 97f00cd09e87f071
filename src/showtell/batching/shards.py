"""WebDataset shards: what is in a tar, read where it lies, and results packed into tars of the same names."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data import tars
from ..data.reading import Unusable
from ..errors import FileFormatError

_KINDS = ("png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif", "avif")
_NAMES = ("", "image.", "before.", "input.")
_MOST_TEXT = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What belongs to one key: field -> (offset, size) in the tar."""

    key: str
    fields: dict[str, tuple[int, int]] = field(default_factory=dict)


def index(path: Path) -> tuple[list[Sample], str | None]:
    """The samples of a shard in its order, and what is wrong with its end where it is damaged or cut short.

    Raises ``FileFormatError`` for a file that is no tar, or a compressed one, whose parts cannot be read where they lie.
    """
    found: dict[str, Sample] = {}
    try:
        for member in tars.members(path):
            folder, _, name = member.name.removeprefix("./").rpartition("/")
            stem, dot, suffix = name.partition(".")
            if stem and dot:
                key = f"{folder}/{stem}" if folder else stem
                sample = found.setdefault(key, Sample(key=key))
                sample.fields[suffix.lower()] = (member.offset, member.size)
    except Unusable as error:
        if not found and "cut short" not in str(error):
            raise FileFormatError(f"{path}: {error}") from error
        return list(found.values()), str(error)
    return list(found.values()), None


def picture_of(sample: Sample) -> tuple[int, int]:
    """Where the picture that is to be edited lies. Raises ``Unusable``."""
    for name in _NAMES:
        for kind in _KINDS:
            if name + kind in sample.fields:
                return sample.fields[name + kind]
    raise Unusable("missing file", f"has no picture, but {', '.join(sample.fields):.100}")


def record(path: Path, sample: Sample) -> dict[str, Any]:
    """The sample's JSON, empty where it has none. Raises ``Unusable``."""
    if "json" not in sample.fields:
        return {}
    try:
        found = json.loads(text(path, sample.fields["json"]))
    except (ValueError, RecursionError) as error:
        raise Unusable("damaged", f"its .json is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise Unusable("damaged", f"its .json is {type(found).__name__} where an object belongs")
    return found


def text(path: Path, where: tuple[int, int]) -> str:
    """A text in a shard. Raises ``Unusable``."""
    if where[1] > _MOST_TEXT:
        raise Unusable("damaged", f"its words are over {_MOST_TEXT // 2**20} MiB")
    try:
        return read(path, *where).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable("damaged", f"its words cannot be read ({error})") from error


def read(path: str | Path, offset: int, size: int) -> bytes:
    """A part of a file."""
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise OSError(f"ends after {offset + len(data)} bytes")
    return data
