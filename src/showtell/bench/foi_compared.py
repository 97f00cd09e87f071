"""FoI's Tables 1 and 6 on scenes: all that it is compared with, for one instruction and for several, and what each costs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.bench import kept, telling
from showtell.bench.foi import Bench, System, edited, heldout

if TYPE_CHECKING:
    from PIL import Image

    from showtell.bench.foi import Say
    from showtell.editor import Editor

MULTI = (2, 3, 4)
NTI_SHARE = 4
"""Null-Text Inversion takes the first of so many cases, since it costs so much more."""
STEPS, STRENGTH = 50, 0.8
"""Of Table 6: every method runs 50 steps, FoI 80 % of them."""
NEEDS = {"magicbrush": "MagicBrush", "insdiff": "InstructDiffusion"}
"""Rows that are InstructPix2Pix's pipeline with other weights."""


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What Table 1 takes beside the bench's own models, each a name or "": ``magicbrush`` and ``insdiff``, models; ``dino`` and
    ``pickscore``, those of its columns. ``also`` names methods that become rows.
    """

    magicbrush: str = ""
    insdiff: str = ""
    dino: str = ""
    pickscore: str = ""
    also: tuple[str, ...] = ()


def systems(base: Editor, extras: Extras) -> dict[str, System]:
    """The rows of Table 1 that can be made here, in the paper's order, and the rows of ``also``.

    Null-Text Inversion runs as many steps as the base model's card gives DiffEdit, 50 without one.
    """
    steps = base.card.get("defaults", {}).get("diffedit", {}).get("num_inference_steps", STEPS)
    rows = {
        "diffedit": System(name="diffedit", method="diffedit"),
        "nti-p2p": System(name="nti-p2p", method="p2p", settings={"num_inference_steps": steps}),
        "ip2p": System(name="ip2p"),
    }
    if extras.magicbrush:
        rows["magicbrush"] = System(name="magicbrush", model=extras.magicbrush)
    if extras.insdiff:
        rows["insdiff"] = System(name="insdiff", method="instructdiffusion", model=extras.insdiff)
    rows["foi"] = System(name="foi", method="foi")
    return rows | {f"also-{name}": System(name=f"also-{name}", method=name) for name in extras.also}


class Compared(Bench):
    """FoI's measurement, with the columns of Table 1 that need models of the user's."""

    def __init__(self, editor: Editor, folder: Path, extras: Extras, *, base: str, say: Say) -> None:
        super().__init__(editor, folder, base=base, say=say)
        self.extras = extras
        kept.claim(folder / "columns", {"dino": extras.dino, "pickscore": extras.pickscore})
        self.dino, self.pick = _loaded(extras, editor.pipe.device.type)

    def measured(self, system: System, cases: Sequence[tuple[int, Any]]) -> list[dict[str, Any]]:
        """As ``Bench`` does, and these columns."""
        edits = edited(self.editor_of(system), system, cases)
        entries = self.entries(edits, cases)
        pictures = [edit.image for edit in edits]
        for key, values in self._more(pictures, cases).items():
            for entry, value in zip(entries, values, strict=True):
                entry[key] = round(value, 5)
        return entries

    def _more(self, pictures: Sequence[Image.Image], cases: Sequence[tuple[int, Any]]) -> dict[str, list[float]]:
        from showtell import metrics

        found: dict[str, list[float]] = {}
        if self.dino is not None:
            found["dino"] = metrics.dino_image(self.dino, [case.before for _, case in cases], pictures).tolist()
        if self.pick is not None:
            found["pick"] = metrics.pick_score(self.pick, pictures, [case.captions[1] for _, case in cases]).tolist()
        return found


def _loaded(extras: Extras, device: str) -> tuple[Any, Any]:
    from showtell import metrics

    dino = metrics.load_dino(extras.dino, device=device) if extras.dino else None
    return dino, metrics.load_pick_score(extras.pickscore, device=device) if extras.pickscore else None


def table_one(bench: Compared, single: int, multi: int) -> dict[str, Any]:
    """Each row's figures over ``single`` cases of one instruction and ``multi`` of 2, of 3 and of 4 each."""
    rows = systems(bench.models.for_method("diffedit"), bench.extras)
    found: dict[str, Any] = {"single": {}, "multi": {}}
    for part, numbers, count in (("single", (1,), single), ("multi", MULTI, multi)):
        entries: dict[str, list[dict[str, Any]]] = {}
        for name, system in rows.items():
            own, taken = count, numbers
            if name == "nti-p2p":  # a quarter of the cases, and one where that would be none
                own, taken = max(1, count // NTI_SHARE), numbers if count >= NTI_SHARE else numbers[:1]
            entries[name] = [entry for parts in taken for entry in bench.run([system], parts, own)[system.name]]
        found[part] = {name: summary(own) for name, own in entries.items()}
        for name, share in preferences(entries).items():
            found[part][name]["preference"] = share
    return found


def summary(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """FoI's figures of a row (see ``foi_report.summary``), with standard errors of the similarities, and DINO-I."""
    from showtell.bench import foi_report

    found = foi_report.summary(entries)
    found.pop("iou", None)
    found.pop("keywords", None)
    for key in ("image", "directional", "dino"):
        values = [entry[key] for entry in entries if entry.get(key) is not None]
        if values:
            found[key] = round(statistics.fmean(values), 4)
            found[f"{key}_error"] = round(statistics.stdev(values) / math.sqrt(len(values)), 4) if values[1:] else 0.0
    return found


def preferences(entries: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, float]:
    """PickScore's share of each row: the softmax over the rows, case by case where all of them have it, then the mean.

    Empty where there are no scores.
    """
    by_seed = {
        name: {entry["seed"]: entry["pick"] for entry in own if "pick" in entry} for name, own in entries.items()
    }
    common = set.intersection(*(set(own) for own in by_seed.values())) if by_seed else set()
    if not common or len(by_seed) < 2:
        return {}
    shares: dict[str, list[float]] = {name: [] for name in by_seed}
    for seed in common:
        most = max(own[seed] for own in by_seed.values())
        parts = {name: math.exp(own[seed] - most) for name, own in by_seed.items()}
        for name, part in parts.items():
            shares[name].append(part / sum(parts.values()))
    return {name: round(statistics.fmean(own), 4) for name, own in shares.items()}


def table_six(bench: Compared, count: int) -> dict[str, Any]:
    """Seconds a picture, one at a time at 50 steps, in rounds over the rows; Null-Text Inversion takes a quarter of the pictures.

    On a CPU they are seconds of this process, which other work on the machine does not stretch.
    """
    rows = systems(bench.models.for_method("diffedit"), bench.extras)
    cuda = bench.editor.pipe.device.type != "cpu"
    clock = time.perf_counter if cuda else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    path = bench.folder / "seconds.json"
    if path.exists() and (held := kept.read(path))["count"] == count and list(held["seconds"]) == list(seconds):
        return held
    cases = heldout(1, count + 1)
    for name, system in rows.items():
        editor, changes = bench.editor_of(system), _timed(name, system)
        if name != "nti-p2p":
            telling.edited(
                editor, [cases[count][1]], method=system.method, seeds=[0], batch_size=1, **changes
            )  # warm-up
    for number, (seed, case) in enumerate(cases[:count]):
        for name, system in rows.items():
            if name == "nti-p2p" and number % NTI_SHARE:
                continue
            editor, changes = bench.editor_of(system), _timed(name, system)
            began = clock()
            telling.edited(editor, [case], method=system.method, seeds=[seed], batch_size=1, **changes)
            seconds[name].append(round(clock() - began, 3))
        bench.say(f"seconds: {number + 1} of {count}")
    found = {"count": count, "clock": "wall" if cuda else "process", "seconds": seconds}
    kept.write(path, found)
    return found


def _timed(name: str, system: System) -> dict[str, Any]:
    """The settings of Table 6; a method of ``also`` runs as it is."""
    if name.startswith("also-"):
        return system.settings
    return {**system.settings, "num_inference_steps": STEPS} | ({"strength": STRENGTH} if name == "foi" else {})
