"""The rows of VISII's measurement, and its tables and plots."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.bench import telling, visii_applying, visii_studies
from showtell.bench.visii import (
    TESTS,
    Bench,
    Direction,
    Row,
    by_action,
    directions,
    invalid,
    mean,
    standard_error,
)
from showtell.bench.visii_text import charts, markdown
from showtell.cli import sheet

if TYPE_CHECKING:
    from PIL import Image

    from showtell.bench.visii import Say
    from showtell.editor import Editor

__all__ = ["QUICK", "Counts", "charts", "machine", "markdown", "measure"]

TOLD = Row(name="told", start="told", pairs=0)
LOOK = Row(name="look", start="none")
SDEDIT = Row(name="sdedit", start="told", pairs=0, method="sdedit")
"""Told the caption of the result, as in the paper's Figure 7."""
NOISES = ("random", "recorded")
STEPS = (25, 50, 100, 200, 400, 1000)
MSE, BOTH = {"clip_weight": 0.0}, {"clip_weight": 0.1}
TABLE = (
    Row(name="words-untrained", start="words", pairs=0),
    Row(name="caption-untrained", start="caption", pairs=0),
    Row(name="words-mse", start="words", settings=MSE),
    Row(name="caption-mse", start="caption", settings=MSE),
    Row(name="words-both", start="words", settings=BOTH),
    *(Row(name=f"caption-both-{n}", start="caption", pairs=n, settings=BOTH) for n in (1, 2, 3, 4)),
)
"""VISII's Table 1, in its order (its row of one pair with both losses from the caption stands there twice)."""
LOOK4 = Row(name="look-4", start="none", pairs=4)
NOTHING = (LOOK, LOOK4)
"""Rows that the paper does not have: from nothing, as the card says, with one pair and with four."""


def steps_row(steps: int, usual: int | None = None) -> Row:
    """Learning from nothing with that many steps, all else as the card says; the card's ``usual`` number is ``LOOK``."""
    if steps == usual:
        return LOOK
    return Row(name=f"steps-{steps}", start="none", settings={"steps": steps, "check_every": min(50, steps)})


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many directions each part takes; ``steps`` the numbers of steps that are compared; ``studies`` all, none, or some by
    name.
    """

    main: int = 50
    histograms: int = 50
    four: int = 20
    table: int = 50
    steps_edits: int = 50
    steps: tuple[int, ...] = STEPS
    studies: bool | tuple[str, ...] = True


QUICK = Counts(main=2, histograms=2, four=1, table=1, steps_edits=1, steps=(25, 50), studies=False)


QUICK_STEPS = 50
"""Steps of learning under ``--quick``."""


def quick_card(card: dict[str, Any]) -> dict[str, Any]:
    """A model's card with fewer steps of learning."""
    defaults = card.get("defaults", {})
    return {**card, "defaults": {**defaults, "visii": {**defaults.get("visii", {}), "steps": QUICK_STEPS}}}


def measure(
    editor: Editor,
    folder: Path,
    counts: Counts,
    *,
    say: Say,
    sheets: dict[str, Image.Image],
    base: str = telling.STARTERS["base"],
    also: Sequence[str] = (),
) -> dict[str, Any]:
    """Run what is missing in ``folder`` and return every figure; the studies' sheets go into ``sheets``.

    ``base`` is the text-to-image model of methods that describe; ``also`` names methods that become rows, told in words.
    """
    bench = Bench(editor, folder, base=base, say=say)
    more = [Row(name=f"also-{name}", start="told", pairs=0, method=name) for name in also]
    figures: dict[str, Any] = {"counts": {**counts.__dict__, "tests": TESTS}, "machine": machine()}
    figures["caption_steps"] = bench.caption_steps
    figures["learning"] = editor.card.get("defaults", {}).get("visii", {})
    if counts.main:
        over = directions(counts.main)
        say(f"learned against told: {len(over)} edits")
        bench.run([TOLD, LOOK, *more], over)
        found: dict[str, Any] = {row.name: _summary(bench, row, over) for row in (TOLD, LOOK, *more)}
        learned, told = found["look"]["success"], found["told"]["success"]
        figures["main"] = {**found, "ratio": round(learned / told, 3) if told else None}
    if counts.histograms:
        over = directions(counts.histograms)
        say(f"histograms: {len(over)} edits")
        bench.run([TOLD, LOOK, SDEDIT, *more], over)
        rows = {row.name: _values(bench.figures(row, over)) for row in (TOLD, LOOK, SDEDIT, *more)}
        figures["histograms"] = {"edits": len(over), "rows": rows}
    if counts.four:
        over = directions(counts.four)
        say(f"learned from four pairs: {len(over)} edits")
        bench.run([TOLD, *NOTHING], over)
        found = {row.name: _summary(bench, row, over) for row in (TOLD, *NOTHING)}
        learned, told = found["look-4"]["success"], found["told"]["success"]
        figures["four"] = {**found, "ratio": round(learned / told, 3) if told else None}
    if counts.table:
        over = directions(counts.table)
        say(f"Table 1: {len(TABLE)} rows and {len(NOTHING)} more, {len(over)} edits")
        bench.run([TOLD, *TABLE, *NOTHING, *more], over, noises=NOISES)
        figures["table"] = {
            row.name: {noise: _summary(bench, row, over, noise) for noise in (NOISES if row.pairs else NOISES[:1])}
            for row in (TOLD, *TABLE, *NOTHING, *more)
        }
    if counts.steps_edits:
        over = directions(counts.steps_edits)
        say(f"steps: {counts.steps}, {len(over)} edits")
        rows = {n: steps_row(n, figures["learning"].get("steps")) for n in counts.steps}
        bench.run([TOLD, *rows.values()], over)
        figures["steps"] = {str(n): _summary(bench, row, over) for n, row in rows.items()}
        figures["steps"]["told"] = _summary(bench, TOLD, over)
    if counts.studies:
        chosen = None if counts.studies is True else counts.studies
        sheets.update(run_studies(bench, figures, say, chosen))
    return figures


STUDIES: dict[str, Callable[[Bench], visii_studies.Study]] = {
    **visii_studies.STUDIES,
    "noise": visii_applying.noise,
    "hybrid": visii_applying.hybrid,
}


def run_studies(
    bench: Bench, figures: dict[str, Any], say: Say, chosen: Sequence[str] | None = None
) -> dict[str, Image.Image]:
    """The analyses: their rows go into ``figures["studies"]``, their sheets come back by file name."""
    figures["studies"], sheets = {}, {}
    for name, study in STUDIES.items():
        if chosen is not None and name not in chosen:
            continue
        say(f"study: {name}")
        found = study(bench)
        figures["studies"][name] = {"title": found.title, "rows": found.rows}
        sheets[f"visii-{name}.png"] = sheet.draw(found.title, found.cards, columns=3 if len(found.cards) > 8 else 2)
    return sheets


def machine() -> str:
    """What ran it."""
    import torch

    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {torch.get_num_threads()} threads, torch {torch.__version__}"
    )


def _summary(bench: Bench, row: Row, over: Sequence[Direction], noise: str = "random") -> dict[str, Any]:
    entries = bench.figures(row, over, noise)
    found: dict[str, Any] = {"count": len(entries)}
    for key in ("success", "inside", "image", "directional", "visual"):
        found[key] = mean(entries, key)
    found["standard_error"] = round(standard_error(entries), 4) if len(over) > 1 else None
    found["unchanged"] = invalid(entries, "directional")
    found["by_action"] = {a: {"success": round(share, 4), "count": n} for a, share, n in by_action(entries)}
    return found


def _values(entries: Sequence[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Every application's similarities, for histograms."""
    return {
        key: [None if e[key] is None else round(e[key], 3) for e in entries]
        for key in ("image", "directional", "visual")
    }
