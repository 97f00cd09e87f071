"""Plain tar files as WebDataset writes them, read in place: an index of where each file lies, and no extraction.

A row is the files of one key, which lie together: ``000123.before.png``, ``000123.after.png``, ``000123.json``. Only headers are
read for the index. Whoever opens a picture seeks to it.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ImageError
from ..images import MAX_BYTES, open_picture
from .reading import Unusable

if TYPE_CHECKING:
    from PIL import Image

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""Endings of files in a shard that are taken for pictures."""
MAX_TEXT = 4 * 2**20
"""Largest file of words that is read, in bytes."""
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """A file inside a tar: ``size`` bytes of ``shard`` from ``offset`` on. Called, it opens as an RGB picture."""

    shard: Path
    name: str
    offset: int
    size: int

    def __call__(self) -> Image.Image:
        """The picture, RGB. Raises ``ImageError``."""
        try:
            data = self.read(MAX_BYTES)
            if not data:
                raise ImageError("the picture: the file is empty")
            return open_picture(data).rgb
        except Unusable as error:
            raise ImageError(str(error)) from error
        except ImageError as error:
            raise ImageError(str(error).replace("the picture", str(self), 1)) from error

    def read(self, most: int) -> bytes:
        """The bytes. Raises ``Unusable`` for more than ``most``, or where the shard has not got them any more."""
        if self.size > most:
            raise Unusable("damaged", f"{self}: is over the limit of {most // 2**20} MiB")
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError as error:
            raise Unusable("missing file", f"{self}: cannot be read ({error.strerror or error})") from error
        if len(data) < self.size:
            raise Unusable("damaged", f"{self}: is cut short")
        return data

    def __str__(self) -> str:
        return f"{self.shard.name}: {self.name}"


@dataclass(frozen=True, kw_only=True)
class Group:
    """The files of a key, by field: what follows the key and a dot, such as ``before.png``."""

    key: str
    files: dict[str, Slice] = field(default_factory=dict)


def groups(shard: Path, known: Iterable[str]) -> Iterator[Group]:
    """The rows of a shard, in its order. ``known`` are names of pictures' fields, such as ``before``: a key may have dots in it,
    as long as one of them ends it.

    Raises ``Unusable`` at the place where a shard is damaged or cut short: rows that came before are good.
    """
    names = frozenset(known)
    open_now: Group | None = None
    for member in members(shard):
        own = open_now.key if open_now is not None else None
        key, name = _parted(member.name, names, own)
        if open_now is None or key != own:
            if open_now is not None:
                yield open_now
            open_now = Group(key=key)
        open_now.files[name.lower()] = member
    if open_now is not None:
        yield open_now


def _parted(path: str, names: frozenset[str], now: str | None) -> tuple[str, str]:
    """Key and field of a file. A key is all before the first dot, unless a known field shows where a longer one ends."""
    folder, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)
    key, dot, role = stem.rpartition(".")
    if suffix.lower() in PICTURES and dot and role.lower() in names:
        return f"{folder}/{key}" if folder else key, f"{role}{suffix}"
    if now is not None and path.startswith(f"{now}."):
        return now, path[len(now) + 1 :]
    first, _, rest = (stem, "", suffix[1:]) if suffix.lower() == ".json" else name.partition(".")
    return f"{folder}/{first}" if folder else first, rest


def members(shard: Path) -> Iterator[Slice]:
    """Every regular file of a tar, by its header alone. Raises ``Unusable`` where it is damaged, behind what is good."""
    try:
        size = shard.stat().st_size
        with shard.open("rb") as file, tarfile.open(fileobj=_plain(file, shard), mode="r:") as tar:
            while (member := tar.next()) is not None:
                vars(tar)["members"] = []  # it would keep a million of them
                if member.isreg() and not member.issparse() and os.path.basename(member.name)[:1] not in ("", "."):
                    if member.offset_data + member.size > size:
                        name = f"{member.name:.100}"
                        raise Unusable("damaged", f"is cut short in {name}: it and what lies behind are left out")
                    yield Slice(shard=shard, name=member.name, offset=member.offset_data, size=member.size)
            file.seek(tar.offset)
            if any(tail := file.read(512)) or not tail:  # the library takes a broken header for the end
                raise Unusable(
                    "damaged", f"is damaged or cut short after {tar.offset} bytes: what lies behind is left out"
                )
    except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError) as error:
        raise Unusable("damaged", f"is no tar that can be read ({error})") from error
    except OSError as error:
        raise Unusable("missing file", f"cannot be read ({error.strerror or error})") from error


def _plain(file, shard: Path):  # noqa: ANN001, ANN202 - a binary file, and the same one
    head = file.read(6)
    if head.startswith(_PACKED):
        raise Unusable("damaged", "is compressed: unpack it to a plain .tar, so that rows can be read in place")
    if not head:
        raise Unusable("damaged", "is empty")
    file.seek(0)
    return file
