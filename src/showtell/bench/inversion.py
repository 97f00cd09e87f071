"""Edits by describing the result, on held-out scenes, case by case: Prompt Tuning Inversion and what it is compared with.

A *system* is one way to edit. What a system makes of a block of cases is measured once and kept as a file, so that a run
goes on where it stopped; blocks that share an inversion share it while the program runs.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from showtell import __version__, inverting, methods, models, scenes
from showtell.bench import kept, telling
from showtell.bench.inversion_cases import CASES, WordedCase
from showtell.bench.telling import quiet, whole
from showtell.errors import FileFormatError
from showtell.metrics import clip as measures
from showtell.metrics import perceptual

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from showtell.editor import Editor
    from showtell.edits import Edit

Say = Callable[[str], None]
STEPS, RATIO, OMEGA = 50, 0.8, 7.5
"""The paper's number of DDIM steps, encoding ratio and guidance scale."""
BLOCK = 12
"""Cases that are edited, measured and kept together."""


@dataclass(frozen=True, kw_only=True)
class System:
    """A way to edit: a ``method`` with its ``settings``; ``input`` and ``truth`` are the picture before and the true one.

    ``source``: the method is told what the picture shows. ``marked``: the changed word of the target is in brackets. ``inverts``:
    what its inversion is made with, ``method`` and settings of ``invert``; None where the method inverts for itself. ``card``:
    what is not set comes from the model's card, not from the paper.
    """

    name: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    source: bool = False
    marked: bool = True
    inverts: dict[str, Any] | None = None
    card: bool = False

    @property
    def plain(self) -> dict[str, Any]:
        """As it is kept."""
        return json.loads(json.dumps({key: value for key, value in self.__dict__.items() if key != "name"}))


def common(method: str) -> dict[str, Any]:
    """The paper's setting of the runs, for a method that has these names."""
    own = {"num_inference_steps": STEPS, "guidance_scale": OMEGA}
    return own | ({"strength": RATIO} if method == "sdedit" else {"encoding_ratio": RATIO})


def stage_one(**changes: Any) -> dict[str, Any]:
    """How the paper inverts by prompt tuning: N = 1, beta = 0.1, from the target."""
    return {"method": "pti", **common("pti"), "inner_steps": 1, "learning_rate": 0.1, "start": "target", **changes}


def by_ddim() -> dict[str, Any]:
    """DDIM inversion alone."""
    return {"method": "ddim", "num_inference_steps": STEPS, "encoding_ratio": RATIO}


class Bench:
    """A measurement of edits in ``folder``. Inversions are kept for a block of cases, with ``hold`` for good."""

    def __init__(
        self,
        editor: Editor,
        folder: Path,
        *,
        instruct: str = telling.STARTERS["instruct"],
        say: Say = lambda line: None,
        hold: bool = False,
    ) -> None:
        self.editor, self.folder, self.say, self.hold = editor, folder, say, hold
        self.models = telling.Models(editor, {"instruct": instruct})
        self.clip = measures.Clip.load("starter-clip")
        self.published = as_published(editor)
        self._inversions: dict[str, Any] = {}
        kept.claim(folder / "edits", claim(editor))

    def run(self, systems: Sequence[System], kind: str, count: int) -> dict[str, list[dict[str, Any]]]:
        """One entry for each of the first ``count`` cases of a kind (see ``CASES``), by system; measured where missing."""
        systems = list({system.name: system for system in systems}.values())  # each once
        found: dict[str, list[dict[str, Any]]] = {system.name: [] for system in systems}
        for first in range(0, count, BLOCK):
            cases: list[WordedCase] | None = None
            for system in systems:
                size = min(BLOCK, count - first)
                path = self.folder / "edits" / kind / system.name / f"{first}-{size}.json"
                if not path.exists():
                    cases = CASES[kind](first + size)[first:] if cases is None else cases
                    kept.write(path, {"settings": self._settings(system), "cases": self.measured(system, cases)})
                    self.say(f"{kind}, {system.name}: {first + size} of {count}")
                block = json.loads(path.read_text())
                if block["settings"] != self._settings(system):
                    raise FileFormatError(
                        f"{path}: was measured with other settings: remove it, or name another folder"
                    )
                found[system.name] += block["cases"]
            if not self.hold:
                self._inversions.clear()
        return found

    def _settings(self, system: System) -> dict[str, Any]:
        """Everything that a kept result depends on, beside what the folder's claim says."""
        card = self.editor.card.get("defaults", {}).get(system.method, {}) if system.card else {}
        return system.plain | ({"defaults": json.loads(json.dumps(card))} if system.card else {})

    def measured(self, system: System, cases: Sequence[WordedCase]) -> list[dict[str, Any]]:
        """Edit the cases and measure each against its truth."""
        pictures, masks, psnr = self.edited(system, cases)
        features = self.clip.image_features(pictures)
        befores = tensors([one.case.before for one in cases])
        far = perceptual.distance(self.clip, befores, tensors(pictures))
        return [
            _entry(one, picture, mask, psnr[i], features[i], float(far[i]))
            for i, (one, picture, mask) in enumerate(zip(cases, pictures, masks, strict=True))
        ]

    def edited(
        self, system: System, cases: Sequence[WordedCase]
    ) -> tuple[list[Image.Image], list[Any], list[float | None]]:
        """The pictures, the region of each (H, W) or None, and the PSNR of the reconstruction that it goes out from, or None."""
        if system.method in ("input", "truth"):
            pictures = [one.case.before if system.method == "input" else one.case.after for one in cases]
            return pictures, [None] * len(cases), [None] * len(cases)
        if not getattr(
            methods.resolve(system.method), "describes", False
        ):  # told the instructions, on a model that takes them
            told = telling.edited(
                self.models.for_method(system.method), [one.case for one in cases], method=system.method,
                seeds=[one.seed for one in cases], batch_size=BLOCK, **system.settings,
            )  # fmt: skip
            return [one.image for one in told], [None] * len(cases), [None] * len(cases)
        inputs: list[Any] = [one.case.before for one in cases]
        psnr: list[float | None] = [None] * len(cases)
        if system.inverts is not None:
            inputs = self._inverted(system, cases)
            psnr = [one.psnr for one in inputs]
        edits = edited(
            self.editor if system.card else self.published, inputs, [one.target(system.marked) for one in cases],
            method=system.method, seed=[one.seed for one in cases], batch_size=BLOCK,
            source=[one.source(system.marked) for one in cases] if system.source else None, **system.settings,
        )  # fmt: skip
        return [one.image for one in edits], [one.masks[0] if one.masks else None for one in edits], psnr

    def _inverted(self, system: System, cases: Sequence[WordedCase]) -> list[Any]:
        key = json.dumps([system.inverts, [one.seed for one in cases]])
        if key not in self._inversions:
            settings = dict(system.inverts or {})
            targets = [one.target(False) for one in cases] if settings.get("start") == "target" else None
            told = settings.pop("source", False) or settings.get("start") == "source"
            self._inversions[key] = whole(
                inverting.invert_many(
                    self.published, [one.case.before for one in cases], targets,
                    source=[one.source(False) for one in cases] if told else None, batch_size=BLOCK, **settings,
                )
            )  # fmt: skip
        return self._inversions[key]


def as_published(editor: Editor) -> Editor:
    """The same editor without the settings of its card."""
    plain = copy.copy(editor)
    plain.card = {key: value for key, value in editor.card.items() if key != "defaults"}
    return plain


def claim(editor: Editor) -> dict[str, Any]:
    """What kept results come from."""
    return {
        "weights": models.weights_hash(editor.pipe),
        "dtype": str(models.dtype_of(editor.pipe.unet)),
        "steps": STEPS,
        "version": __version__,
    }


def edited(editor: Editor, pictures: Sequence[Any], targets: Sequence[str], **options: Any) -> list[Edit]:
    """The edits of a list; one that fails ends the measurement."""
    with quiet():
        return whole(editor.edit(list(pictures), list(targets), **options))


def tensors(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Pictures of one size as (B, 3, H, W) in [0, 1]."""
    import torch

    arrays = [np.asarray(picture.convert("RGB"), np.float32) / 255 for picture in pictures]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def _entry(
    one: WordedCase, picture: Image.Image, mask: Any, reconstruction: float | None, features: Any, far: float
) -> dict[str, Any]:
    score = scenes.score(one.case, picture)
    truth = np.any(one.case.masks, axis=0)
    found: dict[str, Any] = {
        "seed": one.seed,
        "action": one.case.edits[0].action,
        "kind": one.kind,
        "success": score.success,
        "inside": score.inside,
        "outside": score.outside,
        "edit_error": round(score.edit_error, 4),
        "psnr": None if math.isinf(score.outside_psnr) else round(score.outside_psnr, 3),
        "perceptual": round(far, 5),
        "features": [round(float(value), 4) for value in features],
    }
    if score.per_edit:
        found["each"] = [part.inside for part in score.per_edit]
    if mask is not None:
        found["iou"] = round(float((mask & truth).sum() / max(1, (mask | truth).sum())), 4)
    if reconstruction is not None:
        found["reconstruction"] = round(min(reconstruction, 99.0), 3)
    return found
