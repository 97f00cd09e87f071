"""What an edit gives back, and how it is saved."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from . import files, overlays
from .errors import MethodError, OutputError
from .recipe import CHUNK, Recipe

if TYPE_CHECKING:
    import torch

    from .inversion.inverted import Inverted

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
# The longest side that the formats can hold.
_LONGEST = {"JPEG": 65_500, "WEBP": 16_383}


@dataclass(kw_only=True)
class Edit:
    """An edited picture.

    ``image`` has the input's own size, and its alpha channel if it had one. ``masks`` are the regions that were edited,
    bool arrays (H, W) at that size, one for each instruction under a method with regions; empty where the method has none.
    ``keywords`` are the words that found them, None where a mask was the user's own. ``recipe`` makes the same pixels again;
    ``latents`` (4, h, w) float32 on the CPU are the last of the run; ``notes`` say whatever a user may want to know;
    ``source`` is the input; ``inverted`` what was found of it, where the method is an inversion.
    """

    image: Image.Image
    recipe: Recipe
    masks: list[np.ndarray] = field(default_factory=list)
    keywords: list[str | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    latents: torch.Tensor | None = None
    source: Image.Image | None = None
    inverted: Inverted | None = None

    @property
    def seed(self) -> int | None:
        """The seed of the run."""
        return self.recipe.seed

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the picture, whole or not at all: PNG with its recipe, or JPEG or WebP without (which ``notes``
        then say).

        Raises ``OutputError`` if the file exists and ``force`` is not set, it cannot be written, or its kind cannot hold
        a picture of this size.
        """
        path = Path(path)
        check_picture_path(path, size=self.image.size, force=force)
        kind = _FORMATS[path.suffix.lower()]
        files.write_atomic(path, _encoded(self.image, kind, self.recipe), force=force)
        if kind != "PNG":
            self.notes.append(f"{path}: {kind} files carry no recipe; save as .png to be able to replay the edit")
        if kind == "JPEG" and self.image.mode == "RGBA":
            self.notes.append(f"{path}: JPEG has no transparency; the picture was laid over white")
        return path

    def png(self) -> bytes:
        """The picture with its recipe, as the bytes of a PNG file."""
        return _encoded(self.image, "PNG", self.recipe)

    def overlay(self) -> Image.Image:
        """Which region went to which instruction: tinted over the paled input, with a legend (see ``overlays.regions``).

        Raises ``MethodError`` if there are no regions, or no input is known.
        """
        if not self.masks or self.source is None:
            raise MethodError("this edit has no regions to show: use method 'foi', or limit it by a mask")
        return overlays.regions(self.source, self.masks, self.legend())

    def legend(self) -> list[tuple[str, str]]:
        """Of each region, what it was for, and how it was found."""
        told, weights = self.recipe.instructions, self.recipe.weights
        if len(weights) != len(self.masks) or len(told) != len(self.masks):
            return [(", ".join(told), self._found(number)) for number in range(len(self.masks))]
        found = ["your mask" if word is None else f"keyword: {word}" for word in self.keywords]
        if any(weight != 1 for weight in weights):
            found = [f"{how}, weight {weight:g}" for how, weight in zip(found, weights, strict=True)]
        return list(zip(told, found, strict=True))

    def _found(self, number: int) -> str:
        """How the region of an edit with one was found."""
        word = self.keywords[number] if number < len(self.keywords) else None
        if word is not None:
            return f"keyword: {word}"
        return f"found by {self.recipe.method.name}" if self.keywords else "your mask"

    def save_masks(self, stem: str | os.PathLike[str], *, force: bool = False) -> list[Path]:
        """Write each mask as ``<stem>.mask1.png`` and so on, and the overlay as ``<stem>.overlay.png``; nothing where there is
        no mask. Raises ``OutputError``.
        """
        pictures: list[Image.Image] = [Image.fromarray(mask.astype(np.uint8) * 255) for mask in self.masks]
        if self.masks and self.source is not None:
            pictures.append(self.overlay())
        paths = mask_paths(stem, len(self.masks))[: len(pictures)]
        for path in paths:
            files.check_output(path, force=force)
        for path, picture in zip(paths, pictures, strict=True):
            files.write_atomic(path, _encoded(picture, "PNG", None), force=force)
        return paths


def mask_paths(stem: str | os.PathLike[str], masks: int) -> list[Path]:
    """What ``Edit.save_masks`` writes for so many masks: theirs, and then the overlay's."""
    names = [*(f"mask{number}" for number in range(1, masks + 1)), "overlay"] if masks else []
    return [Path(f"{os.fspath(stem)}.{name}.png") for name in names]


def encoded(picture: Image.Image, path: str | os.PathLike[str]) -> bytes:
    """A picture without a recipe as the bytes of the kind of file that the path's suffix names."""
    return _encoded(picture, _FORMATS[Path(path).suffix.lower()], None)


def check_picture_path(
    path: str | os.PathLike[str], *, size: tuple[int, int] | None = None, force: bool = False
) -> Path:
    """The path, if a picture (of ``size``, if it is known) can be saved there.

    Raises ``OutputError``, also for a suffix that is not written and for a kind of file that cannot hold that size.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise OutputError(f"{path}: the name must end in one of {', '.join(_FORMATS)} (only .png keeps the recipe)")
    kind = _FORMATS[path.suffix.lower()]
    if size is not None and max(size) > _LONGEST.get(kind, max(size)):
        raise OutputError(f"{path}: {kind} holds at most {_LONGEST[kind]} pixels a side, not {max(size)}; save as .png")
    return files.check_output(path, force=force)


def _encoded(image: Image.Image, kind: str, recipe: Recipe | None) -> bytes:
    options: dict[str, Any] = {"icc_profile": image.info.get("icc_profile")}
    if kind == "PNG" and recipe is not None:
        chunks = PngInfo()
        chunks.add_itxt(CHUNK, recipe.to_json())
        options["pnginfo"] = chunks
    elif kind in ("JPEG", "WEBP"):
        options["quality"] = 95
    if kind == "JPEG" and image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()
