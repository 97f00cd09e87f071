"""Masks that were painted, inside a result's PNG: a recipe names a mask by its hash, and the studio brings it back."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from .limits import Limits

#: Keyword of the PNG's text chunk, beside the recipe's.
CHUNK = "showtell-painted"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = 12  # bytes of the closing chunk


def with_masks(png: bytes, masks: Mapping[int, np.ndarray]) -> bytes:
    """A PNG's bytes with masks (H, W) bool in them, by the number of their line; -1 is for all lines."""
    if not masks or not png.startswith(_SIGNATURE):
        return png
    told = {str(number): base64.b64encode(_png(mask)).decode("ascii") for number, mask in masks.items()}
    chunk = _chunk(CHUNK.encode("latin-1") + b"\0" + json.dumps(told).encode("latin-1"))
    return png[:-_END] + chunk + png[-_END:]


def masks_of(path: Path, *, limits: Limits) -> dict[int, np.ndarray]:
    """The masks in a result's PNG; none where there are none, or what there is is none of ours."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.width * image.height > limits.pixels:
                return {}
            image.load()
            told, size = json.loads(getattr(image, "text", {}).get(CHUNK, "{}")), image.size
        if not isinstance(told, dict) or len(told) > limits.instructions + 1:
            return {}
        return {int(number): _mask(base64.b64decode(text, validate=True), size) for number, text in told.items()}
    except (ValueError, TypeError, AttributeError, OSError, SyntaxError, RecursionError, Image.DecompressionBombError):
        return {}


def _chunk(text: bytes) -> bytes:
    """Text as a chunk of a PNG."""
    return struct.pack(">I", len(text)) + b"tEXt" + text + struct.pack(">I", zlib.crc32(b"tEXt" + text))


def _png(mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def _mask(data: bytes, size: tuple[int, int]) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        if image.size != size or image.mode != "1":
            raise ValueError("no mask of this picture")
        return np.array(image)
