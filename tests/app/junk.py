"""Files and values that nobody should send."""

from __future__ import annotations

import io
import pickle
import random
import string
import struct
import zlib
from typing import Any

from PIL import Image


def png(side: int, color: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), color).save(file, "PNG")
    return file.getvalue()


def bomb() -> bytes:
    """A file of a few bytes that claims 60000 x 60000 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(10_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + rows + chunk(b"IEND", b"")


FILES = {
    "house.png": png(32), "other.png": png(24, "blue"), "large.png": png(200), "bomb.png": bomb(),
    "truncated.png": png(32)[:-30], "text.png": b"this is no picture", "empty.png": b"",
    "broken.safetensors": b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "pickled.safetensors": pickle.dumps({"a": [1, 2]}),
    "pickled.pt": pickle.dumps({"a": [1, 2]}),
}  # fmt: skip

PATHS = (
    "/etc/passwd", "/proc/self/environ", "/", "", ".", "..", "~", "x.png", "\0", "/dev/zero", "file:///etc/passwd",
    "http://127.0.0.1:1/x.png", "https://example.invalid/x.safetensors", "\\\\server\\share", "C:\\x", "\ud800",
)  # fmt: skip
TEXTS = (
    "", " ", "\n", "make it red", "make it red\nmake it blue", "<nobody>", "<a:1e999>", "[", "]]", "\0", "\ud800", "x" * 100_000,
    "é" * 500, "<script>alert(1)</script>", "{{7*7}}", "%s%s%n", "../../x", "1,2,3", "1e999", "nan", "-1", "foi", "pti", "ip2p",
    "data:image/png;base64,AAAA", "closeness to the words", "eta", "sdedit", "0123456789abcdef", "all lines together",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 3, 7, 20, 0.5, -0.5, 1.5, 1e300, -1e300, float("nan"), float("inf"), float("-inf"), 2**31, 2**63, 10**400, True,
)  # fmt: skip
NAMES = ("picture", "mask", "index", "value", "path", "url", "image", "layers", "__type__", "data", "headers")
META = {"meta": {"_type": "gradio.FileData"}}


def junk(rng: random.Random, files: list[dict[str, Any]], depth: int = 0) -> Any:
    """Anything that JSON can say, and more; ``files`` are uploaded ones."""
    kind = rng.randrange(19 if depth < 2 else 14)
    if kind < 3:
        return rng.choice(NUMBERS)
    if kind < 7:
        return rng.choice(TEXTS)
    if kind < 9:
        return "".join(rng.choice(string.printable) for _ in range(rng.randrange(30)))
    if kind < 12:
        return {
            **rng.choice(files),
            **rng.choice(({}, {"orig_name": rng.choice(TEXTS)}, {"size": "x"}, {"is_stream": True})),
        }
    if kind == 12:
        return {"path": rng.choice(PATHS), **rng.choice(({}, META, {"url": rng.choice(PATHS)}))}
    if kind == 13:
        return None
    if kind < 16:
        return [junk(rng, files, depth + 1) for _ in range(rng.randrange(4))]
    if kind < 18:
        return {rng.choice(NAMES): junk(rng, files, depth + 1) for _ in range(rng.randrange(3))}
    nested: Any = rng.choice(NUMBERS)
    for _ in range(rng.choice((5, 40, 100))):
        nested = [nested] if rng.random() < 0.5 else {"x": nested}
    return nested


def spoiled(rng: random.Random, values: list[Any], files: list[dict[str, Any]]) -> list[Any]:
    """Good values of which some are junk; now and then one more or one less."""
    found = list(values)
    for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 3))):
        if found:
            found[rng.randrange(len(found))] = junk(rng, files)
    if rng.random() < 0.1:
        found = found[:-1] if rng.random() < 0.5 else [*found, junk(rng, files)]
    return found
