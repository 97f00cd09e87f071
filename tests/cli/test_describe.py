"""`showtell edit` by methods that are told what the result shows: source, inversion, eta as a strip, replay, comparison."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import showtell
from showtell import recipe
from showtell.cli import main
from tests.cli import pictures
from tests.helpers import looks

TARGET, SOURCE = "a blue [star] to the tree", "a red star to the tree"
QUICK = ("--steps", "4", "--seed", "1")
PTI = ("edit", "house.png", TARGET, "--method", "pti", *QUICK)
FEW = {
    "diffedit": ("--set", "maps=2"),
    "imagic": ("--set", "embedding_steps=1", "--set", "model_steps=1"),
    "p2p": ("--source", SOURCE, "--set", "inner_steps=1"),
}


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


@pytest.fixture(scope="module")
def inversions(tiny_starters, tmp_path_factory):
    """A folder with ``any.safetensors``, which serves any target, and ``one.safetensors``, which serves ``TARGET``."""
    place = tmp_path_factory.mktemp("inverted")
    told = ((("--source", SOURCE), "any"), ((TARGET, "--inner-steps", "2"), "one"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOWTELL_STARTERS", str(tiny_starters))
        patch.chdir(place)
        pictures.plain().save("house.png")
        for words, name in told:
            assert main(["invert", "house.png", *words, "-o", f"{name}.safetensors", "--steps", "4"]) == 0
    return place


@pytest.fixture
def inverted(folder, inversions):
    """The working directory with these files."""
    shutil.copytree(inversions, folder, dirs_exist_ok=True)


@pytest.mark.parametrize("method", ["pti", "ddim-edit", "diffedit", "sdedit", "p2p", "imagic"])
def test_every_method_takes_the_base_starter_by_itself_and_replays(method, cli):
    more = FEW.get(method, ())
    result = cli("edit", "house.png", TARGET, "--method", method, "-o", "out.png", "--json", *QUICK, *more)
    assert result.code == 0, result.err
    made = result.json["recipe"]
    assert (made["model"]["id"], made["method"]["name"], made["instructions"]) == ("starter-base", method, [TARGET])
    again = cli("replay", "out.png", "-o", "again.png")
    assert again.code == 0 and "the pixels are the same as in out.png" in again.err, again.err


def test_the_command_line_and_python_give_the_same_pixels(cli):
    told = (
        "--source",
        SOURCE,
        "--set",
        "eta=0.5",
        "--set",
        'reweight={"blue": 2}',
        "--save-masks",
        "--negative",
        "red",
    )
    result = cli(*PTI, "-o", "out.png", *told)
    assert result.code == 0, result.err
    assert result.out.splitlines()[1:] == ["wrote out.mask1.png", "wrote out.overlay.png"]
    edit = showtell.load("starter-base", device="cpu").edit(
        "house.png", TARGET, method="pti", source=SOURCE, eta=0.5, reweight={"blue": 2}, num_inference_steps=4, seed=1,
        negative_prompt="red",
    )  # fmt: skip
    assert np.array_equal(pixels("out.png"), np.asarray(edit.image))
    assert np.array_equal(pixels("out.mask1.png") > 0, edit.masks[0])


@pytest.mark.parametrize("file", ["any", "one"])
def test_an_edit_from_an_inversion_is_made_again_without_its_file(file, inverted, cli):
    result = cli(
        "edit", "house.png", TARGET, "--inversion", f"{file}.safetensors", "-o", "out.png", "--seed", 1, "--json"
    )
    assert result.code == 0, result.err
    made = result.json["recipe"]
    assert made["method"]["name"] == "pti" and made["method"]["parameters"]["num_inference_steps"] == 4
    assert made["inversion"]["target"] == (TARGET if file == "one" else None)
    assert made["method"]["parameters"]["inner_steps"] == made["inversion"]["settings"]["inner_steps"]
    Path(f"{file}.safetensors").unlink()
    again = cli("replay", "out.png", "-o", "again.png")
    assert again.code == 0 and again.err == "note: the pixels are the same as in out.png\n", again.err


def test_a_replay_of_another_picture_says_that_the_inversion_is_another(inverted, cli):
    assert cli("edit", "house.png", TARGET, "--inversion", "any.safetensors", "-o", "out.png").code == 0
    Image.open("house.png").rotate(180).save("other.png")
    again = cli("replay", "out.png", "--input", "other.png", "-o", "again.png")
    assert again.code == 0 and "is not quite the one that was used" in again.err and "the pixels differ" in again.err


def test_an_edit_from_an_inversion_of_the_same_target_is_the_edit_by_itself(cli):
    assert cli(*PTI, "-o", "alone.png").code == 0
    assert cli("invert", "house.png", TARGET, "-o", "one.safetensors", "--steps", "4").code == 0
    assert cli("edit", "house.png", TARGET, "--inversion", "one.safetensors", "-o", "out.png", "--seed", 1).code == 0
    assert abs(pixels("alone.png") - pixels("out.png")).max() <= 1


def test_a_strip_of_etas(cli):
    told = ("--strip", "etas.png", "--etas", "0,0.5,1", "--set", "eta=0.5")
    result = cli(*PTI, "-o", "out.png", *told, "--json")
    assert result.code == 0, result.err
    assert (result.json["strip"], result.json["etas"]) == ("etas.png", [0, 0.5, 1]) and result.json["psnr"] > 0
    assert result.json["recipe"]["method"]["parameters"]["eta"] == 0.5
    assert Image.open("etas.png").width > 5 * 192, "the picture, its reconstruction, and three edits"
    assert cli(*PTI, "-o", "alone.png", "--set", "eta=0.5").code == 0
    assert abs(pixels("alone.png") - pixels("out.png")).max() <= 1
    again = cli("replay", "out.png", "-o", "again.png")
    assert "the pixels are the same" in again.err, again.err


def test_a_strip_from_a_file_and_with_an_eta_of_its_own(inverted, cli):
    told = ("--inversion", "any.safetensors", "--strip", "etas.png", "--etas", "0,1", "--set", "eta=0.25")
    result = cli("edit", "house.png", "a green tree", "-o", "out.png", *told)
    assert result.code == 0 and result.out.splitlines()[1] == "wrote etas.png", result.err
    assert recipe.read("out.png").method.parameters["eta"] == 0.25
    cli("edit", "house.png", "a green tree", "-o", "new.png", *told).refused("etas.png: exists already")


def test_methods_side_by_side(inverted, cli):
    told = ("--compare", "ddim-edit,diffedit,pti", "--inversion", "any.safetensors", "--set", "maps=2")
    result = cli("edit", "house.png", TARGET, "-o", "out.png", *told, "--source", SOURCE, "--seed", 1, "--save-masks")
    assert result.code == 0, result.err
    alone = cli("edit", "house.png", TARGET, "-o", "alone.png", "--inversion", "any.safetensors", "--seed", 1)
    assert alone.code == 0 and np.array_equal(pixels("alone.png"), pixels("out.pti.png"))
    assert {recipe.read(f"out.{name}.png").source for name in ("ddim-edit", "diffedit", "pti")} == {SOURCE}
    assert Path("out.diffedit.mask1.png").is_file() and Image.open("out.png").width > 4 * 256


def test_a_learned_word(cli, folder):
    word = showtell.tokens.LearnedToken(word="<toy>", vectors=looks.torch.randn(2, 16))
    word.save("toy.safetensors")
    result = cli("edit", "house.png", "a <toy> to the tree", "--method", "sdedit", "--token", "toy.safetensors", "-o",
                 "out.png", *QUICK)  # fmt: skip
    assert result.code == 0, result.err
    assert "replay this edit with --token toy.safetensors" in result.err
    again = cli("replay", "out.png", "--token", "toy.safetensors", "-o", "again.png")
    assert again.code == 0 and again.err == "note: the pixels are the same as in out.png\n", again.err


# What a user can get wrong.

P = ["edit", "house.png", TARGET, "-o", "o.png"]
BEFORE = {
    "a source for an instruction": ([*P, "--source", SOURCE], "--source is for methods that are told what the result"),
    "an inversion for foi": ([*P, "--method", "foi", "--inversion", "any.safetensors"], "--inversion is for methods"),
    "no source for p2p": ([*P, "--method", "p2p"], "method 'p2p' needs --source"),
    "an empty source": ([*P, "--method", "pti", "--source", " "], "--source is empty"),
    "an empty target": (["edit", "house.png", " ", "-o", "o.png", "--method", "pti"], "the target is empty: say what"),
    "no target": (["edit", "house.png", "-o", "o.png", "--method", "pti"], "the target is missing: say what"),
    "another picture": (["edit", "other.png", "x", "-o", "o.png", "--inversion", "any.safetensors"], "of another picture"),
    "another target": (["edit", "house.png", "x", "-o", "o.png", "--inversion", "one.safetensors"], "and belongs to it"),
    "other steps": ([*P, "--inversion", "any.safetensors", "--steps", "30"], "num_inference_steps=4, not as num_infer"),
    "other tuning": ([*P, "--inversion", "one.safetensors", "--set", "inner_steps=5"], "made with inner_steps=2"),
    "truncated": ([*P, "--inversion", "cut.safetensors"], "cut.safetensors: cannot be read as an inversion"),
    "no inversion": ([*P, "--inversion", "night.safetensors"], "night.safetensors: is not an inversion"),
    "not there": ([*P, "--inversion", "none.safetensors"], "none.safetensors: no such file"),
    "a wrong name": ([*P, "--method", "pti", "--set", "eat=1"], "'eat' is not a hyper-parameter of method 'pti'"),
    "ratio 0": ([*P, "--method", "pti", "--set", "encoding_ratio=0"], "encoding_ratio=0 is out of range"),
    "ratio 2": ([*P, "--method", "ddim-edit", "--set", "encoding_ratio=2"], "encoding_ratio=2 is out of range"),
    "eta 2": ([*P, "--method", "pti", "--set", "eta=2"], "eta=2 is out of range"),
    "a pair for words": ([*P, "--method", "pti", "--before", "house.png", "--after", "other.png"], "takes no --before"),
    "a strip of another method": ([*P, "--method", "ddim-edit", "--strip", "s.png"], "--strip shows the eta of method pti"),
    "a strip of several": ([*P, "--compare", "pti,sdedit", "--strip", "s.png"], "--strip shows the eta of method pti"),
    "etas of no strip": ([*P, "--method", "pti", "--etas", "0,1"], "say with --strip where"),
    "etas that are none": ([*P, "--method", "pti", "--strip", "s.png", "--etas", "0;1"], "such as 0,0.5,1"),
    "etas out of range": ([*P, "--method", "pti", "--strip", "s.png", "--etas", "0,2"], "from 0 to 1"),
    "a strip that is no PNG": ([*P, "--method", "pti", "--strip", "s.jpg"], "must end in .png"),
    "a token that is none": ([*P, "--method", "pti", "--token", "house.png"], "house.png: cannot be read as a learned word"),
    "a source for nobody": ([*P, "--compare", "ip2p,foi", "--source", SOURCE], "--source is for methods"),
}  # fmt: skip
AFTER = {
    "an instruct model": ([*P, "--method", "pti", "--model", "starter"], "needs a base model"),
    "another model": ([*P, "--inversion", "any.safetensors", "--model", "other"], "was made with other weights"),
    "another fit": ([*P, "--inversion", "any.safetensors", "--fit", "pad"], "was made with fit 'fit'"),
    "a long target": (["edit", "house.png", "tree " * 99, "-o", "o.png", "--method", "sdedit"], "does not fit"),
    "an unknown word": ([*P, "--method", "pti", "--set", 'reweight={"boat": 2}'], "'boat' is not a word of the target"),
    "nan": ([*P, "--method", "pti", "--steps", "4", "--set", "learning_rate=1e30"], "the tuning broke at step"),
    "models of two kinds": ([*P, "--compare", "ip2p,pti"], "compare them in two calls"),
}  # fmt: skip


@pytest.fixture(scope="module")
def kept(tiny_starters, tmp_path_factory):
    """A folder with inversions of ``house.png``, and with files that are none."""
    import torch

    place = tmp_path_factory.mktemp("inversions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOWTELL_STARTERS", str(tiny_starters))
        base, instruct = (showtell.load(name, device="cpu") for name in ("starter-base", "starter"))
    pictures.plain().save(place / "house.png")
    for name, target in (("any", None), ("one", TARGET)):
        base.invert(place / "house.png", target, num_inference_steps=4, inner_steps=2).save(
            place / f"{name}.safetensors"
        )
    (place / "cut.safetensors").write_bytes((place / "any.safetensors").read_bytes()[:-99])
    looks.made(instruct.pipe).save(place / "night.safetensors")
    with torch.no_grad():
        base.pipe.unet.conv_in.weight += 0.1
    base.pipe.save_pretrained(place / "other")
    return place


@pytest.fixture
def ready(folder, kept):
    """The working directory with these files, and with another picture in it."""
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    pictures.plain().rotate(180).save("other.png")


@pytest.mark.parametrize("name", BEFORE)
def test_what_makes_no_sense_is_found_before_a_model_is_loaded(name, ready, cli, unchanged):
    args, said = BEFORE[name]
    unchanged(begin=True)
    cli(*args, "--model", "no-such-model").refused(said)
    unchanged()


@pytest.mark.parametrize("name", AFTER)
def test_what_only_the_model_can_tell_is_one_line_too(name, ready, cli, unchanged):
    args, said = AFTER[name]
    unchanged(begin=True)
    cli(*args).refused(said)
    unchanged()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"inversion": "abc"}, "inversion"),
        ({"inversion.method": "magic"}, "inversion.method: 'magic' is not known"),
        ({"inversion.settings": {}}, "inversion.settings: "),
        ({"inversion.settings.checkpoint": "house.png"}, "inversion.settings: checkpoint"),
        ({"inversion.settings.inner_steps": -3}, "inversion: inner_steps=-3"),
        ({"inversion.target": None}, "inversion: start='target' needs a target"),
        ({"method.parameters.eta": 7}, "eta=7"),
    ],
)
def test_a_damaged_recipe_is_one_line(damage, said, ready, cli, unchanged):
    assert cli("edit", "house.png", TARGET, "--inversion", "one.safetensors", "-o", "out.png").code == 0
    picture = Image.open("out.png")
    told = json.loads(picture.text["showtell"])
    for place, value in damage.items():
        at, (*path, last) = told, place.split(".")
        for part in path:
            at = at[part]
        at[last] = value
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("showtell", json.dumps(told))
    picture.save("bad.png", pnginfo=chunks)
    unchanged(begin=True)
    cli("replay", "bad.png", "-o", "again.png").refused(said)
    unchanged()
