"""Pictures and masks of rows, opened when they are wanted. Everything here can be handed to another process."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ImageError
from ..images import Picture, open_mask, open_picture
from .reading import Unusable

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif")
"""Endings of files that are taken for pictures."""


def picture(path: Path) -> Callable[[], Image.Image]:
    """Opens a picture as RGB. What it gives raises ``ImageError``."""
    return partial(_rgb, path)


def _rgb(path: Path) -> Image.Image:
    return open_picture(path).rgb


def pair(before: Path, after: Path) -> Callable[[], tuple[Image.Image, Image.Image]]:
    """Opens a before and an after."""
    return partial(_both, before, after)


def _both(before: Path, after: Path) -> tuple[Image.Image, Image.Image]:
    return _rgb(before), _rgb(after)


def masks(paths: Sequence[Path], of: Path) -> Callable[[], np.ndarray]:
    """Opens the union of masks of the picture ``of``: light is where the edit belongs."""
    return partial(_union, tuple(paths), of)


def _union(paths: tuple[Path, ...], of: Path) -> np.ndarray:
    size = open_picture(of).size
    return np.any([open_mask(path, size=size) for path in paths], axis=0)


def check_masks(paths: Sequence[Path], of: Path) -> None:
    """Raise ``Unusable`` for a mask that is not of the picture's size. Only headers are read where they agree."""
    _check(_union, paths, of)


def _check(opens: Callable[[tuple[Path, ...], Path], np.ndarray], paths: Sequence[Path], of: Path) -> None:
    size = _header_size(of)
    for path in paths:
        if size is None or _header_size(path) != size:
            try:
                opens((path,), of)  # exact: a picture may lie on its side and say so
            except ImageError as error:
                raise Unusable("mask" if str(error).startswith(str(path)) else "picture", str(error)) from error


def _header_size(path: Path) -> tuple[int, int] | None:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as opened:
                return opened.size
        except Exception:  # noqa: BLE001 - whatever is wrong with it is told by open_picture
            return None


def cut_out(opened: Picture) -> np.ndarray:
    """The (H, W) bool region that a picture with a hole marks: its transparent pixels, or, if it has none, its white ones.

    Raises ``ImageError`` for a picture that marks nothing.
    """
    name = opened.path or "the mask"
    if opened.alpha is not None and (hole := np.asarray(opened.alpha) < 128).any():
        return hole
    white = np.all(np.asarray(opened.rgb) >= 250, axis=2)
    if not white.any():
        raise ImageError(f"{name}: marks nothing: the region should be transparent or white")
    return white


def sized(mask: np.ndarray, size: tuple[int, int], name: str) -> np.ndarray:
    """The mask, if it is of the picture's (width, height). Raises ``ImageError``."""
    if mask.shape[::-1] != tuple(size):
        raise ImageError(f"{name}: the mask is {mask.shape[1]}x{mask.shape[0]} and the picture {size[0]}x{size[1]}")
    return mask


def holes(paths: Sequence[Path], of: Path) -> Callable[[], np.ndarray]:
    """Opens the union of what pictures with holes mark of the picture ``of``."""
    return partial(_holes, tuple(paths), of)


def _holes(paths: tuple[Path, ...], of: Path) -> np.ndarray:
    size = open_picture(of).size
    return np.any([sized(cut_out(open_picture(path)), size, str(path)) for path in paths], axis=0)


def check_holes(paths: Sequence[Path], of: Path) -> None:
    """Raise ``Unusable`` for a picture with a hole that is not of the size of ``of``."""
    _check(_holes, paths, of)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder by their endings, in the order of their names. Hidden files are left out."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "." and p.is_file())
