"""Where a CLIP's scores of true pairs lie: a small CLIP's cosines are on another scale than the published thresholds.

True pairs are the renderer's, of the training seeds. Beside them stand wrong ones, the same befores with the results of other
edits: a test is worth what it drops of those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import scenes
from ..errors import UsageError
from ..metrics import clip as on_features
from .filter_choose import TESTS, Bounds, Scores, judge
from .filter_figures import PERCENTILES
from .filter_scores import identity, score
from .triplets_scenes import draw

if TYPE_CHECKING:
    from PIL import Image

LEAST = 5
"""The percentile of true pairs that a threshold is put at."""
_CHUNK = 32


def calibrate(
    count: int,
    *,
    clip: str = "starter-clip",
    device: str = "auto",
    first: int = 0,
    told: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> dict[str, Any]:
    """Percentiles of the scores of ``count`` drawn pairs of the training split, from the seed ``first`` on, and the thresholds at
    the 5th; with them, the share of true and of wrong pairs that passes all tests.

    A wrong pair has the true before and captions, and the result of the next seed's edit on another scene. Raises ``UsageError``.
    """
    if count < 20:
        raise UsageError(f"--calibrate {count}: a percentile needs 20 pairs at least")
    judge_with = on_features.Clip.load(clip, device=device)
    triplets = draw(count, first=first)
    pictures: list[tuple[Image.Image, Image.Image]] = []
    for number, triplet in enumerate(triplets, start=1):
        assert triplet.scene is not None
        case = scenes.sample(triplet.scene, split="train")
        pictures.append((case.before, case.after))
        told(number, count, "drawing")
    wrong = [(before, after) for (before, _), (_, after) in zip(pictures, pictures[1:] + pictures[:1], strict=True)]
    sources, targets = ([getattr(one, key) for one in triplets] for key in ("source_caption", "target_caption"))
    scored: dict[str, list[Scores]] = {"true": [], "wrong": []}
    for at in range(0, count, _CHUNK):
        part = slice(at, at + _CHUNK)
        for name, own in (("true", pictures), ("wrong", wrong)):
            scored[name] += score(judge_with, own[part], sources[part], targets[part])
        told(min(at + _CHUNK, count), count, "scoring")
    found = {test: _percentiles([getattr(one, test) for one in scored["true"]]) for test in TESTS}
    least = {
        "image": found["image"][str(LEAST)],
        "direction": found["direction"][str(LEAST)],
        "caption": min(found["before"][str(LEAST)], found["after"][str(LEAST)]),
    }
    bounds = Bounds(**{name: math.floor(value * 1000) / 1000 for name, value in least.items()}, keep=4)
    return {
        "clip": identity(judge_with),
        "pairs": count,
        "first": first,
        "percentiles": found,
        "kinds": _kinds([one.group for one in triplets], scored["true"]),
        "unchanged": sum(math.isnan(one.direction) for one in scored["true"]),
        "thresholds": {name: getattr(bounds, name) for name in least},
        "pass": {
            "true": _passing(scored["true"], bounds),
            "wrong": _passing(scored["wrong"], bounds),
            "true at the published thresholds": _passing(scored["true"], Bounds().settled({})[0]),
        },
    }


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        raise UsageError("no drawn pair has this score: give more of them")
    return {str(p): round(float(np.percentile(known, p)), 4) for p in PERCENTILES}


def _kinds(groups: Sequence[str], scores: Sequence[Scores]) -> dict[str, dict[str, float]]:
    """Of each kind of edit, how many pairs there are and each score's 5th percentile: a style changes more than a recolouring."""
    found = {}
    for name in sorted(set(groups)):
        own = [one for group, one in zip(groups, scores, strict=True) if group == name]
        known = {test: [v for one in own if math.isfinite(v := getattr(one, test))] for test in TESTS}
        least = {test: round(float(np.percentile(values, LEAST)), 4) for test, values in known.items() if values}
        found[name] = {"pairs": len(own), **least}
    return found


def _passing(scores: Sequence[Scores], bounds: Bounds) -> float:
    return sum(not judge(one, bounds) for one in scores) / len(scores)
