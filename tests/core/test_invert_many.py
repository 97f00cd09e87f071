"""Inversions in batches."""

from __future__ import annotations

import pytest
import torch

import showtell
from showtell.errors import MethodError, ShowtellError, TextError
from showtell.inverting import invert_many

FEW = {"num_inference_steps": 2, "encoding_ratio": 1.0}
TOLD = ["a red star", "a blue house", "a tree"]


@pytest.fixture
def base():
    from tests.helpers import tiny

    return showtell.Editor(tiny.pipeline("base"))


@pytest.fixture
def pictures(picture):
    return [picture(32, 32, seed=1), picture(32, 32, seed=2), picture(48, 32, seed=3)]


@pytest.mark.parametrize(("method", "options"), [
    ("ddim", {"inversion_guidance_scale": 2.0}), ("nti", {"inner_steps": 1}), ("pti", {"start": "source"}),
])  # fmt: skip
def test_a_batch_equals_its_pictures_one_by_one(base, pictures, method, options):
    several = invert_many(base, pictures, method=method, source=TOLD, **FEW, **options)
    for picture, words, found in zip(pictures, TOLD, several, strict=True):
        alone = base.invert(picture, method=method, source=words, **FEW, **options)
        assert isinstance(found, showtell.inversions.Inversion)
        assert torch.allclose(found.data.trajectory, alone.data.trajectory, atol=1e-4)
        if alone.data.tuned is not None:
            # Adam's first step has the size of its rate, however small the gradient: rounding may turn its sign
            assert torch.allclose(found.data.reconstruction, alone.data.reconstruction, atol=5e-3)
        assert (found.target, found.source, found.settings) == (alone.target, alone.source, alone.settings)
        assert found.psnr == pytest.approx(alone.psnr, abs=0.1) and found.image.size == picture.size


def test_each_belongs_to_its_own_target_and_is_edited_to_it(base, pictures):
    found = invert_many(base, pictures, TOLD, **FEW)
    assert [one.target for one in found] == TOLD
    edits = base.edit(found, ["a [red] star", *TOLD[1:]], method="pti", eta=0.5, seed=0)
    assert [edit.image.size for edit in edits] == [picture.size for picture in pictures]
    (wrong,) = base.edit(found[:1], ["a blue star"], method="pti", seed=0)
    assert isinstance(wrong, TextError) and "belongs to it" in str(wrong)


def test_a_picture_that_has_none_does_not_stop_the_others(base, pictures, tmp_path):
    found = invert_many(base, [pictures[0], tmp_path / "none.png"], method="ddim", **FEW)
    assert isinstance(found[0], showtell.inversions.Inversion) and isinstance(found[1], ShowtellError)


def test_what_does_not_fit_is_said(base, pictures):
    with pytest.raises(TextError, match="targets has one prompt for each of the 3 pictures"):
        invert_many(base, pictures, TOLD[:2])
    with pytest.raises(TextError, match="source has one prompt"):
        invert_many(base, pictures, method="nti", source="a star")
    with pytest.raises(MethodError, match="'ddim' is told source="):
        invert_many(base, pictures, TOLD, method="ddim")
    with pytest.raises(MethodError, match="use invert_many"):
        base.invert(pictures)
