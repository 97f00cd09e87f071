"""VISII's studies of applying: the noise that it starts from (Figure 8), and words beside what was learned (Figure 9)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from showtell import scenes
from showtell.bench.visii import FIRST, TESTS, Bench, Direction, Row, directions, edited, mean
from showtell.bench.visii_studies import FIRST as STUDIED
from showtell.bench.visii_studies import Study, learned
from showtell.cli import sheet

LOOK = Row(name="look", start="none")
VAGUE = "change the style"


def noise(bench: Bench, *, edits: int = 3, draws: int = 4) -> Study:
    """Figure 8: what was learned, applied with several random noises and with the recorded ones. ``spread`` is the mean root
    mean square distance between a scene's results under different noises, in [0, 1]; the recorded noises are one draw.

    The edits are the first of the measurement, learned as there.
    """
    rows, cards, entries = [], [], {"random": [], "recorded": []}
    spreads: list[float] = []
    for direction in directions(edits, first=FIRST):
        look = bench.look(LOOK, direction)
        drawn = [_drawn(bench, direction, look, draw) for draw in range(draws)]
        fixed = edited(bench.editor, direction, [look] * TESTS, noise="recorded")
        for results in drawn:
            entries["random"] += bench.measured(direction, results)
        entries["recorded"] += bench.measured(direction, fixed)
        spreads += [_spread([results[i] for results in drawn]) for i in range(TESTS)]
        case = direction.tests[0]
        pictures = [("before", case.before), ("truth", case.after), ("recorded", fixed[0])]
        pictures += [(f"random {i + 1}", results[0]) for i, results in enumerate(drawn[:3])]
        cards.append(sheet.Card(title=direction.words, pictures=pictures))
    for name, own in entries.items():
        row: dict[str, Any] = {"noise": name, "success": mean(own, "success")}
        row |= {title: mean(own, key) for key, title in _TITLES.items()}
        row["spread"] = round(float(np.mean(spreads)), 3) if name == "random" else 0.0
        rows.append(row | {"edits": edits, "applications": len(own)})
    return Study(title="Random and recorded noise (Figure 8)", rows=rows, cards=cards)


_TITLES = {"image": "CLIP-I", "directional": "directional CLIP", "visual": "visual CLIP"}


def _drawn(bench: Bench, direction: Direction, look: Any, draw: int) -> list[Any]:
    """The direction's test scenes under the random noises of a draw of their own."""
    seeds = [10 * direction.seed + j + 1_000_000 * draw for j in range(TESTS)]
    edits = bench.editor.edit([case.before for case in direction.tests], [look] * TESTS, seed=seeds)
    return [edit.image for edit in edits]


def _spread(pictures: Sequence[Any]) -> float:
    arrays = [np.asarray(picture, np.float64) / 255 for picture in pictures]
    return float(np.mean([np.sqrt(np.square(a - b).mean()) for a, b in itertools.combinations(arrays, 2)]))


def hybrid(bench: Bench, *, styles: Sequence[str] = ("sepia", "sketch"), pictures: int = 8) -> Study:
    """Figure 9: a learned style with the user's words for one thing behind it, against either alone, both told in clear words,
    and both in vague words that name no style, as when a look cannot be put into words. The thing is to go: its colour
    would be lost in a sketch.
    """
    rows, cards = [], []
    for number, style in enumerate(styles):
        restyle = scenes.Edit(action="style", to=style)
        shown = scenes.apply([restyle], to=STUDIED + 20_000 + 100 * number)
        look = learned(bench, f"hybrid-{style}", [(shown.before, shown.after)], seed=number)
        cases = [_both(restyle, STUDIED + 20_001 + 100 * number + i) for i in range(pictures)]
        clear = scenes.wordings(restyle)[0].text
        ways: dict[str, list[Any]] = {
            "learned + words": [look + case.instructions[0] for case in cases],
            "learned alone": [look] * pictures,
            "words alone": [case.instructions[0] for case in cases],
            "clear words": [f"{clear}, {case.instructions[0]}" for case in cases],
            "vague words": [f"{VAGUE}, {case.instructions[0]}" for case in cases],
        }
        results = {name: _edited(bench, cases, told) for name, told in ways.items()}
        for name, own in results.items():
            scores = [scenes.score(case, result).per_edit for case, result in zip(cases, own, strict=True)]
            right = [[part.inside for part in parts] for parts in scores]
            row: dict[str, Any] = {"style": style, "told": name}
            row |= {"thing right": _share(r[0] for r in right), "style right": _share(r[1] for r in right)}
            rows.append(row | {"both right": _share(all(r) for r in right), "count": pictures})
        for i, case in enumerate(cases[:2]):
            named = [(name, own[i]) for name, own in results.items()]
            title = f"<{style}> + {case.instructions[0]!r}"
            cards.append(sheet.Card(title=title, pictures=[("before", case.before), ("truth", case.after), *named]))
    return Study(title="Words beside what was learned (Figure 9)", rows=rows, cards=cards)


def _both(restyle: scenes.Edit, seed: int) -> scenes.Case:
    """A scene in which a thing is removed and the style changes."""
    removal = scenes.sample(seed, actions=["remove"]).edits[0]
    return scenes.apply([removal, restyle], to=seed)


def _edited(bench: Bench, cases: Sequence[scenes.Case], told: Sequence[Any]) -> list[Any]:
    seeds = [STUDIED + 20_000 + i for i in range(len(cases))]
    return [edit.image for edit in bench.editor.edit([case.before for case in cases], list(told), seed=seeds)]


def _share(right: Any) -> float:
    found = list(right)
    return round(sum(found) / len(found), 4)
