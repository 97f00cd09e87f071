"""Pictures in and out: load anything, refuse what cannot be edited, fit it to a model, bring it back.

A picture is checked before it is decoded (its size on disk and the size that its header
claims), turned as its EXIF says, and held as 8-bit RGB. An alpha channel is laid over
white for the model and given back, unchanged, to the result. Of an animated file the
first frame is taken. ``Picture.notes`` says whatever was done that a user may want to know.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .errors import ImageError
from .types import ImageLike

#: Largest picture that is decoded, in pixels.
MAX_PIXELS = 64_000_000
#: Largest file that is read, in bytes.
MAX_BYTES = 256 * 1024 * 1024

# Formats that Pillow decodes itself: nothing here starts another program (as EPS does).
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "AVIF", "JPEG2000")
# Whatever Pillow's decoders raise for a file that is broken.
_DECODE_ERRORS = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, AssertionError, RuntimeError, LookupError,
    ArithmeticError, MemoryError, struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A decoded picture.

    ``rgb`` is the 8-bit RGB picture that a model sees; ``alpha`` its 8-bit alpha channel or
    None; ``path`` and ``sha256`` the file it came from (None for a picture in memory);
    ``pixels_sha256`` a hash of its pixels; ``icc_profile`` its RGB colour profile, if any.
    """

    rgb: Image.Image
    alpha: Image.Image | None = None
    path: str | None = None
    sha256: str | None = None
    icc_profile: bytes | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.rgb.size

    @property
    def pixels_sha256(self) -> str:
        """SHA-256 of size, RGB bytes and alpha bytes."""
        digest = hashlib.sha256(f"{self.size}".encode())
        digest.update(self.rgb.tobytes())
        if self.alpha is not None:
            digest.update(self.alpha.tobytes())
        return digest.hexdigest()


def open_picture(image: ImageLike, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> Picture:
    """Load a picture from a path, encoded bytes, a PIL picture, an array or a tensor.

    Arrays are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): uint8, uint16, bool, or float in [0, 1].
    Tensors are the same with channels first. Raises ``ImageError`` for what is missing,
    not a picture, truncated, empty (0x0) or larger than the limits.
    """
    if isinstance(image, Picture):
        return image
    if isinstance(image, (str, os.PathLike)):
        return _from_file(Path(image), max_pixels=max_pixels, max_bytes=max_bytes)
    if isinstance(image, (bytes, bytearray)):
        data = bytes(image)
        return _from_bytes(data, name="the picture", path=None, max_pixels=max_pixels, max_bytes=max_bytes)
    if isinstance(image, Image.Image):
        return _from_pil(image, name="the picture", max_pixels=max_pixels)
    if isinstance(image, np.ndarray) or hasattr(image, "detach"):
        return _from_pil(_array_to_pil(image), name="the picture", max_pixels=max_pixels)
    raise ImageError(
        f"a picture cannot be made from {type(image).__name__}: "
        "give a path, bytes, a PIL picture, a NumPy array or a torch tensor"
    )


def _from_file(path: Path, *, max_pixels: int, max_bytes: int) -> Picture:
    try:
        if path.is_dir():
            raise ImageError(f"{path}: is a folder, not a picture")
        if not path.exists():
            raise ImageError(f"{path}: no such file")
        if not path.is_file():
            raise ImageError(f"{path}: is not a regular file")
        size = path.stat().st_size
        if size == 0:
            raise ImageError(f"{path}: the file is empty")
        if size > max_bytes:
            raise ImageError(f"{path}: {size / 2**20:.0f} MiB is over the limit of {max_bytes / 2**20:.0f} MiB")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: cannot be read ({_reason(error)})") from error
    return _from_bytes(data, name=str(path), path=str(path), max_pixels=max_pixels, max_bytes=max_bytes)


def _from_bytes(data: bytes, *, name: str, path: str | None, max_pixels: int, max_bytes: int) -> Picture:
    if len(data) > max_bytes:
        raise ImageError(f"{name}: {len(data) / 2**20:.0f} MiB is over the limit of {max_bytes / 2**20:.0f} MiB")
    with warnings.catch_warnings():
        # Our own limit below answers for what Pillow only warns about.
        warnings.simplefilter("ignore")
        try:
            Image.init()
            formats = [kind for kind in _FORMATS if kind in Image.OPEN]  # AVIF is not in every build
            opened = Image.open(io.BytesIO(data), formats=formats)
        except Image.DecompressionBombError as error:
            raise ImageError(
                f"{name}: over the limit of {max_pixels / 1e6:.3g} megapixels; scale it down first"
            ) from error
        except Image.UnidentifiedImageError as error:
            raise ImageError(
                f"{name}: is not a picture that can be read (PNG, JPEG, WebP, GIF, TIFF, BMP ...)"
            ) from error
        except _DECODE_ERRORS as error:
            raise ImageError(f"{name}: is broken ({_reason(error)})") from error
        with opened:
            picture = _from_pil(opened, name=name, max_pixels=max_pixels)
    return Picture(
        rgb=picture.rgb,
        alpha=picture.alpha,
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        icc_profile=picture.icc_profile,
        notes=picture.notes,
    )


def _from_pil(image: Image.Image, *, name: str, max_pixels: int) -> Picture:
    width, height = image.size
    if width == 0 or height == 0:
        raise ImageError(f"{name}: has no pixels ({width}x{height})")
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width}x{height} is over the limit of {max_pixels / 1e6:.3g} megapixels; scale it down first"
        )
    try:
        frames = getattr(image, "n_frames", 1)  # counted by reading the file
        if frames > 1:
            image.seek(0)
        image.load()
        turned = ImageOps.exif_transpose(image)
        rgb, alpha = _to_rgb(turned)
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: over the limit of {max_pixels / 1e6:.3g} megapixels; scale it down first") from error
    except _DECODE_ERRORS as error:
        raise ImageError(f"{name}: is broken or cut short ({_reason(error)})") from error
    profile = image.info.get("icc_profile")
    keep = isinstance(profile, bytes) and profile[16:20] == b"RGB "
    animated = frames > 1 and image.format != "MPO"  # MPO: a JPEG with previews behind it, not an animation
    notes = (f"{name}: has {frames} frames; only the first is edited",) if animated else ()
    return Picture(rgb=rgb, alpha=alpha, icc_profile=profile if keep else None, notes=notes)


def _to_rgb(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Split into 8-bit RGB, laid over white where transparent, and alpha or None."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _deep_grey(image).convert("RGB"), None
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB"), rgba.getchannel("A")
    return image.convert("RGB"), None


def _deep_grey(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit or float grey to 8 bits. Pillow's own conversion clips instead of scaling."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if image.mode == "F":
        values = values * 255 if values.max() <= 1 else values
    elif image.mode.startswith("I;16") or values.max() > 255:
        values = values / 257
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _array_to_pil(image: Any) -> Image.Image:
    if hasattr(image, "detach"):
        tensor = image.detach().cpu()
        if tensor.ndim == 4 and tensor.shape[0] == 1:
            tensor = tensor[0]
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        image = tensor.permute(1, 2, 0).numpy() if tensor.ndim == 3 else tensor.numpy()
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
        raise ImageError(f"an array of shape {image.shape} is not a picture: (H, W), (H, W, 3) or (H, W, 4) is needed")
    if 0 in image.shape:
        raise ImageError(f"the picture has no pixels (shape {image.shape})")
    if image.dtype == bool:
        image = image.astype(np.uint8) * 255
    elif image.dtype == np.uint16:
        image = np.rint(image / 257).astype(np.uint8)
    elif np.issubdtype(image.dtype, np.floating):
        if not np.isfinite(image).all() or image.min() < 0 or image.max() > 1:
            raise ImageError("a float picture must be finite and in [0, 1]")
        image = np.rint(image * 255).astype(np.uint8)
    elif image.dtype != np.uint8:
        raise ImageError(
            f"a picture of {image.dtype} is not understood: uint8, uint16, bool or float in [0, 1] is needed"
        )
    return Image.fromarray(np.ascontiguousarray(image))


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error).split("\n")[0] or type(error).__name__


def open_mask(mask: Any, *, size: tuple[int, int]) -> np.ndarray:
    """Load a user's mask as a bool array (H, W); True (light, at least half) is where the edit may happen.

    ``size`` is the picture's (width, height), which the mask must have. Transparent parts count as dark.
    Raises ``ImageError`` for a mask of another size or without a single True pixel.
    """
    picture = open_picture(mask_like(mask))
    name = picture.path or "the mask"
    if picture.size != tuple(size):
        raise ImageError(
            f"{name}: the mask is {picture.size[0]}x{picture.size[1]} and the picture {size[0]}x{size[1]}: "
            "make them the same size"
        )
    light = np.asarray(picture.rgb.convert("L"), dtype=np.uint8) >= 128
    if picture.alpha is not None:
        light &= np.asarray(picture.alpha) >= 128
    if not light.any():
        raise ImageError(f"{name}: the mask is empty: paint white where the edit may happen")
    return light


def mask_like(mask: Any) -> Any:
    """A mask as ``open_picture`` takes it: an integer array or tensor of zeros and ones is meant as a bool one."""
    if hasattr(mask, "detach"):
        mask = mask.detach().cpu()
        mask = (mask.float() if mask.is_floating_point() else mask).numpy()  # NumPy has no bfloat16
    if isinstance(mask, np.ndarray):
        mask = mask[0] if mask.ndim == 3 and mask.shape[0] == 1 else mask
        if np.issubdtype(mask.dtype, np.integer) and mask.size and 0 <= mask.min() and mask.max() <= 1:
            return mask.astype(bool)
    return mask
