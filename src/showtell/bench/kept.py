"""What a measurement keeps in its folder, so that the same command goes on where an interrupted one stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from showtell import files
from showtell.errors import FileFormatError


def claim(folder: Path, own: dict[str, Any]) -> None:
    """What is in the folder must come from the same model and settings. Raises ``FileFormatError`` if it does not."""
    path = folder / "claim.json"
    if path.exists() and json.loads(path.read_text()) != own:
        raise FileFormatError(f"{folder}: was measured with another model or card: name another folder, or remove it")
    write(path, own)


def write(path: Path, value: dict[str, Any]) -> None:
    """One entry, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, (json.dumps(value, ensure_ascii=False) + "\n").encode(), force=True)


def read(path: Path) -> dict[str, Any]:
    """An entry."""
    return json.loads(path.read_text())
