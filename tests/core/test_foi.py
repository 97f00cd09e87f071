"""Focus on Your Instruction: where it must be InstructPix2Pix, and where a batch must be single edits."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

import showtell
from showtell import focus, methods
from showtell.conditioning import InstructConditioning
from showtell.guidance import TwoCondition
from showtell.networks import network
from tests.helpers import planned, tiny
from tests.helpers.looks import made

pytestmark = pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")

STEPS = {"num_inference_steps": 5, "seed": 0, "method": "foi"}
FOI = methods.FocusOnInstruction(num_inference_steps=5)
WHITE = np.ones((32, 32), dtype=bool)


def half(left=True):
    mask = np.zeros((32, 32), dtype=bool)
    mask[:, :16] = left
    mask[:, 16:] = not left
    return mask


def same(found, expected, atol=1e-4):
    assert len(found) == len(expected)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert torch.allclose(a, b, atol=atol, rtol=0), (i, (a - b).abs().max())


def differ(found, expected):
    return (found[-1] - expected[-1]).abs().max() > 1e-3


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("scheduler", ["euler-ancestral", "ddim"])
@pytest.mark.parametrize(
    ("told", "changes"),
    [
        (["make the circle red", "add a star"], {"columns": "union"}),
        (["make the circle red", "add a star"], {"columns": "text", "maps": "apart"}),
        (["make the circle red"], {"text": "apart"}),
        (["make the circle red"], {"text": "apart", "disentangle": 1.0, "maps": "apart"}),
    ],
)
def test_with_white_masks_and_no_boost_every_step_is_ip2p(instruct_pipe, picture, told, changes, scheduler, sequential):
    method = dataclasses.replace(FOI, xi=0.0, scheduler=scheduler, **changes)
    runs = []
    for attended in (True, False):
        given, settled = planned.context(instruct_pipe, picture(), told, method, masks=[WHITE] * len(told))
        plan = settled.plan(given)
        plain = None if attended else TwoCondition(guidance_scale=7.5, image_guidance_scale=1.5)
        runs.append(planned.latents(given, plan, guidance=plain, attended=attended, sequential=sequential))
    same(*runs)
    # With the boost, or with masks that are not white, it is something else.
    for masks, xi in ((WHITE, 2.0), (half(), 0.0)):
        other = dataclasses.replace(method, xi=xi)
        given, settled = planned.context(instruct_pipe, picture(), told, other, masks=[masks] * len(told))
        assert differ(planned.latents(given, settled.plan(given), sequential=sequential), runs[0])


@pytest.mark.parametrize("text", ["joined", "apart"])
def test_where_the_mask_is_zero_a_disentangled_step_has_no_text_term(instruct_pipe, picture, text):
    method = dataclasses.replace(FOI, text=text, disentangle=1.0)
    given, settled = planned.context(instruct_pipe, picture(), ["make the circle red"], method, masks=[WHITE])
    nowhere = dataclasses.replace(given, own_masks=[[np.zeros((32, 32), dtype=np.float32)]])
    found = planned.latents(nowhere, settled.plan(nowhere))

    given, _ = planned.context(instruct_pipe, picture(), ["make the circle red"], method)
    plan = settled.plan(given)
    net, told, x = network(instruct_pipe), plan.conditioning, plan.start
    for i, (t, t_next) in enumerate(plan.schedule):  # equation 9 with s_T = 0
        scaled = given.steps.scale_input(x, t)
        with torch.no_grad():
            none, image = (net(scaled, t, *(told.told(b, i)[0], [told.told(b, i)[1]])) for b in ("none", "image"))
        x = given.steps.step(x, none + 1.5 * (image - none), t, t_next)
        assert torch.allclose(found[i], x, atol=1e-4)


def test_guidance_is_equation_9():
    eps = {name: torch.randn(2, 4, 6, 5) for name in ("full", "image", "none")}
    mask = torch.rand(2, 1, 6, 5)
    found = TwoCondition(guidance_scale=7.5, image_guidance_scale=1.5, masked=True).combine(eps, text_mask=mask)
    expected = eps["none"] + 1.5 * (eps["image"] - eps["none"]) + 7.5 * (eps["full"] - eps["image"]) * mask
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_last_quarter_is_plain_and_the_first_step_looks(instruct_pipe, picture):
    """10 steps: 8 are run, 6 of them disentangled; attention is modulated in all but the first."""
    method = dataclasses.replace(FOI, num_inference_steps=10, tau=0.5, columns="image")
    given, settled = planned.context(instruct_pipe, picture(), ["make the [circle] red", "add a [star]"], method)
    plan = settled.plan(given)
    run = plan.text_mask.__self__
    rules = []

    def attend(branches):
        plan.attend(branches)
        rules.append(run.control.rule)

    planned.latents(given, dataclasses.replace(plan, attend=attend))
    assert [rule is None for rule in rules] == [True] + [False] * 7
    boosts = [float(rule.boost.max()) for rule in rules[1:]]
    assert boosts == pytest.approx([focus.xi(float(t) / 1000) for t, _ in plan.schedule[1:]])
    union = torch.stack([region.mask for region in plan.regions()[0]]).amax(0)
    for step in range(8):
        mask = plan.text_mask(step)
        assert mask is None if step >= 6 else torch.equal(mask, union[None, None])


COMBINATIONS = [
    *itertools.product(["joined", "apart"], ["joined"], ["union", "text", "image"]),
    ("joined", "apart", "union"), ("apart", "apart", "union"),
]  # fmt: skip
TOLD = (
    ["make the [circle] red", "add a [blue star]", "a green [tree]"],
    "make the house a star",
    ["red", "add a [star]"],
)
WEIGHTS = [[1.0, 0.3, 2.0], [0.5], [0.0, 1.0]]
MASKS = [[None, half(), None], [None], [half(False), half()]]


@pytest.mark.parametrize(("maps", "text", "columns"), COMBINATIONS)
def test_a_batch_equals_single_edits_and_sequential_branches(editor, picture, maps, text, columns):
    options = {"maps": maps, "text": text, "columns": columns, "xi": 1.0, **STEPS, "seed": [3, 4, 5]}
    pictures = [picture(seed=s) for s in range(3)]
    together = editor.edit(pictures, TOLD, weights=WEIGHTS, masks=MASKS, **options)
    one_by_one = editor.edit(pictures, TOLD, weights=WEIGHTS, masks=MASKS, sequential=True, **options)
    for b, edit in enumerate(together):
        alone = editor.edit(pictures[b], TOLD[b], weights=WEIGHTS[b], masks=MASKS[b], **{**options, "seed": 3 + b})
        for other in (alone, one_by_one[b]):
            assert torch.allclose(edit.latents, other.latents, atol=1e-4, rtol=0)
            assert edit.keywords == other.keywords and edit.notes == other.notes
            assert all(np.array_equal(m, n) for m, n in zip(edit.masks, other.masks, strict=True))
        assert edit.recipe.weights == tuple(WEIGHTS[b]) and len(edit.masks) == len(WEIGHTS[b])


def test_learned_instructions_have_regions_of_their_own(editor, picture):
    looks = [made(editor.pipe, "night"), made(editor.pipe, "rain", tokens=2, seed=1)]
    for changes in ({}, {"maps": "apart", "text": "apart"}):
        edit = editor.edit(picture(), [looks[0], "make the [circle] red", looks[1] + "a star"], **STEPS, **changes)
        assert edit.keywords == ["<night>", "circle", "<rain>"] and len(edit.masks) == 3
        swapped = editor.edit(picture(), [looks[1], "make the [circle] red", looks[0] + "a star"], **STEPS, **changes)
        assert (edit.latents - swapped.latents).abs().max() > 1e-3


def test_a_threshold_is_drawn_by_the_seed_beside_the_noise(editor, picture):
    told, drawn = ["make the [circle] red", "add a [star]"], {}
    for seed in (1, 2, 1):
        edit = editor.edit(picture(), told, **{**STEPS, "seed": seed}, tau=(0.2, 0.9))
        (note,) = (note for note in edit.notes if "threshold" in note)
        tau = float(note.split(": ")[1])
        assert 0.2 <= tau <= 0.9 and drawn.setdefault(seed, tau) == tau
        # The noise is that of a run with this threshold given.
        fixed = editor.edit(picture(), told, **{**STEPS, "seed": seed}, tau=tau)
        assert torch.allclose(edit.latents, fixed.latents, atol=1e-6) and not any("threshold" in n for n in fixed.notes)
        given = editor.edit(picture(), told, **{**STEPS, "seed": None}, tau=(0.2, 0.9), generator=generator(seed))
        assert torch.equal(edit.latents, given.latents)
    assert drawn[1] != drawn[2]
    one = editor.edit(picture(), told, **STEPS, tau=(0.3, 0.3))
    assert torch.equal(one.latents, editor.edit(picture(), told, **STEPS, tau=0.3).latents)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def test_a_control_net_runs_with_regions(picture):
    editor = showtell.Editor(tiny.pipeline("control"))
    told = ["make the [circle] red", "add a star"]
    for changes in ({}, {"image_guidance_scale": 1.5}, {"maps": "apart", "text": "apart"}):
        edit = editor.edit(picture(), told, **STEPS, **changes)
        again = editor.edit(picture(), told, **STEPS, **changes, sequential=True)
        assert torch.allclose(edit.latents, again.latents, atol=1e-4) and len(edit.masks) == 2
        plain = editor.edit(picture(), told, **STEPS, **changes, masks=[half(), half(False)])
        assert (edit.latents - plain.latents).abs().max() > 1e-3


def test_the_conditioning_is_that_of_ip2p(instruct_pipe, picture):
    given, settled = planned.context(instruct_pipe, picture(), ["red", "add a star"], FOI)
    plan = settled.plan(given)
    assert isinstance(plan.conditioning, InstructConditioning)
    assert torch.equal(plan.conditioning.told("full", 0)[0], given.prompt_embeds)


def test_recorded_noise_stands_for_every_draw(editor, picture):
    told = [made(editor.pipe, "night", noise=True), "add a [star]"]
    options = {**STEPS, "scheduler": "euler-ancestral", "tau": 0.5}
    recorded = [editor.edit(picture(), told, **{**options, "seed": s}, noise="recorded").latents for s in (0, 1)]
    assert torch.equal(*recorded)
    assert (editor.edit(picture(), told, **options).latents - recorded[0]).abs().max() > 1e-2


@pytest.mark.parametrize("scheduler", ["euler-ancestral", "ddim", "heun", "pndm"])
def test_outside_of_the_mask_of_the_whole_edit_the_picture_is_the_input(editor, picture, scheduler):
    edit = editor.edit(picture(), ["red", "add a [star]"], **STEPS, mask=half(), scheduler=scheduler)
    before, after = (np.asarray(image) for image in (picture(), edit.image))
    assert np.array_equal(before[~half()], after[~half()]) and not np.array_equal(before, after)
    assert len(edit.masks) == 2
