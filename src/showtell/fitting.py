"""The resize rule: a picture of any size to a size that a model can take, and back.

Three ways, named as a user names them:

``fit``
    The whole picture, scaled to the model's size. Its sides are rounded to what the networks
    can halve, so the aspect ratio changes by less than that rounding, and changes back afterwards.
    A very long picture is squeezed, to at most twice the model's size, and stretched again (``Frame.squeezed``).
``crop``
    InstructPix2Pix's own way: scaled to cover, and what hangs over is cropped on both sides
    alike. The margin that the model did not see comes back as it was in the input.
``pad``
    The aspect ratio kept exactly; the rest of the frame is filled by repeating the border,
    and cut off afterwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .errors import MethodError

FITS = ("fit", "crop", "pad")
#: A very long picture is squeezed rather than made longer than this many times the model's size.
_LONGEST = 2


def model_size(size: tuple[int, int], *, resolution: int, multiple: int) -> tuple[int, int]:
    """The (width, height) at which a picture of ``size`` is edited (InstructPix2Pix's rule).

    With f = resolution / longer side, the shorter side becomes f * shorter rounded *up* to ``multiple``,
    the longer one follows at the same scale, rounded down: so no side is below ``multiple``, and the longer
    lies between ``resolution`` and twice it (the published rule has no upper end).
    """
    width, height = size
    long, short, most = _sides(size, resolution, multiple)
    long = min(long, most)
    return (long, short) if width >= height else (short, long)


def _sides(size: tuple[int, int], resolution: int, multiple: int) -> tuple[int, int, int]:
    """The longer side as it would have to be, the shorter one, and the most that the longer may be."""
    shorter, longer = sorted(size)
    resolution = max(multiple, resolution // multiple * multiple)
    # Integers: in floats a side that is a multiple already may be rounded up once more.
    short = math.ceil(shorter * resolution / (longer * multiple) - 1e-9) * multiple
    long = (longer * short // shorter) // multiple * multiple
    return max(long, resolution), short, _LONGEST * resolution


@dataclass(frozen=True, kw_only=True)
class Frame:
    """How one picture was fitted: ``size`` its own, ``frame`` the model's, ``box`` the part of the
    picture that fills ``inner``, the part of the frame (left, top, right, bottom; box in float pixels);
    ``squeezed`` whether the picture is so long that its aspect ratio in the frame is another."""

    fit: str
    size: tuple[int, int]
    frame: tuple[int, int]
    box: tuple[float, float, float, float]
    inner: tuple[int, int, int, int]
    squeezed: bool = False


def frame_for(size: tuple[int, int], *, fit: str, resolution: int, multiple: int) -> Frame:
    """Choose the frame for a picture of ``size`` (width, height). Raises ``MethodError`` for an unknown ``fit``."""
    if fit not in FITS:
        raise MethodError(f"fit={fit!r} is not known: choose one of {', '.join(FITS)}")
    width, height = size
    frame = model_size(size, resolution=resolution, multiple=multiple)
    box: tuple[float, float, float, float] = (0.0, 0.0, float(width), float(height))
    inner = (0, 0, *frame)
    if fit == "crop":
        scale = max(frame[0] / width, frame[1] / height)
        w, h = min(float(width), frame[0] / scale), min(float(height), frame[1] / scale)
        left, top = (width - w) / 2, (height - h) / 2
        box = (left, top, left + w, top + h)
    elif fit == "pad":
        scale = min(frame[0] / width, frame[1] / height)
        w, h = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = (frame[0] - w) // 2, (frame[1] - h) // 2
        inner = (left, top, left + w, top + h)
    long, _, most = _sides(size, resolution, multiple)
    squeezed = fit == "fit" and long > most
    return Frame(fit=fit, size=(width, height), frame=frame, box=box, inner=inner, squeezed=squeezed)


def into_frame(
    image: Image.Image, frame: Frame, *, resample: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    """The picture (RGB or L) in the model's frame."""
    left, top, right, bottom = frame.inner
    size = (right - left, bottom - top)
    if size == image.size and frame.box == (0.0, 0.0, *map(float, image.size)):
        inner = image
    else:
        inner = image.resize(size, resample, box=frame.box)
    if size == frame.frame:
        return inner
    array = np.asarray(inner)
    margins = [(top, frame.frame[1] - bottom), (left, frame.frame[0] - right)] + [(0, 0)] * (array.ndim - 2)
    return Image.fromarray(np.pad(array, margins, mode="edge"))


def out_of_frame(
    result: Image.Image,
    frame: Frame,
    original: Image.Image,
    *,
    resample: Image.Resampling = Image.Resampling.LANCZOS,
) -> Image.Image:
    """The model's picture back at the input's own size; what the model did not see comes from ``original``."""
    if frame.inner != (0, 0, *frame.frame):
        result = result.crop(frame.inner)
    if frame.fit != "crop":
        return result if result.size == frame.size else result.resize(frame.size, resample)
    left, top = math.ceil(frame.box[0] - 1e-6), math.ceil(frame.box[1] - 1e-6)
    right, bottom = math.floor(frame.box[2] + 1e-6), math.floor(frame.box[3] + 1e-6)
    if right <= left or bottom <= top:
        return original.copy()
    if result.size != (right - left, bottom - top):
        result = result.resize((right - left, bottom - top), resample)
    whole = original.copy()
    whole.paste(result, (left, top))
    return whole


def to_pixels(images: list[Image.Image]):
    """RGB pictures of one size as a float32 tensor (B, 3, H, W) in [-1, 1]."""
    import torch

    arrays = np.stack([np.asarray(image, dtype=np.float32) / 255.0 for image in images])
    return 2.0 * torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous() - 1.0


def to_images(pixels) -> list[Image.Image]:
    """A tensor (B, 3, H, W) in [-1, 1] as RGB pictures."""
    values = (pixels.detach().float().cpu() / 2 + 0.5).clamp(0, 1)
    arrays = (values.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    return [Image.fromarray(array) for array in arrays]
