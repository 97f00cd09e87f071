"""Focus on Your Instruction against what it is compared with, on held-out scenes, case by case.

A *system* is one way to edit. What a system makes of a block of cases is measured once and kept as a file, so that a run
goes on where it stopped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from showtell import __version__, methods, models, scenes
from showtell.bench import kept, telling
from showtell.errors import FileFormatError
from showtell.metrics import clip as measures

if TYPE_CHECKING:
    from showtell.editor import Editor

    Cases = Sequence[tuple[int, scenes.Case]]

Say = Callable[[str], None]
FIRST = 60_000
"""First seed of the cases, a thousand for each number of instructions; no other measurement uses these."""
BLOCK = 20
"""Cases that are edited, measured and kept together."""


@dataclass(frozen=True, kw_only=True)
class System:
    """A way to edit: a method with its settings, on the joined instructions or on one after the other; with ``true_masks``
    the regions are the truth's. ``model`` names another model than the bench's; ``input`` and ``truth`` are the methods that
    give the picture before and the true result.
    """

    name: str
    method: str = "ip2p"
    settings: dict[str, Any] = field(default_factory=dict)
    one_by_one: bool = False
    true_masks: bool = False
    model: str = ""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture that no method made, in an edit's place."""

    image: Any
    keywords: tuple[()] = ()


BOUNDS = ("input", "truth")
IP2P = System(name="ip2p")
SEQUENTIAL = System(name="sequential", one_by_one=True)
FOI = System(name="foi", method="foi")
AS_PUBLISHED = {"maps": "joined", "text": "joined", "strength": 0.8, "disentangle": 0.75, "columns": "union", "grow": 0}
JOINED = System(name="foi-joined", method="foi", settings=AS_PUBLISHED)
PAPER = System(name="foi-paper", method="foi", settings={**AS_PUBLISHED, "gamma": 3, "tau": (0.4, 0.7)})
TRUTH = System(name="foi-truth", method="foi", true_masks=True)
TRUTH_JOINED = System(name="foi-joined-truth", method="foi", settings=AS_PUBLISHED, true_masks=True)
LABELS = {
    "ip2p": "IP2P, instructions joined",
    "sequential": "IP2P, one instruction after the other",
    "foi": "FoI, settings of the card",
    "foi-joined": "FoI as published, γ and τ of the card",
    "foi-paper": "FoI as published, γ and τ of the paper",
    "foi-truth": "FoI, settings of the card, true masks given",
    "foi-joined-truth": "FoI as published, true masks given",
}


def heldout(edits: int, count: int) -> list[tuple[int, scenes.Case]]:
    """``count`` held-out cases of so many instructions."""
    first = FIRST + 1000 * edits
    return [(seed, scenes.sample(seed, edits=edits)) for seed in range(first, first + count)]


class Bench:
    """A measurement in ``folder``. ``base`` is the text-to-image model of systems that take one; ``cases(edits, count)`` gives
    what is measured.
    """

    def __init__(
        self,
        editor: Editor,
        folder: Path,
        *,
        base: str = telling.STARTERS["base"],
        cases: Callable[[int, int], list[tuple[int, scenes.Case]]] | None = None,
        say: Say = lambda line: None,
    ) -> None:
        self.editor, self.folder, self.say = editor, folder, say
        self.models = telling.Models(editor, {"base": base})
        self.cases = cases or heldout
        self.clip = measures.Clip.load("starter-clip")
        self._claim(editor, folder)

    def _claim(self, editor: Editor, folder: Path, names: Sequence[str] = ("ip2p", "foi")) -> None:
        """What is in the folder must come from the same model and settings. Raises ``FileFormatError`` if it does not."""
        defaults = editor.card.get("defaults", {})
        own = {
            "weights": models.weights_hash(editor.pipe),
            "defaults": {name: defaults.get(name, {}) for name in names},
            "dtype": str(models.dtype_of(editor.pipe.unet)),
            "version": __version__,
        }
        kept.claim(folder, own)

    def editor_of(self, system: System) -> Editor:
        """What a system runs on; a model other than the bench's leaves a claim of its own."""
        if system.method in BOUNDS:
            return self.editor
        editor = self.models.named(system.model) if system.model else self.models.for_method(system.method)
        if editor is not self.editor:
            self._claim(editor, self.folder / system.name, (methods.resolve(system.method).name,))
        return editor

    def run(self, systems: Sequence[System], edits: int, count: int) -> dict[str, list[dict[str, Any]]]:
        """One entry for each case, by system; measured where it is not there yet. ``count`` in whole blocks, or less."""
        found: dict[str, list[dict[str, Any]]] = {}
        for system in systems:
            if system.one_by_one and edits == 1 and "ip2p" in found:  # one after the other, where there is but one
                found[system.name] = found["ip2p"]
                continue
            entries = []
            for first in range(0, count, BLOCK):
                size = min(BLOCK, count - first)
                path = self.folder / system.name / f"{edits}-{first}-{size}.json"
                if not path.exists():
                    cases = self.cases(edits, first + size)[first:]
                    kept.write(path, {"settings": _plain(system.settings), "cases": self.measured(system, cases)})
                    self.say(f"{system.name}, {edits} instruction(s): {first + size} of {count}")
                block = json.loads(path.read_text())
                if block["settings"] != _plain(system.settings):
                    raise FileFormatError(
                        f"{path}: was measured with other settings: remove it, or name another folder"
                    )
                entries += block["cases"]
            found[system.name] = entries
        return found

    def measured(self, system: System, cases: Cases) -> list[dict[str, Any]]:
        """Edit the cases and measure each against its truth."""
        return self.entries(edited(self.editor_of(system), system, cases), cases)

    def entries(self, edits: Sequence[Any], cases: Cases) -> list[dict[str, Any]]:
        """What is kept of each edit."""
        before = self.clip.image_features([case.before for _, case in cases])
        after = self.clip.image_features([edit.image for edit in edits])
        texts = [self.clip.text_features([case.captions[i] for _, case in cases]) for i in (0, 1)]
        image, directional = measures.clip_i(before, after), measures.clip_d(before, after, *texts)
        return [
            _entry(seed, case, edit, image=float(image[i]), directional=float(directional[i]))
            for i, ((seed, case), edit) in enumerate(zip(cases, edits, strict=True))
        ]


def edited(editor: Editor, system: System, cases: Cases) -> list[Any]:
    """The cases, each edited with its own seed. An edit that fails ends the measurement."""
    own, seeds = [case for _, case in cases], [seed for seed, _ in cases]
    if system.method in BOUNDS:
        return [Shown(image=case.before if system.method == "input" else case.after) for case in own]
    if not system.one_by_one:
        masks = {"masks": [list(case.masks) for case in own]} if system.true_masks else {}
        return telling.edited(
            editor, own, method=system.method, seeds=seeds, batch_size=BLOCK, **masks, **system.settings
        )
    pictures: list[Any] = [case.before for case in own]
    edits: list[Any] = []
    for told in zip(*(case.instructions for case in own), strict=True):
        with telling.quiet():
            found = editor.edit(
                pictures, [[one] for one in told], seed=seeds, method=system.method, batch_size=BLOCK, **system.settings
            )
        edits = telling.whole(found)
        pictures = [edit.image for edit in edits]
    return edits


def _entry(seed: int, case: scenes.Case, edit: Any, *, image: float, directional: float) -> dict[str, Any]:
    score = scenes.score(case, edit.image)
    each = score.per_edit or (score,)
    entry: dict[str, Any] = {
        "seed": seed,
        "success": score.success,
        "inside": score.inside,
        "outside": score.outside,
        "psnr": None if math.isinf(score.outside_psnr) else round(score.outside_psnr, 3),
        "whole": any(mask.all() for mask in case.masks),
        "each": [part.success for part in each],
        "each_inside": [part.inside for part in each],
        "actions": [one.action for one in case.edits],
        "image": round(image, 5),
        "directional": None if math.isnan(directional) else round(directional, 5),
    }
    # A method that describes has one region for all that changes.
    if len(edit.keywords or ()) == len(case.keywords) and edit.keywords[0] is not None:
        entry["iou"] = [round(_iou(mask, truth), 4) for mask, truth in zip(edit.masks, case.masks, strict=True)]
        entry["keywords"] = [found == true for found, true in zip(edit.keywords, case.keywords, strict=True)]
    return entry


def _iou(mask: np.ndarray, truth: np.ndarray) -> float:
    union = int((mask | truth).sum())
    return float((mask & truth).sum() / union) if union else 1.0


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(settings))
