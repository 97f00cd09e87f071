"""Sliders (the paper's Figure 8): a sub-instruction's weight acts in its own region."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import showtell
from showtell import methods, scenes
from tests.helpers import planned

pytestmark = pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")

TOLD = ["make the [circle] red", "add a [star]"]
# Columns 0 to 3 of the grid are the first region's, 2 to 5 the second's; 6 and 7 are nobody's.
COLUMNS = np.arange(32)[None].repeat(32, 0) // 4
MASKS = [COLUMNS < 4, (COLUMNS >= 2) & (COLUMNS < 6)]


def plan_of(pipe, image, weights, **changes):
    method = methods.FocusOnInstruction(num_inference_steps=10, **changes)
    given, settled = planned.context(pipe, image, TOLD, method, masks=MASKS, weights=weights)
    return settled.plan(given)


@pytest.mark.parametrize("weigh", ["guidance", "both"])
def test_in_the_guidance_the_greatest_weight_counts_and_outside_of_the_regions_none(instruct_pipe, picture, weigh):
    plan = plan_of(instruct_pipe, picture(), [0.5, 2.0], weigh=weigh)
    first, last = plan.text_mask(0), plan.text_mask(7)
    assert first.shape == last.shape == (1, 1, 8, 8)
    for row in first[0, 0].tolist():
        assert row == [0.5, 0.5, 2, 2, 2, 2, 0, 0]
    for row in last[0, 0].tolist():  # the last steps are plain, but a weight goes on
        assert row == [0.5, 0.5, 2, 2, 2, 2, 1, 1]
    assert plan_of(instruct_pipe, picture(), [1.0, 1.0], weigh=weigh).text_mask(7) is None


def test_in_the_attention_the_guidance_stays_as_it_is(instruct_pipe, picture):
    plan = plan_of(instruct_pipe, picture(), [0.5, 2.0], weigh="attention")
    assert plan.text_mask(0)[0, 0, 0].tolist() == [1, 1, 1, 1, 1, 1, 0, 0] and plan.text_mask(7) is None


@pytest.mark.parametrize("text", ["joined", "apart"])
@pytest.mark.parametrize(("weigh", "expected"), [("attention", (0.5, 2.0)), ("both", (0.5, 2.0)), ("guidance", (1, 1))])
def test_alpha_stands_at_the_words_of_its_sub_instruction(instruct_pipe, picture, text, weigh, expected):
    plan = plan_of(instruct_pipe, picture(), [0.5, 2.0], weigh=weigh, text=text)
    run = plan.text_mask.__self__
    rule, xi = run._rule(1.0), 0.05
    if text == "joined":  # start, four words, the comma, three words
        assert rule.boost[0, :10].tolist() == pytest.approx(
            [0.0, *[expected[0] * xi] * 4, 0.0, *[expected[1] * xi] * 3, 0.0]
        )
        assert not rule.boost[0, 9:].any()
    else:
        assert rule.boost[0, 0, :6].tolist() == pytest.approx([0.0, *[expected[0] * xi] * 4, 0.0])
        assert rule.boost[0, 1, :5].tolist() == pytest.approx([0.0, *[expected[1] * xi] * 3, 0.0])


@pytest.mark.parametrize("text", ["joined", "apart"])
def test_alpha_changes_the_picture(editor, picture, text):
    options = {"method": "foi", "num_inference_steps": 4, "seed": 0, "masks": MASKS, "weigh": "attention", "text": text}
    latents = [editor.edit(picture(), TOLD, **options, weights=[1.0, w]).latents for w in (1.0, 0.0, 10.0)]
    assert not torch.equal(latents[0], latents[1]) and not torch.equal(latents[0], latents[2])


@pytest.fixture(scope="module")
def starter():
    return showtell.load("starter")


def changed(one, other, mask):
    a, b = (np.asarray(image.convert("RGB"), dtype=float) / 255 for image in (one, other))
    return np.abs(a - b)[mask].mean()


@pytest.mark.parametrize("weigh", ["guidance", "both"])
@pytest.mark.parametrize("seed", [31_000_012, 31_000_001])
def test_a_small_weight_undoes_its_own_edit_and_leaves_the_other(starter, seed, weigh):
    case = scenes.sample(seed, edits=2, split="train")
    options = {
        "method": "foi", "seed": 0, "num_inference_steps": 8, "strength": 0.9, "guidance_scale": 2.0,
        "image_guidance_scale": 2.0, "disentangle": 0.5, "maps": "apart", "text": "apart", "masks": case.masks,
        "weigh": weigh,
    }  # fmt: skip
    whole, less = (
        starter.edit(case.before, case.instructions, weights=[1.0, weight], **options).image for weight in (1.0, 0.3)
    )
    first, second = case.masks
    assert changed(whole, case.before, second) > 0.15  # the edit is there
    assert changed(less, case.before, second) < 0.6 * changed(whole, case.before, second)  # and goes
    assert changed(whole, less, first) < 0.25 * changed(whole, less, second)  # while the other stays
