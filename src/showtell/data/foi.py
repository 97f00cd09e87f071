"""Several instructions for one picture, as Focus on Your Instruction measures them: a documented JSON of our own.

The paper's 100 pictures are not published; ``showtell dataset foi`` makes such a file from pictures of one's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import FileFormatError
from . import openers
from .reading import Found, Unusable, bracketed, from_json, json_lines, read_json, within
from .rows import Dataset, Row, safe_id

MOST = 4
"""Instructions that a picture may have. The paper's own have 2 to 4, those of its single-instruction half 1."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """One instruction, and the words in it that name what it changes."""

    text: str
    keyword: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One picture of the file: ``masks`` holds none or one path for each instruction, ``after`` the true result's path."""

    image: str
    instructions: tuple[Told, ...]
    source_caption: str
    target_caption: str
    masks: tuple[str, ...] = ()
    after: str | None = None
    id: str | None = None
    group: str = ""


def load(path: str | os.PathLike[str]) -> Dataset:
    """Rows of a ``.json`` list or of ``.jsonl`` lines, or of ``foi.json`` or ``foi.jsonl`` in a folder.

    Paths in it are relative to its folder and do not leave it. An instruction's keyword is put in brackets.
    """
    file = Path(path)
    if file.is_dir():
        file = next((file / name for name in ("foi.json", "foi.jsonl") if (file / name).is_file()), file / "foi.json")
    found = Found("foi", path)
    for label, text in entries(file):
        with found.row(label):
            found.add(_row(file.parent, parse(text)))
    return found.dataset()


def entries(file: Path) -> Iterator[tuple[str, Any]]:
    """A label and what stands there, for each entry of a file; a line that is not JSON comes as its text."""
    if file.suffix.lower() == ".jsonl":
        for number, line in json_lines(file):
            yield f"{file.name}:{number}", line
        return
    for number, entry in enumerate(read_json(file, list, "a list of pictures with instructions"), start=1):
        image = entry.get("image") if isinstance(entry, dict) else None
        yield (image if isinstance(image, str) and image else f"{file.name}:{number}"), entry


def parse(value: Any) -> Entry:
    """An entry, strictly. Raises ``Unusable`` that names the first thing that is wrong."""
    from pydantic import ValidationError

    if isinstance(value, str):
        try:
            value = from_json(value, "the line")
        except FileFormatError as error:
            raise Unusable("damaged", str(error)) from error
    try:
        entry = _shape().validate_python(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        kind = "missing words" if first["type"] == "missing" else "damaged"
        raise Unusable(kind, f"{where:.100}: {first['msg']:.200}") from error
    check(entry)
    return entry


@cache
def _shape() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Entry)


def check(entry: Entry) -> None:
    """Raise ``Unusable`` for instructions that are too few, too many or empty, a keyword that is not in its instruction, an
    empty caption, or another number of masks than of instructions.
    """
    count = len(entry.instructions)
    if not 1 <= count <= MOST:
        raise Unusable("missing words", f"has {count} instructions, not 1 to {MOST}")
    for number, told in enumerate(entry.instructions, start=1):
        if not told.text.strip():
            raise Unusable("missing words", f"instruction {number} is empty")
        if "[" in told.text or "]" in told.text:
            raise Unusable("damaged", f"instruction {number} has brackets in it: name its keyword under 'keyword'")
        if told.keyword.strip() and bracketed(told.text, told.keyword) == told.text:
            raise Unusable(
                "damaged", f"the keyword {told.keyword!r} does not stand in instruction {number}, {told.text!r}"
            )
    for name in ("source_caption", "target_caption"):
        if not getattr(entry, name).strip():
            raise Unusable("missing words", f"the {name.replace('_', ' ')} is empty")
    if len(entry.masks) not in (0, count):
        raise Unusable("mask", f"has {len(entry.masks)} masks for {count} instructions")


def _row(root: Path, entry: Entry) -> Row:
    file = within(root, entry.image, "the picture")
    masks = [within(root, mask, "the mask") for mask in entry.masks]
    openers.check_masks(masks, file)
    count = len(entry.instructions)
    after = openers.picture(within(root, entry.after, "the result")) if entry.after is not None else None
    return Row(
        id=safe_id(entry.id or str(Path(entry.image).with_suffix(""))),
        before=openers.picture(file),
        after=after,
        mask=openers.masks(masks, file) if masks else None,
        instructions=tuple(bracketed(told.text, told.keyword) for told in entry.instructions),
        source_caption=entry.source_caption,
        target_caption=entry.target_caption,
        group=entry.group or f"{count} instruction{'s'[: count > 1]}",
    )


def written(found: Sequence[Entry], *, lines: bool) -> bytes:
    """Entries as the bytes of a file: JSON lines, or one JSON list."""
    from dataclasses import asdict

    told = [{k: v for k, v in asdict(entry).items() if v not in (None, (), "")} for entry in found]
    if lines:
        return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in told).encode()
    return (json.dumps(told, indent=2, ensure_ascii=False) + "\n").encode()
