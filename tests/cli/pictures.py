"""Pictures of every awkward kind."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def plain(width: int = 40, height: int = 32) -> Image.Image:
    """A red square on a blue ground."""
    picture = Image.new("RGB", (width, height), (60, 90, 200))
    picture.paste((210, 40, 40), (width // 4, height // 4, width // 2, height // 2))
    return picture


def png_header(width: int, height: int, path: Path) -> None:
    """A PNG that claims a size and holds one compressed byte."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def animated(path: Path, frames: int = 3) -> None:
    """A GIF whose frames differ."""
    pictures = [Image.new("RGB", (24, 24), (80 * i, 20, 20)) for i in range(frames)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])


def deep(path: Path) -> None:
    """A 16-bit grey PNG from black to white."""
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(ramp).save(path)


def turned(path: Path) -> None:
    """A JPEG that lies on its side and says so: 40 x 20 as stored, 20 x 40 as seen."""
    exif = Image.Exif()
    exif[0x0112] = 6
    plain(40, 20).save(path, exif=exif)
