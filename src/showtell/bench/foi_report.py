"""The parts of FoI's measurement, and its tables and plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.bench import foi_sheets, plots
from showtell.bench.foi import (
    FOI,
    IP2P,
    JOINED,
    LABELS,
    PAPER,
    SEQUENTIAL,
    TRUTH,
    TRUTH_JOINED,
    Bench,
    System,
)
from showtell.bench.visii_report import machine

if TYPE_CHECKING:
    from PIL import Image

    from showtell.bench.foi import Say
    from showtell.editor import Editor

MAIN = (IP2P, SEQUENTIAL, FOI)
VARIANTS = (JOINED, PAPER, TRUTH, TRUTH_JOINED)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The paper's steps 0 or 1, 20, 40, 60 and 79 or 80 of 80, as shares of the steps that are run."""
GUIDANCE = (1.5, 2.0, 3.0, 5.0, 7.5)
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
PARTS = (1, 2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Cases: of one instruction, of 2, 3 and 4 each, the same for the variants, and of each number for the ablations."""

    single: int = 500
    multi: int = 200
    variants: int = 200
    variants_multi: int = 100
    ablations: int = 20
    sheets: bool = True


QUICK = Counts(single=20, multi=10, variants=10, variants_multi=5, ablations=4, sheets=False)


def measure(
    editor: Editor, folder: Path, counts: Counts, *, say: Say, sheets: dict[str, Image.Image]
) -> dict[str, Any]:
    """Run what is missing in ``folder`` and return every figure; the sheets of pictures go into ``sheets``."""
    bench = Bench(editor, folder, say=say)
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
        figures["main"], entries = _by_parts(bench, MAIN, counts.single, counts.multi)
        figures["local"] = _local(entries)
        figures["by_iou"] = by_iou([entry for part in entries.values() for entry in part["foi"]])
    if counts.variants or counts.variants_multi:
        figures["variants"], _ = _by_parts(bench, (IP2P, FOI, *VARIANTS), counts.variants, counts.variants_multi)
    if counts.ablations:
        figures["ablations"] = _ablations(bench, card, counts.ablations)
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


def _ablations(bench: Bench, card: dict[str, Any], count: int) -> dict[str, Any]:
    """Each study's rows: name of the setting -> its summary over cases of 1 to 4 instructions, ``count`` of each."""
    run = int(card.get("num_inference_steps", 100) * card.get("strength", 0.8) + 1e-6)
    last = {share: min(round(share * run), run - 1) for share in SHARES}
    studies: dict[str, list[tuple[str, System]]] = {
        "mask_step": [(f"{share:g}", _changed(card, FOI, "mask_step", last[share])) for share in SHARES],
        "modulation": [(f"{share:g}", _changed(card, FOI, "modulation", share)) for share in SHARES],
        "disentangle": [(f"{share:g}", _changed(card, FOI, "disentangle", share)) for share in SHARES],
        "columns": [(name, _changed({}, JOINED, "columns", name)) for name in ("union", "text", "image")],
        "guidance_ip2p": [(f"{s:g}", _changed({}, IP2P, "guidance_scale", s)) for s in GUIDANCE],
        "guidance_foi": [(f"{s:g}", _changed(card, FOI, "guidance_scale", s)) for s in GUIDANCE],
    }
    found: dict[str, Any] = {}
    for study, rows in studies.items():
        found[study] = {}
        for name, system in rows:
            entries = [entry for parts in PARTS for entry in bench.run([system], parts, count)[system.name]]
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


def markdown(figures: dict[str, Any]) -> str:
    """The tables as text."""
    lines = [
        f"<!-- made by `showtell bench foi` on {figures['machine']}, model {figures['model']}, {figures['dtype']} -->",
        "",
    ]
    for key, title in (
        ("main", "Against IP2P"),
        ("local", "Against IP2P, those of these cases that change things only, not the background or the style"),
        ("variants", "Variants and bounds, on the first of these cases"),
    ):
        if key in figures:
            lines += [f"### {title}", "", *_main(figures[key]), ""]
    if "by_iou" in figures:
        lines += ["### Success over the quality of the mask", "", *_iou_table(figures["by_iou"]), ""]
    if "ablations" in figures:
        lines += _ablation_tables(figures["ablations"])
    return "\n".join(lines)


def _main(found: dict[str, Any]) -> list[str]:
    head = [
        "instructions", "system", "all right", "more than IP2P", "each right", "outside (median dB)", "CLIP-I", "CLIP-D",
        "mask IoU", "keywords", "cases",
    ]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    for parts, systems in found.items():
        for name, f in systems.items():
            gap = f["against_ip2p"]
            more = "" if name == "ip2p" else f"{100 * gap['difference']:+.1f} ± {100 * gap['standard_error']:.1f}"
            success = f"{f['success']:.1%} ± {f['standard_error']:.1%}"
            rows.append([parts, LABELS[name], success, more, f"{f['each']:.1%}", *_tail(f), str(f["count"])])
    return [_row(row) for row in rows]


_TAIL = (("psnr", 1), ("image", 3), ("directional", 3))


def _tail(f: dict[str, Any]) -> list[str]:
    found = ["–" if f[key] is None else f"{f[key]:.{digits}f}" for key, digits in _TAIL]
    return [*found, *((f"{f['iou']:.2f}", f"{f['keywords']:.0%}") if "iou" in f else ("", ""))]


def _iou_table(bins: Sequence[dict[str, Any]]) -> list[str]:
    rows = [["IoU of the mask", "right inside", "single edits"], ["---"] * 3]
    rows += [[f"{b['from']:g} to {b['to']:g}", f"{b['inside']:.1%}", str(b["count"])] for b in bins]
    return [_row(row) for row in rows]


_STUDIES = {
    "mask_step": "Table 3's layout: masks are found after this share of the steps",
    "modulation": "Table 4's layout: attention is modulated for this share of the steps",
    "disentangle": "Table 5's layout: the text term is masked for this share of the steps",
    "columns": "Columns of start, end and padding (FoI as published)",
    "guidance_ip2p": "Robustness over s_T (Figure 6 d): IP2P",
    "guidance_foi": "Robustness over s_T (Figure 6 d): FoI",
}


def _ablation_tables(found: dict[str, Any]) -> list[str]:
    lines = []
    for study, title in _STUDIES.items():
        rows = [["", *found[study]], ["---"] * (1 + len(found[study]))]
        for key, name, text in (
            ("image", "CLIP-I", "{:.4f}"), ("directional", "CLIP-D", "{:.4f}"), ("success", "all right", "{:.1%}"),
            ("each", "each right", "{:.1%}"), ("psnr", "outside (median dB)", "{:.1f}"), ("iou", "mask IoU", "{:.2f}"),
        ):  # fmt: skip
            if all(f.get(key) is not None for f in found[study].values()):
                rows.append([name, *(text.format(f[key]) for f in found[study].values())])
        count = next(iter(found[study].values()))["count"]
        lines += [f"### {title}", "", f"{count} cases of 1 to 4 instructions.", "", *map(_row, rows), ""]
    return lines


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


_SHORT = {"ip2p": "IP2P", "sequential": "one by one", "foi": "FoI"}


def charts(figures: dict[str, Any]) -> dict[str, Image.Image]:
    """Plots by file name."""
    made: dict[str, Image.Image] = {}
    if "main" in figures:
        groups = list(figures["main"])
        made["foi-success.png"] = plots.bars(
            "All instructions right, by their number",
            [f"{n} instruction{'s' if n != '1' else ''}" for n in groups],
            [(name, [figures["main"][n][key]["success"] for n in groups]) for key, name in _SHORT.items()],
            y_label="share of held-out cases",
        )
        bins = figures["by_iou"]
        made["foi-iou.png"] = plots.lines(
            "A better mask, a better edit (FoI)",
            [plots.Series(name="right inside", points=[((b["from"] + b["to"]) / 2, b["inside"]) for b in bins])],
            x_label="IoU of the mask with the truth (middle of each bin)",
            y_label="share of single edits",
        )
    if "ablations" in figures:
        found = figures["ablations"]
        made["foi-guidance.png"] = plots.lines(
            "Robustness over the text guidance (Figure 6 d)",
            [
                _series(name, found[key], "success")
                for key, name in (("guidance_ip2p", "IP2P"), ("guidance_foi", "FoI"))
            ],
            x_label="s_T",
            y_label="share of cases right",
        )
        made["foi-steps.png"] = plots.lines(
            "Which steps matter (Tables 3, 4 and 5)",
            [
                _series("masks found after", found["mask_step"], "success"),
                _series("modulation ends", found["modulation"], "success"),
                _series("masked guidance ends", found["disentangle"], "success"),
            ],
            x_label="share of the steps that are run",
            y_label="share of cases right",
        )
    return made


def _series(name: str, rows: dict[str, Any], key: str) -> plots.Series:
    return plots.Series(
        name=name,
        points=[(float(x), f[key]) for x, f in rows.items()],
        errors=[f["standard_error"] for f in rows.values()],
    )
