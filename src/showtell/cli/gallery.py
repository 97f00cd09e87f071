"""What the demo shows: the cases, their figures against the truth, and the contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from showtell import images, scenes
from showtell.cli import outputs, sheet

if TYPE_CHECKING:
    from showtell.edits import Edit

EACH = 2
"""Cases for each kind of edit, and with two instructions."""
FOREIGN = (
    ("drawing.png", ("make the house blue",)),
    ("drawing.png", ("turn it into a negative",)),
    ("photo.jpg", ("give it a sepia tone",)),
)
"""Pictures that no code of ours drew, and what is asked of them."""


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One edit of the demo: the picture as encoded bytes, the words, and the truth where it is known.

    ``files``: names of the input and of the edit in the demo's folder.
    """

    files: tuple[str, str]
    data: bytes
    picture: images.Picture
    words: tuple[str, ...]
    case: scenes.Case | None = None


def exhibits(seed: int, folder: Path) -> list[Exhibit]:
    """The demo's cases: held-out scenes, each of its own seed (``seed``, ``seed`` + 1, ...), then foreign pictures."""
    found: list[Exhibit] = []
    for action in (*scenes.ACTIONS, "two"):
        for _ in range(EACH):
            own = seed + len(found)
            case = scenes.sample(own, edits=2) if action == "two" else scenes.sample(own, actions=[action])
            name = f"{len(found) + 1:02d}-{action}"
            found.append(exhibit(name, ".png", outputs.png(case.before), case.instructions, folder, case))
    for source, words in FOREIGN:
        name = f"{len(found) + 1:02d}-{Path(source).stem}"
        data = (Path(__file__).parent / "pictures" / source).read_bytes()
        found.append(exhibit(name, Path(source).suffix, data, words, folder))
    return found


def exhibit(
    name: str, suffix: str, data: bytes, words: Sequence[str], folder: Path, case: scenes.Case | None = None
) -> Exhibit:
    """A picture of the demo as encoded bytes, and what is asked of it; ``folder`` is where it will lie."""
    files = (f"{name}-before{suffix}", f"{name}.png")
    # The file is written only at the end, but the recipe must name it.
    picture = replace(images.open_picture(data), path=str(folder / files[0]))
    return Exhibit(files=files, data=data, picture=picture, words=tuple(words), case=case)


def figures(shown: Sequence[Exhibit], edits: Sequence[Edit]) -> dict[str, Any]:
    """Every edit against the truth, and the counts. Infinite PSNR stays infinite."""
    cases = [entry(exhibit, edit) for exhibit, edit in zip(shown, edits, strict=True)]
    known = [case for case in cases if case["right"] is not None]
    single, double = ([c for c in known if len(c["words"]) == n] for n in (1, 2))
    return {
        "single": len(single),
        "single_right": sum(c["right"] for c in single),
        "double": len(double),
        "double_right": sum(c["right"] for c in double),
        "cases": cases,
    }


def entry(exhibit: Exhibit, edit: Edit) -> dict[str, Any]:
    """One edit's figures; ``right`` is None where no truth is known."""
    found: dict[str, Any] = {
        "file": exhibit.files[1],
        "words": list(exhibit.words),
        "seed": edit.seed,
        "right": None,
    }
    if exhibit.case is not None:
        score = scenes.score(exhibit.case, edit.image)
        found |= {"edit_error": score.edit_error, "outside_psnr": score.outside_psnr, "right": score.success}
        found["per_edit"] = [part.edit_error for part in score.per_edit]
    return found


def page(shown: Sequence[Exhibit], edits: Sequence[Edit], counts: dict[str, Any]) -> Image.Image:
    """The contact sheet."""
    cards = [card(e, edit, case) for e, edit, case in zip(shown, edits, counts["cases"], strict=True)]
    subtitle = (
        f"{counts['single_right']} of {counts['single']} single edits and {counts['double_right']} of "
        f"{counts['double']} double ones come out right, measured against the truth on scenes never seen in training"
    )
    return sheet.draw("showtell: pictures edited by words", cards, subtitle=subtitle, columns=3)


def card(exhibit: Exhibit, edit: Edit, entry: dict[str, Any]) -> sheet.Card:
    """An edit's card, with the truth where it is known."""
    pictures = [("before", exhibit.picture.rgb), ("edited", edit.image)]
    title = ", ".join(exhibit.words)
    if exhibit.case is None:
        width, height = exhibit.picture.size
        return sheet.Card(
            title=title,
            pictures=pictures,
            note=f"{entry['file']}, {width} x {height}: not of this world, no truth known",
        )
    pictures += sheet.truth(exhibit.case)[1:]
    whole = all(mask.all() for mask in exhibit.case.masks)
    outside = "nothing is outside" if whole else f"outside {entry['outside_psnr']:.1f} dB"
    note = f"error inside {entry['edit_error']:.3f}, {outside}"
    return sheet.Card(title=title, pictures=pictures, note=note, right=entry["right"])
