"""How well an edit that was shown is repeated: learning and applying, unit by unit, so that a run goes on where it stopped.

A *direction* is one held-out edit with four scenes that show it and four others that it is applied to. A *row* is one way
to get an instruction for it. Each (row, direction) is learned once and kept as a file, and each application's figures are
kept as another: what is there is not done again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell import __version__, learning, models, scenes
from showtell.bench import kept, telling
from showtell.errors import FileFormatError
from showtell.inversion import pez
from showtell.learned import LearnedInstruction
from showtell.metrics import clip as measures

if TYPE_CHECKING:
    from showtell.editor import Editor

Say = Callable[[str], None]
SHOWN, TESTS = 4, 4
FIRST = 50_000
"""First seed of the directions: no other measurement uses these."""


@dataclass(frozen=True)
class Direction:
    """One edit: ``shown`` four cases of it to learn from, ``tests`` four others, all of the split "heldout" (or "train")."""

    seed: int
    split: str = "heldout"

    @cached_property
    def shown(self) -> list[scenes.Case]:
        first = scenes.sample(self.seed, split=self.split)
        return [first, *(self._repeat(first, j) for j in range(1, SHOWN))]

    @cached_property
    def tests(self) -> list[scenes.Case]:
        return [self._repeat(self.shown[0], j) for j in range(SHOWN, SHOWN + TESTS)]

    def _repeat(self, case: scenes.Case, j: int) -> scenes.Case:
        return scenes.apply(case, to=1_000 * self.seed + j, split=self.split)

    @property
    def words(self) -> str:
        """The instruction of the first shown case: the ground-truth words."""
        return self.shown[0].instructions[0]

    @property
    def action(self) -> str:
        return self.shown[0].edits[0].action

    def pairs(self, count: int) -> list[tuple[Any, Any]]:
        """The first ``count`` before/after pairs."""
        return [(case.before, case.after) for case in self.shown[:count]]


def directions(count: int, *, first: int = FIRST, split: str = "heldout") -> list[Direction]:
    """``count`` directions with the seeds ``first``, ``first`` + 1, …; the kinds of edit come as often as in the world."""
    return [Direction(first + i, split) for i in range(count)]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to get an instruction. ``start``: ``none``, ``words``, ``caption``, or ``told``: each test scene's own words.

    ``pairs`` 0 is no training: the start is used as it is. ``settings`` go to the learning. ``method`` is another way to edit
    than InstructPix2Pix, told what it takes.
    """

    name: str
    start: str
    pairs: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    method: str = ""

    @property
    def plain(self) -> dict[str, Any]:
        """As it is kept."""
        return {key: value for key, value in asdict(self).items() if key != "method" or value}


class Bench:
    """A measurement in ``folder``: learned files, captions and figures, each made once."""

    def __init__(
        self,
        editor: Editor,
        folder: Path,
        *,
        base: str = telling.STARTERS["base"],
        caption_steps: int = 300,
        say: Say = lambda line: None,
    ) -> None:
        self.editor, self.folder, self.caption_steps, self.say = editor, folder, caption_steps, say
        self.models = telling.Models(editor, {"base": base})
        self.clip = measures.Clip.load("starter-clip")
        self._claim()

    def _claim(self) -> None:
        """What is in the folder must come from the same model and settings. Raises ``FileFormatError`` if it does not."""
        own = {
            "weights": models.weights_hash(self.editor.pipe),
            "defaults": self.editor.card.get("defaults", {}),
            "caption_steps": self.caption_steps,
            "dtype": str(models.dtype_of(self.editor.pipe.unet)),
            "version": __version__,
        }
        kept.claim(self.folder, own)

    def run(self, rows: Sequence[Row], over: Sequence[Direction], *, noises: Sequence[str] = ("random",)) -> None:
        """Everything of these rows and directions that is not there yet."""
        for number, direction in enumerate(over, start=1):
            for row in rows:
                for noise in noises if row.pairs else ("random",):
                    self._unit(row, direction, noise)
            self.say(f"{number} of {len(over)} edits done")

    def figures(self, row: Row, over: Sequence[Direction], noise: str = "random") -> list[dict[str, Any]]:
        """What was measured: one entry for each application."""
        found = []
        for direction in over:
            path = self._result(row, direction, noise)
            entry = json.loads(path.read_text())
            if entry["row"] != row.plain:
                raise FileFormatError(f"{path}: was measured with other settings: remove it, or name another folder")
            found += entry["tests"]
        return found

    def caption(self, direction: Direction) -> str:
        """A caption of the first pair's after picture (PEZ, ten tokens)."""
        path = self.folder / "captions" / f"{direction.seed}.json"
        if not path.exists():
            after = direction.shown[0].after
            text = pez.caption(after, clip=self.clip, num_tokens=10, steps=self.caption_steps, seed=direction.seed).text
            kept.write(path, {"caption": text, "steps": self.caption_steps})
        return json.loads(path.read_text())["caption"]

    def look(self, row: Row, direction: Direction) -> LearnedInstruction:
        """The learned instruction of a row for a direction."""
        path = self.folder / "looks" / row.name / f"{direction.seed}.safetensors"
        if not path.exists():
            start = {"none": None, "words": direction.words, "caption": ""}[row.start]
            found = learning.study(
                self.editor,
                direction.pairs(row.pairs),
                init=self.caption(direction) if row.start == "caption" else start,
                clip=self.clip,
                seed=direction.seed,
                record_noise=True,
                **row.settings,
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            found.look.save(path)
        return LearnedInstruction.load(path)

    def _unit(self, row: Row, direction: Direction, noise: str) -> None:
        path = self._result(row, direction, noise)
        if path.exists():
            return
        told: list[Any]
        if row.method:
            kept.write(path, self._entry(row, direction, noise, self._by_method(row, direction)))
            return
        if row.start == "told":
            told = [case.instructions[0] for case in direction.tests]
        elif row.pairs == 0:
            told = [direction.words if row.start == "words" else self.caption(direction)] * TESTS
        else:
            told = [self.look(row, direction)] * TESTS
        kept.write(path, self._entry(row, direction, noise, edited(self.editor, direction, told, noise=noise)))

    def _entry(self, row: Row, direction: Direction, noise: str, pictures: Sequence[Any]) -> dict[str, Any]:
        entry = {"row": row.plain, "action": direction.action, "noise": noise, "words": direction.words}
        return {**entry, "tests": self.measured(direction, pictures)}

    def _by_method(self, row: Row, direction: Direction) -> list[Any]:
        editor = self.models.for_method(row.method)
        edits = telling.edited(
            editor, direction.tests, method=row.method, seeds=_seeds(direction), batch_size=TESTS, **row.settings
        )
        return [edit.image for edit in edits]

    def measured(self, direction: Direction, pictures: Sequence[Any]) -> list[dict[str, Any]]:
        """The figures of pictures that were made of the direction's test scenes."""
        shown, tests = direction.shown[0], direction.tests
        before = self.clip.image_features([case.before for case in tests])
        after = self.clip.image_features(list(pictures))
        x, y = self.clip.image_features([shown.before, shown.after])
        texts = [self.clip.text_features([case.captions[i] for case in tests]) for i in (0, 1)]
        columns = {
            "image": measures.clip_i(before, after),
            "directional": measures.clip_d(before, after, *texts),
            "visual": measures.visual_clip(x.expand_as(before), y.expand_as(before), before, after),
        }
        entries = []
        for i, (case, picture) in enumerate(zip(tests, pictures, strict=True)):
            score = scenes.score(case, picture)
            entry: dict[str, Any] = {"success": score.success, "inside": score.inside, "outside": score.outside}
            entry |= {"edit_error": round(score.edit_error, 5), "action": direction.action}
            entry |= {
                key: None if math.isnan(v := float(values[i])) else round(v, 5) for key, values in columns.items()
            }
            entries.append(entry)
        return entries

    def _result(self, row: Row, direction: Direction, noise: str) -> Path:
        return self.folder / "results" / f"{row.name}-{noise}" / f"{direction.seed}.json"


def edited(editor: Editor, direction: Direction, told: Sequence[Any], *, noise: str = "random") -> list[Any]:
    """The direction's test scenes edited; every row takes the same seeds. An edit that fails ends the measurement."""
    edits = editor.edit([case.before for case in direction.tests], list(told), seed=_seeds(direction), noise=noise)
    return [edit.image for edit in telling.whole(edits)]


def _seeds(direction: Direction) -> list[int]:
    return [10 * direction.seed + j for j in range(TESTS)]


def mean(entries: Sequence[dict[str, Any]], key: str) -> float | None:
    """The mean of a figure over the entries that have it."""
    known = [float(e[key]) for e in entries if e[key] is not None]
    return round(sum(known) / len(known), 4) if known else None


def invalid(entries: Sequence[dict[str, Any]], key: str) -> int:
    """How many entries have no such figure, as where a picture did not change at all."""
    return sum(e[key] is None for e in entries)


def by_action(entries: Sequence[dict[str, Any]]) -> Iterator[tuple[str, float, int]]:
    """Kind of edit, success and count."""
    for action in scenes.ACTIONS:
        part = [e for e in entries if e["action"] == action]
        if part:
            yield action, sum(e["success"] for e in part) / len(part), len(part)


def standard_error(entries: Sequence[dict[str, Any]], *, each: int = TESTS) -> float:
    """Of a success share, over directions (the scenes of one direction are not independent)."""
    shares = [sum(e["success"] for e in entries[i : i + each]) / each for i in range(0, len(entries), each)]
    if len(shares) < 2:
        return math.nan
    centre = sum(shares) / len(shares)
    return math.sqrt(sum((s - centre) ** 2 for s in shares) / (len(shares) - 1) / len(shares))
