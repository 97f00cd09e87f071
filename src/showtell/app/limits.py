"""How much one visitor may ask for. What is over a limit is refused in one line, which never tells where files are kept."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import images
from ..errors import ImageError, MethodError, TextError

#: What ``images.open_picture`` calls bytes.
_UNNAMED = "the picture"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The studio's limits; ``MethodError`` for one that is not positive.

    ``upload_bytes`` and ``pixels`` are of one picture, ``json_bytes`` of the body of a JSON request, ``words`` the characters of
    one text, ``tiles`` the pictures of a grid, ``queue`` the requests that wait, ``seconds`` the run time of one; ``sessions``
    visitors are remembered, each with ``history`` results and files of ``session_bytes``; what they upload, and what is shown
    small, is kept up to ``scratch_bytes``.
    """

    upload_bytes: int = 32 * 2**20
    pixels: int = 16_000_000
    json_bytes: int = 8 * 2**20
    steps: int = 200
    instructions: int = 8
    pairs: int = 8
    learn_steps: int = 5000
    tiles: int = 36
    words: int = 2000
    queue: int = 32
    seconds: float = 600.0
    sessions: int = 64
    history: int = 40
    session_bytes: int = 512 * 2**20
    scratch_bytes: int = 4 * 2**30

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise MethodError(f"the limit {field.name} is {value!r}: give a number above 0")

    def picture(self, source: str | os.PathLike[str] | bytes, name: str = _UNNAMED) -> images.Picture:
        """Open what was uploaded, a file or bytes. Errors and notes call it ``name``; ``path`` is the file's bare name or None.

        Raises ``ImageError`` as ``images.open_picture`` does.
        """
        data = source if isinstance(source, bytes) else self._read(Path(source), name)
        self._check_size(len(data), name)
        try:
            picture = images.open_picture(data, max_pixels=self.pixels, max_bytes=self.upload_bytes)
        except ImageError as error:
            raise ImageError(_renamed(str(error), name)) from None
        notes = tuple(_renamed(note, name) for note in picture.notes)
        path = None if isinstance(source, bytes) else Path(source).name
        return dataclasses.replace(picture, path=path, notes=notes)

    def _read(self, path: Path, name: str) -> bytes:
        """The bytes of a file, one more than is allowed at most."""
        try:
            if not path.is_file():
                raise ImageError(f"{name}: is not there any more; upload it again")
            self._check_size(path.stat().st_size, name)
            with path.open("rb") as file:
                return file.read(self.upload_bytes + 1)
        except (OSError, ValueError):
            raise ImageError(f"{name}: cannot be read; upload it again") from None

    def _check_size(self, size: int, name: str) -> None:
        if size == 0:
            raise ImageError(f"{name}: the file is empty")
        if size > self.upload_bytes:
            most = self.upload_bytes / 2**20
            raise ImageError(f"{name}: {size / 2**20:.3g} MiB is over the limit of {most:.3g} MiB; scale it down first")

    def whole(self, name: str, value: Any, least: int, most: int) -> int:
        """A whole number from ``least`` to ``most``; sliders send 20.0 for 20. Raises ``MethodError``."""
        number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
        if number is None or not least <= number <= most or number != int(number):
            raise MethodError(f"{name}: {_short(value)} is not a whole number from {least} to {most}")
        return int(number)

    def text(self, name: str, value: Any) -> str:
        """A text of at most ``words`` characters. Raises ``TextError``."""
        if not isinstance(value, str):
            raise TextError(f"{name}: {_short(value)} is not a text")
        if len(value) > self.words:
            raise TextError(f"{name}: {len(value)} characters are too many; write at most {self.words}")
        try:
            value.encode()
        except UnicodeEncodeError:
            value = "\0"
        if "\0" in value:
            raise TextError(f"{name}: has a character that cannot be written down; take it out")
        return value


def _renamed(said: str, name: str) -> str:
    """A sentence of ``images`` about bytes, about ``name``."""
    return name + said.removeprefix(_UNNAMED) if said.startswith(_UNNAMED) else f"{name}: {said}"


def _short(value: Any) -> str:
    """A value as an error may repeat it."""
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:40] + "...")
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**15):
        return repr(value)
    return "a huge number" if isinstance(value, int) else f"a {type(value).__name__}"
