"""What the demo shows of Focus on Your Instruction: several instructions at once, beside plain InstructPix2Pix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell import overlays, scenes
from showtell.cli import gallery, outputs, sheet

if TYPE_CHECKING:
    from PIL import Image

    from showtell.cli.gallery import Exhibit
    from showtell.editor import Editor
    from showtell.edits import Edit

FIRST = 2000
"""Added to the demo's seed, for scenes that none of its other cases has."""
COUNTS = (2,)
"""Instructions of each case: one case is enough to be seen, and the demo is to take no longer than a minute."""
LOCAL = ("recolour", "replace", "remove")
"""Edits of things that are in the picture, so that their keyword has a place there."""

_COMPARED = ("edit_error", "outside_psnr", "per_edit", "right")


@dataclass(frozen=True, kw_only=True)
class Focused:
    """A case, and what the two methods make of it with one seed."""

    exhibit: Exhibit
    plain: Edit
    edit: Edit

    @property
    def contents(self) -> dict[str, bytes]:
        """Its files: the picture, the edit, and which region went to which instruction."""
        names = files(self.exhibit)
        data = (self.exhibit.data, self.edit.png(), outputs.png(self.edit.overlay()))
        return dict(zip(names, data, strict=True))


def files(exhibit: Exhibit) -> tuple[str, str, str]:
    """Names of what a case leaves in the demo's folder."""
    return (*exhibit.files, exhibit.files[1].replace(".png", ".overlay.png"))


def exhibits(seed: int, folder: Path) -> list[Exhibit]:
    """Held-out scenes, one for each number of instructions."""
    found = []
    for number, count in enumerate(COUNTS, start=1):
        case = scenes.sample(seed + FIRST + number, edits=count, actions=LOCAL)
        name = f"focus-{number}"
        found.append(gallery.exhibit(name, ".png", outputs.png(case.before), case.instructions, folder, case))
    return found


def edit(editor: Editor, shown: Sequence[Exhibit], *, seed: int, tick: Callable[..., None]) -> list[Focused]:
    """Every case by both methods. An edit that fails ends the demo."""
    results: dict[str, list[Edit]] = {}
    for i, method in enumerate(("ip2p", "foi"), start=1):
        results[method] = editor.edit(
            [e.picture for e in shown], [list(e.words) for e in shown], method=method,
            seed=[seed + i for i in range(len(shown))],
        )  # fmt: skip
        for result in results[method]:
            if isinstance(result, Exception):
                raise result
        tick(i, 2)
    rows = zip(shown, results["ip2p"], results["foi"], strict=True)
    return [Focused(exhibit=exhibit, plain=plain, edit=found) for exhibit, plain, found in rows]


def figures(items: Sequence[Focused]) -> dict[str, Any]:
    """Both methods against the truth."""
    cases: list[dict[str, Any]] = []
    for item in items:
        case, plain = gallery.entry(item.exhibit, item.edit), gallery.entry(item.exhibit, item.plain)
        cases.append({**case, "keywords": item.edit.keywords, "ip2p": {k: plain[k] for k in _COMPARED}})
    right = (sum(case["right"] for case in cases), sum(case["ip2p"]["right"] for case in cases))
    return {"count": len(cases), "right": right[0], "ip2p_right": right[1], "cases": cases}


def page(items: Sequence[Focused], told: dict[str, Any]) -> Image.Image:
    """A part of the contact sheet: both methods, and where FoI followed each instruction."""
    cards = [_card(item, case) for item, case in zip(items, told["cases"], strict=True)]
    subtitle = (
        f"method foi keeps each in the region of its keyword, ip2p hears one sentence: {told['right']} of {told['count']} come "
        f"out right, {told['ip2p_right']} with ip2p and the same seeds"
    )
    return sheet.draw("... several instructions, each in its place", cards, subtitle=subtitle, columns=2)


def _card(item: Focused, case: dict[str, Any]) -> sheet.Card:
    picture = item.exhibit.picture.rgb
    regions = overlays.tinted(picture, item.edit.masks, side=sheet.CELL)
    pictures = [
        ("before", picture),
        ("ip2p", item.plain.image),
        ("edited by foi", item.edit.image),
        ("regions", regions),
    ]
    assert item.exhibit.case is not None
    plain = case["ip2p"]
    return sheet.Card(
        title=", ".join(item.exhibit.words),
        pictures=[*pictures, *sheet.truth(item.exhibit.case)[1:]],
        note=f"error inside {case['edit_error']:.3f} (ip2p {plain['edit_error']:.3f}), outside {case['outside_psnr']:.1f} dB "
        f"(ip2p {plain['outside_psnr']:.1f}); keywords: {', '.join(str(word) for word in item.edit.keywords)}",
        right=case["right"],
        judged="edited by foi",
    )
