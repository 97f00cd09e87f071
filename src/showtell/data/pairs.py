"""Pairs in shards: what ``showtell dataset pictures`` and ``filter`` write, and any WebDataset of befores and afters.

Tar files are read in place. Where the folder has a ``manifest.json``, exactly the shards that it lists are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import files
from ..errors import FileFormatError
from . import columns, hf, splits, tars
from .reading import Found, Unusable, read_json, within
from .rows import Dataset, Row, safe_id

RECIPE, MANIFEST = "recipe.json", "manifest.json"


def load(
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    before: str | None = None,
    after: str | None = None,
    instruction: str | None = None,
    source_caption: str | None = None,
    target_caption: str | None = None,
    verify: bool = False,
) -> Dataset:
    """Rows of a folder of shards (``.tar``, or ``.parquet`` as ``--format datasets`` writes it), or of one shard, in their order.

    A row is a key with ``before.png`` (or ``.jpg``, ``.webp``), ``after.png`` and its words, in ``json`` or in
    ``instruction.txt``; what other data sets call these is known, too (``columns``). ``before`` to ``target_caption`` name a
    field where it is called otherwise. ``split`` takes shards of a name (``train-000012.tar``) or a folder. ``verify`` compares
    every shard with its hash in the manifest. A shard that is damaged is a problem, and so is what it lacks; the rest is read.
    """
    root = Path(path)
    names = columns.Names.of(before, after, instruction, source_caption, target_caption)
    found = Found("pairs", path)
    for number, shard in enumerate(splits.chosen(shards(root, found, verify=verify), root, split)):
        with found.row(_label(shard, root)):
            if shard.suffix == ".parquet":
                hf.add(found, shard, names, number)
            else:
                _tar(found, shard, names, number)
    return found.dataset()


def shards(root: Path, found: Found, *, verify: bool = False) -> list[Path]:
    """The shards of a folder; what is wrong with them as a whole becomes problems of ``found``.

    Raises ``FileFormatError`` for a folder without one, or whose manifest is none.
    """
    if root.is_file():
        if root.suffix not in (".tar", ".parquet"):
            raise FileFormatError(f"{root}: is no shard: name a folder of .tar or .parquet files, or one of them")
        return [root]
    files = splits.below(root, ".tar") or splits.below(root, ".parquet")
    if (root / MANIFEST).is_file():
        return list(_listed(root, files, found, verify=verify))
    if (root / RECIPE).is_file():
        found.problem(
            MANIFEST, "missing file", "is not there: what makes this folder has not ended; give its command again"
        )
    if not files:
        raise FileFormatError(f"{root}: holds no .tar and no .parquet file")
    if verify:
        raise FileFormatError(f"{root}: has no {MANIFEST} with hashes: leave out verify")
    return files


def _listed(root: Path, files: list[Path], found: Found, *, verify: bool) -> Iterator[Path]:
    """The manifest's shards that are there and, with ``verify``, what they were."""
    manifest = read_json(root / MANIFEST, dict, "a manifest")
    entries = manifest.get("shards")
    if not isinstance(entries, list) or not all(isinstance(one, Mapping) for one in entries):
        raise FileFormatError(f"{root / MANIFEST}: lists no shards")
    listed = set()
    for entry in entries:
        if entry.get("file") is None:  # nothing was kept of its rows
            continue
        with found.row(str(entry["file"])):
            shard = within(root, entry["file"], "the shard")
            listed.add(shard)
            if verify and digest(shard) != entry.get("sha256"):
                raise Unusable("damaged", "is not what the manifest says (its hash differs): its rows are left out")
            yield shard
    for file in files:
        if file not in listed:
            found.problem(_label(file, root), "damaged", f"is not in {MANIFEST}: its rows are left out")


def digest(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits. Raises ``Unusable`` for one that cannot be read."""
    try:
        return files.sha256(path)
    except OSError as error:
        raise Unusable("missing file", f"cannot be read ({error.strerror or error})") from error


def _label(shard: Path, root: Path) -> str:
    return shard.name if shard == root else shard.relative_to(root).as_posix()


def _tar(found: Found, shard: Path, names: columns.Names, number: int) -> None:
    for group in tars.groups(shard, (*names.before, *names.after)):
        with found.row(group.key):
            found.add(_row(group, names, number))


def _row(group: tars.Group, names: columns.Names, number: int) -> Row:
    return Row(
        id=safe_id(group.key),
        before=picture(group, names.before),
        after=picture(group, names.after),
        shard=number,
        **columns.told(record(group), names),
    )


def picture(group: tars.Group, names: tuple[str, ...]) -> tars.Slice:
    """The first picture of a group under one of the names. Raises ``Unusable``."""
    for name in names:
        for field in (name.lower(), *(f"{name.lower()}{ending}" for ending in tars.PICTURES)):
            if field in group.files and os.path.splitext(field)[1] in tars.PICTURES:
                return group.files[field]
    there = f" (it has {', '.join(group.files):.100})" if group.files else ""
    raise Unusable("missing file", f"has no picture {names[0]}{there}")


def record(group: tars.Group) -> dict[str, Any]:
    """The words of a group: its JSON, and its files of text under their names. Raises ``Unusable``."""
    told: dict[str, Any] = {}
    if "json" in group.files:
        told = columns.parsed(group.files["json"].read(tars.MAX_TEXT), str(group.files["json"]))
    for name, file in group.files.items():
        if name == "txt" or name.endswith(".txt"):
            try:
                text = file.read(tars.MAX_TEXT).decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise Unusable("damaged", f"{file}: is not text in UTF-8") from error
            told["instruction" if name == "txt" else name.removesuffix(".txt")] = text
    return told
