"""Focus on Your Instruction against what it is compared with, on held-out scenes, case by case.

A *system* is one way to edit. What a system makes of a block of cases is measured once and kept as a file, so that a run
goes on where it stopped.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from showtell import __version__, models, scenes
from showtell.bench import kept
from showtell.errors import FileFormatError, ShowtellError, ShowtellWarning
from showtell.metrics import clip as measures

if TYPE_CHECKING:
    from showtell.editor import Editor
    from showtell.edits import Edit

    Cases = Sequence[tuple[int, scenes.Case]]

Say = Callable[[str], None]
FIRST = 60_000
"""First seed of the cases, a thousand for each number of instructions; no other measurement uses these."""
BLOCK = 20
"""Cases that are edited, measured and kept together."""


@dataclass(frozen=True, kw_only=True)
class System:
    """A way to edit: a method with its settings, on the joined instructions or on one after the other; with ``true_masks``
    the regions are the truth's.
    """

    name: str
    method: str = "ip2p"
    settings: dict[str, Any] = field(default_factory=dict)
    one_by_one: bool = False
    true_masks: bool = False


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
    """A measurement in ``folder``."""

    def __init__(self, editor: Editor, folder: Path, *, say: Say = lambda line: None) -> None:
        self.editor, self.folder, self.say = editor, folder, say
        self.clip = measures.Clip.load("starter-clip")
        self._claim()

    def _claim(self) -> None:
        """What is in the folder must come from the same model and settings. Raises ``FileFormatError`` if it does not."""
        defaults = self.editor.card.get("defaults", {})
        own = {
            "weights": models.weights_hash(self.editor.pipe),
            "defaults": {name: defaults.get(name, {}) for name in ("ip2p", "foi")},
            "dtype": str(models.dtype_of(self.editor.pipe.unet)),
            "version": __version__,
        }
        kept.claim(self.folder, own)

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
                    cases = heldout(edits, first + size)[first:]
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
        edits = edited(self.editor, system, cases)
        before = self.clip.image_features([case.before for _, case in cases])
        after = self.clip.image_features([edit.image for edit in edits])
        texts = [self.clip.text_features([case.captions[i] for _, case in cases]) for i in (0, 1)]
        image, directional = measures.clip_i(before, after), measures.clip_d(before, after, *texts)
        return [
            _entry(seed, case, edit, image=float(image[i]), directional=float(directional[i]))
            for i, ((seed, case), edit) in enumerate(zip(cases, edits, strict=True))
        ]


def edited(editor: Editor, system: System, cases: Cases) -> list[Edit]:
    """The cases, each edited with its own seed. An edit that fails ends the measurement."""
    told = [case.instructions for _, case in cases]
    pictures = [case.before for _, case in cases]
    masks = [list(case.masks) for _, case in cases] if system.true_masks else None
    rounds = [[[one[j]] for one in told] for j in range(len(told[0]))] if system.one_by_one else [told]
    edits: list[Any] = []
    for instructions in rounds:
        with _quiet():
            edits = editor.edit(
                pictures,
                instructions,
                seed=[seed for seed, _ in cases],
                method=system.method,
                masks=masks,
                batch_size=BLOCK,
                **system.settings,
            )
        for edit in edits:
            if isinstance(edit, ShowtellError):
                raise edit
        pictures = [edit.image for edit in edits]
    return edits


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ShowtellWarning)
        yield


def _entry(seed: int, case: scenes.Case, edit: Edit, *, image: float, directional: float) -> dict[str, Any]:
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
    if edit.keywords and edit.keywords[0] is not None:
        entry["iou"] = [round(_iou(mask, truth), 4) for mask, truth in zip(edit.masks, case.masks, strict=True)]
        entry["keywords"] = [found == true for found, true in zip(edit.keywords, case.keywords, strict=True)]
    return entry


def _iou(mask: np.ndarray, truth: np.ndarray) -> float:
    union = int((mask | truth).sum())
    return float((mask & truth).sum() / union) if union else 1.0


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(settings))
