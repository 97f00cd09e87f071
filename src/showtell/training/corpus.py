"""The training set: cases drawn from the "train" split, rendered once, kept as plain arrays on disk.

pictures.npy  (N, 2, 3, 64, 64) uint8   before and after
regions.npy   (N, 13, 16, 16)   uint8   how much of each latent cell a region covers (see REGIONS)
cases.jsonl   words, marks and counts, one line a case
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.files import write_atomic
from showtell.scenes.case import Covers, covers_of, edit_masks
from showtell.scenes.draw import MOST_EDITS, Plan, draw_plan, rng_for
from showtell.scenes.language import Phrase, caption, join
from showtell.scenes.render import SIZE, render
from showtell.scenes.world import Scene
from showtell.training.loop import Report, quiet

CELLS = 16
MOST_THINGS = 4
BEFORE, AFTER = MOST_EDITS, MOST_EDITS + MOST_THINGS
REGIONS = AFTER + MOST_THINGS + 1
"""Regions: edits at 0…3, things before at 4…6 and the background before at 7, things after at 8…11, background after at 12."""
_BACKGROUND = {BEFORE: AFTER - 1, AFTER: REGIONS - 1}
_BLOCK = 200


@dataclass(frozen=True)
class Text:
    """Words and their marks as (token position, region index) pairs."""

    text: str
    marks: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Entry:
    """The words of one case: the joined instruction, and a caption of each picture."""

    instruction: Text
    captions: tuple[Text, Text]


@dataclass(frozen=True)
class Corpus:
    """The arrays of a training set."""

    pictures: np.ndarray
    regions: np.ndarray
    entries: list[Entry]

    def __len__(self) -> int:
        return len(self.entries)

    def picture(self, index: np.ndarray, side: int) -> Tensor:
        """Pictures (B, 3, 64, 64) in [0, 1]; side 0 is before, 1 after."""
        return torch.from_numpy(self.pictures[index, side]).float() / 255


def draw_train_plan(seed: int, counts: tuple[float, ...]) -> Plan:
    """The case of a training seed, with 1 to 4 instructions in the given shares."""
    rng = rng_for(seed, "train")
    edits = rng.choices(range(1, len(counts) + 1), counts)[0]
    return draw_plan(rng, edits=edits)


def _caption(scene: Scene, first: int, places: bool) -> Text:
    words = caption(scene, places=places)
    at = {str(t.key): first + i for i, t in enumerate(scene.things)} | {"background": _BACKGROUND[first]}
    return Text(words.text, tuple((w + 1, at[region]) for w, region in words.marks))


def entry(seed: int, plan: Plan) -> Entry:
    """The words of a case. Half of the captions say where each thing is."""
    joined: Phrase = join(list(plan.phrases))
    marks = tuple((w + 1, int(region.removeprefix("edit"))) for w, region in joined.marks)
    places = seed % 2 == 0
    return Entry(Text(joined.text, marks), (_caption(plan.before, BEFORE, places), _caption(plan.after, AFTER, places)))


def _regions(plan: Plan, covers: Covers) -> Tensor:
    out = torch.zeros(REGIONS, SIZE, SIZE)
    out[: len(plan.edits)] = edit_masks(plan, covers=covers).float()
    for scene, first in ((plan.before, BEFORE), (plan.after, AFTER)):
        cover = torch.stack([covers[t] for t in scene.things]) if scene.things else torch.zeros(0, SIZE, SIZE)
        out[first : first + len(cover)] = cover
        out[_BACKGROUND[first]] = (1 - cover).prod(0)
    return F.avg_pool2d(out, SIZE // CELLS)


def make_corpus(folder: Path, *, cases: int, counts: tuple[float, ...], report: Report = quiet) -> Corpus:
    """Draw and render the training set into `folder`, or open the one that is there; a killed run goes on where it was."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = folder / "cases.jsonl"
    shapes = {"pictures.npy": (cases, 2, 3, SIZE, SIZE), "regions.npy": (cases, REGIONS, CELLS, CELLS)}
    done = _count(lines, cases)
    mode = "r+" if done and all((folder / n).exists() for n in shapes) else "w+"
    if mode == "w+":
        lines.write_text("")
        done = 0
    arrays = {
        n: np.lib.format.open_memmap(folder / n, mode=mode, dtype=np.uint8, shape=None if mode == "r+" else shape)
        for n, shape in shapes.items()
    }
    for start in range(done, cases, _BLOCK):
        seeds = range(start, min(start + _BLOCK, cases))
        plans = [draw_train_plan(s, counts) for s in seeds]
        pictures = render([s for p in plans for s in (p.before, p.after)])
        arrays["pictures.npy"][seeds.start : seeds.stop] = (pictures * 255).round().byte().unflatten(0, (-1, 2)).numpy()
        covers = covers_of(plans)
        regions = torch.stack([_regions(p, covers) for p in plans])
        arrays["regions.npy"][seeds.start : seeds.stop] = (regions * 255).round().byte().numpy()
        with lines.open("a") as file:  # written last: a line says that its pictures are there
            for array in arrays.values():
                array.flush()
            file.writelines(json.dumps(_pack(entry(s, p))) + "\n" for s, p in zip(seeds, plans, strict=True))
            file.flush()
            os.fsync(file.fileno())
        report("data", seeds.stop, cases, {})
    entries = [_unpack(json.loads(line)) for line in lines.read_text().splitlines()[:cases]]
    return Corpus(arrays["pictures.npy"], arrays["regions.npy"], entries)


def _count(lines: Path, cases: int) -> int:
    """How many cases are there: all of them, or whole blocks (a kill can leave half a line, which is cut off)."""
    if not lines.exists():
        return 0
    found = lines.read_text().splitlines(keepends=True)
    whole = [line for line in found if line.endswith("\n")]
    if len(whole) < cases:
        whole = whole[: len(whole) // _BLOCK * _BLOCK]
    if len(whole) < len(found):
        write_atomic(lines, "".join(whole).encode(), force=True)
    return len(whole)


def _pack(words: Entry) -> dict:
    return {
        "instruction": [words.instruction.text, words.instruction.marks],
        "captions": [[t.text, t.marks] for t in words.captions],
    }


def _unpack(line: dict) -> Entry:
    def text(pair: list) -> Text:
        return Text(pair[0], tuple((int(p), int(r)) for p, r in pair[1]))

    return Entry(text(line["instruction"]), (text(line["captions"][0]), text(line["captions"][1])))
