"""COCO's validation pictures with their captions: what Prompt Tuning Inversion measures reconstructions on (Tables 2 and 3)."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path

from ..errors import FileFormatError, UsageError
from . import openers
from .reading import Found, Unusable, read_json, within, words
from .rows import Dataset, Row, safe_id


def load(path: str | os.PathLike[str], *, count: int | None = 128, seed: int = 0, split: str = "val2017") -> Dataset:
    """``count`` pictures (None: all) drawn with ``seed`` from ``annotations/captions_<split>.json``; they lie in ``<split>/``.

    Source and target caption are both a picture's first caption in the file: the result is to show what the picture shows.
    """
    if count is not None and count < 1:
        raise UsageError(f"count is {count}: one picture is the least")
    root = Path(path)
    file = root / "annotations" / f"captions_{split}.json"
    listed = read_json(file, dict, "captions in COCO's layout")
    if not all(isinstance(listed.get(key), list) for key in ("images", "annotations")):
        raise FileFormatError(f"{file}: has no lists of images and annotations")
    captions: dict[str, str] = {}
    for record in listed["annotations"]:
        if isinstance(record, Mapping) and isinstance(text := record.get("caption"), str) and text.strip():
            captions.setdefault(str(record.get("image_id")), " ".join(text.split()))
    found = Found("coco", path)
    images = listed["images"]
    if count is not None and count < len(images):
        chosen = sorted(random.Random(seed).sample(range(len(images)), count))
        images = [images[i] for i in chosen]
    for number, record in enumerate(images, start=1):
        name = record.get("file_name") if isinstance(record, Mapping) else None
        with found.row(name if isinstance(name, str) else f"image {number}"):
            found.add(_row(root / split, record, captions))
    return found.dataset()


def _row(folder: Path, record: object, captions: Mapping[str, str]) -> Row:
    name = words(record, "file_name")
    assert isinstance(record, Mapping)  # or words() had raised
    caption = captions.get(str(record.get("id")))
    if caption is None:
        raise Unusable("missing words", "has no caption")
    file = within(folder, name, "the picture")
    return Row(id=safe_id(file.stem), before=openers.picture(file), source_caption=caption, target_caption=caption)
