"""Guidance rules: branches as data, shortcuts equal to the full formula, evaluations counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import showtell
from showtell.errors import MethodError
from showtell.guidance import ClassifierFree, InstructDiffusionGuidance, TwoCondition

torch.manual_seed(0)
EPS = {name: torch.randn(2, 4, 8, 8) for name in ("full", "image", "text", "none", "cond", "uncond")}


def in_full(s_T, s_I, mask=1.0):
    """InstructPix2Pix, equation 3, with FoI's mask on the text term."""
    full, image, none = EPS["full"].double(), EPS["image"].double(), EPS["none"].double()
    return none + s_I * (image - none) + s_T * mask * (full - image)


@pytest.mark.parametrize(
    ("s_T", "s_I", "branches"),
    [
        (7.5, 1.5, ("full", "image", "none")),
        (7.5, 1.0, ("full", "image")),
        (1.0, 1.0, ("full",)),
        (2.0, 2.0, ("full", "none")),
        (1.0, 1.5, ("full", "image", "none")),
        (7.5, 0.5, ("full", "image", "none")),
        (7.5, 0.0, ("full", "image", "none")),
    ],
)
def test_shortcuts_equal_the_full_formula(s_T, s_I, branches):
    rule = TwoCondition(guidance_scale=s_T, image_guidance_scale=s_I)
    assert rule.branches == branches
    found = rule.combine({name: EPS[name] for name in branches})
    assert torch.allclose(found.double(), in_full(s_T, s_I), atol=1e-5)


@pytest.mark.parametrize("scales", [(7.5, 1.5), (1.0, 1.0), (2.0, 2.0), (3.0, 1.0)])
def test_the_text_term_may_be_masked(scales):
    mask = (torch.rand(2, 1, 8, 8) > 0.5).float()
    rule = TwoCondition(guidance_scale=scales[0], image_guidance_scale=scales[1], masked=True)
    found = rule.combine({name: EPS[name] for name in rule.branches}, text_mask=mask)
    assert torch.allclose(found.double(), in_full(*scales, mask.double()), atol=1e-5)


def test_instructdiffusions_rule():
    c, img, txt = EPS["full"], EPS["image"], EPS["text"]
    found = InstructDiffusionGuidance().combine(EPS)
    assert torch.allclose(found, 0.5 * (img + txt) + 5.0 * (c - img) + 1.25 * (c - txt), atol=1e-5)


def test_plain_guidance():
    assert ClassifierFree(guidance_scale=1.0).branches == ("cond",)
    assert ClassifierFree(guidance_scale=0.0).branches == ("uncond",)
    w = ClassifierFree(guidance_scale=7.5)
    assert torch.allclose(w.combine(EPS), EPS["uncond"] + 7.5 * (EPS["cond"] - EPS["uncond"]))


@pytest.mark.parametrize("value", [0.99, 0, -1, float("nan"), float("inf"), 10**400, "7", None, True])
def test_a_text_guidance_below_one_is_refused(editor, picture, value):
    with pytest.raises(MethodError, match="guidance_scale"):
        TwoCondition(guidance_scale=value)
    if value is not None:
        with pytest.raises(MethodError, match="guidance_scale"):
            editor.edit(picture(), "red", guidance_scale=value, num_inference_steps=1)


def test_numbers_may_be_numpys(editor, picture, tmp_path):
    numbers = {"guidance_scale": np.float32(2), "image_guidance_scale": np.int64(1), "num_inference_steps": np.int32(2)}
    edit = editor.edit(picture(), "red", seed=np.int64(0), batch_size=np.int64(2), **numbers)
    assert {type(edit.recipe.method.parameters[name]) for name in numbers} == {int, float}
    assert showtell.recipe.read(edit.save(tmp_path / "a.png")).method.parameters["guidance_scale"] == 2
    for steps in (np.int64(0), np.float32(2), True, 10**5000):
        with pytest.raises(MethodError, match="num_inference_steps"):
            editor.edit(picture(), "red", num_inference_steps=steps)


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"guidance_scale": 7.5, "image_guidance_scale": 1.5}, 3),
        ({"guidance_scale": 7.5, "image_guidance_scale": 1}, 2),
        ({"guidance_scale": 1, "image_guidance_scale": 1}, 1),
        ({"guidance_scale": 3.0, "image_guidance_scale": 0.5}, 3),
    ],
)
@pytest.mark.parametrize("sequential", [False, True])
def test_no_branch_is_computed_that_cancels(editor, picture, monkeypatch, options, rows, sequential):
    sizes = []
    forward = editor.pipe.unet.forward
    monkeypatch.setattr(editor.pipe.unet, "forward", lambda x, *a, **k: sizes.append(len(x)) or forward(x, *a, **k))
    editor.edit(picture(), "red", seed=0, num_inference_steps=2, sequential=sequential, **options)
    assert sizes == ([1] * rows if sequential else [rows]) * 2


def test_image_guidance_below_one_still_guides(editor, picture):
    options = {"seed": 0, "num_inference_steps": 3, "image_guidance_scale": 0.5}
    with pytest.warns(showtell.errors.ShowtellWarning, match="followed less"):
        a = editor.edit(picture(), "red", guidance_scale=7.5, **options)
        b = editor.edit(picture(), "red", guidance_scale=1.0, **options)
    assert not torch.allclose(a.latents, b.latents, atol=1e-2)
    with pytest.raises(MethodError, match="image_guidance_scale=-0.1"):
        editor.edit(picture(), "red", image_guidance_scale=-0.1)


@pytest.mark.parametrize("method", ["ip2p", "instructdiffusion"])
def test_branches_one_by_one_give_the_same(editor, picture, method):
    options = {"seed": 0, "num_inference_steps": 4, "method": method}
    together = editor.edit(picture(), "red", **options)
    apart = editor.edit(picture(), "red", sequential=True, **options)
    assert torch.allclose(together.latents, apart.latents, atol=1e-4, rtol=0)


def test_the_picture_only_branch_runs_first_and_the_layout_is_told(editor, picture):
    from showtell.networks import network
    from showtell.sampling import GuidedDenoiser

    seen = []

    class Told:
        def told(self, branch, step):
            return torch.zeros(2, 77, 16), torch.zeros(2, 4, 8, 8)

    for sequential in (False, True):
        denoise = GuidedDenoiser(
            network=network(editor.pipe),
            conditioning=Told(),
            guidance=TwoCondition(),
            scale_input=lambda x, t: x,
            sequential=sequential,
            attend=seen.append,
        )
        denoise(torch.zeros(2, 4, 8, 8), torch.tensor(10), 5)
    assert [context.branches for context in seen] == [("full", "image", "none"), ("image",), ("full",), ("none",)]
    assert all(context.step == 5 and context.batch == 2 for context in seen)
    assert seen[0].rows("image") == slice(2, 4) and seen[1].rows("image") == slice(0, 2)
