"""The parts of the measurement of inversions put together, and what of the paper holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.bench import inversion_sheets, inversion_tables
from showtell.bench import inversion_systems as systems
from showtell.bench.inversion import OMEGA, RATIO, STEPS, Bench
from showtell.bench.inversion_claims import claims
from showtell.bench.inversion_text import charts, markdown
from showtell.bench.visii_report import machine

if TYPE_CHECKING:
    from PIL import Image

    from showtell.bench.inversion import Say, System
    from showtell.editor import Editor

__all__ = ["QUICK", "Counts", "charts", "markdown", "measure"]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Pictures or cases of each part; 0 leaves it out. ``precision``: pictures that are measured in both precisions;
    ``iterations`` and ``thresholds``: those of Table 3 and of Figure 4, where not all.
    """

    table1: int = 12
    table2: int = 16
    table3: int = 8
    figure4: int = 36
    figure6: int = 36
    figure7: int = 16
    starts: int = 24
    slow: int = 8
    precision: int = 4
    sheets: bool = True
    iterations: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()


QUICK = Counts(
    table1=1,
    table2=1,
    table3=1,
    figure4=1,
    figure6=1,
    figure7=1,
    starts=1,
    slow=0,
    precision=1,
    sheets=False,
    iterations=(1, 5),
    thresholds=(0.3, 0.5),
)


def measure(
    editor: Editor,
    tables: Editor,
    exact: Editor,
    folder: Path,
    counts: Counts,
    *,
    say: Say,
    sheets: dict[str, Image.Image],
    instruct: str = "starter",
    also: Sequence[str] = (),
) -> dict[str, Any]:
    """Run what is missing in ``folder`` and return every figure; the sheets of pictures go into ``sheets``.

    ``also`` names methods that become rows of Figures 4 and 7, those that take instructions on the model ``instruct``.
    ``tables`` makes the tables, ``editor`` everything else; ``exact`` is in float32, and what the editor's precision moves is
    told where it differs.
    """
    figures: dict[str, Any] = {
        "counts": dict(counts.__dict__),
        "machine": machine(),
        "model": editor.model_id,
        "dtype": str(editor.pipe.unet.dtype).removeprefix("torch."),
        "tables_dtype": str(tables.pipe.unet.dtype).removeprefix("torch."),
        "steps": STEPS,
        "encoding_ratio": RATIO,
        "omega": OMEGA,
        "card": editor.card.get("defaults", {}),
    }
    if counts.table1 or counts.table2 or counts.table3:
        figures |= inversion_tables.measure(tables, folder, counts, say=say)
    if counts.precision and exact is not editor:
        figures["precision"] = inversion_tables.precision(exact, editor, folder, counts.precision, say=say)
    if any((counts.figure4, counts.figure6, counts.figure7, counts.starts, counts.slow, counts.sheets)):
        bench = Bench(editor, folder, instruct=instruct, say=say)
        figures |= _edits(bench, counts, systems.also(also))
        if counts.sheets:
            sheets.update(inversion_sheets.draw_all(bench, say=say))
    figures["claims"] = claims(figures)
    return figures


def _edits(bench: Bench, counts: Counts, also: list[System]) -> dict[str, Any]:
    among = systems.Real(bench)
    figures: dict[str, Any] = {}

    def told(rows: Sequence[System], kind: str, count: int) -> list[dict[str, Any]]:
        entries = bench.run(rows, kind, count)
        return [
            {"system": row.name, "settings": row.settings, **systems.summary(entries[row.name], among)} for row in rows
        ]

    if counts.figure4:
        groups = systems.curves(counts.thresholds)
        rests = {"bounds": systems.bounds(), "others": systems.others(), "by_card": systems.by_card(),
                 "also": also}  # fmt: skip
        # One run over all, so that systems with the same inversion share it.
        every = [row for group in (*groups.values(), *rests.values()) for row in group]
        found = told(every, "edits", counts.figure4)
        by_name = {row["system"]: row for row in found}
        figures["figure4"] = {name: [by_name[row.name] for row in group] for name, group in groups.items()}
        for key, rows in rests.items():
            figures[key] = [by_name[row.name] for row in rows]
        figures["paired"], figures["where_found"] = _paired(bench, counts.figure4)
    if counts.figure6:
        groups = systems.ablation()
        found = {row["system"]: row for row in told([r for g in groups.values() for r in g], "edits", counts.figure6)}
        figures["figure6"] = {name: [found[row.name] for row in group] for name, group in groups.items()}
    if counts.starts:
        figures["starts"] = told(systems.begun(), "edits", counts.starts)
    if counts.slow:
        figures["slow"] = told([systems.pti(), *systems.slow()], "edits", counts.slow)
    if counts.figure7:
        rows = [systems.ddim_global(), systems.diffedit(), systems.diffedit(source=True), systems.ddim_edit(),
                systems.pti(), *systems.by_card(), *also]  # fmt: skip
        figures["figure7"] = told(rows, "several", counts.figure7)
    return figures


def _paired(bench: Bench, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """PTI against each other method, both at the usual thresholds: the same cases, how many more are right. And the shares of
    all in those cases in which PTI's mask meets what is to change.
    """
    own = "PTI"
    usual = {own: systems.pti(), "DDIM-Edit": systems.ddim_edit(), "DDIM-Global": systems.ddim_global(),
             "DiffEdit, no source": systems.diffedit(), "DiffEdit, source": systems.diffedit(source=True)}  # fmt: skip
    kept = bench.run(list(usual.values()), "edits", count)
    entries = {name: kept[system.name] for name, system in usual.items()}
    keys = ("success", "inside", "outside", "perceptual")
    gaps = {
        name: {key: systems.paired(entries[own], rows, key) for key in keys}
        for name, rows in entries.items()
        if name != own
    }
    met = [i for i, entry in enumerate(entries[own]) if entry.get("iou", 0) >= systems.MISSED]
    found: dict[str, Any] = {"count": len(met), "of": count}
    for key in ("success", "inside"):
        shares = {name: sum(rows[i][key] for i in met) / max(1, len(met)) for name, rows in entries.items()}
        found[key] = {name: round(value, 4) for name, value in shares.items()}
    return gaps, found
