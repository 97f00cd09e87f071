"""The strip of `showtell learn`: one picture edited with what was learned so far, check after check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.cli import outputs, sheet

if TYPE_CHECKING:
    from PIL import Image

    from showtell.editor import Editor
    from showtell.learning import Learnt
    from showtell.pairs import Pairs

MOST = 8
"""Checks that a strip shows."""


def write(
    path: Path,
    found: Learnt,
    pairs: Pairs,
    editor: Editor,
    *,
    fit: str,
    seed: int,
    tick: Callable[..., None],
    force: bool,
) -> None:
    """Edit the first pair's before picture with the tokens of several checks, all with one seed, and write the strip."""
    from showtell import files

    which = chosen([step for step, _ in found.checks], found.look.how["kept_step"])
    first = pairs.items[0]
    looks = [found.snapshots[i] for i in which]
    edits = editor.edit(
        [first.before] * len(looks), looks, seed=seed, fit=fit, callback=lambda i, n, _: tick(i + 1, n)
    )  # fmt: skip
    for edit in edits:
        if isinstance(edit, Exception):
            raise edit
    page = draw(found, first.before.rgb, first.after.rgb, [(i, e.image) for i, e in zip(which, edits, strict=True)])
    files.write_atomic(path, outputs.png(page), force=force)


def chosen(steps: list[int], kept: int) -> list[int]:
    """Positions of at most ``MOST`` checks: the first, the last, the one that was kept, and others evenly between."""
    last = len(steps) - 1
    if last < MOST:
        return list(range(last + 1))
    even = [round(i * last / (MOST - 1)) for i in range(MOST)]
    best = steps.index(kept)
    if best not in even:
        nearest = min(even[1:-1], key=lambda i: abs(i - best))
        even[even.index(nearest)] = best
    return sorted(even)


def draw(found: Learnt, before: Any, after: Any, grown: list[tuple[int, Image.Image]]) -> Image.Image:
    """The strip as a picture; a tick marks the check that was kept."""
    how = found.look.how
    names = {i: f"step {step}: {loss:.4f}" for i, (step, loss) in enumerate(found.checks)}
    kept = next(names[i] for i, _ in grown if found.checks[i][0] == how["kept_step"])
    card = sheet.Card(
        title=f"<{found.look.name}>",
        pictures=[("before", before), ("after, shown", after), *((names[i], picture) for i, picture in grown)],
        note=f"beside each step its loss; step {how['kept_step']} was kept",
        right=True,
        judged=kept,
    )
    return sheet.draw("How the edit grows", [card], columns=1)
