"""The parts of FoI's measurement, and its tables and plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.bench import foi_compared, foi_sheets
from showtell.bench.foi import (
    FOI,
    IP2P,
    JOINED,
    PAPER,
    SEQUENTIAL,
    TRUTH,
    TRUTH_JOINED,
    Bench,
    System,
)
from showtell.bench.foi_compared import Compared, Extras
from showtell.bench.foi_text import charts, markdown
from showtell.bench.visii_report import machine

if TYPE_CHECKING:
    from PIL import Image

    from showtell.bench.foi import Say
    from showtell.editor import Editor

__all__ = ["QUICK", "Counts", "by_iou", "charts", "markdown", "measure", "paired", "summary"]

MAIN = (IP2P, SEQUENTIAL, FOI)
VARIANTS = (JOINED, PAPER, TRUTH, TRUTH_JOINED)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The paper's steps 0 or 1, 20, 40, 60 and 79 or 80 of 80, as shares of the steps that are run."""
GUIDANCE = (1.5, 2.0, 3.0, 5.0, 7.5)
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
PARTS = (1, 2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Cases: of one instruction, of 2, 3 and 4 each, the same for the variants, and of each number for the ablations; of Table
    1, single and of 2, 3 and 4 each; pictures of Table 6. ``shares`` and ``guidance``: those of the ablations, where not all.
    """

    single: int = 500
    multi: int = 200
    variants: int = 200
    variants_multi: int = 100
    ablations: int = 20
    table1: int = 48
    table1_multi: int = 8
    table6: int = 8
    sheets: bool = True
    shares: tuple[float, ...] = ()
    guidance: tuple[float, ...] = ()


QUICK = Counts(
    single=6,
    multi=2,
    variants=4,
    variants_multi=1,
    ablations=1,
    table1=4,
    table1_multi=1,
    table6=1,
    sheets=False,
    shares=(0.0, 0.5, 1.0),
    guidance=(2.0, 7.5),
)


def measure(
    editor: Editor,
    folder: Path,
    counts: Counts,
    *,
    say: Say,
    sheets: dict[str, Image.Image],
    base: str = "starter-base",
    extras: Extras | None = None,
) -> dict[str, Any]:
    """Run what is missing in ``folder`` and return every figure; the sheets of pictures go into ``sheets``.

    ``base`` is the text-to-image model of methods that describe, ``extras`` what Table 1 takes beside it.
    """
    bench, extras = Bench(editor, folder, base=base, say=say), extras or Extras()
    also = [System(name=f"also-{name}", method=name) for name in extras.also]
    card = editor.card.get("defaults", {}).get("foi", {})
    figures: dict[str, Any] = {
        "counts": dict(counts.__dict__),
        "machine": machine(),
        "model": editor.model_id,
        "dtype": str(editor.pipe.unet.dtype).removeprefix("torch."),
        "card": card,
    }
    entries = {}
    if counts.single or counts.multi:
        figures["main"], entries = _by_parts(bench, (*MAIN, *also), counts.single, counts.multi)
        figures["local"] = _local(entries)
        figures["by_iou"] = by_iou([entry for part in entries.values() for entry in part["foi"]])
    if counts.variants or counts.variants_multi:
        figures["variants"], _ = _by_parts(bench, (IP2P, FOI, *VARIANTS), counts.variants, counts.variants_multi)
    if counts.ablations:
        figures["ablations"] = _ablations(bench, card, counts)
    if counts.table1 or counts.table6:
        compared = Compared(editor, folder / "compared", extras, base=base, say=say)
        if counts.table1:
            figures["table1"] = foi_compared.table_one(compared, counts.table1, counts.table1_multi)
        if counts.table6:
            figures["table6"] = foi_compared.table_six(compared, counts.table6)
    if counts.sheets:
        sheets.update(foi_sheets.draw_all(editor, say=say))
    return figures


def _by_parts(
    bench: Bench, systems: Sequence[System], single: int, multi: int
) -> tuple[dict[str, Any], dict[int, Any]]:
    found, entries = {}, {}
    for parts in PARTS:
        count = single if parts == 1 else multi
        if count:
            entries[parts] = bench.run(systems, parts, count)
            found[str(parts)] = {name: summary(rows) for name, rows in entries[parts].items()}
            for name, rows in entries[parts].items():
                found[str(parts)][name]["against_ip2p"] = paired(rows, entries[parts]["ip2p"])
    return found, entries


def _local(entries: dict[int, dict[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """The cases whose edits all touch a thing and neither the background nor the style, as the paper's data do."""
    found: dict[str, Any] = {}
    for parts, systems in entries.items():
        kept = {
            name: [entry for entry in rows if not {"background", "style"} & set(entry["actions"])]
            for name, rows in systems.items()
        }
        if kept["ip2p"]:
            found[str(parts)] = {name: summary(rows) for name, rows in kept.items()}
            for name, rows in kept.items():
                found[str(parts)][name]["against_ip2p"] = paired(rows, kept["ip2p"])
    return found


def _ablations(bench: Bench, card: dict[str, Any], counts: Counts) -> dict[str, Any]:
    """Each study's rows: name of the setting -> its summary over ``ablations`` cases of 1 to 4 instructions each."""
    shares, guidance = counts.shares or SHARES, counts.guidance or GUIDANCE
    run = int(card.get("num_inference_steps", 100) * card.get("strength", 0.8) + 1e-6)
    last = {share: min(round(share * run), run - 1) for share in shares}
    studies: dict[str, list[tuple[str, System]]] = {
        "mask_step": [(f"{share:g}", _changed(card, FOI, "mask_step", last[share])) for share in shares],
        "modulation": [(f"{share:g}", _changed(card, FOI, "modulation", share)) for share in shares],
        "disentangle": [(f"{share:g}", _changed(card, FOI, "disentangle", share)) for share in shares],
        "columns": [(name, _changed({}, JOINED, "columns", name)) for name in ("union", "text", "image")],
        "guidance_ip2p": [(f"{s:g}", _changed({}, IP2P, "guidance_scale", s)) for s in guidance],
        "guidance_foi": [(f"{s:g}", _changed(card, FOI, "guidance_scale", s)) for s in guidance],
    }
    found: dict[str, Any] = {}
    for study, rows in studies.items():
        found[study] = {}
        for name, system in rows:
            entries = [entry for parts in PARTS for entry in bench.run([system], parts, counts.ablations)[system.name]]
            found[study][name] = summary(entries)
    return found


def _changed(card: dict[str, Any], system: System, name: str, value: Any) -> System:
    """The system with one setting changed; the system itself where that is what it has already."""
    usual = {"mask_step": 0, "modulation": 1.0, "disentangle": 0.75} | card | system.settings
    if usual.get(name) == value:
        return system
    return System(name=f"{system.name}-{name}-{value}", method=system.method, settings={**system.settings, name: value})


def summary(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Shares, means, and the median PSNR outside (None where most pictures did not change there at all)."""
    n = len(entries)
    success = sum(e["success"] for e in entries) / n
    psnr = sorted(math.inf if e["psnr"] is None else e["psnr"] for e in entries if not e["whole"])
    middle = psnr[len(psnr) // 2] if psnr else math.nan
    found: dict[str, Any] = {
        "count": n,
        "success": round(success, 4),
        "standard_error": round(math.sqrt(success * (1 - success) / n), 4),
        "each": _share(v for e in entries for v in e["each"]),
        "each_inside": _share(v for e in entries for v in e["each_inside"]),
        "outside": _share(e["outside"] for e in entries),
        "psnr": round(middle, 2) if math.isfinite(middle) else None,
        "image": _share(e["image"] for e in entries),
        "directional": _mean(e["directional"] for e in entries),
    }
    if "iou" in entries[0]:
        found["iou"] = _share(v for e in entries for v in e["iou"])
        found["keywords"] = _share(v for e in entries for v in e["keywords"])
    return found


def _share(values: Any) -> float:
    known = [float(v) for v in values]
    return round(sum(known) / len(known), 4)


def _mean(values: Any) -> float | None:
    """None where there is none, as of the direction of pictures that did not change."""
    known = [v for v in values if v is not None]
    return _share(known) if known else None


def paired(rows: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How much more often the cases are right than under the other system, with the standard error of that difference."""
    gaps = [a["success"] - b["success"] for a, b in zip(rows, other, strict=True)]
    mean = sum(gaps) / len(gaps)
    error = math.sqrt(sum((g - mean) ** 2 for g in gaps) / max(1, len(gaps) - 1) / len(gaps))
    return {"difference": round(mean, 4), "standard_error": round(error, 4)}


def by_iou(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Single edits by the IoU of their mask with the truth: how many, and how many are right inside."""
    pairs = [(iou, right) for e in entries for iou, right in zip(e["iou"], e["each_inside"], strict=True)]
    found = []
    for low, high in zip(BINS, BINS[1:], strict=False):
        part = [right for iou, right in pairs if low <= iou < high or (high == 1 and iou == 1)]
        if part:
            found.append({"from": low, "to": high, "count": len(part), "inside": _share(part)})
    return found
