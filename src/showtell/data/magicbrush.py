"""MagicBrush: edits by people, in turns, with masks (Zhang et al., 2023): the released folders, and the parquet tables.

A mask is the picture with a hole where the edit belongs: transparent, or white where the file has no alpha channel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np

from . import openers, tables
from .openers import cut_out, sized
from .reading import Found, Unusable, read_json, unbracketed, within, words
from .rows import Dataset, Row, safe_id

Turns = Literal["single", "multi"]
_PICTURES = ("source_img", "mask_img", "target_img")


def load(
    path: str | os.PathLike[str],
    *,
    turns: Turns = "single",
    descriptions: Literal["global", "local"] = "global",
    split: str = "dev",
) -> Dataset:
    """Rows of a released folder (``edit_sessions.json`` or ``edit_turns.json`` and ``images/``), or of parquet tables.

    ``turns="single"``: each turn is a row, from the true picture before it. ``"multi"``: each session is a row with all of its
    instructions, from its first picture to its last. ``descriptions`` says which captions the rows get. ``split`` chooses
    tables whose names begin with it; they carry no captions, so that ``*_descriptions.json`` is looked for beside them.
    """
    root = Path(path)
    found = Found("magicbrush", path)
    captions = _captions(root if root.is_dir() else root.parent, descriptions)
    if root.is_dir() and any((root / name).is_file() for name in ("edit_sessions.json", "edit_turns.json")):
        _folder(root, found, turns, captions, descriptions)
    else:
        _tables(root, found, turns, captions, split)
    return found.dataset()


def _captions(root: Path, kind: str) -> Mapping[str, Any] | None:
    """Captions by session and file name; None where there are none."""
    file = root / f"{kind}_descriptions.json"
    return read_json(file, dict, "captions by session") if file.is_file() else None


def _caption(captions: Mapping[str, Any] | None, session: str, name: str, *, needed: bool) -> str:
    if captions is None:
        return ""
    of = captions.get(session)
    text = of.get(name) if isinstance(of, Mapping) else None
    if isinstance(text, str) and text.strip():
        return " ".join(text.split())
    if needed:
        raise Unusable("missing words", f"the description of {name!r} is missing")
    return ""


def _sessions(root: Path) -> Iterator[tuple[str, list[Any]]]:
    """Each session with its turns."""
    if (root / "edit_sessions.json").is_file():
        yield from read_json(root / "edit_sessions.json", dict, "turns by session").items()
        return
    listed = read_json(root / "edit_turns.json", list, "a list of turns")
    for session, turns in groupby(listed, key=_session):
        yield session, list(turns)


def _session(turn: Any) -> str:
    name = turn.get("input") if isinstance(turn, Mapping) else None
    return name.split("-")[0] if isinstance(name, str) else "?"


@dataclass(frozen=True, kw_only=True)
class _Turn:
    before: Path
    after: Path
    mask: Path
    instruction: str


def _folder(root: Path, found: Found, turns: Turns, captions: Mapping[str, Any] | None, kind: str) -> None:
    if captions is None:
        found.problem(f"{kind}_descriptions.json", "missing words", "is not there: rows have no captions")
    for session, listed in _sessions(root):
        if not isinstance(listed, list) or not listed:
            found.problem(session, "damaged", "has no list of turns")
        elif turns == "multi":
            with found.row(session):
                steps = [_turn(root, session, record) for record in listed]
                found.add(_told(session, steps, captions, session, f"{len(steps)} turns"))
        else:
            for number, record in enumerate(listed, start=1):
                label = f"{session}-{number}"
                with found.row(label):
                    found.add(_told(session, [_turn(root, session, record)], captions, label, f"turn {number}"))


def _turn(root: Path, session: str, record: Any) -> _Turn:
    instruction = unbracketed(words(record, "instruction"))
    files = {}
    for key in ("input", "output", "mask"):
        name = record.get(key)
        files[key] = within(
            root / "images", f"{session}/{name}" if isinstance(name, str) else None, f"the {key} picture"
        )
    openers.check_holes([files["mask"]], files["input"])
    return _Turn(before=files["input"], after=files["output"], mask=files["mask"], instruction=instruction)


def _told(session: str, steps: list[_Turn], captions: Mapping[str, Any] | None, label: str, group: str) -> Row:
    first, last = steps[0].before, steps[-1].after
    return Row(
        id=safe_id(label),
        before=openers.picture(first),
        after=openers.picture(last),
        mask=openers.holes([step.mask for step in steps], first),
        instructions=tuple(step.instruction for step in steps),
        source_caption=_caption(captions, session, first.name, needed=False),
        target_caption=_caption(captions, session, last.name, needed=True),
        group=group,
    )


def _tables(root: Path, found: Found, turns: Turns, captions: Mapping[str, Any] | None, split: str) -> None:
    files = tables.files(root)
    files = [file for file in files if file.name.startswith(split)] or files[: 1 if root.is_file() else 0]
    if not files:
        found.problem(f"{split}-*.parquet", "missing file", "there is no table of this split")
    needs = ("img_id", "turn_index", "source_img", "instruction", "target_img")
    listed = list(tables.rows(files, needs=needs, pictures=_PICTURES)) if files else []
    for session, group in groupby(listed, key=lambda one: str(one[1]["img_id"])):
        steps = list(group)
        for part in [steps] if turns == "multi" else [[step] for step in steps]:
            label = session if turns == "multi" else f"{session}-{part[0][1]['turn_index']}"
            with found.row(label):
                name = f"{len(part)} turns" if turns == "multi" else f"turn {part[0][1]['turn_index']}"
                found.add(_from_table(session, part, captions, label, name))


def _from_table(session: str, steps: list[Any], captions: Mapping[str, Any] | None, label: str, group: str) -> Row:
    first, last = steps[0][2]["source_img"], steps[-1][2]["target_img"]
    numbers = [step[1]["turn_index"] for step in steps]
    if any(type(number) is not int for number in numbers):
        raise Unusable("damaged", f"its turn is {numbers[0]!r}, which is no whole number")
    holes = [step[2]["mask_img"] for step in steps if "mask_img" in step[2]]
    before = f"{session}-input.png" if numbers[0] == 1 else f"{session}-output{numbers[0] - 1}.png"
    return Row(
        id=safe_id(label),
        before=first,
        after=last,
        mask=partial(_cells, tuple(holes), first) if holes else None,
        instructions=tuple(unbracketed(words(step[1], "instruction")) for step in steps),
        source_caption=_caption(captions, session, before, needed=False),
        target_caption=_caption(captions, session, f"{session}-output{numbers[-1]}.png", needed=True),
        group=group,
    )


def _cells(holes: tuple[tables.Cell, ...], of: tables.Cell) -> np.ndarray:
    size = of.open().size
    return np.any([sized(cut_out(hole.open()), size, str(hole)) for hole in holes], axis=0)
