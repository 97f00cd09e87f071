"""The pictures of a page: all of a row of one size and one format, so that nothing but what they show tells them apart."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .. import images
from ..errors import ImageError, UsageError
from .folder import Line, Results, System

LOSSLESS = 96 * 1024
"""Pictures of a row stay lossless where they take at most so many bytes each, on average."""
QUALITY = 92
APART = 0.08
"""Mean difference of two pictures (0 to 1) from which nobody takes one for the other."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A row's pictures as the page has them, data URLs of one size and format: ``edits`` in the order of the systems.

    ``afar`` is what can be seen of the picture before, and of the truth where there is one, from afar; ``alike`` whether two
    systems made the very same picture.
    """

    row: Line
    before: str
    edits: tuple[str, ...]
    truth: str | None
    afar: tuple[np.ndarray, ...]
    alike: bool

    @property
    def length(self) -> int:
        """What the row adds to the page."""
        return sum(map(len, (self.before, *self.edits, self.truth or "")))


def load(results: Results, row: Line, systems: Sequence[System], *, side: int) -> Shown:
    """Open a row's pictures, the longer side at most ``side`` pixels. Raises ``ImageError`` for one that is broken."""
    before = images.open_picture(results.before(row)).rgb
    scale = min(1.0, side / max(before.size))
    size = (max(1, round(before.width * scale)), max(1, round(before.height * scale)))
    known = _truth(results.truth(row), size) if row.after else []
    before = _bare(before, size)
    edits = [_bare(images.open_picture(results.edit(row, system)).rgb, size) for system in systems]
    first, *rest = encoded([before, *edits, *known])
    return Shown(
        row=row,
        before=first,
        edits=tuple(rest[: len(edits)]),
        truth=rest[-1] if known else None,
        afar=tuple(thumbnail(picture) for picture in (before, *known)),
        alike=len({edit.tobytes() for edit in edits}) < len(edits),
    )


def _truth(path: Path, size: tuple[int, int]) -> list[Image.Image]:
    """The true result, or nothing: a missing or broken one costs a check, not the row."""
    try:
        return [_bare(images.open_picture(path).rgb, size)]
    except ImageError:
        return []


def _bare(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The pixels alone, at this size: a recipe or another size would name the system."""
    resized = picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
    return Image.fromarray(np.asarray(resized.convert("RGB")))


def encoded(pictures: Sequence[Image.Image]) -> list[str]:
    """Pictures of one row as data URLs: PNG where that is small enough, else JPEG, and the same for all of them."""
    files = [_bytes(picture, "PNG", optimize=True) for picture in pictures]
    kind = "png"
    if sum(map(len, files)) > LOSSLESS * len(files):
        kind, files = "jpeg", [_bytes(picture, "JPEG", quality=QUALITY, subsampling=0) for picture in pictures]
    return [f"data:image/{kind};base64,{base64.b64encode(data).decode()}" for data in files]


def _bytes(picture: Image.Image, kind: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **settings)
    return buffer.getvalue()


def thumbnail(picture: Image.Image) -> np.ndarray:
    """What can be seen of a picture from afar: (3072,) float32 in [0, 1]."""
    small = picture.resize((32, 32), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).reshape(-1) / 255


def check_side(side: int) -> None:
    """Raise ``UsageError`` for a side that no page needs."""
    if not 32 <= side <= 4096:
        raise UsageError(f"--side {side}: must be from 32 to 4096 pixels")
