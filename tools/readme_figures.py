"""Write the README's table of figures from the starters' model cards; with --check, only say whether it is up to date.

python tools/readme_figures.py [--check]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


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
    lines = [
        BEGIN,
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"Made by `{starter['command']}` (seeds 0, 1, … of the held-out split; {tuned['num_inference_steps']} Euler",
        f"ancestral steps, s_T {tuned['guidance_scale']}, s_I {tuned['image_guidance_scale']}, tuned on training seeds).",
        f"Trained by `{starter['training']['command']}` on: {machine}. Figures of this small world, not of the papers.",
        END,
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    text = README.read_text()
    head, rest = text.split(BEGIN)
    fresh = head + block() + rest.split(END)[1]
    if check:
        if fresh != text:
            print(
                "README.md: its figures are not those of the model cards; run tools/readme_figures.py", file=sys.stderr
            )
            return 1
        return 0
    README.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
