"""A batch equals the single edits; failure is local; lists are of one length."""

from __future__ import annotations

import pytest
import torch

import showtell
from showtell.errors import ImageError, MethodError, TextError

STEPS = {"num_inference_steps": 5}


@pytest.mark.parametrize("scheduler", ["euler-ancestral", "ddim", "dpm++"])
def test_a_batch_of_mixed_sizes_equals_single_edits(editor, picture, scheduler):
    pictures = [picture(32, 32), picture(64, 30), picture(32, 32, seed=1), picture(64, 30, seed=2)]
    words = ["make it red", ["add a star", "make the circle blue"], "sepia", "green"]
    together = editor.edit(pictures, words, seed=[0, 1, 2, 3], scheduler=scheduler, **STEPS)
    for i, edit in enumerate(together):
        alone = editor.edit(pictures[i], words[i], seed=i, scheduler=scheduler, **STEPS)
        assert torch.allclose(edit.latents, alone.latents, atol=1e-4, rtol=0)
        assert edit.image.size == pictures[i].size
        assert edit.recipe.batch == 2 and alone.recipe.batch == 1
        assert {**edit.recipe.to_dict(), "batch": 1} == alone.recipe.to_dict()


def test_the_size_of_the_batches_does_not_matter(editor, picture):
    pictures = [picture(seed=s) for s in range(3)]
    a = editor.edit(pictures, ["red"] * 3, seed=5, batch_size=2, **STEPS)
    b = editor.edit(pictures, ["red"] * 3, seed=5, batch_size=3, **STEPS)
    for one, other in zip(a, b, strict=True):
        assert torch.allclose(one.latents, other.latents, atol=1e-4, rtol=0)


def test_masks_and_negative_prompts_may_be_lists(editor, picture):
    import numpy as np

    mask = np.zeros((32, 32), dtype=bool)
    mask[8:24, 8:24] = True
    both = editor.edit(
        [picture(), picture()], ["red", "red"], seed=0, mask=[mask, None], negative_prompt=["blue", None], **STEPS
    )
    alone = editor.edit(picture(), "red", seed=0, mask=mask, negative_prompt="blue", **STEPS)
    plain = editor.edit(picture(), "red", seed=0, **STEPS)
    assert torch.allclose(both[0].latents, alone.latents, atol=1e-4, rtol=0)
    assert torch.allclose(both[1].latents, plain.latents, atol=1e-4, rtol=0)
    assert both[1].masks == [] and both[1].recipe.mask is None


def test_a_failure_is_local(editor, picture, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    results = editor.edit([picture(), str(broken), picture()], ["red", "red", ""], seed=0, **STEPS)
    assert isinstance(results[0], showtell.Edit)
    assert isinstance(results[1], ImageError) and "broken.png" in str(results[1])
    assert isinstance(results[2], TextError)


def test_one_picture_with_a_list_is_one_edit_joined_by_commas(editor, picture):
    joined = editor.edit(picture(), ["make it red", "add a star"], seed=0, **STEPS)
    alone = editor.edit(picture(), "make it red, add a star", seed=0, **STEPS)
    assert torch.equal(joined.latents, alone.latents)
    assert joined.recipe.instructions == ("make it red", "add a star")


def test_lists_must_have_one_length(editor, picture):
    two = [picture(), picture()]
    with pytest.raises(TextError, match="2 pictures need a list of 2 instructions"):
        editor.edit(two, "red")
    with pytest.raises(TextError, match="got 3 instructions"):
        editor.edit(two, ["red"] * 3)
    with pytest.raises(MethodError, match="seed has 1 items for 2 pictures"):
        editor.edit(two, ["red"] * 2, seed=[1])
    with pytest.raises(MethodError, match="list of 2 generators"):
        editor.edit(two, ["red"] * 2, generator=torch.Generator())
    with pytest.raises(ImageError, match="empty"):
        editor.edit([], [])


def test_generators_take_the_place_of_seeds(editor, picture):
    seeded = editor.edit(picture(), "red", seed=7, **STEPS)
    generated = editor.edit(picture(), "red", generator=torch.Generator().manual_seed(7), **STEPS)
    assert torch.equal(seeded.latents, generated.latents) and generated.seed == 7
    used = torch.Generator().manual_seed(7)
    torch.rand(1, generator=used)
    with pytest.warns(showtell.errors.ShowtellWarning, match="not a fresh one"):
        assert editor.edit(picture(), "red", generator=used, **STEPS).seed is None
    with pytest.raises(MethodError, match="not both"):
        editor.edit(picture(), "red", generator=torch.Generator(), seed=1)


def test_without_a_seed_one_is_drawn_and_recorded(editor, picture):
    first = editor.edit(picture(), "red", **STEPS)
    again = editor.edit(picture(), "red", seed=first.seed, **STEPS)
    assert torch.equal(first.latents, again.latents)
    several = editor.edit([picture()] * 3, ["red"] * 3, **STEPS)
    assert len({edit.seed for edit in several}) == 3
