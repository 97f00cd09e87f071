"""Emu Edit's test set and others in its columns: parquet tables with picture, instruction, task and two captions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import FileFormatError
from . import tables
from .reading import Found, unbracketed, words
from .rows import Dataset, Row, safe_id

_PICTURES = ("image", "edited_image")


def load(path: str | os.PathLike[str], *, split: str | None = "test", task: str | None = None) -> Dataset:
    """Rows of parquet tables with the columns ``instruction`` and ``image``, and, where there are, ``task`` (the group),
    ``split``, ``idx`` (the id), ``input_caption``, ``output_caption`` and ``edited_image`` (the published result).

    ``path`` is a table or a folder of them. ``split`` keeps the rows of that split (None: all), ``task`` those of one task.
    A caption that is empty where there is a column for it is a problem.
    """
    found = Found("emuedit", path)
    seen: set[str] = set()
    for where, record, cells in tables.rows(
        tables.files(Path(path)), needs=("instruction", "image"), pictures=_PICTURES
    ):
        seen.add(str(record.get("split")))
        if split is not None and record.get("split", split) != split:
            continue
        if task is not None and record.get("task") != task:
            continue
        label = str(record["idx"]) if record.get("idx") is not None else where
        if split is None and record.get("split"):  # each split counts anew
            label = f"{record['split']}-{label}"
        with found.row(label):
            found.add(_row(label, record, cells))
    if seen and not found.rows and not found.problems:
        raise FileFormatError(
            f"{found.source}: has no row of the split {split!r} and that task, but of {', '.join(sorted(seen))}"
        )
    return found.dataset()


def _row(label: str, record: dict[str, Any], cells: dict[str, tables.Cell]) -> Row:
    captions = {key: words(record, key) if key in record else "" for key in ("input_caption", "output_caption")}
    return Row(
        id=safe_id(label.replace(":", "-")),
        before=cells["image"],
        after=cells.get("edited_image"),
        instructions=(unbracketed(words(record, "instruction")),),
        source_caption=captions["input_caption"],
        target_caption=captions["output_caption"],
        group=str(record.get("task") or ""),
    )
