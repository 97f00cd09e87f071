"""What the demo shows of describing the result: a target prompt by Prompt Tuning Inversion, beside plain DDIM inversion."""

from __future__ import annotations

import itertools
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

FIRST = 3000
"""Added to the demo's seed, for scenes that none of its other cases has."""
CASES = 1
"""One is enough to be seen, and the demo is to take no longer than a minute."""
SETTINGS: dict[str, Any] = {"num_inference_steps": 20}
"""What is not as the model card has it: fewer steps. The two edits are then some 180 evaluations of the network."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """A case, and what the two methods make of it with one seed."""

    exhibit: Exhibit
    plain: Edit
    edit: Edit

    @property
    def contents(self) -> dict[str, bytes]:
        """Its files: the picture and the edit."""
        return {self.exhibit.files[0]: self.exhibit.data, self.exhibit.files[1]: self.edit.png()}


def exhibits(seed: int, folder: Path) -> list[Exhibit]:
    """Held-out scenes in which a thing gets another colour; the words are the caption of what is wanted.

    They have at most two things: what a picture of more shows, the small base model seldom keeps apart.
    """
    sampled = (scenes.sample(seed + FIRST + i, actions=["recolour"]) for i in itertools.count(1))
    simple = (case for case in sampled if len(case.plan.before.things) <= 2)
    found = []
    for number, case in enumerate(itertools.islice(simple, CASES), start=1):
        found.append(
            gallery.exhibit(f"described-{number}", ".png", outputs.png(case.before), case.captions[1:], folder, case)
        )
    return found


def edit(editor: Editor, shown: Sequence[Exhibit], *, seed: int, tick: Callable[..., None]) -> list[Described]:
    """Every case by both methods, which are told what the picture shows and what it is to show. An error ends the demo."""
    results: dict[str, list[Edit]] = {}
    for i, method in enumerate(("ddim-edit", "pti"), start=1):
        results[method] = editor.edit(
            [e.picture for e in shown], [e.words[0] for e in shown], method=method, source=[_source(e) for e in shown],
            seed=[seed + i for i in range(len(shown))], **SETTINGS,
        )  # fmt: skip
        for result in results[method]:
            if isinstance(result, Exception):
                raise result
        tick(i, 2)
    rows = zip(shown, results["ddim-edit"], results["pti"], strict=True)
    return [Described(exhibit=exhibit, plain=plain, edit=found) for exhibit, plain, found in rows]


def _source(exhibit: Exhibit) -> str:
    assert exhibit.case is not None
    return exhibit.case.captions[0]


def figures(items: Sequence[Described]) -> dict[str, Any]:
    """Both methods against the truth."""
    cases = [gallery.entry(item.exhibit, item.edit) for item in items]
    plain = [gallery.entry(item.exhibit, item.plain) for item in items]
    for item, case, other in zip(items, cases, plain, strict=True):
        case["source"] = _source(item.exhibit)
        case["ddim-edit"] = {name: other[name] for name in ("edit_error", "outside_psnr", "right")}
    right = (sum(case["right"] for case in cases), sum(case["right"] for case in plain))
    return {"count": len(cases), "right": right[0], "ddim_edit_right": right[1], "cases": cases}


def page(items: Sequence[Described], told: dict[str, Any]) -> Image.Image:
    """A part of the contact sheet: both methods, and where the words look that matter."""
    cards = [_card(item, case) for item, case in zip(items, told["cases"], strict=True)]
    subtitle = (
        "said is what the picture shows, and what it is to show; pti keeps what the words that matter do not look at"
    )
    return sheet.draw("... by describing the result", cards, subtitle=subtitle, columns=2)


def _card(item: Described, case: dict[str, Any]) -> sheet.Card:
    picture, other = item.exhibit.picture.rgb, case["ddim-edit"]
    pictures = [("before", picture), ("ddim-edit", item.plain.image), ("edited by pti", item.edit.image)]
    if item.edit.masks:
        pictures.append(("where", overlays.tinted(picture, item.edit.masks, side=sheet.CELL)))
    assert item.exhibit.case is not None
    return sheet.Card(
        title=item.exhibit.words[0],
        pictures=[*pictures, *sheet.truth(item.exhibit.case)[1:]],
        note=f"error inside {case['edit_error']:.3f} (ddim-edit {other['edit_error']:.3f}), outside "
        f"{case['outside_psnr']:.1f} dB (ddim-edit {other['outside_psnr']:.1f}); before: {case['source']}",
        right=case["right"],
        judged="edited by pti",
    )
