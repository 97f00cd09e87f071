"""Write the figures in README and documentation from the model cards and the committed measurements; with --check, only
say whether they are up to date.

python tools/readme_figures.py [--check]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README, SHOWING, FOCUS = ROOT / "README.md", ROOT / "docs" / "showing.md", ROOT / "docs" / "focus.md"
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
DESCRIBING = ROOT / "docs" / "describing.md"
RESULTS = ROOT / "docs" / "results"
VISII = RESULTS / "visii" / "figures.json"
FOI, FOI_SINGLE = RESULTS / "foi" / "figures.json", RESULTS / "foi-single" / "figures.json"
INVERSION = RESULTS / "inversion" / "figures.json"
INVERSION_SPEED = ROOT / "benchmarks" / "results" / "inversion_speed.json"
IP2P = RESULTS / "ip2p" / "figures.json"
IP2P_PLOTS = {
    "ip2p-tradeoff.png": "The edit against the likeness to the input",
    "ip2p-truth.png": "Right edits against the likeness to the input",
}
INVERSION_PLOTS = {
    "inversion-iterations.png": "Reconstruction over the iterations a step (Table 3)",
    "inversion-tradeoff.png": "Fidelity against editability (Figure 4)",
    "inversion-truth.png": "Right edits over the distance to the input",
    "inversion-eta.png": "η and β (Figure 6)",
    "inversion-omega.png": "DDIM there and back, by the guidance of the way back (Figure 3)",
    "inversion-compared.png": "The methods on held-out scenes that were not chosen (Figure 5)",
    "inversion-eta-pictures.png": "PTI over η (Figure 6)",
    "inversion-several.png": "Several things of one kind (Figure 7)",
}
FOI_PLOTS = {
    "foi-success.png": "All instructions right, by their number",
    "foi-iou.png": "Success over the quality of the mask",
    "foi-guidance.png": "Robustness over the text guidance",
    "foi-steps.png": "Which steps matter",
    "foi-compared.png": "InstructPix2Pix, one by one, and FoI on held-out scenes that were not chosen",
    "foi-ablations.png": "When masks are found, and when modulation and masked guidance end",
    "foi-robust.png": "Robustness over the text guidance, in pictures",
    "foi-weights.png": "The weight of one instruction",
}
PLOTS = {
    "visii-kinds.png": "Success by kind of edit",
    "visii-histograms.png": "The similarities of single applications (Figure 7)",
    "visii-steps.png": "Success over the number of steps",
    "visii-consistency.png": "One learned edit over many pictures, against words",
    "visii-small.png": "Shown on a thing of usual size, and on a very small one",
    "visii-pair.png": "Four pairs of one edit, each alone",
    "visii-segmentation.png": "Segmentation as an edit",
    "visii-strength.png": "Strength and mixing",
    "visii-noise.png": "Random and recorded noise (Figure 8)",
    "visii-hybrid.png": "Words beside what was learned (Figure 9)",
}


def card(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "src" / "showtell" / "starters" / "cards" / f"{name}.json").read_text())


def block() -> str:
    """The table between the marks."""
    starter, clip = card("starter"), card("starter-clip")
    editing, ground = starter["figures"]["editing"], starter["figures"]["grounding"]
    rows = [("what", "figure", "held-out cases"), ("---", "---", "---")]
    for count, name in ((1, "one edit"), (2, "two at once"), (3, "three at once"), (4, "four at once")):
        found = editing[f"edits_{count}"]
        whole = "right" if count == 1 else "right as a whole"
        each = "" if count == 1 else f" (each for itself {found['per_edit_success']:.0%})"
        rows.append((f"{name}, {whole}", f"**{found['success']:.0%}**{each}", str(found["count"])))
    kinds = editing["edits_1"]["by_action"]
    rows.append(("one edit, by kind", ", ".join(f"{k} {v['success']:.0%}" for k, v in kinds.items()), "the same"))
    auto, found = starter["figures"]["autoencoder"], clip["figures"]["clip"]
    rows.append(("autoencoder", f"{auto['psnr']:.1f} dB", str(auto["count"])))
    rows.append(
        (f"a picture finds its caption among {found['among']}", f"{found['accuracy']:.1%}", str(found["count"]))
    )
    for key, name in (("one", "one instruction"), ("joined", "two joined")):
        g = ground[key]
        text = (
            f"attention inside / outside {g['median_inside_over_outside']:.0f}, maximum inside "
            f"{g['maximum_inside']:.0%}, IoU of focus masks {g['iou']:.2f} (at the paper's γ and τ {g['iou_paper']:.2f})"
        )
        rows.append((f"grounding, {name}", text, str(g["count"])))
    tuned = starter["defaults"]["ip2p"]
    machine = starter["training"]["machine"]
    shown = json.loads(VISII.read_text())
    if "main" in shown:
        learned, told = shown["main"]["look"], shown["main"]["told"]
        text = f"**{learned['success']:.0%}** (the same edits told in words {told['success']:.0%})"
        rows.append(("one edit, learned from one pair, right on other scenes", text, str(learned["count"])))
    if "four" in shown:
        learned, told = shown["four"]["look-4"], shown["four"]["told"]
        text = f"**{learned['success']:.0%}** (told {told['success']:.0%})"
        rows.append(("one edit, learned from four pairs", text, str(learned["count"])))
    told = json.loads(FOI.read_text())["main"]
    for count, name in ((2, "two"), (3, "three"), (4, "four")):
        foi, plain = told[str(count)]["foi"], told[str(count)]["ip2p"]
        text = f"**{foi['success']:.0%}** (joined in one sentence without FoI {plain['success']:.0%})"
        rows.append((f"{name} at once with FoI, right as a whole", text, str(foi["count"])))
    lines = [
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"Made by `{starter['command']}` (seeds 0, 1, … of the held-out split; {tuned['num_inference_steps']} Euler",
        f"ancestral steps, s_T {tuned['guidance_scale']}, s_I {tuned['image_guidance_scale']}, tuned on training seeds).",
        f"Trained by `{starter['training']['command']}` on: {machine}. Figures of this small world, not of the papers.",
        "With FoI: `showtell bench foi --dtype bfloat16` (seeds from 61000 on).",
        f"What is learned from a pair: `showtell bench visii` (seeds from 50000 on; {shown['machine']}).",
    ]
    return "\n".join(lines)


def showing() -> str:
    """The tables and plots of `showtell bench visii`."""
    from showtell.bench.visii_report import markdown

    figures = json.loads(VISII.read_text())
    plots = [f"![{title}](results/visii/{name})\n" for name, title in PLOTS.items() if (VISII.parent / name).exists()]
    return "\n".join([markdown(figures), *plots]).rstrip()


def focus() -> str:
    """The tables and plots of `showtell bench foi`: of the shipped starter, and of one that saw single instructions only."""
    from showtell.bench.foi_report import markdown

    parts = []
    for path, title in (
        (FOI, "## The shipped starter"),
        (FOI_SINGLE, "## A starter that has seen single instructions only"),
    ):
        plots = [f"![{text}](results/{path.parent.name}/{name})\n" for name, text in FOI_PLOTS.items()
                 if (path.parent / name).exists()]  # fmt: skip
        parts += [title, "", markdown(json.loads(path.read_text())).strip(), "", *plots]
    return "\n".join(parts).rstrip()


def ip2p() -> str:
    """The table and plots of `showtell bench ip2p`."""
    from showtell.bench.ip2p import markdown

    plots = [f"![{text}](results/ip2p/{name})\n" for name, text in IP2P_PLOTS.items() if (IP2P.parent / name).exists()]
    return "\n".join([markdown(json.loads(IP2P.read_text())).strip(), "", *plots]).rstrip()


def describing() -> str:
    """The tables and plots of `showtell bench inversion`, and what PTI costs beside NTI."""
    from showtell.bench.inversion_report import markdown

    plots = [f"![{text}](results/inversion/{name})\n" for name, text in INVERSION_PLOTS.items()
             if (INVERSION.parent / name).exists()]  # fmt: skip
    parts = [markdown(json.loads(INVERSION.read_text())).strip(), "", *plots]
    if INVERSION_SPEED.exists():
        parts += ["### What the tuning costs", "", *_speed(json.loads(INVERSION_SPEED.read_text()))]
    return "\n".join(parts).rstrip()


def _speed(found: dict[str, Any]) -> list[str]:
    rows = [("", "forwards", "backwards", "tuning, s", "with the reconstruction, s"), ("---",) * 5]
    for row in found["rows"]:
        shown = [f"{row[k]['median']:.1f} ({row[k]['least']:.1f} to {row[k]['most']:.1f})" for k in ("tuning", "whole")]
        rows.append((row["method"], str(row["forwards"]), str(row["backwards"]), *shown))
    return [
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"NTI takes **{found['tuning']['ratio']:.1f}** times as long to tune, {found['whole']['ratio']:.1f} times with the",
        f"reconstruction: medians of {found['repeats']} alternating runs of `benchmarks/inversion_speed.py`",
        f"({found['machine']}); the counts are of the network on one picture.",
    ]


BLOCKS = [(README, "figures", block), (SHOWING, "visii results", showing), (FOCUS, "foi results", focus)]
"""Files, the marks in them, and what makes the text between."""
if IP2P.exists():
    BLOCKS.append((BENCHMARKS, "ip2p results", ip2p))
if INVERSION.exists():
    BLOCKS.append((DESCRIBING, "inversion results", describing))


def fresh(path: Path, mark: str, make: Callable[[], str]) -> str:
    """The file's text with the block made anew."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    head, rest = path.read_text().split(begin)
    return f"{head}{begin}\n{make()}\n{end}{rest.split(end)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = [path for path, mark, make in BLOCKS if fresh(path, mark, make) != path.read_text()]
    if check:
        for path in stale:
            print(
                f"{path.name}: its figures are not those that were measured; run tools/readme_figures.py",
                file=sys.stderr,
            )
        return 1 if stale else 0
    for path, mark, make in BLOCKS:
        path.write_text(fresh(path, mark, make))
    return 0


if __name__ == "__main__":
    sys.exit(main())
