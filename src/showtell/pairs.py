"""Before/after pairs: what a user shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ImageError
from .fitting import Frame, into_frame
from .images import Picture, open_picture
from .recipe import record_of

if TYPE_CHECKING:
    from PIL import Image

_HOW = "give pairs such as [(before, after)]"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A picture before an edit and after it."""

    before: Picture
    after: Picture

    @property
    def same_size(self) -> bool:
        """Whether both pictures have the same width and height."""
        return self.before.size == self.after.size

    def framed(self, frame: Frame) -> tuple[Image.Image, Image.Image]:
        """Both pictures, fitted alike: ``frame`` is the before's; an after of another size is first brought to it."""
        from PIL import Image

        after = self.after.rgb
        if not self.same_size:
            after = after.resize(self.before.size, Image.Resampling.LANCZOS)
        return into_frame(self.before.rgb, frame), into_frame(after, frame)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """One or several pairs that show the same edit."""

    items: tuple[Pair, ...]

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def of(cls, value: Any) -> Pairs:
        """From a list of (before, after), one such pair, or pictures one after another.

        A picture is whatever ``images.open_picture`` takes. Raises ``ImageError`` for no pictures, an odd number of
        them, a pair that is not two pictures, or a pair whose pictures have the same pixels: it teaches nothing.
        """
        if isinstance(value, Pairs):
            return value
        if not isinstance(value, (list, tuple)):
            raise ImageError(f"pairs: {type(value).__name__} is not a list of pairs: {_HOW}")
        if not value:
            raise ImageError(f"pairs: there are none: {_HOW}")
        return cls(items=tuple(_pair(number, item) for number, item in enumerate(_two_by_two(value), start=1)))

    def record(self) -> list[dict[str, Any]]:
        """The files as a recipe names them, as plain JSON."""
        from dataclasses import asdict

        return [{"before": asdict(record_of(p.before)), "after": asdict(record_of(p.after))} for p in self.items]

    def notes(self) -> list[str]:
        """What a user should know: pairs whose pictures differ in size."""
        return [
            f"pair {number}: before is {_sides(pair.before)} and after is {_sides(pair.after)}; "
            "the after was brought to the before's size"
            for number, pair in enumerate(self.items, start=1)
            if not pair.same_size
        ]


def _two_by_two(value: Sequence[Any]) -> list[Any]:
    """The pairs in a list, which may also hold the pictures one after another."""
    if any(isinstance(item, (list, tuple)) for item in value):
        return list(value)
    if len(value) % 2:
        raise ImageError(f"pairs: {len(value)} pictures are an odd number: every before needs its after")
    return [tuple(value[i : i + 2]) for i in range(0, len(value), 2)]


def _pair(number: int, item: Any) -> Pair:
    if not isinstance(item, (list, tuple)) or len(item) != 2:
        got = f"{len(item)} pictures" if isinstance(item, (list, tuple)) else type(item).__name__
        raise ImageError(f"pair {number} is not a before and an after (got {got}): {_HOW}")
    before, after = (image if isinstance(image, Picture) else open_picture(image) for image in item)
    if before.size == after.size and np.array_equal(np.asarray(before.rgb), np.asarray(after.rgb)):
        names = " and ".join(str(p.path) for p in (before, after) if p.path) or "before and after"
        raise ImageError(f"pair {number}: {names} are the same picture, so there is nothing to learn")
    return Pair(before=before, after=after)


def _sides(picture: Picture) -> str:
    return f"{picture.size[0]}x{picture.size[1]}"
