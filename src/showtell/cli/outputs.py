"""Writing what a command made: everything is computed before the first byte is written."""

from __future__ import annotations

import contextlib
import io
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell import files
from showtell.errors import OutputError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


def png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def mask_png(mask: np.ndarray) -> bytes:
    """An (H, W) bool mask as a black and white PNG."""
    import numpy as np
    from PIL import Image

    return png(Image.fromarray(mask.astype(np.uint8) * 255))


def json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def check_folder(folder: Path, names: list[str], *, force: bool) -> None:
    """Raise ``OutputError`` unless files of these names can be written into the folder. Call it before long work."""
    mode = files.mode_of(folder)
    if mode and not stat.S_ISDIR(mode):
        raise OutputError(f"{folder}: is a file; name a folder")
    taken = [name for name in names if (folder / name).exists()]
    if taken and not force:
        raise OutputError(f"{folder / taken[0]}: exists already; use --force to overwrite it")
    nearest = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise OutputError(f"{folder}: cannot be made, since {nearest} is a file; name another folder")


def write_folder(folder: Path, contents: Mapping[str, bytes], *, force: bool) -> None:
    """Write files into a folder, each whole or not at all; what is there beside them stays.

    If one fails, the new ones are taken away again. Raises ``OutputError``.
    """
    check_folder(folder, list(contents), force=force)
    made = not folder.exists()
    fresh: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in contents.items():
            new = not (folder / name).exists()
            files.write_atomic(folder / name, data, force=force)
            if new:
                fresh.append(folder / name)
    except BaseException as error:
        for path in fresh:
            path.unlink(missing_ok=True)
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise files.output_error(folder, error) from error
        raise
