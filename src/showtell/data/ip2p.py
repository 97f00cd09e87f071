"""The pictures that InstructPix2Pix was trained on, in their published (clip-filtered) layout, and VISII's directions from them.

``seeds.json`` lists the prompts' folders with the seeds that were kept; a folder has ``prompt.json``, ``<seed>_0.jpg`` (before)
and ``<seed>_1.jpg`` (after), and the scores in ``metadata.jsonl``. A folder of folders with ``0_0.png``, ``0_1.png``, ``1_0.png``
... and no ``seeds.json`` is read, too: so VISII's examples lie.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ..errors import FileFormatError, UsageError
from . import openers
from .reading import Found, Unusable, json_lines, read_json, read_text, there, unbracketed, within, words
from .rows import Dataset, Row, safe_id

Split = Literal["train", "val", "test", "all"]
_EDGES = {"train": (0.0, 0.9), "val": (0.9, 0.9 + 0.05), "test": (0.9 + 0.05, 1.0), "all": (0.0, 1.0)}
_PICTURE = re.compile(r"(\d+)_0\.(png|jpe?g|webp)", re.IGNORECASE)


def load(
    path: str | os.PathLike[str],
    *,
    split: Split = "test",
    every: bool = False,
    directions: bool = False,
    shots: int = 1,
    min_direction: float | None = None,
    min_similarity: float | None = None,
) -> Dataset:
    """Rows of a split by prompt: 90, 5 and 5 % of ``seeds.json`` in its order, as published.

    Of each prompt the first pair is a row, or ``every`` one. Another pair of the same prompt is what shows the edit.
    ``directions`` (VISII): the first ``shots`` pairs (1 to 4) show, the next is the row, and prompts with fewer pairs are left
    out. ``min_direction`` and ``min_similarity`` keep only pairs whose ``clip_sim_dir`` and ``clip_sim_image`` in
    ``metadata.jsonl`` are at least that. Without ``seeds.json``, every folder is a prompt, which may have no words, and there is
    one split.
    """
    if not 1 <= shots <= 4:
        raise UsageError(f"shots is {shots}: one to four pairs can show an edit")
    root = Path(path)
    found = Found("ip2p", path)
    bounds = {"clip_sim_dir": min_direction, "clip_sim_image": min_similarity}
    bounds = {key: value for key, value in bounds.items() if value is not None}
    for label, folder, seeds in _prompts(root, split, found):
        pairs = _pairs(folder, label, seeds, found)
        with found.row(label):
            told = {} if seeds is None and not _has_words(folder) else _words(folder)
            pairs = _kept(folder, pairs, bounds) if bounds else pairs
            for test, shown in _direction(len(pairs), shots) if directions else _each(len(pairs), every):
                with found.row(f"{label}-{pairs[test][0]}"):
                    found.add(_row(label, pairs, test, shown, told))
    return found.dataset()


def _direction(count: int, shots: int) -> list[tuple[int, Sequence[int]]]:
    """Of ``count`` pairs, which is edited and which show it: the first ``shots`` show."""
    return [(shots, range(shots))] if count > shots else []


def _each(count: int, every: bool) -> list[tuple[int, Sequence[int]]]:
    """Of ``count`` pairs, which are edited, and the next one, which shows it; none where there is no other."""
    return [(i, [(i + 1) % count] if count > 1 else []) for i in range(count if every else min(1, count))]


def _prompts(root: Path, split: Split, found: Found) -> list[tuple[str, Path, list[str] | None]]:
    """Label, folder and seeds (None: whatever the folder has) of each prompt of the split."""
    if not (root / "seeds.json").is_file():
        folders = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        folders = [p for p in folders if any(_PICTURE.fullmatch(file.name) for file in p.iterdir())]
        if not folders:
            raise FileFormatError(f"{root}: has no seeds.json, and no folders with 0_0.png and 0_1.png in them")
        return [(folder.name, folder, None) for folder in folders]
    listed = read_json(root / "seeds.json", list, "a list of prompts with their seeds")
    first, last = (math.floor(edge * len(listed)) for edge in _EDGES[split])
    prompts: list[tuple[str, Path, list[str] | None]] = []
    for number, entry in enumerate(listed[first:last], start=first):
        with found.row(f"seeds.json:{number}"):
            if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], list)):
                raise Unusable("damaged", "is not a folder with its seeds")
            file = within(root, f"{entry[0]}/prompt.json", "the words")
            prompts.append((str(entry[0]), file.parent, [str(seed) for seed in entry[1]]))
    return prompts


def _pairs(folder: Path, label: str, seeds: list[str] | None, found: Found) -> list[tuple[str, Path, Path]]:
    """Seed, before and after of each pair that is there; the others become problems."""
    pairs = []
    if seeds is None:
        names = sorted((int(m[1]), m[2]) for file in folder.iterdir() if (m := _PICTURE.fullmatch(file.name)))
        listed = [(str(number), suffix) for number, suffix in names]
    else:
        listed = [(seed, "jpg") for seed in seeds]
    for seed, suffix in listed:
        with found.row(f"{label}-{seed}"):
            before = within(folder, f"{seed}_0.{suffix}", "the picture before")
            pairs.append((seed, before, within(folder, f"{seed}_1.{suffix}", "the picture after")))
    return pairs


def _has_words(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("prompt.json", "prompt.txt"))


def _words(folder: Path) -> dict[str, str]:
    """Instruction and captions of a prompt, or the instruction alone, in ``prompt.txt``."""
    if (folder / "prompt.json").is_file():
        record = read_json(folder / "prompt.json", dict, "a prompt")
        return {
            "edit": unbracketed(words(record, "edit")),
            "input": words(record, "input", "caption", what="caption before"),
            "output": words(record, "output", what="caption after"),
        }
    text = unbracketed(read_text(there(folder / "prompt.txt", "the words: prompt.json or")))
    return {"edit": words({"instruction": text}, "instruction")}


def _kept(folder: Path, pairs: list[Any], bounds: dict[str, float]) -> list[Any]:
    """The pairs whose published scores reach the bounds. Raises ``Unusable`` for a pair without scores."""
    scores: dict[str, dict[str, Any]] = {}
    for number, line in json_lines(there(folder / "metadata.jsonl", "the scores in")):
        try:
            record = json.loads(line)
            scores[str(record["seed"])] = record
        except (ValueError, TypeError, KeyError) as error:
            raise Unusable("damaged", f"metadata.jsonl, line {number}: is not a seed's scores") from error
    kept = []
    for pair in pairs:
        own = scores.get(pair[0], {})
        if not all(isinstance(own.get(key), (int, float)) for key in bounds):
            raise Unusable("damaged", f"metadata.jsonl has no {' and '.join(bounds)} of seed {pair[0]}")
        if all(own[key] >= bound for key, bound in bounds.items()):
            kept.append(pair)
    return kept


def _row(label: str, pairs: list[Any], test: int, shown: Sequence[int], told: dict[str, str]) -> Row:
    seed, before, after = pairs[test]
    shows = [openers.pair(pairs[i][1], pairs[i][2]) for i in shown]
    return Row(
        id=safe_id(f"{label.replace('/', '-')}-{seed}"),
        before=openers.picture(before),
        after=openers.picture(after),
        pair=shows[0] if shows else None,
        more_pairs=tuple(shows[1:]),
        instructions=(told["edit"],) if "edit" in told else (),
        source_caption=told.get("input", ""),
        target_caption=told.get("output", ""),
    )
