"""Pictures of one ImageNet class to be turned into another: the task of DiffEdit and of Prompt Tuning Inversion's Figure 4.

Needs the validation pictures in folders by class (``<wnid>/*.JPEG``), the classes' names, and which class becomes which.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, UsageError
from . import openers
from .reading import Found, Unusable, read_json, read_text, within, words
from .rows import Dataset, Row, safe_id

_WNID = re.compile(r"n\d{8}")
_NAMES = ("names.json", "names.tsv", "LOC_synset_mapping.txt", "imagenet_class_index.json")
_SUFFIXES = (".jpeg", *openers.SUFFIXES)


def load(
    path: str | os.PathLike[str],
    *,
    pairs: str | None = None,
    near: str | None = None,
    names: str | None = None,
    template: str = "a photo of a {}",
    count: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Rows of ``pairs.json`` (or ``pairs``): [{"image", "source", "target"}], classes by name or WordNet id.

    Without it, rows are drawn with ``seed`` from ``near.json`` (or ``near``), a list of [class, class] that are near to each
    other: ``count`` of them (one for each list entry by default), in both directions, each of a random picture of its class.
    ``names``: the classes' names by id, as JSON or as lines "id name, other name". Captions are ``template`` with the class in
    the place of ``{}``; the group is the target's name, whose own pictures are the set's ``reals``.
    """
    root = Path(path)
    if "{}" not in template:
        raise UsageError(f"template {template!r} has no {{}} where the class goes")
    if count is not None and count < 1:
        raise UsageError(f"count is {count}: one row is the least")
    called = _names(Path(names) if names else _first(root, _NAMES))
    found = Found("imagenet", path)
    listed = _listed(root, pairs, near, called, count, seed, found)
    for number, record in enumerate(listed, start=1):
        with found.row(_label(record, number)):
            found.add(_row(root, record, called, template))
    wanted = {row.group for row in found.rows}
    return found.dataset(
        reals={
            _group(wnid, called): tuple(openers.picture(file) for file in _pictures(root / wnid))
            for wnid in called
            if _group(wnid, called) in wanted
        }
    )


def _group(wnid: str, called: Mapping[str, str]) -> str:
    """A class's name, with its id where another class has the same name."""
    name = called[wnid]
    return name if list(called.values()).count(name) == 1 else f"{name} ({wnid})"


def _first(root: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (root / name).is_file():
            return root / name
    raise FileFormatError(f"{root}: has none of {', '.join(names)}: the classes' names are needed")


def _names(file: Path) -> dict[str, str]:
    """The first name of each class by its WordNet id."""
    if file.suffix.lower() == ".json":
        listed = read_json(file, dict, "names by class id")
        # One published index is by number: {"0": ["n01440764", "tench"]}.
        both = [value if isinstance(value, list) and len(value) == 2 else (key, value) for key, value in listed.items()]
    else:
        both = [line.split(None, 1) for line in read_text(file).splitlines() if line.strip()]
    called = {}
    for pair in both:
        if len(pair) == 2 and isinstance(pair[1], str) and _WNID.fullmatch(str(pair[0])):
            called[str(pair[0])] = pair[1].split(",")[0].replace("_", " ").strip()
    if not called:
        raise FileFormatError(f"{file}: names no class: lines such as 'n01440764 tench' are needed")
    return called


def _wnid(text: str, called: Mapping[str, str]) -> str:
    """The class that is meant by an id or a name."""
    if text in called:
        return text
    wanted = text.replace("_", " ").strip().lower()
    meant = [wnid for wnid, name in called.items() if name.lower() == wanted]
    if len(meant) > 1:
        raise Unusable("missing words", f"class {text!r} is the name of {' and '.join(meant)}: give the id")
    if not meant:
        raise Unusable("missing words", f"class {text!r} is not in the list of names")
    return meant[0]


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file())


def _label(record: Any, number: int) -> str:
    image = record.get("image") if isinstance(record, Mapping) else None
    return image if isinstance(image, str) else f"entry {number}"


def _listed(
    root: Path, pairs: str | None, near: str | None, called: dict[str, str], count: int | None, seed: int, found: Found
) -> list[Any]:
    """Which pictures are to become what."""
    if pairs is not None or (near is None and (root / "pairs.json").is_file()):
        listed = read_json(Path(pairs) if pairs else root / "pairs.json", list, "a list of pictures and classes")
        return listed[:count]
    file = Path(near) if near else root / "near.json"
    if not file.is_file():
        raise FileFormatError(f"{root}: has neither pairs.json nor near.json: say which class is to become which")
    return _drawn(root, read_json(file, list, "a list of near classes"), called, count, seed, found)


def _drawn(
    root: Path, near: list[Any], called: dict[str, str], count: int | None, seed: int, found: Found
) -> list[dict[str, str]]:
    ways: list[tuple[str, str]] = []
    for number, entry in enumerate(near, start=1):
        with found.row(f"near classes, entry {number}"):
            if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(name, str) for name in entry)):
                raise Unusable("damaged", "is not two classes")
            one, other = (_wnid(name, called) for name in entry)
            ways += [(one, other), (other, one)]
    rng = random.Random(seed)
    rng.shuffle(ways)
    listed: list[dict[str, str]] = []
    used: set[Path] = set()
    wanted = len(near) if count is None else count
    while ways and len(listed) < wanted:
        source, target = way = ways.pop(0)
        left = [file for file in _pictures(root / source) if file not in used]
        if not left:
            if not any(record["source"] == source for record in listed):
                found.problem(source, "missing file", "its folder is not there, or has no picture")
            continue
        chosen = rng.choice(left)
        used.add(chosen)
        listed.append({"image": f"{source}/{chosen.name}", "source": source, "target": target})
        ways.append(way)
    return listed


def _row(root: Path, record: Any, called: Mapping[str, str], template: str) -> Row:
    source, target = (_wnid(words(record, key, what=f"{key} class"), called) for key in ("source", "target"))
    file = within(root, record.get("image"), "the picture")
    return Row(
        id=safe_id(f"{file.stem}-{target}"),
        before=openers.picture(file),
        instructions=(f"turn the [{called[source]}] into a {called[target]}",),
        source_caption=template.replace("{}", called[source]),
        target_caption=template.replace("{}", called[target]),
        group=_group(target, called),
    )
