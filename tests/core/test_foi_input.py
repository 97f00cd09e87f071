"""What Focus on Your Instruction takes: pictures of every shape, masks where they lie, and one line for what is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

import showtell
from showtell import fitting, methods, models
from showtell.errors import ImageError, MethodError, ShowtellError, ShowtellWarning, TextError
from tests.helpers import planned

pytestmark = pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")

TOLD = ["make the [circle] red", "add a [star]"]
STEPS = {"method": "foi", "num_inference_steps": 3, "seed": 0}
SIZES = [(32, 32), (64, 32), (45, 33), (30, 70), (100, 40)]


def seen(frame, x, y):
    """Where a pixel of the picture lies in the model's frame, as shares of its sides; None outside of it."""
    left, top, right, bottom = frame.box
    if not (left <= x and x + 1 <= right and top <= y and y + 1 <= bottom):
        return None
    inner = frame.inner
    across = inner[0] + (x + 0.5 - left) / (right - left) * (inner[2] - inner[0])
    down = inner[1] + (y + 0.5 - top) / (bottom - top) * (inner[3] - inner[1])
    return across / frame.frame[0], down / frame.frame[1]


def laid_over(region, frame):
    """The region (h, w), pixel by pixel in the picture's own shape; and whether a pixel is well inside a cell."""
    width, height = frame.size
    expected, sure = np.zeros((height, width), dtype=bool), np.ones((height, width), dtype=bool)
    for y in range(height):
        for x in range(width):
            place = seen(frame, x, y)
            if place is None:
                continue
            across, down = place[0] * region.shape[1], place[1] * region.shape[0]
            expected[y, x] = region[int(down), int(across)] > 0.5
            sure[y, x] = all(0.2 < value % 1 < 0.8 for value in (across, down))
    return expected, sure


@pytest.mark.parametrize("fit", ["fit", "pad", "crop"])
@pytest.mark.parametrize("size", SIZES)
def test_masks_lie_in_the_picture_where_the_model_had_them(editor, picture, fit, size):
    found = {"tau": 0.4, "gamma": 1}
    image, method = picture(*size), methods.FocusOnInstruction(num_inference_steps=3, scheduler="ddim", **found)
    edit = editor.edit(image, TOLD, **STEPS, **found, scheduler="ddim", fit=fit)
    given, settled = planned.context(editor.pipe, image, TOLD, method, fit=fit)
    plan = settled.plan(given)
    planned.latents(given, plan)
    frame = fitting.frame_for(
        size, fit=fit, resolution=models.resolution(editor.pipe), multiple=models.size_multiple(editor.pipe)
    )
    for mask, region in zip(edit.masks, plan.regions()[0], strict=True):
        assert mask.shape == size[::-1] and mask.dtype == bool
        assert region.mask.shape == tuple(side // 4 for side in frame.frame[::-1])
        expected, sure = laid_over(region.mask.numpy(), frame)
        assert sure.mean() > 0.2 and (mask == expected)[sure].all()
    assert edit.image.size == size
    assert any(mask.any() and not mask.all() for mask in edit.masks)


@pytest.mark.parametrize("fit", ["fit", "pad", "crop"])
@pytest.mark.parametrize("size", SIZES)
def test_a_users_mask_lies_in_the_grid_where_it_lies_in_the_picture(editor, picture, fit, size):
    width, height = size
    own = np.zeros((height, width), dtype=bool)
    own[: height // 2, width // 2 :] = True
    method = methods.FocusOnInstruction(num_inference_steps=3)
    given, settled = planned.context(editor.pipe, picture(*size), TOLD, method, fit=fit, masks=[own, None])
    plan = settled.plan(given)
    planned.latents(given, plan)
    region = plan.regions()[0][0]
    assert region.own and region.keyword is None and not plan.regions()[0][1].own
    frame = fitting.frame_for(
        size, fit=fit, resolution=models.resolution(editor.pipe), multiple=models.size_multiple(editor.pipe)
    )
    expected, sure = laid_over(region.mask.numpy(), frame)
    inside = np.array([[seen(frame, x, y) is not None for x in range(width)] for y in range(height)])
    edge = np.zeros_like(own)  # cells that the mask covers in part
    edge[max(0, height // 2 - 8) : height // 2 + 8], edge[:, max(0, width // 2 - 8) : width // 2 + 8] = True, True
    assert (expected == own)[sure & inside & ~edge].all() and (sure & inside & ~edge).any()
    edit = editor.edit(picture(*size), TOLD, **STEPS, fit=fit, masks=[own, None])
    assert np.array_equal(edit.masks[0], own) and edit.keywords == [None, "star"]


def test_pictures_with_alpha_keep_it(editor, picture):
    image = picture(40, 32)
    image.putalpha(Image.linear_gradient("L").resize((40, 32)))
    edit = editor.edit(image, TOLD, **STEPS)
    assert edit.image.mode == "RGBA" and edit.image.size == (40, 32) and edit.masks[0].shape == (32, 40)
    assert np.array_equal(np.asarray(edit.image)[:, :, 3], np.asarray(image)[:, :, 3])


def test_a_mask_that_is_cropped_off_is_not_followed_and_said(editor, picture):
    edge = np.zeros((45, 100), dtype=bool)
    edge[:, :2] = True  # fit crop cuts five columns away
    told = ["red", "add a [star]"]
    edit = editor.edit(picture(100, 45), told, **STEPS, fit="crop", masks=[edge, None])
    assert [note for note in edit.notes if "sees nothing" in note] == [
        "the mask of 'red' lies where the model sees nothing (fit crop), so it is not followed"
    ]
    whole = editor.edit(picture(100, 45), told, **STEPS, masks=[edge, None])
    assert not any("sees nothing" in note for note in whole.notes)


def test_a_map_that_is_the_same_everywhere_is_the_whole_picture_and_said(editor, picture):
    for name, module in editor.pipe.unet.named_modules():
        if name.endswith("attn2"):
            torch.nn.init.zeros_(module.to_q.weight)
    with pytest.warns(ShowtellWarning, match="is empty"):
        edit = editor.edit(picture(), TOLD, **STEPS)
    assert [note for note in edit.notes if "empty" in note] == [
        f"the mask of {text!r} is empty, so this instruction may change the whole picture"
        for text in ("make the circle red", "add a star")
    ]
    assert all(mask.all() for mask in edit.masks)


WRONG = [
    ({"gamma": 11}, "gamma=11 is out of range: it must be a whole number from 0 to 10"),
    ({"gamma": -1}, "gamma=-1"), ({"gamma": 1.5}, "gamma=1.5"), ({"gamma": True}, "gamma=True"),
    ({"tau": 0.0}, "tau=0.0 is out of range"), ({"tau": 1.01}, "tau=1.01"), ({"tau": (0.7, 0.4)}, r"tau=\(0.7, 0.4\)"),
    ({"tau": (0.1, 0.2, 0.3)}, "tau="), ({"tau": ()}, "tau="), ({"tau": "half"}, "tau=half"), ({"tau": math.nan}, "tau=nan"),
    ({"tau": (0.4, None)}, "tau="),
    ({"strength": 0.0}, "strength=0 is out of range"), ({"strength": 1.1}, "strength=1.1"),
    ({"strength": math.inf}, "strength=inf"), ({"strength": 0.2}, "strength=0.2 of 3 steps is none: raise strength"),
    ({"mask_step": -1}, "mask_step=-1"), ({"mask_step": 0.5}, "mask_step=0.5"),
    ({"mask_step": 2}, "mask_step=2 is out of range: this run has 2 steps, 0 to 1"),
    ({"modulation": 1.5}, "modulation=1.5"), ({"disentangle": -0.1}, "disentangle=-0.1"), ({"xi": -1.0}, "xi=-1.0"),
    ({"xi": math.nan}, "xi=nan"), ({"columns": "rows"}, "columns=rows is not known: choose one of union, text, image"),
    ({"weigh": "none"}, "weigh=none is not known: choose one of attention, guidance, both"),
    ({"maps": "both"}, "maps=both is not known: choose one of joined, apart"), ({"text": 1}, "text=1 is not known"),
    ({"columns": ["union"]}, "columns="), ({"columns": np.array(["union", "text"])}, "columns="),
    ({"beta": 1}, "'beta' is not a hyper-parameter of method 'foi'"),
    ({"guidance_scale": 0.5}, "guidance_scale=0.5"),
    ({"weights": [1.0]}, "weights has 1 items for 2 instructions: give one for each"),
    ({"weights": [1.0, 1.0, 1.0]}, "weights has 3 items for 2 instructions"), ({"weights": 1.0}, "weights has 1 items"),
    ({"weights": [1.0, -0.5]}, "weight 2=-0.5 is out of range: it must be a number from 0 to 10"),
    ({"weights": [math.nan, 1]}, "weight 1=nan"), ({"weights": ["a", 1]}, "weight 1=a"),
    ({"weights": [1, 10.5]}, "weight 2=10.5"), ({"weights": [1, True]}, "weight 2=True"),
    ({"weights": [1, None]}, "weight 2=None"), ({"weights": "1,2"}, "weights has 1 items for 2"),
    ({"masks": [np.ones((32, 32), bool)]}, "masks has 1 items for 2 instructions: give one for each, or None"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"), WRONG, ids=lambda value: None if isinstance(value, dict) else value[:24]
)
def test_what_is_out_of_range_is_one_line(editor, picture, options, message):
    with pytest.raises(MethodError, match=message) as error:
        editor.edit(picture(), TOLD, **{**STEPS, **options})
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


def test_numbers_of_numpy_and_torch_are_numbers(editor, picture):
    plain = editor.edit(picture(), TOLD, **STEPS, tau=(0.25, 0.75), gamma=2, xi=0.5, weights=[0.5, 2.0])
    for array in (np.array, torch.tensor):
        options = {"tau": (np.float32(0.25), np.float64(0.75)), "gamma": np.int64(2), "xi": np.float32(0.5)}
        edit = editor.edit(picture(), TOLD, **STEPS, **options, weights=array([0.5, 2.0]))
        assert torch.equal(edit.latents, plain.latents)
        assert edit.recipe.to_json() == plain.recipe.to_json() and edit.png()


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("make the [circle red", r"'\[' without '\]'"), ("make the circle] red", r"'\]' without '\['"),
        ("make the [] red", "empty brackets"), ("make the [ ] red", "empty brackets"), ("the [[circle]]", "inside brackets"),
        ("make the [cir]cle red", "whole words"), (["red", ""], "empty"), (["red", 3], "must be text"), ([], "empty"),
        (["red " * 40, "blue " * 40], "instruction 2, .* does not fit: 81 tokens"), (None, "the instruction is missing"),
        ("red " * 76, "instruction 1, .* does not fit: 76 tokens"), ("?!", "no word"),
    ],
)  # fmt: skip
def test_words_that_cannot_be_followed_are_one_line(editor, picture, told, message):
    with pytest.raises(TextError, match=message) as error:
        editor.edit(picture(), told, **STEPS)
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


def test_masks_that_do_not_fit_are_one_line(editor, picture, tmp_path):
    path = tmp_path / "left.png"
    Image.new("L", (30, 32), 255).save(path)
    for masks, message in (
        ([np.ones((16, 32), bool), None], "the mask is 32x16 and the picture 32x32"),
        ([None, path], "left.png: the mask is 30x32 and the picture 32x32"),
        ([np.zeros((32, 32)), None], "the mask is empty: paint white"),
        ([tmp_path / "none.png", None], "none.png"),
        ([np.ones((2, 3, 32, 32)), None], "not a picture"),
    ):
        with pytest.raises(ImageError, match=message) as error:
            editor.edit(picture(), TOLD, masks=masks, **STEPS)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{"weights": [1.0, 0.5]}, {"masks": [None, None]}, {"weights": 1.0}])
def test_weights_and_masks_are_for_methods_with_regions(editor, picture, options):
    with pytest.raises(MethodError, match=f"{next(iter(options))} are for a method .*: use method 'foi'"):
        editor.edit(picture(), TOLD, method="ip2p", num_inference_steps=2, **options)


def test_what_is_wrong_with_one_picture_is_its_own(editor, picture):
    white = np.ones((32, 32), bool)
    edits = editor.edit(
        [picture(), picture(), picture()], ["red", "red " * 80, ["red", "a [star]"]], **STEPS,
        weights=[[0.5], [1.0], [1.0, 99.0]], masks=[[white], [None], [None, None]],
    )  # fmt: skip
    assert [type(edit) for edit in edits] == [showtell.Edit, TextError, MethodError]
    assert isinstance(edits[2], ShowtellError) and "weight 2=99.0" in str(edits[2])
    with pytest.raises(MethodError, match="weights has 2 lists for 3 pictures"):
        editor.edit([picture()] * 3, ["red"] * 3, **STEPS, weights=[[0.5], [1.0]])
