"""The world: its truth must be exact, its draws repeatable, its score honest."""

from __future__ import annotations

import hashlib
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from showtell import scenes
from showtell.errors import ImageError, UsageError
from showtell.scenes.draw import draw_plan, draw_scene

SEEDS = st.integers(min_value=0, max_value=2**40)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, np.float64) / 255


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 4))
def test_nothing_changes_outside_the_masks_and_something_inside_each(seed: int, edits: int) -> None:
    case = scenes.sample(seed, edits=edits)
    assert len(case.instructions) == len(case.masks) == len(case.keywords) == len(case.edits) == edits
    change = np.abs(pixels(case.after) - pixels(case.before)).max(-1)
    assert change[~np.any(case.masks, axis=0)].max(initial=0) == 0
    for mask, word, told in zip(case.masks, case.keywords, case.instructions, strict=True):
        assert mask.shape == (64, 64) and mask.dtype == bool
        assert change[mask].max() > 0.05
        assert word in told.split()


@pytest.mark.parametrize("action", scenes.ACTIONS)
def test_every_action_has_cases_and_its_words_say_it(action: str) -> None:
    for seed in range(12):
        case = scenes.sample(seed, actions=[action])
        edit = case.edits[0]
        assert edit.action == action
        assert case.instructions[0] in [p.text for p in scenes.wordings(edit)]
        # sizes are the one change that a caption keeps to itself, while a thing stays between small and big
        assert action == "resize" or case.captions[0] != case.captions[1]
        named = [w for w in (edit.kind, edit.colour, edit.place, edit.kind_colour) if w]
        assert all(w in case.instructions[0] for w in named)


def test_a_seed_gives_the_same_words_and_pixels_everywhere() -> None:
    words, means = [], []
    for seed in range(20):
        case = scenes.sample(seed, edits=1 + seed % 4)
        words += [*case.instructions, *case.captions]
        means.append(pixels(case.after).mean())
    assert hashlib.sha256("\n".join(words).encode()).hexdigest()[:16] == "6630e26b4b87f5ef"
    assert np.allclose(
        means[:6],
        [
            np.float64(0.5869),
            np.float64(0.691),
            np.float64(0.5305),
            np.float64(0.5045),
            np.float64(0.7441),
            np.float64(0.6136),
        ],
        atol=1 / 255,
    )


def test_drawing_many_at_once_is_drawing_each_alone() -> None:
    drawn = [draw_scene(Random(i)) for i in range(9)]
    together = scenes.render(drawn)
    for i, scene in enumerate(drawn):
        assert torch.allclose(together[i], scenes.render([scene])[0], atol=1e-6)


def test_the_renderer_works_at_other_sizes() -> None:
    scene = draw_scene(Random(3), things=3)
    large = scenes.render([scene], size=128)
    assert large.shape == (1, 3, 128, 128)
    small = torch.nn.functional.avg_pool2d(large, 2)
    assert (small - scenes.render([scene])).abs().mean() < 0.01


def test_scores_of_the_truth_of_nothing_and_of_half() -> None:
    case = scenes.sample(15, edits=3)
    truth, nothing = scenes.score(case, case.after), scenes.score(case, case.before)
    assert truth.success and truth.edit_error == 0
    assert not nothing.success and nothing.edit_error == pytest.approx(1) and nothing.outside_psnr == float("inf")
    half = np.asarray(case.before).copy()
    half[case.masks[0]] = np.asarray(case.after)[case.masks[0]]
    parts = scenes.score(case, Image.fromarray(half)).per_edit
    assert [p.inside for p in parts] == [True, False, False]


def test_damage_outside_is_no_success() -> None:
    case = scenes.sample(2)
    spoiled = np.asarray(case.after).copy()
    spoiled[~case.masks[0]] //= 2
    score = scenes.score(case, Image.fromarray(spoiled))
    assert score.inside and not score.outside and not score.success


def test_an_edit_that_leaves_nothing_outside_cannot_fail_there() -> None:
    case = scenes.sample(1, actions=["style"])
    assert case.masks[0].all()
    assert scenes.score(case, case.after).success


@settings(max_examples=25, deadline=None)
@given(SEEDS, SEEDS, st.integers(1, 3))
def test_an_edit_is_repeated_on_another_scene(seed: int, other: int, edits: int) -> None:
    case = scenes.sample(seed, edits=edits)
    try:
        again = scenes.apply(case.edits, to=other)
    except UsageError:
        # the only cases that no other scene fits: edits that lean on a thing of a colour that another edit takes away
        assert edits > 1
        return
    assert again.edits == case.edits
    assert np.abs(pixels(again.after) - pixels(again.before)).max(-1)[~np.any(again.masks, axis=0)].max(initial=0) == 0


def test_training_and_held_out_cases_are_other_cases() -> None:
    held = [scenes.sample(i).captions for i in range(20)]
    assert held != [scenes.sample(i, split="train").captions for i in range(20)]


def test_several_instructions_name_different_things() -> None:
    for seed in range(30):
        case = scenes.sample(seed, edits=3)
        assert len({(e.kind, e.kind_colour, e.to, e.place) for e in case.edits}) == 3
        assert scenes.join(list(case.plan.phrases)).text == ", ".join(case.instructions)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"edits": 0}, "edits=0"),
        ({"edits": 5}, "edits=5"),
        ({"actions": ["dance"]}, "'dance'"),
        ({"edits": 2, "actions": ["style"]}, "other than style"),
        ({"split": "test"}, "'test'"),
    ],
)
def test_bad_requests_are_refused_in_one_line(arguments: dict, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        scenes.sample(1, **arguments)
    assert "\n" not in str(caught.value)


def test_an_impossible_repetition_is_refused() -> None:
    edits = [scenes.Edit(action="remove", kind=k) for k in scenes.KINDS[:4]]
    with pytest.raises(UsageError, match="found no scene"):
        scenes.apply(edits, to=1)


def test_a_picture_of_another_size_has_no_score() -> None:
    case = scenes.sample(1)
    with pytest.raises(ImageError, match="32×32"):
        scenes.score(case, case.before.resize((32, 32)))


def test_captions_say_sizes_and_places_when_they_changed() -> None:
    bigger = scenes.sample(3, actions=["resize"])
    sizes = {"bigger": "big", "smaller": "small"}
    assert sizes[str(bigger.edits[0].size)] in bigger.captions[1]
    moved = scenes.sample(3, actions=["move"])
    assert str(moved.edits[0].place) in moved.captions[1]


def test_plans_of_four_edits_stay_within_one_sentence() -> None:
    lengths = [len(scenes.join(list(draw_plan(Random(i), edits=4).phrases)).text.split()) for i in range(200)]
    assert max(lengths) < 60
