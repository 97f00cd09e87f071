"""`showtell edit` and `showtell replay` when all is well."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import showtell
from tests.cli import pictures

QUICK = ("--steps", "2")


def test_an_edit_says_what_it_wrote_and_with_which_seed(cli):
    result = cli("edit", "house.png", "make it red", "-o", "out.png", "--seed", "5", *QUICK)
    assert (result.code, result.out, result.err) == (0, "wrote out.png (seed 5)\n", "")
    assert Image.open("out.png").size == (40, 32)


def test_without_a_seed_one_is_drawn_and_printed(cli):
    seeds = {cli("edit", "house.png", "red", "-o", f"{i}.png", "--json", *QUICK).json["seed"] for i in range(2)}
    assert len(seeds) == 2 and all(0 <= seed < 2**31 for seed in seeds)


def test_json_is_one_object_with_the_recipe(cli):
    result = cli("edit", "house.png", "make it red", "add a star", "-o", "out.png", "--seed", "1", "--json", *QUICK)
    assert result.err == ""
    assert result.json["written"] == "out.png" and result.json["size"] == [40, 32] and result.json["notes"] == []
    assert result.json["recipe"]["instructions"] == ["make it red", "add a star"]
    assert result.json["recipe"] == showtell.recipe.read("out.png").to_dict()


def test_the_options_reach_the_recipe(cli):
    options = ["--guidance-scale", "2", "--image-guidance-scale", "1.2", "--scheduler", "ddim", "--fit", "pad"]
    args = ["edit", "house.png", "red", "-o", "out.png", "--negative", "blue", "--sequential", *options, *QUICK]
    recipe = cli(*args, "--json", "--dtype", "float32", "--device", "cpu").json["recipe"]
    assert recipe["method"]["parameters"]["guidance_scale"] == 2
    assert recipe["method"]["parameters"]["image_guidance_scale"] == 1.2
    assert recipe["method"]["parameters"]["num_inference_steps"] == 2
    assert recipe["method"]["origin"]["guidance_scale"] == "given"
    assert recipe["scheduler"]["_class_name"] == "DDIMScheduler"
    assert (recipe["fit"], recipe["negative_prompt"], recipe["sequential"]) == ("pad", "blue", True)


def test_the_command_line_and_python_give_the_same_pixels(cli):
    assert cli("edit", "house.png", "make it red", "-o", "out.png", "--seed", "3", *QUICK).code == 0
    edit = showtell.load("starter", device="cpu").edit("house.png", "make it red", seed=3, num_inference_steps=2)
    assert np.array_equal(np.asarray(Image.open("out.png")), np.asarray(edit.image))


def test_outside_a_mask_nothing_changes(cli):
    mask = np.zeros((32, 40), dtype=np.uint8)
    mask[:, 20:] = 255
    Image.fromarray(mask).save("mask.png")
    args = ("edit", "house.png", "make it red", "-o", "out.png", "--mask", "mask.png", "--save-masks", *QUICK)
    result = cli(*args)
    assert result.code == 0 and result.out.splitlines()[1] == "wrote out.mask1.png"
    before, after = np.asarray(Image.open("house.png")), np.asarray(Image.open("out.png"))
    assert np.array_equal(before[:, :20], after[:, :20]) and not np.array_equal(before[:, 20:], after[:, 20:])
    assert np.array_equal(np.asarray(Image.open("out.mask1.png")), mask)
    cli(*args, "--seed", "1").refused("out.png: exists already")


def test_saving_masks_without_any_is_said(cli):
    result = cli("edit", "house.png", "make it red", "-o", "out.png", "--save-masks", *QUICK)
    assert result.code == 0 and result.err.startswith("note: no mask was saved")


def test_a_jpeg_carries_no_recipe_and_says_so(cli):
    result = cli("edit", "house.png", "make it red", "-o", "out.jpg", *QUICK)
    assert result.code == 0 and "carry no recipe" in result.err


def test_an_edit_may_overwrite_its_own_input_when_forced(cli):
    assert cli("edit", "house.png", "make it red", "-o", "house.png", "--force", *QUICK).code == 0


@pytest.mark.parametrize("method", ["ip2p", "instructdiffusion"])
def test_replay_makes_the_same_pixels(method, cli):
    pictures.plain(33, 50).save("odd.png")
    assert cli("edit", "odd.png", "make it red", "-o", "out.png", "--method", method, *QUICK).code == 0
    result = cli("replay", "out.png", "-o", "again.png")
    assert result.code == 0 and "note: the pixels are the same as in out.png\n" == result.err
    assert np.array_equal(np.asarray(Image.open("out.png")), np.asarray(Image.open("again.png")))


def test_replay_says_what_differs(cli, folder):
    assert cli("edit", "house.png", "make it red", "-o", "out.png", *QUICK).code == 0
    pictures.plain().rotate(180).save("house.png")
    result = cli("replay", "out.png", "-o", "again.png", "--json")
    assert result.code == 0
    assert "is not the picture that was edited" in result.json["notes"][0]
    assert "the pixels differ" in result.json["notes"][-1]


def test_replay_takes_an_input_that_has_moved(cli, folder):
    assert cli("edit", "house.png", "make it red", "-o", "out.png", *QUICK).code == 0
    (folder / "house.png").rename(folder / "moved.png")
    result = cli("replay", "out.png", "--input", "moved.png", "-o", "again.png")
    assert result.code == 0 and "the pixels are the same" in result.err
