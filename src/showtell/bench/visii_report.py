"""The rows of VISII's measurement, and its tables and plots."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.bench import plots, visii_studies
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
from showtell.cli import sheet

if TYPE_CHECKING:
    from PIL import Image

    from showtell.bench.visii import Say
    from showtell.editor import Editor

TOLD = Row(name="told", start="told", pairs=0)
LOOK = Row(name="look", start="none")
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
    """How many directions each part takes; ``steps`` the numbers of steps that are compared."""

    main: int = 50
    four: int = 20
    table: int = 50
    steps_edits: int = 50
    steps: tuple[int, ...] = STEPS
    studies: bool = True


QUICK = Counts(main=2, four=1, table=1, steps_edits=1, steps=(25, 50), studies=False)


def measure(
    editor: Editor, folder: Path, counts: Counts, *, say: Say, sheets: dict[str, Image.Image]
) -> dict[str, Any]:
    """Run what is missing in ``folder`` and return every figure; the studies' sheets go into ``sheets``."""
    bench = Bench(editor, folder, say=say)
    figures: dict[str, Any] = {"counts": {**counts.__dict__, "tests": TESTS}, "machine": machine()}
    figures["caption_steps"] = bench.caption_steps
    figures["learning"] = editor.card.get("defaults", {}).get("visii", {})
    if counts.main:
        over = directions(counts.main)
        say(f"learned against told: {len(over)} edits")
        bench.run([TOLD, LOOK], over)
        found: dict[str, Any] = {row.name: _summary(bench, row, over) for row in (TOLD, LOOK)}
        learned, told = found["look"]["success"], found["told"]["success"]
        figures["main"] = {**found, "ratio": round(learned / told, 3) if told else None}
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
        bench.run([TOLD, *TABLE, *NOTHING], over, noises=NOISES)
        figures["table"] = {
            row.name: {noise: _summary(bench, row, over, noise) for noise in (NOISES if row.pairs else NOISES[:1])}
            for row in (TOLD, *TABLE, *NOTHING)
        }
    if counts.steps_edits:
        over = directions(counts.steps_edits)
        say(f"steps: {counts.steps}, {len(over)} edits")
        rows = {n: steps_row(n, figures["learning"].get("steps")) for n in counts.steps}
        bench.run([TOLD, *rows.values()], over)
        figures["steps"] = {str(n): _summary(bench, row, over) for n, row in rows.items()}
        figures["steps"]["told"] = _summary(bench, TOLD, over)
    if counts.studies:
        sheets.update(run_studies(bench, figures, say))
    return figures


def run_studies(bench: Bench, figures: dict[str, Any], say: Say) -> dict[str, Image.Image]:
    """The analyses: their rows go into ``figures["studies"]``, their sheets come back by file name."""
    figures["studies"], sheets = {}, {}
    for name, study in visii_studies.STUDIES.items():
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


_LABELS = {
    "told": ("each scene's own words (not in the paper)", "", "", "", ""),
    "words-untrained": ("ground-truth words, no training", "", "", "", ""),
    "caption-untrained": ("caption, no training", "", "", "", ""),
    "words-mse": ("1", "✓", "", "✓", ""),
    "caption-mse": ("1", "✓", "", "", "✓"),
    "words-both": ("1", "✓", "✓", "✓", ""),
    **{f"caption-both-{n}": (str(n), "✓", "✓", "", "✓") for n in (1, 2, 3, 4)},
    "look": ("1, from nothing (not in the paper)", "✓", "", "", ""),
    "look-4": ("4, from nothing (not in the paper)", "✓", "", "", ""),
}


def markdown(figures: dict[str, Any]) -> str:
    """The tables as text."""
    counts = figures["counts"]
    seeds = f"held-out directions from seed 50000 on, {counts['tests']} scenes each"
    lines = [f"<!-- made by `showtell bench visii` on {figures['machine']}; do not edit -->", ""]
    if "main" in figures:
        lines += [f"### Shown against told ({counts['main']} edits, {seeds})", "", *_main(figures["main"]), ""]
    if "four" in figures:
        lines += [f"### Four pairs instead of one ({counts['four']} of these edits)", "", *_four(figures["four"]), ""]
    if "table" in figures:
        captions = f"Captions are of ten tokens, {figures['caption_steps']} steps of PEZ (published: 3000)."
        lines += [
            f"### Table 1's layout ({counts['table']} edits, {seeds})",
            "",
            captions,
            "",
            *_table(figures["table"]),
            "",
        ]
    if "steps" in figures:
        lines += [f"### Steps ({counts['steps_edits']} edits, {seeds})", "", *_steps(figures["steps"]), ""]
    for study in figures.get("studies", {}).values():
        head = list(study["rows"][0])
        rows = [head, ["---"] * len(head), *([_cell(v) for v in row.values()] for row in study["rows"])]
        lines += [f"### {study['title']}", "", *map(_row, rows), ""]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _main(main: dict[str, Any]) -> list[str]:
    look, told = main["look"], main["told"]
    rows = [("", "success", "right inside", "CLIP-I", "directional CLIP", "visual CLIP", "applications")]
    rows.append(("---",) * 7)
    for name, f in (("told in words", told), ("learned from one pair", look)):
        rows.append(
            (
                name,
                _share(f),
                f"{f['inside']:.1%}",
                *(_number(f[k]) for k in ("image", "directional", "visual")),
                str(f["count"]),
            )
        )
    kinds = [("kind of edit", "told", "learned", "applications"), ("---",) * 4]
    kinds += [
        (a, f"{v['success']:.0%}", f"{look['by_action'][a]['success']:.0%}", str(v["count"]))
        for a, v in told["by_action"].items()
    ]
    ratio = f"A learned edit succeeds {main['ratio']} times as often as the same edit told in words (aim: 0.9)."
    return [*map(_row, rows), "", ratio, "", *map(_row, kinds)]


def _four(four: dict[str, Any]) -> list[str]:
    names = {"told": "told in words", "look": "learned from one pair", "look-4": "learned from four pairs"}
    rows = [("", "success", "right inside", "applications"), ("---",) * 4]
    rows += [
        (name, _share(four[key]), f"{four[key]['inside']:.1%}", str(four[key]["count"])) for key, name in names.items()
    ]
    return [*map(_row, rows), "", f"From four pairs a learned edit succeeds {four['ratio']} times as often as told."]


def _table(table: dict[str, Any]) -> list[str]:
    names = ("CLIP-I", "direct.", "visual", "success")
    head = ["#", "MSE", "CLIP", "words", "caption", *(f"{n}, random" for n in names), *(f"{n}, fixed" for n in names)]
    rows = [_row(head), _row(["---"] * len(head))]
    for name, by_noise in table.items():
        cells = list(_LABELS[name])
        for noise in NOISES:
            f = by_noise.get(noise)
            cells += (
                ["–"] * 4 if f is None else [*(_number(f[k]) for k in ("image", "directional", "visual")), _share(f)]
            )
        rows.append(_row(cells))
    return rows


def _steps(steps: dict[str, Any]) -> list[str]:
    numbers = [n for n in steps if n != "told"]
    return [
        _row(["steps", *numbers, "told in words"]),
        _row(["---"] * (len(numbers) + 2)),
        _row(["success", *(_share(steps[n]) for n in numbers), _share(steps["told"])]),
    ]


def charts(figures: dict[str, Any]) -> dict[str, Image.Image]:
    """Plots by file name."""
    made: dict[str, Image.Image] = {}
    if "main" in figures:
        told, look = (figures["main"][k]["by_action"] for k in ("told", "look"))
        groups = list(told)
        made["visii-kinds.png"] = plots.bars(
            "Success by kind of edit: told in words, learned from one pair",
            groups,
            [("told", [told[a]["success"] for a in groups]), ("learned", [look[a]["success"] for a in groups])],
            y_label="share of held-out applications that are right",
        )
    if "steps" in figures:
        steps = {int(n): f for n, f in figures["steps"].items() if n != "told"}
        told_share = figures["steps"]["told"]["success"]
        learned = plots.Series(
            name="learned",
            points=[(n, f["success"]) for n, f in steps.items()],
            errors=[f["standard_error"] or 0.0 for f in steps.values()],
        )
        told_line = plots.Series(name="told in words", points=[(n, told_share) for n in steps])
        made["visii-steps.png"] = plots.lines(
            "How many steps of learning are worth it",
            [learned, told_line],
            x_label="steps",
            y_label="share of held-out applications that are right",
            log_x=True,
        )
    return made


def _share(f: dict[str, Any]) -> str:
    error = f" ± {f['standard_error']:.1%}" if f["standard_error"] is not None else ""
    return f"{f['success']:.1%}{error}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
