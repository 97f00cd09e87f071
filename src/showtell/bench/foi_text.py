"""The tables and plots of FoI's measurement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from showtell.bench import plots, published
from showtell.bench.foi import LABELS

if TYPE_CHECKING:
    from PIL import Image

    from showtell.bench.published import Table


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
    for key, make in (("table1", _table_one), ("ablations", _ablation_tables), ("table6", _table_six)):
        if key in figures:
            lines += make(figures[key])
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
            rows.append([parts, title(name), success, more, f"{f['each']:.1%}", *_tail(f), str(f["count"])])
    return [_row(row) for row in rows]


_TAIL = (("psnr", 1), ("image", 3), ("directional", 3))


def _tail(f: dict[str, Any]) -> list[str]:
    found = ["–" if f[key] is None else f"{f[key]:.{digits}f}" for key, digits in _TAIL]
    return [*found, *((f"{f['iou']:.2f}", f"{f['keywords']:.0%}") if "iou" in f else ("", ""))]


def _iou_table(bins: Sequence[dict[str, Any]]) -> list[str]:
    rows = [["IoU of the mask", "right inside", "single edits"], ["---"] * 3]
    rows += [[f"{b['from']:g} to {b['to']:g}", f"{b['inside']:.1%}", str(b["count"])] for b in bins]
    return [_row(row) for row in rows]


_STUDIES: dict[str, tuple[str, Table | None]] = {
    "mask_step": ("Table 3's layout: masks are found after this share of the steps", published.FOI_3),
    "modulation": ("Table 4's layout: attention is modulated for this share of the steps", published.FOI_4),
    "disentangle": ("Table 5's layout: the text term is masked for this share of the steps", published.FOI_5),
    "columns": ("Columns of start, end and padding (FoI as published)", None),
    "guidance_ip2p": ("Robustness over s_T (Figure 6 d): IP2P", None),
    "guidance_foi": ("Robustness over s_T (Figure 6 d): FoI", None),
}


def _ablation_tables(found: dict[str, Any]) -> list[str]:
    lines = []
    for study, (heading, paper) in _STUDIES.items():
        rows = [["", *found[study]], ["---"] * (1 + len(found[study]))]
        for key, name, text in (
            ("image", "CLIP-I", "{:.4f}"), ("directional", "CLIP-D", "{:.4f}"), ("success", "all right", "{:.1%}"),
            ("each", "each right", "{:.1%}"), ("psnr", "outside (median dB)", "{:.1f}"), ("iou", "mask IoU", "{:.2f}"),
        ):  # fmt: skip
            if all(f.get(key) is not None for f in found[study].values()):
                rows.append([name, *(text.format(f[key]) for f in found[study].values())])
        count = next(iter(found[study].values()))["count"]
        told = f"{count} cases of 1 to 4 instructions."
        if paper is not None:
            told += f" The paper's (another model, data and CLIP): {paper.setting}; its steps are {', '.join(paper.columns)}."
            # Its columns are the same five shares of the steps.
            own = paper.columns if len(found[study]) == len(paper.columns) else ()
            rows += [
                [f"{name}, the paper's", *(paper.text(name, column) for column in own)] for name in paper.rows if own
            ]
        lines += [f"### {heading}", "", told, "", *map(_row, rows), ""]
    return lines


_COMPARED = {
    "diffedit": "DiffEdit", "nti-p2p": "NTI + P2P", "ip2p": "IP2P", "magicbrush": "MagicBrush", "insdiff": "InsDiff",
    "foi": "FoI",
}  # fmt: skip
_COLUMNS = {"CLIP-I": "image", "DINO-I": "dino", "CLIP-D": "directional", "PickScore": "preference"}
_WEIGHTS = {"magicbrush": "--magicbrush", "insdiff": "--insdiff"}


def title(name: str) -> str:
    """How tables call a system."""
    return LABELS.get(name) or _COMPARED.get(name) or name.removeprefix("also-")


def _table_one(found: dict[str, Any]) -> list[str]:
    """Table 1: the paper's figures in brackets, and the truth's beside them."""
    head = ["", "CLIP-I", "DINO-I", "CLIP-D", "PickScore", "all right", "each right", "outside (median dB)", "cases"]
    lines = [
        "### Table 1's layout: FoI and what it is compared with", "",
        f"In brackets the paper's, with {published.FOI_1_SINGLE.setting}, and {published.FOI_1_MULTI.setting.split(', ')[1]}. "
        "Here: scenes with every kind of edit, several as many of 2, of 3 and of 4 instructions, CLIP of the starters, the "
        "settings of the models' cards; NTI + P2P on the first of these cases. DiffEdit and NTI + P2P are told the captions of "
        "both pictures. ± is one standard error; PickScore is the share among the rows.", "",
    ]  # fmt: skip
    lacking = [
        f"{column}: no weights given ({option})." for column, option in (("DINO-I", "--dino"), ("PickScore", "--pickscore"))
        if all(f.get(_COLUMNS[column]) is None for f in found["single"].values())
    ]  # fmt: skip
    lines += [" ".join(lacking), ""] if lacking else []
    for part, heading, paper in (
        ("single", "single instruction", published.FOI_1_SINGLE), ("multi", "several instructions", published.FOI_1_MULTI),
    ):  # fmt: skip
        rows = [[heading, *head[1:]], ["---"] * len(head)]
        for name in (*_COMPARED, *(name for name in found[part] if name not in _COMPARED)):
            lacking = f": needs its weights, {_WEIGHTS[name]}" if name not in found[part] else ""
            label = (_COMPARED.get(name) or title(name)) + lacking
            rows.append([label, *_compared(name, found[part].get(name, {}), paper)])
        lines += [*map(_row, rows), ""]
    return lines


def _compared(name: str, f: dict[str, Any], paper: Table) -> list[str]:
    def cell(column: str, key: str) -> str:
        here = "–" if f.get(key) is None else f"{f[key]:.3f}"
        if f.get(f"{key}_error") is not None:
            here += f" ± {f[f'{key}_error']:.3f}"
        return here if name not in paper.rows else f"{here} ({paper.text(name, column)})"

    cells = [cell(column, key) for column, key in _COLUMNS.items()]
    if not f:
        return [*cells, "", "", "", "0"]
    psnr = "–" if f["psnr"] is None else f"{f['psnr']:.1f}"
    return [*cells, f"{f['success']:.0%} ± {f['standard_error']:.0%}", f"{f['each']:.0%}", psnr, str(f["count"])]


_STEPS = "Every method runs 50 steps, FoI 80 % of them; Null-Text Inversion tunes up to 10 times a step."


def _table_six(found: dict[str, Any]) -> list[str]:
    """Table 6, in seconds and as a share of InstructPix2Pix's."""
    paper, means = published.FOI_6, {n: sum(own) / len(own) for n, own in found["seconds"].items() if own}
    rows = [["", "seconds here", "over IP2P", "the paper's seconds", "over IP2P", "pictures here"], ["---"] * 6]
    for name in (*_COMPARED, *(name for name in means if name not in _COMPARED)):
        told, own = paper.value(name, "seconds"), means.get(name)
        lacking = f": needs its weights, {_WEIGHTS[name]}" if own is None else ""
        usual = paper.value("ip2p", "seconds") or 1.0
        here = ["–", "–"] if own is None else [f"{own:.2f}", f"{own / means['ip2p']:.2f}"]
        theirs = ["–", "–"] if told is None else [f"{told:.2f}", f"{told / usual:.2f}"]
        rows.append(
            [(_COMPARED.get(name) or title(name)) + lacking, *here, *theirs, str(len(found["seconds"].get(name, ())))]
        )
    clock = "processor seconds of all threads, no GPU" if found["clock"] == "process" else "seconds that passed"
    told = (
        f"Means over pictures, one at a time: {clock}. {_STEPS} The paper's: {paper.setting}. What the network costs beside "
        "everything else differs with its size, so compare the shares, and those with care."
    )
    return ["### Table 6's layout: what a picture costs", "", told, "", *map(_row, rows), ""]


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
