"""PIE-Bench: 700 pictures with two prompts, an instruction and a run-length mask each (Ju et al., "Direct Inversion").

The layout is the published one: ``mapping_file.json`` and the pictures under ``annotation_images/``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from . import openers
from .reading import Found, Unusable, bracketed, read_json, unbracketed, within, words
from .rows import Dataset, Row, safe_id

SIDE = 512
"""Masks are runs over a flattened picture of 512 x 512 pixels."""
TYPES = (
    "random", "change object", "add object", "delete object", "change attribute content", "change attribute pose",
    "change attribute color", "change attribute material", "change background", "change style",
)  # fmt: skip
"""The published names of ``editing_type_id`` 0 to 9."""


def load(path: str | os.PathLike[str], *, border: bool = True) -> Dataset:
    """The rows of ``mapping_file.json``, in its order; ``path`` is its folder.

    The prompts become the captions, without the brackets around what changes; the editing type is the group, as in
    "1 change object". ``border`` adds the picture's outermost pixels to every mask, as the published decoder does.
    """
    root = Path(path)
    listed = read_json(root / "mapping_file.json", dict, "the rows of PIE-Bench by their ids")
    found = Found("pie-bench", path)
    for key, record in listed.items():
        with found.row(key):
            found.add(_row(root, key, record, border))
    return found.dataset()


def _row(root: Path, key: str, record: Any, border: bool) -> Row:
    source, target = words(record, "original_prompt"), words(record, "editing_prompt")
    instruction = unbracketed(words(record, "editing_instruction"))
    file = within(root / "annotation_images", record.get("image_path"), "the picture")
    runs = checked_runs(record.get("mask"))
    blended = record.get("blended_word")
    keyword = blended.split()[0] if isinstance(blended, str) and blended.strip() else ""
    return Row(
        id=safe_id(key),
        before=openers.picture(file),
        mask=partial(_mask, runs, file, border),
        instructions=(bracketed(instruction, keyword),),
        source_caption=unbracketed(source),
        target_caption=unbracketed(target),
        group=_group(record),
    )


def _group(record: Mapping[str, Any]) -> str:
    try:
        number = int(record.get("editing_type_id", ""))
    except (TypeError, ValueError, OverflowError):
        return "unknown"
    return f"{number} {TYPES[number]}" if 0 <= number < len(TYPES) else str(number)


def checked_runs(value: Any) -> np.ndarray:
    """A mask's runs as (N, 2) of start and length. Raises ``Unusable`` for what is no such list.

    A run may end behind the picture and is then cut there, as in the published decoder; one that begins there belongs to
    another picture.
    """
    whole = isinstance(value, list) and all(type(n) is int and 0 <= n < 2**31 for n in value)
    if not whole or len(value) % 2:
        raise Unusable("mask", "the mask is not a list of starts and lengths")
    runs = np.array(value, dtype=np.int64).reshape(-1, 2)
    if (runs[:, 0] >= SIDE * SIDE).any():
        raise Unusable("mask", f"the mask has runs outside a picture of {SIDE}x{SIDE}: it is of another size")
    return runs


def decode(runs: np.ndarray, *, border: bool = True) -> np.ndarray:
    """Runs, (N, 2) of start and length, as a (512, 512) bool mask; ``border`` sets its outermost pixels, too."""
    length = SIDE * SIDE
    change = np.zeros(length + 1, dtype=np.int64)
    np.add.at(change, runs[:, 0], 1)
    np.add.at(change, np.minimum(runs.sum(axis=1), length), -1)
    mask = (np.cumsum(change)[:-1] > 0).reshape(SIDE, SIDE)
    return bordered(mask) if border else mask


def bordered(mask: np.ndarray) -> np.ndarray:
    """An (H, W) mask with its outermost pixels set."""
    framed = mask.copy()
    framed[[0, -1], :] = True
    framed[:, [0, -1]] = True
    return framed


def encode(mask: np.ndarray) -> list[int]:
    """A (512, 512) bool mask as runs: start, length, start, length, ..."""
    flat = np.concatenate([[False], np.asarray(mask, dtype=bool).reshape(-1), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    starts, ends = edges[::2], edges[1::2]
    return np.stack([starts, ends - starts], axis=1).reshape(-1).tolist()


def _mask(runs: np.ndarray, file: Path, border: bool) -> np.ndarray:
    """The mask at the picture's own size: nearest pixels, for a picture that is not 512 x 512."""
    from PIL import Image

    from ..images import open_picture

    size = open_picture(file).size
    mask = decode(runs, border=False)
    if size != (SIDE, SIDE):
        mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    return bordered(mask) if border else mask
