"""Triplets (caption, instruction, edited caption), JSON lines: what ``showtell dataset triplets`` writes.

Those that were drawn as scenes are a data set, too: their true pictures are known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .reading import Found, Unusable, encodable, from_json, json_lines, words
from .rows import Dataset, Row, safe_id

ORIGINS = ("scenes", "endpoint", "local")
"""Where triplets come from."""
_NAMES = {"source_caption": ("input", "caption"), "instruction": ("edit",), "target_caption": ("output",)}


@dataclass(frozen=True, kw_only=True)
class Triplet:
    """What a picture shows, what to change, and what it shows then.

    ``id`` is unique in its file and safe as a name of files. ``origin`` is one of ``ORIGINS``, or "" in a file of one's own. Of a
    drawn one, ``scene`` is the seed; ``split``, ``edits`` and ``actions`` are what it was drawn with, ``group`` the kind of edit.
    """

    id: str
    source_caption: str
    instruction: str
    target_caption: str
    origin: str = ""
    scene: int | None = None
    split: str = ""
    edits: int = 1
    actions: tuple[str, ...] = ()
    group: str = ""

    def line(self) -> str:
        """The triplet as one line of JSON; what is empty is left out."""
        told = {key: value for key, value in asdict(self).items() if value not in (None, "", ())}
        if self.scene is None:
            del told["edits"]
        return json.dumps(told, ensure_ascii=False)


def written(triplets: Iterable[Triplet]) -> bytes:
    """The file's bytes: a line each."""
    return "".join(f"{one.line()}\n" for one in triplets).encode()


def parse(record: Any, number: int = 0) -> Triplet:
    """A line's object as a triplet; InstructPix2Pix's names (``input`` or ``caption``, ``edit``, ``output``) are read as well.

    Raises ``Unusable``.
    """
    if not isinstance(record, Mapping):
        raise Unusable("damaged", f"is {type(record).__name__} where an object belongs")
    texts = {key: words(record, key, *others) for key, others in _NAMES.items()}
    for text in texts.values():
        if not encodable(text):
            raise Unusable("damaged", f"has half of a character in its words, {text!a:.100}")
    label = record.get("id", f"t{number:06d}")
    scene, edits, actions = record.get("scene"), record.get("edits", 1), record.get("actions", [])
    if not isinstance(label, str) or not label or safe_id(label) != label:
        raise Unusable("damaged", f"the id {label!a:.100} is no file's name: letters, digits, . _ -, at most 80")
    if (scene is not None and type(scene) is not int) or type(edits) is not int:
        raise Unusable("damaged", "scene and edits are whole numbers")
    if not isinstance(actions, list) or not all(isinstance(one, str) for one in actions):
        raise Unusable("damaged", "actions is a list of words")
    rest = {key: record.get(key, "") for key in ("origin", "split", "group")}
    if not all(isinstance(value, str) and encodable(value) for value in rest.values()):
        raise Unusable("damaged", "origin, split and group are words")
    return Triplet(id=label, **texts, **rest, scene=scene, edits=edits, actions=tuple(actions))


def load(path: str | os.PathLike[str]) -> Dataset:
    """The true pictures of triplets that were drawn as scenes, under the triplets' ids and with their words.

    A triplet that comes from no scene, or whose scene is drawn with other words by this version, is a problem.
    """
    found = Found("triplets", path)
    for number, line in json_lines(Path(path)):
        with found.row(f"{Path(path).name}:{number}"):
            found.add(_drawn(parse(from_json(line, "the line"), number)))
    return found.dataset()


def _drawn(one: Triplet) -> Row:
    from . import scenes  # draws with torch, which those who only write triplets need not wait for

    if one.scene is None:
        raise Unusable("missing file", "comes from no scene: there is no true picture of it")
    row = scenes.row(one.scene, edits=one.edits, actions=one.actions or None, split=one.split or "heldout")
    assert row.truth is not None
    if ", ".join(row.truth.instructions) != one.instruction:
        raise Unusable(
            "damaged", f"scene {one.scene} is drawn with the words {', '.join(row.truth.instructions)!r:.100}"
        )
    return replace(row, id=one.id, source_caption=one.source_caption, target_caption=one.target_caption)
