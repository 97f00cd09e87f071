"""The tables and plots of VISII's measurement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from showtell.bench import plots, published, visii_histograms

if TYPE_CHECKING:
    from PIL import Image

NOISES = ("random", "recorded")

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
    if "histograms" in figures:
        lines += [*visii_histograms.markdown(figures["histograms"]), ""]
    if "four" in figures:
        lines += [f"### Four pairs instead of one ({counts['four']} of these edits)", "", *_four(figures["four"]), ""]
    if "table" in figures:
        captions = f"Captions are of ten tokens, {figures['caption_steps']} steps of PEZ (published: 3000)."
        lines += [
            f"### Table 1's layout ({counts['table']} edits, {seeds})",
            "",
            captions,
            f"In brackets the paper's (another model, data and CLIP): {published.VISII_1.setting}; its fixed noise is the "
            "recorded one.",
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
    more = [(name.removeprefix("also-"), f) for name, f in main.items() if name.startswith("also-")]
    for name, f in (("told in words", told), ("learned from one pair", look), *more):
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
        cells = list(_LABELS.get(name, (name.removeprefix("also-"), "", "", "", "")))
        for noise in NOISES:
            f = by_noise.get(noise)
            if f is None:
                cells += ["–"] * 4
                continue
            cells += [_beside(f[key], name, key, noise) for key in ("image", "directional", "visual")] + [_share(f)]
        rows.append(_row(cells))
    return rows


def _beside(value: float | None, row: str, column: str, noise: str) -> str:
    """Our figure, and the paper's in brackets where the paper has that row."""
    table, key = published.VISII_1, column if noise == "random" else f"{column}, fixed"
    return f"{_number(value)} ({table.text(row, key)})" if row in table.rows else _number(value)


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
    if "histograms" in figures:
        made["visii-histograms.png"] = visii_histograms.chart(figures["histograms"])
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
