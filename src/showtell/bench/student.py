"""What a student of few steps loses beside its teacher, on held-out scenes: both in one run, case by case.

Beside the teacher at its own guidance stand the teacher in few steps and without guidance, sampled as the student is: what
distillation gained is the difference to these.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell import models, recipe, scenes
from showtell.bench import editing, kept

if TYPE_CHECKING:
    from showtell.editor import Editor

COMMAND = "showtell bench student"
FIRST = 90_000
"""The first held-out seed: no other measurement takes seeds from here on, and none is taken for a choice."""
REFERENCE = "teacher, 50 steps, guided"
_PLAIN = {"guidance_scale": 1.0, "image_guidance_scale": 1.0}


@dataclass(frozen=True, kw_only=True)
class System:
    """A row of the table: ``who``, ``teacher`` or ``student``, and what ``Editor.edit`` is told."""

    name: str
    who: str
    options: dict[str, Any] = field(default_factory=dict)


SYSTEMS = (
    System(name=REFERENCE, who="teacher", options={"num_inference_steps": 50}),
    System(name="teacher, 20 steps, guided", who="teacher", options={"num_inference_steps": 20}),
    *(
        System(name=f"teacher, lcm, {n}, no guidance", who="teacher",
               options={"num_inference_steps": n, "scheduler": "lcm", **_PLAIN})
        for n in (4, 2, 1)
    ),
    *(System(name=f"student, {n}", who="student", options={"num_inference_steps": n}) for n in (4, 2, 1)),
)  # fmt: skip


def run(
    teacher: Editor,
    student: Editor,
    folder: Path,
    *,
    count: int,
    edits: int = 1,
    first: int = FIRST,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure every system on the scenes of ``count`` held-out seeds with ``edits`` instructions each, and return the figures.

    What was measured is kept in ``folder``, and the same call goes on there.
    """
    for editor in (teacher, student):
        models.require_kind(editor.pipe, ("instruct",), method="ip2p", model_id=editor.model_id)
    import torch

    kept.claim(
        folder,
        {"teacher": teacher.model_id, "student": student.model_id, "count": count, "edits": edits, "first": first,
         "threads": torch.get_num_threads(), "device": models.device_of(teacher.pipe).type, "versions": recipe.versions(),
         "weights": [models.weights_hash(each.pipe) for each in (teacher, student)]},
    )  # fmt: skip
    cases = editing.heldout(count, edits=edits, first=first)
    rows = []
    for number, system in enumerate(SYSTEMS):
        path = folder / f"{number}.json"
        if not path.exists():
            editor = teacher if system.who == "teacher" else student
            kept.write(path, measured(editor, cases, system))
        found = kept.read(path)
        rows.append({"system": system.name, **found})
        say(f"{system.name}: {found['success']:.3f} of {count}, {found['rows']:g} evaluations")
    return {"count": count, "edits": edits, "first": first, "rows": compared(rows)}


def measured(editor: Editor, cases: Sequence[tuple[int, scenes.Case]], system: System) -> dict[str, Any]:
    """One system's figures: which cases came out right, evaluations of the network and processor seconds a picture."""
    with counting(editor.pipe.unet) as rows:
        started = time.process_time()
        outcomes = editing.run(editor, cases, **system.options)
        seconds = time.process_time() - started
    told = editing.summary(outcomes)
    names = ("success", "inside", "outside", "median_edit_error", "median_outside_psnr")
    return {
        **{name: told[name] for name in names},
        "rows": rows[0] / len(cases),
        "seconds": round(seconds / len(cases), 3),
        "by_action": {action: each["success"] for action, each in told["by_action"].items()},
        "right": [int(outcome.score.success) for outcome in outcomes],
    }


@contextmanager
def counting(unet: Any) -> Iterator[list[int]]:
    """Counts the samples that a network is asked about."""
    total = [0]

    def called(module: Any, given: Any, told: Any, output: Any) -> None:
        total[0] += len(given[0] if given else told["sample"])

    hook = unet.register_forward_hook(called, with_kwargs=True)
    try:
        yield total
    finally:
        hook.remove()


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row with its share of the reference's success and how many times fewer evaluations it took; and the paired standard
    error of the difference in success.
    """
    reference = next(row for row in rows if row["system"] == REFERENCE)
    for row in rows:
        differences = [a - b for a, b in zip(row["right"], reference["right"], strict=True)]
        n, mean = len(differences), sum(differences) / len(differences)
        variance = sum((d - mean) ** 2 for d in differences) / max(1, n - 1)
        row["difference"] = round(mean, 4)
        row["standard_error"] = round(math.sqrt(variance / n), 4)
        row["of_reference"] = round(row["success"] / reference["success"], 3) if reference["success"] else None
        row["fewer_evaluations"] = round(reference["rows"] / row["rows"], 1)
    return rows


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "| | right | of the reference | difference (± standard error) | evaluations | fewer | s of one thread |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in figures["rows"]:
        share = "" if row["of_reference"] is None else f"{row['of_reference']:.0%}"
        lines.append(
            f"| {row['system']} | {row['success']:.1%} | {share} | {row['difference']:+.3f} ± {row['standard_error']:.3f} "
            f"| {row['rows']:g} | {row['fewer_evaluations']:g}× | {row['seconds']:.2f} |"
        )
    many = "one instruction" if figures["edits"] == 1 else f"{figures['edits']} instructions"
    told = f"{figures['count']} held-out scenes with {many}, seeds from {figures['first']:,} on."
    return "\n".join([told, "", *lines, ""])
