"""VISII's other analyses as pictures with figures: consistency, small things, the choice of the pair, segmentation.

Each study learns a few instructions, applies them to other held-out scenes, and gives rows of figures and a sheet's cards.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from showtell import learning, scenes
from showtell.bench.visii import Bench, Direction, edited
from showtell.cli import sheet
from showtell.scenes.draw import Plan, draw_plan_like, plan, rng_for

if TYPE_CHECKING:
    from showtell.learned import LearnedInstruction

FIRST = 60_000
"""First seed of the studies' scenes."""
TINY = 0.4
"""Of its radius, for the study of small things."""
PAINT = (0, 255, 0)


@dataclass(frozen=True, kw_only=True)
class Study:
    """``rows`` of a name and figures, and the cards of its sheet."""

    title: str
    rows: list[dict[str, Any]]
    cards: list[sheet.Card]


def learned(bench: Bench, name: str, pairs: Sequence[Any], *, seed: int) -> LearnedInstruction:
    """An instruction from pairs with the card's settings, kept in the bench's folder."""
    from showtell.learned import LearnedInstruction

    path = bench.folder / "studies" / f"{name}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        learning.study(bench.editor, list(pairs), seed=seed).look.save(path)
    return LearnedInstruction.load(path)


def consistency(bench: Bench, *, styles: Sequence[str] = ("sketch", "mosaic", "sepia"), pictures: int = 8) -> Study:
    """Appendix B: one learned edit over many pictures against the same words, clear ("make it a sketch") and vague ("change
    the style"), which name no look at all. Agreement is the mean cosine between the CLIP directions of any two results.
    """
    rows, cards = [], []
    for number, style in enumerate(styles):
        edit = scenes.Edit(action="style", to=style)
        first = FIRST + 100 * number
        shown = scenes.apply([edit], to=first)
        tests = [scenes.apply([edit], to=first + 1 + i) for i in range(pictures)]
        look = learned(bench, f"consistency-{style}", [(shown.before, shown.after)], seed=first)
        clear = scenes.wordings(edit)[0].text
        for name, told in (("learned", look), (clear, clear), ("change the style", "change the style")):
            results = _edit(bench, tests, [told] * pictures, seed=first)
            right = [scenes.score(c, r).success for c, r in zip(tests, results, strict=True)]
            agreement = _agreement(bench, tests, results)
            rows.append(
                {"edit": style, "told": name, "success": _share(right), "agreement": agreement, "count": pictures}
            )
            shown_pictures = [("shown", shown.after), *((f"{i + 1}", r) for i, r in enumerate(results[:4]))]
            note = f"{sum(right)} of {pictures} right, agreement {agreement:.2f}"
            cards.append(sheet.Card(title=f"{style}: {name}", pictures=shown_pictures, note=note))
    return Study(title="One learned edit over many pictures, against words", rows=rows, cards=cards)


def small_things(bench: Bench, *, edits: int = 3) -> Study:
    """Figure 10a: the same recolouring shown on a thing of usual size and on a very small one."""
    rows, cards = [], []
    for number in range(edits):
        direction = _direction_of("recolour", number)
        usual = direction.shown[0]
        for size, case in (("usual", usual), ("very small", _with_tiny_thing(usual))):
            name = f"small-{size.replace(' ', '-')}-{direction.seed}"
            success, card = _repeated(bench, direction, case, name, f"{direction.words} ({size})")
            rows.append({"edit": direction.words, "shown on": size, **success})
            cards.append(card)
    return Study(title="Shown on a thing of usual size, and on a very small one", rows=rows, cards=cards)


def choice_of_pair(bench: Bench, *, edits: int = 1) -> Study:
    """Figure 10c: each of four pairs of the same edit alone, on the same scenes; how much the pair matters."""
    rows, cards = [], []
    for number, action in zip(range(edits), itertools.cycle(("replace", "remove", "add")), strict=False):
        direction = _direction_of(action, number)
        for i, case in enumerate(direction.shown):
            share = float(np.any(case.masks, axis=0).mean())
            name = f"pair-{direction.seed}-{i}"
            success, card = _repeated(bench, direction, case, name, f"{direction.words} (pair {i + 1})")
            rows.append({"edit": direction.words, "pair": i + 1, "region shown": round(share, 3), **success})
            cards.append(card)
    return Study(title="Four pairs of one edit, each alone", rows=rows, cards=cards)


def _repeated(
    bench: Bench, direction: Direction, case: scenes.Case, name: str, title: str
) -> tuple[dict[str, Any], sheet.Card]:
    """The success of what one case shows on a direction's tests, and its card."""
    look = learned(bench, name, [(case.before, case.after)], seed=direction.seed)
    results = edited(bench.editor, direction, [look] * len(direction.tests))
    right = [scenes.score(c, r).success for c, r in zip(direction.tests, results, strict=True)]
    pictures = [("before", case.before), ("after", case.after)]
    pictures += [(f"{i + 1}", result) for i, result in enumerate(results[:2])]
    card = sheet.Card(title=title, pictures=pictures, note=f"{sum(right)} of {len(right)} right")
    return {"success": _share(right), "count": len(right)}, card


def segmentation(bench: Bench, *, kinds: Sequence[str] = ("house",), tests: int = 8) -> Study:
    """Figure 10b: painting the thing one flat colour, learned from one and from four pairs. IoU of what comes out in that
    colour and the thing's true silhouette.
    """
    rows, cards = [], []
    for number, kind in enumerate(kinds):
        first = FIRST + 5_000 + 100 * number
        drawn = [_painted(first + i, kind) for i in range(4 + tests)]
        for count in (1, 4):
            pairs = [(before, after) for before, after, _ in drawn[:count]]
            look = learned(bench, f"segment-{kind}-{count}", pairs, seed=first)
            befores = [before for before, _, _ in drawn[4:]]
            results = bench.editor.edit(befores, look, seed=[first + i for i in range(tests)])
            ious = [_iou(edit.image, truth) for edit, (_, _, truth) in zip(results, drawn[4:], strict=True)]
            rows.append({"thing": kind, "pairs": count, "IoU": round(float(np.mean(ious)), 3), "count": tests})
            pictures = [("before", pairs[0][0]), ("after", pairs[0][1])]
            pictures += [(f"IoU {iou:.2f}", e.image) for iou, e in list(zip(ious, results, strict=True))[:3]]
            cards.append(
                sheet.Card(
                    title=f"{kind}, {count} pair(s)",
                    pictures=pictures,
                    note=f"mean IoU {np.mean(ious):.2f} over {tests}",
                )
            )
    return Study(title="Segmentation as an edit: paint the thing green", rows=rows, cards=cards)


def strength_and_mixing(bench: Bench, *, scenes_each: int = 4) -> Study:
    """``look * s`` for several s, and mixtures of two looks: how far pictures move from the input, and towards which look."""
    pair = ("sepia", "negative")
    looks, tests = [], []
    for number, style in enumerate(pair):
        edit = scenes.Edit(action="style", to=style)
        shown = scenes.apply([edit], to=FIRST + 9_000 + number)
        looks.append(learned(bench, f"mix-{style}", [(shown.before, shown.after)], seed=number))
        tests.append([scenes.apply([edit], to=FIRST + 9_100 + i) for i in range(scenes_each)])
    rows, cards = [], []
    mixtures = [(f"{s:g} {pair[0]}", looks[0] * s) for s in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)]
    mixtures += [
        (f"{1 - s:g} {pair[0]} + {s:g} {pair[1]}", looks[0] * (1 - s) + looks[1] * s) for s in (0.25, 0.5, 0.75, 1.0)
    ]
    for name, look in mixtures:
        results = _edit(bench, tests[0], [look] * scenes_each, seed=FIRST + 9_000)
        moved = [_distance(r, c.before) for r, c in zip(results, tests[0], strict=True)]
        near = [[_distance(r, c.after) for r, c in zip(results, cases, strict=True)] for cases in tests]
        row: dict[str, Any] = {"instruction": name, "from the input": _mean(moved)}
        rows.append(
            row | {f"to {style}": _mean(d) for style, d in zip(pair, near, strict=True)} | {"count": scenes_each}
        )
        cards.append(sheet.Card(title=name, pictures=[(f"{i + 1}", r) for i, r in enumerate(results[:3])]))
    return Study(title="Strength and mixing (root mean square distances of pictures in [0, 1])", rows=rows, cards=cards)


STUDIES = {
    "consistency": consistency,
    "small": small_things,
    "pair": choice_of_pair,
    "segmentation": segmentation,
    "strength": strength_and_mixing,
}


def _edit(bench: Bench, cases: Sequence[scenes.Case], told: Sequence[Any], *, seed: int) -> list[Image.Image]:
    edits = bench.editor.edit([c.before for c in cases], list(told), seed=[seed + i for i in range(len(cases))])
    return [edit.image for edit in edits]


def _agreement(bench: Bench, cases: Sequence[scenes.Case], results: Sequence[Image.Image]) -> float:
    delta = bench.clip.image_features(list(results)) - bench.clip.image_features([c.before for c in cases])
    unit = delta / delta.norm(dim=1, keepdim=True).clamp(min=1e-12)
    cosines = unit @ unit.T
    n = len(results)
    return round(float((cosines.sum() - cosines.trace()) / (n * (n - 1))), 3)


def _direction_of(action: str, number: int) -> Direction:
    """The ``number``-th direction of the studies whose edit is of that kind."""
    wanted = (s for s in itertools.count(FIRST + 1_000) if scenes.sample(s).edits[0].action == action)
    return Direction(next(itertools.islice(wanted, number, None)))


def _with_tiny_thing(case: scenes.Case) -> scenes.Case:
    """The same case, with the edited thing drawn very small."""
    edit, before = case.edits[0], case.plan.before
    things = tuple(
        replace(t, radius=t.radius * TINY) if t.kind == edit.kind and edit.kind_colour in (None, t.colour) else t
        for t in before.things
    )
    made: Plan = plan(replace(before, things=things), case.plan.edits, case.plan.phrases)
    return scenes.Case(plan=made)


def _painted(seed: int, kind: str) -> tuple[Image.Image, Image.Image, np.ndarray]:
    """A scene with one thing of a kind; the same with it painted; and where it is (H, W), bool."""
    case = scenes.Case(plan=draw_plan_like(rng_for(seed), [scenes.Edit(action="remove", kind=kind)]))
    [thing] = [t for t in case.plan.before.things if t.kind == kind]
    cover = scenes.silhouettes([thing])[0].numpy()[:, :, None]
    pixels = np.asarray(case.before, np.float64)
    painted = Image.fromarray((pixels * (1 - cover) + np.array(PAINT) * cover).round().astype(np.uint8))
    return case.before, painted, cover[:, :, 0] > 0.5


def _iou(picture: Image.Image, truth: np.ndarray) -> float:
    """Of the pixels nearer to the paint than a quarter of the colour cube's side in every channel, and the truth."""
    found = (np.abs(np.asarray(picture, np.float64) - np.array(PAINT)) < 64).all(axis=2)
    return float((found & truth).sum() / max(1, (found | truth).sum()))


def _distance(a: Image.Image, b: Image.Image) -> float:
    return float(np.sqrt(np.square((np.asarray(a, np.float64) - np.asarray(b, np.float64)) / 255).mean()))


def _share(right: Sequence[bool]) -> float:
    return round(sum(right) / len(right), 4)


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)
