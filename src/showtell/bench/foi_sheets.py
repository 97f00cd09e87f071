"""FoI's figures as sheets of pictures: the comparison (Figures 5 and 7), single steps (6 a to c), guidance (6 d), weights (8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from showtell import scenes
from showtell.bench.foi import FOI, IP2P, SEQUENTIAL, System, edited
from showtell.cli import sheet

if TYPE_CHECKING:
    from PIL import Image

    from showtell.bench.foi import Say
    from showtell.editor import Editor

FIRST = 69_000
"""First seed of the cases that are drawn; none of them is counted in a table."""
STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)
GUIDANCE = (1.5, 3.0, 5.0, 7.5)
WEIGHTS = (0.0, 0.3, 0.6, 1.0, 2.0)


def draw_all(editor: Editor, *, say: Say) -> dict[str, Image.Image]:
    """Every sheet by file name."""
    made = {}
    for name, make in {"compared": compared, "ablations": ablations, "robust": robust, "weights": weights}.items():
        say(f"sheet: {name}")
        made[f"foi-{name}.png"] = make(editor)
    return made


def _cases(edits: int, count: int, skip: int = 0) -> list[tuple[int, scenes.Case]]:
    """The first cases of so many instructions that touch a place, not the whole picture."""
    local = [action for action in scenes.ACTIONS if action != "style"]
    seeds = range(FIRST + 100 * edits + skip, FIRST + 100 * edits + skip + count)
    return [(seed, scenes.sample(seed, edits=edits, actions=local)) for seed in seeds]


def _title(case: scenes.Case) -> str:
    return "; ".join(case.instructions)


def compared(editor: Editor) -> Image.Image:
    """Two cases of each number of instructions: the first seeds, whatever comes out."""
    cards = []
    for parts in (1, 2, 3, 4):
        cases = _cases(parts, 2)
        results = [edited(editor, system, cases) for system in (IP2P, SEQUENTIAL, FOI)]
        for i, (_, case) in enumerate(cases):
            named = zip(("IP2P", "one by one", "FoI"), (found[i].image for found in results), strict=True)
            masks = sheet.overlay(case.before, results[-1][i].masks)
            right = scenes.score(case, results[-1][i].image).success
            pictures = [("before", case.before), ("truth", case.after), *named, ("FoI's masks", masks)]
            cards.append(sheet.Card(title=_title(case), pictures=pictures, right=right, judged="FoI"))
    return sheet.draw("Several instructions at once (Figures 5 and 7)", cards, subtitle=_subtitle(editor), columns=1)


def _subtitle(editor: Editor) -> str:
    return f"{editor.model_id}; held-out scenes, the first seeds from {FIRST} on; not chosen"


def ablations(editor: Editor) -> Image.Image:
    """Figures 6 a to c: when the masks are found, and when modulation and masked guidance end."""
    card = editor.card.get("defaults", {}).get("foi", {})
    run = int(card.get("num_inference_steps", 100) * card.get("strength", 0.8) + 1e-6)
    rows: list[tuple[str, str, Sequence[Any]]] = [
        ("masks are found after this share of the steps", "mask_step", [min(round(s * run), run - 1) for s in STEPS]),
        ("modulation ends after this share of the steps", "modulation", STEPS),
        ("masked guidance ends after this share of the steps", "disentangle", STEPS),
    ]
    cards = []
    for case in _cases(2, 2):
        for title, name, values in rows:
            cards.append(
                _strip(editor, case, title, [(f"{s:g}", {name: v}) for s, v in zip(STEPS, values, strict=True)])
            )
    return sheet.draw("Which steps matter (Figure 6 a, b, c)", cards, subtitle=_subtitle(editor), columns=1)


def _strip(
    editor: Editor, case: tuple[int, scenes.Case], title: str, settings: Sequence[tuple[str, dict[str, Any]]],
    method: str = "foi", **options: Any,
) -> sheet.Card:  # fmt: skip
    """One case under several settings."""
    pictures = [("before", case[1].before), ("truth", case[1].after)]
    for name, own in settings:
        found = edited(editor, System(name=name, method=method, settings={**options, **own}), [case])
        pictures.append((name, found[0].image))
    return sheet.Card(title=f"{_title(case[1])}: {title}", pictures=pictures)


def robust(editor: Editor) -> Image.Image:
    """Figure 6 d: s_T rises, s_I stays."""
    settings = [(f"s_T {s:g}", {"guidance_scale": s}) for s in GUIDANCE]
    cards = [
        _strip(editor, case, name, settings, method=method)
        for case in _cases(2, 3, skip=10)
        for method, name in (("ip2p", "IP2P"), ("foi", "FoI"))
    ]
    return sheet.draw("Robustness over the text guidance (Figure 6 d)", cards, subtitle=_subtitle(editor), columns=1)


def weights(editor: Editor) -> Image.Image:
    """Figure 8: the weight of the second instruction, in each of the ways that it can act."""
    cards = []
    for case in _right(editor, 2):
        for weigh in ("attention", "guidance", "both"):
            settings = [(f"1, {w:g}", {"weights": [1.0, w]}) for w in WEIGHTS]
            cards.append(_strip(editor, case, f"weights act on {weigh}", settings, weigh=weigh))
    subtitle = (
        f"{editor.model_id}; the first held-out scenes from {FIRST + 220} on whose two edits are both right at weight 1"
    )
    return sheet.draw("The weight of one instruction (Figure 8)", cards, subtitle=subtitle, columns=1)


def _right(editor: Editor, count: int) -> list[tuple[int, scenes.Case]]:
    """The first cases of two recolourings or removals that FoI gets right: the weight of what is not done shows nothing."""
    found: list[tuple[int, scenes.Case]] = []
    for seed in range(FIRST + 220, FIRST + 320):
        case = scenes.sample(seed, edits=2, actions=["recolour", "remove"])
        score = scenes.score(case, edited(editor, FOI, [(seed, case)])[0].image)
        found += [(seed, case)] if all(part.inside for part in score.per_edit) else []
        if len(found) == count:
            break
    return found
