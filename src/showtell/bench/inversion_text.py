"""The tables and plots of the measurement of inversions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from showtell.bench import plots
from showtell.bench.inversion_tables import ITERATIONS, OMEGAS, RATES, iterations
from showtell.bench.published import NONE, PTI_2

if TYPE_CHECKING:
    from PIL import Image

FRECHET = "class-conditional Fréchet distance over starter-clip features"
PERCEPTUAL = "perceptual distance to the input over starter-clip layers"


def markdown(figures: dict[str, Any]) -> str:
    """The tables as text."""
    lines = [
        f"<!-- made by `showtell bench inversion` on {figures['machine']}, no GPU, model {figures['model']}, tables in "
        f"{figures['tables_dtype']}, the rest in {figures['dtype']} -->",
        "",
        f"{figures['steps']} DDIM steps, encoding ratio {figures['encoding_ratio']:g}, ω = {figures['omega']:g}, "
        "inversion at ω = 0 unless told otherwise. ± is one standard error.",
        "",
    ]
    for key, make in (
        ("claims", _claims), ("table1", _table1), ("table2", _table2), ("precision", _precision), ("table3", _table3),
        ("figure4", _figure4), ("figure6", _figure6), ("starts", _starts), ("slow", _slow), ("figure7", _figure7),
    ):  # fmt: skip
        if figures.get(key):
            lines += [*make(figures), ""]
    return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *rest = rows
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rest)]


def _claims(figures: dict[str, Any]) -> list[str]:
    rows = [["", "here", "figures"]]
    rows += [[one["claim"], "holds" if one["holds"] else "does NOT hold", one["evidence"]] for one in figures["claims"]]
    return ["### Which of the paper's orderings hold", "", *_table(rows)]


def _table1(figures: dict[str, Any]) -> list[str]:
    table = figures["table1"]
    count = table["ddim-0-0"]["count"]
    rows = [["ω there \\ ω back", *(f"{w:g}" for w in OMEGAS)]]
    for forward in OMEGAS:
        cells = [table[f"ddim-{forward:g}-{back:g}"] for back in OMEGAS]
        best = max(cell["psnr"] for cell in cells)
        shown = [f"{cell['psnr']:.2f} ± {cell['standard_error']:.2f}" for cell in cells]
        rows.append(
            [f"{forward:g}", *(f"**{s}**" if c["psnr"] == best else s for s, c in zip(shown, cells, strict=True))]
        )
    told = (
        f"Mean PSNR in dB of {count} pictures; the words are the caption; the best of each line is bold. The paper's "
        f"values: {NONE}."
    )
    return ["### Table 1: DDIM there and back", "", told, "", *_table(rows)]


def _table2(figures: dict[str, Any]) -> list[str]:
    table, most = figures["table2"], ITERATIONS[-1]
    named = (
        ("autoencoder", "autoencoder", NONE), (f"ddim-0-{OMEGAS[-1]:g}", "DDIM", PTI_2.text("ddim", "PSNR")),
        (f"nti-{most}-0.01", "NTI", PTI_2.text("nti", "PSNR")), (f"pti-{most}-0.01", "PTI", PTI_2.text("pti", "PSNR")),
        ("nti-published", "NTI, 10 iterations, its own rates and early stop", ""),
    )  # fmt: skip
    rows = [["", "PSNR here, dB", "the paper's (another model, COCO)", "pictures"]]
    rows += [[title, _psnr(table[name]), paper, str(table[name]["count"])] for name, title, paper in named]
    told = f"The paper's (another model and data): {PTI_2.setting}."
    return [f"### Table 2: reconstructions at ω = {OMEGAS[-1]:g}, N = {most}, β = 0.01", "", told, "", *_table(rows)]


def _psnr(row: dict[str, Any]) -> str:
    return f"{row['psnr']:.2f} ± {row['standard_error']:.2f}"


def _precision(figures: dict[str, Any]) -> list[str]:
    found = figures["precision"]
    moved = ", ".join(f"{name} {value:+.2f} dB" for name, value in found["moved"].items())
    return [f"In {found['dtype']} instead of float32, over {found['count']} of these pictures: {moved}."]


def _table3(figures: dict[str, Any]) -> list[str]:
    table = figures["table3"]
    numbers = iterations(table)
    rows = [["", *(f"N = {n}" for n in numbers)]]
    for rate in RATES:
        for of in ("nti", "pti"):
            rows.append([f"{of.upper()}, β = {rate:g}", *(_psnr(table[f"{of}-{n}-{rate:g}"]) for n in numbers)])
    auto = table["autoencoder"]
    told = f"PSNR in dB of {auto['count']} pictures; the autoencoder gives {_psnr(auto)}. The paper's values: {NONE}."
    return ["### Table 3: iterations and rates", "", told, "", *_table(rows)]


_COLUMNS = (
    ("right", "success", "{:.0%}"), ("right inside", "inside", "{:.0%}"), ("kept outside", "outside", "{:.0%}"),
    ("outside, median dB", "outside_psnr", "{:.1f}"), ("edit error, median", "edit_error", "{:.2f}"),
    ("perceptual", "perceptual", "{:.3f}"), ("Fréchet", "frechet", "{:.1f}"), ("mask IoU", "iou", "{:.2f}"),
    ("mask beside it", "missed", "{:.0%}"),
)  # fmt: skip


def _row(name: str, row: dict[str, Any]) -> list[str]:
    cells = []
    for _, key, text in _COLUMNS:
        value = row.get(key)
        error = row.get(f"{key}_error")
        shown = "–" if value is None else text.format(value)
        cells.append(shown if error is None or value is None or key == "iou" else f"{shown} ± {text.format(error)}")
    return [name, *cells, str(row["count"])]


def _rows(named: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    return _table([["", *(title for title, _, _ in _COLUMNS), "cases"], *(_row(name, row) for name, row in named)])


def _figure4(figures: dict[str, Any]) -> list[str]:
    named = [("the picture as it was", figures["bounds"][0]), ("the true result", figures["bounds"][1])]
    for name, rows in figures["figure4"].items():
        named += [(_at(name, row), row) for row in rows]
    titles = {
        "sdedit": "SDEdit", "pti-none": "PTI without a mask", "ddim-edit-0.3-automatic": "DDIM-Edit at 0.3, no brackets",
        "pti-0.3": "PTI at 0.3, no brackets",
    }  # fmt: skip
    for row in figures["others"]:
        named.append((next(title for key, title in titles.items() if row["system"].startswith(key)), row))
    named += [(f"{row['system'].removesuffix('-card')}, settings of the card", row) for row in figures["by_card"]]
    named += [(row["system"].removeprefix("also-"), row) for row in figures.get("also", ())]
    told = (
        f"Perceptual: {PERCEPTUAL}. Fréchet: {FRECHET}, over the cases that replace a thing, by its new kind. Right: against the "
        "truth. The changed noun is in [brackets] for every method. PTI keeps the run of stage 1 outside its mask; "
        "PTI, inverted, the inverted latents, as DDIM-Edit and DiffEdit do. Mask beside it: cases whose mask meets less than "
        "5 % of what is to change (IoU). The paper's values: " + NONE + "."
    )
    pairs = [["PTI at 0.3 minus", "right", "right inside", "kept outside", "perceptual"]]
    for name, gaps in figures["paired"].items():
        shares = [
            f"{100 * gaps[k]['difference']:+.0f} ± {100 * gaps[k]['standard_error']:.0f} %"
            for k in ("success", "inside", "outside")
        ]
        far = gaps["perceptual"]
        pairs.append([name, *shares, f"{far['difference']:+.3f} ± {far['standard_error']:.3f}"])
    paired = [
        "The same cases, paired (DiffEdit at its 0.5):",
        "",
        *_table(pairs),
        "",
        _where_found(figures["where_found"]),
    ]
    title = "### Figure 4: fidelity against editability, over the mask's threshold"
    return [title, "", told, "", *_rows(named), "", *paired]


def _where_found(found: dict[str, Any]) -> str:
    right = ", ".join(f"{name} {value:.0%}" for name, value in found["success"].items())
    inside = ", ".join(f"{name} {value:.0%}" for name, value in found["inside"].items())
    return (
        f"In the {found['count']} of {found['of']} cases in which PTI's mask meets what is to change, right: {right}; right "
        f"inside: {inside}."
    )


def _at(name: str, row: dict[str, Any]) -> str:
    threshold = row["settings"].get("blend_threshold", row["settings"].get("mask_threshold"))
    return name if threshold is None else f"{name}, {threshold:g}"


def _figure6(figures: dict[str, Any]) -> list[str]:
    named = [(f"η = {row['settings']['eta']:g}, β = 0.1", row) for row in figures["figure6"]["eta"]]
    named += [(f"η = 0.9, β = {_beta(row)}", row) for row in figures["figure6"]["beta"][1:]]
    return ["### Figure 6: η and β", "", "PTI with its mask at 0.3, N = 1.", "", *_rows(named)]


def _beta(row: dict[str, Any]) -> str:
    return row["system"].split("-beta-")[1].split("-")[0]


def _starts(figures: dict[str, Any]) -> list[str]:
    rows = [["stage 1 starts from", "PSNR of the reconstruction, dB", *(title for title, _, _ in _COLUMNS), "cases"]]
    names = {"target": "the target (the paper's way)", "source": "the source prompt", "empty": "∅"}
    for row in figures["starts"]:
        name = names[row["system"].rsplit("-", 1)[1]]
        head, *tail = _row(name, row)
        rows.append([head, f"{row['reconstruction']:.2f} ± {row['reconstruction_error']:.2f}", *tail])
    told = "N = 1, β = 0.1, η = 0.9, mask at 0.3. What starts from the source or from ∅ serves any target without stage 1 again."
    return ["### What the start of the tuning costs", "", told, "", *_table(rows)]


def _slow(figures: dict[str, Any]) -> list[str]:
    titles = {
        "pti": "PTI",
        "nti-p2p": "NTI + P2P as published",
        "nti-p2p-0.8": "NTI + P2P, encoding ratio and inversion as PTI",
    }
    named = [(titles.get(row["system"], titles["pti"]), row) for row in figures["slow"]]
    told = "On the first of the same cases; P2P is told the source prompt."
    return ["### Null-Text Inversion with Prompt-to-Prompt", "", told, "", *_rows(named)]


def _figure7(figures: dict[str, Any]) -> list[str]:
    rows = [
        [
            "",
            "things changed",
            "pictures with all of them changed",
            "kept outside",
            "right",
            "mask IoU",
            "things",
            "pictures",
        ]
    ]
    for row in figures["figure7"]:
        shares = [f"{row[key]:.0%}" for key in ("changed", "all_changed", "outside")]
        right = f"{row['success']:.0%} ± {row['success_error']:.0%}"
        iou = f"{row['iou']:.2f}" if "iou" in row else "–"
        rows.append([_name(row["system"]), *shares, right, iou, str(row["things"]), str(row["count"])])
    told = "Two or three things of one kind, all of which are to be another kind or of one colour; their words are in brackets."
    return ["### Figure 7: several things of one kind", "", told, "", *_table(rows)]


def _name(system: str) -> str:
    titles = {"ddim-global": "DDIM-Global", "diffedit-source": "DiffEdit, source", "diffedit": "DiffEdit, no source",
              "ddim-edit": "DDIM-Edit", "pti": "PTI"}  # fmt: skip
    if system.startswith("also-"):
        return system.removeprefix("also-")
    if system.endswith("-card"):
        return f"{system.removesuffix('-card')}, settings of the card"
    return next(title for key, title in titles.items() if system.startswith(key))


def charts(figures: dict[str, Any]) -> dict[str, Image.Image]:
    """Plots by file name."""
    made: dict[str, Image.Image] = {}
    if "table3" in figures:
        table = figures["table3"]
        made["inversion-iterations.png"] = plots.curves(
            "Reconstruction over the iterations a step (Table 3)",
            [
                plots.Series(
                    name=f"{of.upper()} beta {rate:g}",
                    points=[(n, table[f"{of}-{n}-{rate:g}"]["psnr"]) for n in iterations(table)],
                    errors=[table[f"{of}-{n}-{rate:g}"]["standard_error"] for n in iterations(table)],
                )
                for of in ("nti", "pti")
                for rate in RATES
            ],
            x_label="N, iterations a step",
            y_label="PSNR, dB",
        )
    if "figure4" in figures:
        made["inversion-tradeoff.png"] = _tradeoff("Fidelity against editability (Figure 4)", figures["figure4"])
        made["inversion-truth.png"] = plots.curves(
            "Right edits over the distance to the input",
            [_series(name, rows, "success") for name, rows in figures["figure4"].items()],
            x_label=PERCEPTUAL,
            y_label="share of cases right",
        )
    if "figure6" in figures:
        made["inversion-eta.png"] = _tradeoff("eta and beta (Figure 6)", figures["figure6"])
    return {name: chart for name, chart in made.items() if chart is not None}


def _tradeoff(title: str, groups: dict[str, list[dict[str, Any]]]) -> Any:
    if any(row["frechet"] is None for rows in groups.values() for row in rows):
        return None
    series = [_series(name, rows, "frechet") for name, rows in groups.items()]
    return plots.curves(
        title, series, x_label=PERCEPTUAL, y_label=f"{FRECHET} (lower: more of the new kind)".replace("é", "e")
    )


def _series(name: str, rows: Sequence[dict[str, Any]], key: str) -> plots.Series:
    return plots.Series(
        name=name,
        points=[(row["perceptual"], row[key]) for row in rows],
        errors=[row[f"{key}_error"] for row in rows],
    )
