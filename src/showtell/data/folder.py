"""A folder of pictures of one's own, or of scenes as ``showtell scenes`` writes them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ..errors import FileFormatError, UsageError
from . import openers
from .reading import Found, Unusable, bracketed, read_json, read_text, words
from .rows import Dataset, Row, safe_id

_ROLE = re.compile(r"-(after|mask(-\d+)?)$")


def load(
    path: str | os.PathLike[str],
    *,
    instruction: str | None = None,
    target: str | None = None,
    source: str = "",
    texts: Literal["instruction", "target"] = "instruction",
    pair_before: str | None = None,
    pair_after: str | None = None,
) -> Dataset:
    """Every picture of the folder is a row, in the order of names.

    ``name.txt`` holds its instructions, a line each, or, with ``texts="target"``, what the result is to show; ``instruction``,
    ``target`` and ``source`` (a caption of the picture as it is) serve those without. ``name-before.png`` has its true result in
    ``name-after.png``. ``name-mask.png``, or ``name-mask-1.png`` and so on, are light where the edit belongs. ``scenes.json``, as
    ``showtell scenes`` writes it, gives the words of its pictures. ``pair_before`` and ``pair_after`` show the edit to every row.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileFormatError(f"{root}: is a file, and a folder of pictures is needed")
    if (pair_before is None) != (pair_after is None):
        raise UsageError("pair_before and pair_after go together: give both")
    pair = openers.pair(Path(pair_before), Path(pair_after)) if pair_before and pair_after else None
    common = {"instruction": instruction, "target": target, "source": source, "texts": texts}
    told = _scenes(root / "scenes.json")
    files = openers.pictures_in(root)
    pictures = {file.stem: file for file in files}
    names = Counter(file.stem for file in files)
    masks = _masks(pictures)
    found = Found("folder", path)
    for stem, file in pictures.items():
        if _ROLE.search(stem) and _owners(stem) & pictures.keys():
            continue
        with found.row(file.name):
            if names[stem] > 1:
                raise Unusable("twice", f"there are {names[stem]} pictures called {stem!r}: give each its own name")
            found.add(_row(root, stem, pictures, masks, common, told, pair))
    return found.dataset()


def _owners(stem: str) -> set[str]:
    """The names that a result or a mask may belong to."""
    base = _ROLE.sub("", stem)
    return {base, f"{base}-before"}


def _masks(pictures: Mapping[str, Path]) -> dict[str, list[Path]]:
    """The masks of each name."""
    found: dict[str, list[Path]] = {}
    for stem, file in pictures.items():
        if (role := _ROLE.search(stem)) and role[1] != "after":
            found.setdefault(stem[: role.start()], []).append(file)
    return found


def _row(
    root: Path,
    stem: str,
    pictures: Mapping[str, Path],
    masked: Mapping[str, list[Path]],
    common: Any,
    told: Mapping[str, Any],
    pair: Any,
) -> Row:
    base = stem.removesuffix("-before")
    file, after = pictures[stem], pictures.get(f"{base}-after")
    if stem != base and after is None:
        raise Unusable("missing file", f"{base}-after is not there")
    masks = masked.get(base, [])
    openers.check_masks(masks, file)
    scene = told.get(base, {})
    instructions, target = _words(root, base, stem, common, scene)
    return Row(
        id=safe_id(base),
        before=openers.picture(file),
        after=openers.picture(after) if after else None,
        mask=openers.masks(masks, file) if masks else None,
        pair=pair,
        instructions=instructions,
        source_caption=scene.get("source", common["source"]),
        target_caption=target,
        group=scene.get("group", ""),
    )


def _words(root: Path, base: str, stem: str, common: Any, scene: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """Instructions and target caption of a picture: its text file's, else the listed scene's, else those for all."""
    instructions = scene.get("instructions") or ((common["instruction"],) if common["instruction"] else ())
    target = scene.get("target") or common["target"] or ""
    file = next((root / f"{name}.txt" for name in (stem, base) if (root / f"{name}.txt").is_file()), None)
    if file is not None:
        lines = tuple(" ".join(line.split()) for line in read_text(file).splitlines() if line.strip())
        if not lines:
            raise Unusable("missing words", f"{file.name} is empty")
        instructions, target = (lines, target) if common["texts"] == "instruction" else (instructions, " ".join(lines))
    if not instructions and not target:
        raise Unusable("missing words", f"has no words: write {base}.txt, or give an instruction= or a target= for all")
    return instructions, target


def _scenes(file: Path) -> dict[str, dict[str, Any]]:
    """The words of each scene that ``showtell scenes`` listed, by the scene's number; none where there is no such file."""
    if not file.is_file():
        return {}
    found = {}
    for record in read_json(file, list, "scenes"):
        try:
            both = zip(record["instructions"], record["keywords"], strict=True)
            found[str(record["seed"])] = {
                "instructions": tuple(bracketed(text, keyword) for text, keyword in both),
                "source": words(record["captions"], "before"),
                "target": words(record["captions"], "after"),
                "group": "+".join(sorted({edit["action"] for edit in record["edits"]})),
            }
        except (LookupError, TypeError, ValueError, AttributeError, UsageError) as error:
            raise FileFormatError(f"{file}: is not as `showtell scenes` writes it") from error
    return found
