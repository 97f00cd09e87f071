"""`showtell edit --method foi` and its replay: weights, masks, hyper-parameters, and the picture of the regions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import showtell
from showtell import recipe
from tests.cli import pictures
from tests.helpers import looks

QUICK = ("--steps", "3", "--seed", "1")
TOLD = ("make the [circle] red", "add a blue [star]")
FOI = ("edit", "house.png", *TOLD, "--method", "foi")


@pytest.fixture
def half(folder):
    """A mask of the picture's right half, ``half.png``; others that cannot be used."""
    mask = np.zeros((32, 40), dtype=np.uint8)
    mask[:, 20:] = 255
    Image.fromarray(mask).save("half.png")
    Image.fromarray(mask * 0).save("black.png")
    Image.fromarray(mask[:8, :8]).save("small.png")
    return mask


def test_what_is_said_of_each_instruction_reaches_the_recipe(cli, half):
    told = ("--weights", "1,0.5", "--mask-for", "2=half.png", "--set", "tau=[0.4,0.7]", "--set", "columns=text")
    result = cli(*FOI, "-o", "out.png", *told, "--save-masks", "--json", *QUICK)
    assert result.code == 0, result.err
    made = result.json["recipe"]
    assert made["weights"] == [1, 0.5] and made["masks"][0] is None and made["masks"][1]["path"] == "half.png"
    assert made["method"]["parameters"]["tau"] == [0.4, 0.7] and made["method"]["parameters"]["columns"] == "text"
    assert made["method"]["origin"]["tau"] == "given" and result.json["keywords"] == ["circle", None]
    assert result.json["masks"] == ["out.mask1.png", "out.mask2.png"] and result.json["overlay"] == "out.overlay.png"
    assert np.array_equal(np.asarray(Image.open("out.mask2.png")), half)
    assert Image.open("out.overlay.png").width >= 440


def test_the_command_line_and_python_give_the_same_pixels(cli, half):
    told = ("--weights", "1,0.5", "--mask-for", "2=half.png", "--set", "tau=0.2", "--set", "strength=0.9")
    assert cli(*FOI, "-o", "out.png", *told, *QUICK).code == 0
    edit = showtell.load("starter", device="cpu").edit(
        "house.png", list(TOLD), method="foi", weights=[1, 0.5], masks=[None, "half.png"], tau=0.2, strength=0.9,
        num_inference_steps=3, seed=1,
    )  # fmt: skip
    assert np.array_equal(np.asarray(Image.open("out.png")), np.asarray(edit.image))
    assert np.array_equal(edit.masks[1], half > 0) and edit.keywords == ["circle", None]


def test_the_keywords_chosen_are_said(cli):
    result = cli("edit", "house.png", "make the circle red", "-o", "out.png", "--method", "foi", *QUICK)
    assert result.code == 0 and "note: keyword of 'make the circle red': [circle], chosen automatically" in result.err


def test_a_mask_limits_the_whole_edit_under_foi_too(cli, half):
    assert cli(*FOI, "-o", "out.png", "--mask", "half.png", *QUICK).code == 0
    before, after = np.asarray(Image.open("house.png")), np.asarray(Image.open("out.png"))
    assert np.array_equal(before[:, :20], after[:, :20]) and not np.array_equal(before[:, 20:], after[:, 20:])


def test_a_learned_file_is_an_instruction_of_its_own(cli, folder, half):
    pipe = showtell.load("starter", device="cpu").pipe
    for name in ("night", "day"):
        looks.made(pipe, name).save(folder / f"{name}.safetensors")
    alone = ("edit", "house.png", "--method", "foi", *QUICK, "--json", "--learned", "night.safetensors")
    result = cli(*alone, TOLD[0], "-o", "a.png", "--mask-for", "1=half.png")
    assert result.code == 0, result.err
    assert result.json["recipe"]["instructions"] == ["<night>", TOLD[0]]
    assert "<night> is an instruction of its own" in result.json["notes"][0] and "number 1" in result.json["notes"][0]
    called = cli(*alone, "<night> the [house]", TOLD[0], "-o", "b.png").json
    assert called["recipe"]["instructions"] == ["<night> the [house]", TOLD[0]]
    assert not any("of its own" in note for note in called["notes"])
    both = cli(*alone, "--learned", "day.safetensors", "-o", "c.png").json
    assert both["recipe"]["instructions"] == ["<night>", "<day>"] and len(both["keywords"]) == 2
    told = cli(*alone, "-o", "d.png").json
    assert told["recipe"]["instructions"] == ["<night>"] and told["keywords"] == ["<night>"]
    again = cli("replay", "a.png", "-o", "e.png", "--json")
    assert "the pixels are the same as in a.png" in again.json["notes"]


WRONG = {
    "too few weights": (["--weights", "1"], "weights has 1 items for 2 instructions"),
    "weights in words": (["--weights", "1,much"], "--weights '1,much'"),
    "empty weights": (["--weights", ""], "--weights ''"),
    "a weight out of range": (["--weights", "1,11"], "weight 2=11.0 is out of range"),
    "a weight that is no number": (["--weights", "nan,1"], "weight 1=nan is out of range"),
    "a mask for no instruction": (["--mask-for", "5=half.png"], "there are 2 instructions, so there is no number 5"),
    "a mask for number 0": (["--mask-for", "0=half.png"], "so there is no number 0"),
    "a mask for a long number": (["--mask-for", f"{'9' * 5000}=half.png"], "so there is no number 9999"),
    "a mask without a number": (["--mask-for", "half.png"], "--mask-for 'half.png': write an instruction's number"),
    "a number without a mask": (["--mask-for", "2="], "--mask-for '2=': write"),
    "a negative number": (["--mask-for", "-1=half.png"], "--mask-for '-1=half.png': write"),
    "two masks for one": (["--mask-for", "1=half.png", "--mask-for", "1=half.png"], "instruction 1 has a mask already"),
    "a mask that is missing": (["--mask-for", "2=none.png"], "none.png: no such file"),
    "a mask of another size": (["--mask-for", "2=small.png"], "small.png: the mask is 8x8 and the picture 40x32"),
    "a black mask": (["--mask-for", "2=black.png"], "black.png: the mask is empty"),
    "an unknown hyper-parameter": (["--set", "taw=0.1"], "'taw' is not a hyper-parameter of method 'foi'"),
    "a value out of range": (["--set", "tau=2"], "tau=2 is out of range"),
    "a value of another kind": (["--set", "gamma=high"], "gamma=high is out of range"),
    "a value that is not finite": (["--set", "xi=Infinity"], "xi=inf is out of range"),
    "an unknown choice": (["--set", "columns=all"], "columns=all is not known"),
    "no value": (["--set", "tau="], "--set 'tau=': write a name and a value"),
    "null": (["--set", "tau=null"], "null is no value"),
    "no name": (["--set", "=3"], "--set '=3': write"),
    "an option of its own": (["--set", "guidance_scale=3"], "has an option of its own: --guidance-scale"),
    "twice": (["--set", "tau=0.1", "--set", "tau=0.2"], "--set tau is given twice"),
    "deep brackets": (["--set", f"tau={'[' * 100_000}"], "tau=[[["),
    "a value in no encoding": (["--set", "columns=\udce9"], "encoding"),
    "the strength of nothing": (["--strength", "0.8"], "--set strength=0.8"),
    "an overlay that is there": (["--save-masks"], "out.overlay.png: exists already"),
    "another method's weights": (["--method", "ip2p", "--weights", "1,1"], "weights are for a method"),
    "another method's masks": (["--method", "ip2p", "--mask-for", "1=half.png"], "masks are for a method"),
    "another method's hyper-parameter": (["--method", "ip2p", "--set", "tau=1"], "of method 'ip2p'"),
    "no words": (["--method", "foi"], "the instruction is missing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_makes_no_sense_is_found_before_a_model_is_loaded(name, cli, half, folder, unchanged):
    args, said = WRONG[name]
    (folder / "out.overlay.png").write_bytes(b"precious")
    unchanged(begin=True)
    told = () if name == "no words" else TOLD
    # The model is not there, so that whatever needs it would fail otherwise.
    options = ("--method", "foi", "-o", "out.png", "--model", "no-such-model", *args)
    cli("edit", "house.png", *told, *options).refused(said)
    unchanged()


def test_a_step_that_is_not_run(cli, unchanged):
    cli(*FOI, "-o", "out.png", "--set", "mask_step=5", *QUICK).refused("mask_step=5 is out of range")
    unchanged()


# --- replay --------------------------------------------------------------------------------------------------------


@pytest.fixture
def edited(cli, half):
    """``out.png``, made with weights, a mask of the user's and a threshold that was drawn."""
    told = ("--weights", "1,0.5", "--mask-for", "2=half.png", "--set", "tau=[0.1,0.3]", "--set", "gamma=1")
    made = cli(*FOI, "-o", "out.png", *told, *QUICK)
    assert made.code == 0, made.err


def altered(path, **changes):
    """The picture with a recipe in which these fields are others."""
    data = {**recipe.read("out.png").to_dict(), **changes}
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt(recipe.CHUNK, json.dumps({key: value for key, value in data.items() if value != "left out"}))
    Image.open("out.png").save(path, pnginfo=chunks)


def test_replay_makes_the_same_pixels(edited, cli):
    result = cli("replay", "out.png", "-o", "again.png")
    assert result.code == 0 and "note: the pixels are the same as in out.png" in result.err
    assert np.array_equal(np.asarray(Image.open("out.png")), np.asarray(Image.open("again.png")))
    twice = cli("replay", "again.png", "-o", "twice.png", "--json")
    assert "the pixels are the same as in again.png" in twice.json["notes"]


def test_replay_takes_a_mask_that_has_moved(edited, cli, folder, unchanged):
    (folder / "half.png").rename("moved.png")
    unchanged(begin=True)
    said = "half.png: the mask of instruction 2 of out.png is not there any more: give it with --mask-for 2=FILE"
    cli("replay", "out.png", "-o", "again.png").refused(said)
    wrong = {
        "1=moved.png": "instruction 1 had no mask of yours",
        "3=moved.png": "there are 2 instructions, so there is no number 3",
        "2=none.png": "none.png: no such file",
        "2=small.png": "small.png: the mask is 8x8",
    }
    for told, said in wrong.items():
        cli("replay", "out.png", "-o", "again.png", "--mask-for", told).refused(said)
    unchanged()
    result = cli("replay", "out.png", "-o", "again.png", "--mask-for", "2=moved.png")
    assert result.code == 0 and "the pixels are the same" in result.err


def test_replay_says_that_a_mask_is_another(edited, cli, folder):
    Image.open("half.png").rotate(180).save("half.png")
    notes = cli("replay", "out.png", "-o", "again.png", "--json").json["notes"]
    assert "the mask of instruction 2 is not the one that was used (its pixels differ)" in notes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": [1]}, r"damaged \(weights: 1 for 2 instructions\)"),
        ({"weights": [1, 99]}, r"damaged \(weights: one is out of range\)"),
        ({"weights": [1, float("nan")]}, r"damaged \(weights: one is out of range\)"),
        ({"weights": "heavy"}, r"damaged \(weights: "),
        ({"masks": [None]}, r"damaged \(masks: 1 for 2 instructions\)"),
        ({"masks": [None, "half.png"]}, r"damaged \(masks.1: "),
        ({"masks": [None, {"path": "half.png"}]}, r"damaged \(masks.1.pixels_sha256: "),
    ],
)
def test_a_damaged_recipe(edited, cli, changes, said):
    altered("bad.png", **changes)
    with pytest.raises(showtell.errors.FileFormatError, match=f"bad.png: its recipe is {said}") as caught:
        showtell.replay("bad.png")
    assert "\n" not in str(caught.value)
    cli("replay", "bad.png", "-o", "again.png").refused("bad.png: its recipe is damaged")


def test_weights_in_a_recipe_of_another_method(cli, edited):
    assert cli("edit", "house.png", *TOLD, "-o", "plain.png", *QUICK).code == 0
    altered("bad.png", method=recipe.read("plain.png").to_dict()["method"])
    cli("replay", "bad.png", "-o", "again.png").refused("damaged (weights: method 'ip2p' takes none)")
    cli("replay", "plain.png", "-o", "again.png", "--mask-for", "1=half.png").refused("has no masks of instructions")


def test_a_recipe_of_the_format_before_still_replays(cli):
    assert cli("edit", "house.png", *TOLD, "-o", "out.png", *QUICK).code == 0
    altered("old.png", format=2, weights="left out", masks="left out")
    result = cli("replay", "old.png", "-o", "again.png")
    assert result.code == 0 and "the pixels are the same as in old.png" in result.err


# --- the overlay ---------------------------------------------------------------------------------------------------


def test_the_overlay_shows_which_region_is_whose(editor):
    left, right = np.zeros((64, 96), bool), np.zeros((64, 96), bool)
    left[:, :64], right[:, 32:] = True, True
    edit = editor.edit(
        Image.new("RGB", (96, 64), "grey"), list(TOLD), method="foi", masks=[left, right], seed=0, num_inference_steps=2
    )
    shown = edit.overlay()
    picture = np.asarray(shown.crop((0, 0, 512, 341)), dtype=int)
    hues = picture[..., 0] - picture[..., 2]  # the first region is red, the second blue
    assert (hues[100:240, 20:150] > 60).mean() > 0.95 and (hues[100:240, 380:490] < -60).mean() > 0.95
    both = hues[20:120, 190:320]
    assert (both > 60).mean() > 0.2 and (both < -60).mean() > 0.2
    assert shown.width == 512 and 341 + 2 * 20 < shown.height < 341 + 100


@pytest.mark.parametrize("size", [(1, 1), (3, 64), (2000, 3), (2500, 1800)])
def test_an_overlay_of_any_size_has_a_legend(size):
    from showtell import overlays

    masks = [np.ones(size[::-1], bool)] * 3 + [np.zeros(size[::-1], bool)]
    legend = [
        ("make the house blue " * 30, "keyword: house " * 20),
        ("把圆变成红色", "نجمة"),
        ("a\nb\x1b[31m", ""),
        ("", "your mask"),
    ]
    shown = overlays.regions(Image.new("RGB", size), masks, legend)
    assert 440 <= shown.width <= 1600 and shown.height <= 1600 + 150
    key = np.asarray(shown.convert("L"))[-104:]
    assert (key < 100).sum() > 200  # something is written there


def test_text_is_cut_where_there_is_no_room():
    from PIL import ImageDraw

    from showtell import drawing

    pen = ImageDraw.Draw(Image.new("RGB", (10, 10)))
    short = drawing.shortened(pen, "many words " * 1000, drawing.font(13), 200)
    assert short.endswith("...") and 150 < pen.textlength(short, font=drawing.font(13)) <= 200
    assert drawing.shortened(pen, "few", drawing.font(13), 200) == "few"


def test_an_edit_without_regions_has_no_overlay(editor):
    edit = editor.edit(pictures.plain(), "red", seed=0, num_inference_steps=1)
    with pytest.raises(showtell.errors.MethodError, match="no regions to show"):
        edit.overlay()
    assert edit.save_masks("nowhere/out") == []
