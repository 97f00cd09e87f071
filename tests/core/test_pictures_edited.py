"""Pictures through the editor: size, alpha, turn, masks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from showtell import blending
from showtell.errors import ImageError, MethodError, ShowtellWarning

STEPS = {"num_inference_steps": 3, "seed": 0}


@pytest.mark.parametrize("size", [(32, 32), (100, 60), (33, 200), (7, 5), (1, 1), (1, 90)])
@pytest.mark.parametrize("fit", ["fit", "crop", "pad"])
def test_the_result_has_the_inputs_size(editor, picture, size, fit):
    assert editor.edit(picture(*size), "red", fit=fit, **STEPS).image.size == size


def test_alpha_comes_back_unchanged(editor, picture, tmp_path):
    rgba = picture(40, 24).convert("RGBA")
    alpha = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40), dtype=np.uint8))
    rgba.putalpha(alpha)
    edit = editor.edit(rgba, "red", **STEPS)
    assert edit.image.mode == "RGBA" and np.array_equal(np.asarray(edit.image)[:, :, 3], np.asarray(alpha))
    edit.save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.asarray(edit.image))


def test_a_turned_photograph_is_edited_upright(editor, picture, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(40, 24).save(tmp_path / "a.jpg", exif=exif)
    assert editor.edit(tmp_path / "a.jpg", "red", **STEPS).image.size == (24, 40)


def test_a_colour_profile_is_kept(editor, picture, tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture().save(tmp_path / "a.png", icc_profile=profile)
    edit = editor.edit(tmp_path / "a.png", "red", **STEPS)
    edit.save(tmp_path / "b.png")
    assert Image.open(tmp_path / "b.png").info["icc_profile"] == profile


@pytest.mark.parametrize("size", [(32, 32), (100, 60), (33, 90)])
@pytest.mark.parametrize("fit", ["fit", "crop", "pad"])
def test_outside_a_mask_the_pixels_are_the_inputs(editor, picture, size, fit):
    image = picture(*size)
    mask = np.zeros(size[::-1], dtype=bool)
    mask[size[1] // 4 : size[1] // 2, size[0] // 4 : size[0] // 2] = True
    edit = editor.edit(image, "red", mask=mask, fit=fit, **STEPS)
    before, after = np.asarray(image), np.asarray(edit.image)
    assert np.array_equal(before[~mask], after[~mask])
    assert not np.array_equal(before[mask], after[mask])
    assert np.array_equal(edit.masks[0], mask)


def test_a_mask_of_everything_is_no_mask(editor, picture):
    import torch

    plain = editor.edit(picture(), "red", **STEPS)
    masked = editor.edit(picture(), "red", mask=np.ones((32, 32), bool), **STEPS)
    assert torch.allclose(plain.latents, masked.latents, atol=1e-5)
    assert np.abs(np.asarray(plain.image, int) - np.asarray(masked.image, int)).max() <= 1


def test_outside_a_mask_the_latents_follow_the_noised_picture(editor, picture):
    import torch

    from showtell import fitting, models

    image = picture()
    mask = np.zeros((32, 32), bool)
    mask[:, :16] = True
    edit = editor.edit(image, "red", mask=mask, **STEPS)
    z = models.scaled(editor.pipe, models.encode_image(editor.pipe, fitting.to_pixels([image])))[0]
    assert torch.allclose(edit.latents[:, :, 4:], z[:, :, 4:], atol=1e-5)
    assert not torch.allclose(edit.latents[:, :, :4], z[:, :, :4], atol=1e-2)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++", "unipc", "heun", "euler", "lcm"])
def test_masks_work_with_any_scheduler(editor, picture, scheduler):
    mask = np.zeros((32, 32), bool)
    mask[4:20, 4:20] = True
    edit = editor.edit(picture(), "red", mask=mask, scheduler=scheduler, **STEPS)
    assert np.array_equal(np.asarray(picture())[~mask], np.asarray(edit.image)[~mask])
    assert np.isfinite(edit.latents.numpy()).all()


def test_bad_masks(editor, picture):
    with pytest.raises(ImageError, match="mask is 8x8 and the picture 32x32"):
        editor.edit(picture(), "red", mask=np.ones((8, 8), bool), **STEPS)
    with pytest.raises(ImageError, match="empty"):
        editor.edit(picture(), "red", mask=np.zeros((32, 32), bool), **STEPS)
    with pytest.raises(MethodError, match="fit, crop, pad"):
        editor.edit(picture(), "red", fit="squash", **STEPS)


def test_the_soft_edge_is_inside_the_mask():
    mask = np.zeros((30, 30), bool)
    mask[5:25, :20] = True
    soft = blending.feathered(mask, feather=4)
    assert (soft[~mask] == 0).all() and (soft[mask] > 0).all()
    assert soft[15, 0] == 1  # the picture's border is not an edge
    assert soft[5, 0] == 0.25 and soft[6, 0] == 0.5
    thin = np.zeros((9, 9), bool)
    thin[4, 4] = True
    assert blending.feathered(thin)[4, 4] == 1


def test_the_soft_edge_is_narrower_in_a_small_picture():
    widths = {size: blending.feather_width(size) for size in ((1, 9), (64, 64), (640, 128), (512, 512))}
    assert list(widths.values()) == [1, 1, 2, 4]
    grey, black = Image.new("RGB", (64, 64), "gray"), Image.new("RGB", (64, 64))
    mask = np.zeros((64, 64), bool)
    mask[:, 32:] = True
    pasted = np.asarray(blending.paste(grey, black, mask))
    assert (pasted[:, 32:] == np.asarray(grey)[:, 32:]).all() and not pasted[:, :32].any()


def test_a_picture_that_is_too_long_is_squeezed_and_that_is_said(editor, picture):
    with pytest.warns(ShowtellWarning, match="300x7"):
        assert "squeezed" in editor.edit(picture(300, 7), "red", **STEPS).notes[0]
    for options in ({"fit": "crop"}, {"fit": "pad"}):
        assert editor.edit(picture(300, 7), "red", **options, **STEPS).notes == []
    assert editor.edit(picture(60, 40), "red", **STEPS).notes == []


def test_the_overlay_is_exact_at_both_ends():
    import torch

    a, b = torch.randn(2, 1, 4, 8, 8)
    ones = blending.Mask(values=torch.ones(1, 1, 8, 8))
    none = blending.Mask(values=torch.zeros(1, 1, 8, 8))
    assert torch.equal(ones.overlay(a, b), a) and torch.equal(none.overlay(a, b), b)


def test_masks_shrink_by_the_mean_and_grow_by_the_nearest():
    import torch

    mask = blending.Mask.from_arrays([np.kron(np.eye(2), np.ones((4, 4)))])
    assert torch.equal(mask.resized(2, 2).values[0, 0], torch.eye(2))
    assert torch.equal(mask.resized(1, 1).values, torch.full((1, 1, 1, 1), 0.5))
    assert torch.equal(mask.resized(2, 2).resized(8, 8).values, mask.values)
