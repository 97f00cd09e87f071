"""How often an edit succeeds, on scenes, against the truth."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from showtell import scenes
from showtell.errors import ShowtellError

if TYPE_CHECKING:
    from showtell.editor import Editor


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One edited case: its seed, the actions that were asked for, and its score."""

    seed: int
    actions: tuple[str, ...]
    score: scenes.Score


def run(
    editor: Editor,
    cases: Sequence[tuple[int, scenes.Case]],
    *,
    batch_size: int = 25,
    **options: Any,
) -> list[Outcome]:
    """Edit every case with its own seed and score it. `options` go to `Editor.edit`."""
    outcomes: list[Outcome] = []
    for first in range(0, len(cases), batch_size):
        part = cases[first : first + batch_size]
        edits = editor.edit(
            [case.before for _, case in part],
            [case.instructions for _, case in part],
            seed=[seed for seed, _ in part],
            batch_size=batch_size,
            **options,
        )
        for (seed, case), edit in zip(part, edits, strict=True):
            if isinstance(edit, ShowtellError):
                raise edit
            score = scenes.score(case, edit.image)
            outcomes.append(Outcome(seed=seed, actions=tuple(e.action for e in case.edits), score=score))
    return outcomes


def heldout(
    count: int, *, edits: int = 1, actions: Sequence[str] | None = None, first: int = 0, split: str = "heldout"
) -> list[tuple[int, scenes.Case]]:
    """`count` cases with the seeds first, first + 1, …; `actions` restricts what is drawn."""
    seeds = range(first, first + count)
    return [(s, scenes.sample(s, edits=edits, actions=actions, split=split)) for s in seeds]


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Shares and medians. A PSNR is infinite where nothing outside changed, so its median is given and not its mean."""
    scores = [o.score for o in outcomes]
    psnr = sorted(s.outside_psnr for s in scores)
    result: dict[str, Any] = {
        "count": len(scores),
        "success": _share(s.success for s in scores),
        "inside": _share(s.inside for s in scores),
        "outside": _share(s.outside for s in scores),
        "median_edit_error": round(sorted(s.edit_error for s in scores)[len(scores) // 2], 4),
        "median_outside_psnr": round(psnr[len(psnr) // 2], 2) if math.isfinite(psnr[len(psnr) // 2]) else None,
    }
    if each := [part.success for s in scores for part in s.per_edit]:
        result["per_edit_success"] = _share(each)
    by_action: dict[str, list[bool]] = defaultdict(list)
    for o in outcomes:
        parts = o.score.per_edit or (o.score,)
        for action, part in zip(o.actions, parts, strict=True):
            by_action[action].append(part.success)
    result["by_action"] = {a: {"success": _share(v), "count": len(v)} for a, v in sorted(by_action.items())}
    return result


def _share(values: Any) -> float:
    known = list(values)
    return round(sum(known) / len(known), 4)
