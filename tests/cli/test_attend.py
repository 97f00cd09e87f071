"""`showtell attend`: the map of every word in the first step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import showtell
from showtell import attending, focus, loading, predicting
from showtell.errors import MethodError, TextError
from tests.cli import pictures
from tests.helpers import looks

TOLD = ("make the [circle] red", "add a blue star, please")


def test_every_word_has_a_card(cli):
    result = cli("attend", "house.png", *TOLD, "-o", "words.png", "--seed", "1", "--json")
    assert result.code == 0, result.err
    words = result.json["words"]
    assert [w["word"] for w in words] == ["make", "the", "circle", "red", "add", "a", "blue", "star", "please"]
    assert [w["instruction"] for w in words] == [1] * 4 + [2] * 5
    assert [w["tokens"][0] for w in words[:4]] == [1, 2, 3, 4]
    assert [w["word"] for w in words if w["keyword"]][0] == "circle" and sum(w["keyword"] for w in words) == 2
    for word in words:
        assert 0 <= word["peak"][0] < 40 and 0 <= word["peak"][1] < 32 and word["concentration"] >= 0
    assert (result.json["seed"], result.json["written"], result.json["map_size"]) == (1, "words.png", [10, 8])
    assert Image.open("words.png").width > 800


def test_it_prints_a_table(cli):
    result = cli("attend", "house.png", "the [circle] red", "-o", "words.jpg", "--seed", "2")
    assert result.code == 0 and result.err == ""
    lines = result.out.splitlines()
    assert lines[0].startswith("instruction  word") and lines[-1] == "wrote words.jpg (seed 2)"
    assert [line for line in lines if "keyword" in line] == [line for line in lines if "circle" in line] != []


def test_the_branches_are_a_second_sheet(cli):
    told = ("attend", "house.png", *TOLD, "-o", "words.png", "--seed", "1", "--strength", "0.5")
    alone = cli(*told, "--json")
    assert alone.code == 0 and alone.json["branches"] is None
    words = Path("words.png").read_bytes()
    result = cli(*told, "--branches", "branches.png", "--json", "--force")
    assert result.code == 0, result.err
    assert (result.json["written"], result.json["branches"]) == ("words.png", "branches.png")
    assert {**result.json, "branches": None} == alone.json and Path("words.png").read_bytes() == words
    editor = showtell.load("starter", device="cpu")
    found = predicting.predict(editor, "house.png", list(TOLD), seed=1, strength=0.5)
    assert np.array_equal(np.asarray(Image.open("branches.png")), np.asarray(found.sheet()))


def test_the_sheets_are_told_of(cli):
    result = cli("attend", "house.png", "red", "-o", "words.jpg", "--branches", "branches.png", "--seed", "2")
    assert result.code == 0 and result.err == ""
    assert result.out.splitlines()[-2:] == ["wrote words.jpg (seed 2)", "wrote branches.png"]


def test_branches_with_a_learned_file_and_notes_said_once(cli, starters):
    looks.made(showtell.load("starter", device="cpu").pipe, tokens=4).save("night.safetensors")
    pictures.plain(200, 9).save("long.png")
    result = cli(
        "attend", "long.png", "red", "--learned", "night.safetensors", "-o", "words.png", "--branches", "branches.png"
    )
    assert result.code == 0 and Path("branches.png").is_file(), result.err
    assert result.err.count("too long for the model") == 1 and result.err.count("instruction of its own") == 1


@pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")
def test_the_maps_are_those_that_foi_finds_its_masks_from(editor):
    for maps in ("joined", "apart"):
        options = {"strength": 0.9, "num_inference_steps": 4, "maps": maps}
        found = attending.attend(editor, pictures.plain(32, 32), list(TOLD), seed=3, **options)
        edit = editor.edit(pictures.plain(32, 32), list(TOLD), method="foi", seed=3, gamma=2, tau=0.3, **options)
        for part, mask in enumerate(edit.masks):
            [(word, values)] = [
                (word, values)
                for word, values in zip(found.words, found.maps, strict=True)
                if word.keyword and word.part == part
            ]
            assert word.text == edit.keywords[part]
            expected = focus.focus_mask(torch.from_numpy(values), gamma=2, tau=0.3).numpy()
            shown = np.asarray(Image.fromarray(expected).resize((32, 32), Image.Resampling.NEAREST))
            assert np.array_equal(mask, shown) and mask.any()


def test_the_maps_of_a_sequence_share_out_the_attention(editor):
    found = attending.attend(editor, pictures.plain(), "make the circle red")
    assert found.maps.shape == (4, 8, 10) and found.maps.dtype == np.float32
    assert (found.maps > 0).all() and found.maps.sum(0).max() < 1  # start, end and padding have the rest


def test_a_learned_instruction_is_one_card(editor):
    look = looks.made(editor.pipe, tokens=4)
    found = attending.attend(editor, pictures.plain(), ["<night>", "make the [circle] red"], learned=look)
    assert [word.text for word in found.words] == ["<night>", "make", "the", "circle", "red"]
    assert found.words[0].keyword and len(found.words[0].positions) == 4
    alone = attending.attend(editor, pictures.plain(), learned=look)
    assert [word.text for word in alone.words] == ["<night>"] and alone.sheet().width > 300


def test_nothing_is_left_in_the_model(editor):
    before = dict(editor.pipe.unet.attn_processors)
    attending.attend(editor, pictures.plain(), "red")
    assert editor.pipe.unet.attn_processors == before


def test_a_model_in_which_no_layer_counts_fails_loudly(editor):
    editor.pipe.unet.config.sample_size = 64  # so that 16x16 counts, and its layers have 64x64 and 32x32
    with pytest.raises(MethodError, match="no cross-attention layer of .* was captured"):
        attending.attend(editor, Image.new("RGB", (16, 16)), "red")


def test_what_is_wrong_is_said(editor):
    base = {
        "the instruction is missing": (None, {}),
        "the instruction is empty": (" ", {}),
        "strength=2": ("red", {"strength": 2}),
    }
    for said, (told, options) in base.items():
        with pytest.raises((TextError, MethodError), match=said):
            attending.attend(editor, pictures.plain(), told, **options)
    with pytest.raises(MethodError, match="one picture is looked at"):
        attending.attend(editor, [pictures.plain()], ["red"])


WRONG = {
    "no words": ([], "the instruction is missing"),
    "nothing said": ([" "], "the instruction is empty"),
    "no keyword": (["..."], "has no word that could be its keyword"),
    "brackets": (["make [it red"], "'[' without ']'"),
    "no noise": (["red", "--strength", "0"], "strength=0"),
    "too much noise": (["red", "--strength", "1.1"], "strength=1.1 is out of range"),
    "a file that is there": (["red", "-o", "house.png"], "house.png: exists already"),
    "a kind that is not known": (["red", "-o", "words.xyz"], "words.xyz"),
    "no learned file": (["red", "--learned", "none.safetensors"], "none.safetensors"),
    "a base model": (["red", "--model", "starter-base"], "method 'foi' needs an instruct model"),
    "branches that are no PNG": (["red", "--branches", "b.jpg"], "b.jpg: the sheet of the branches is a PNG"),
    "branches that are there": (["red", "--branches", "house.png"], "house.png: exists already"),
    "branches nowhere": (["red", "--branches", "no/b.png"], "no/b.png: the folder no does not exist"),
    "one name for both sheets": (["red", "--branches", "./words.png"], "words.png: is --out, too"),
    "branches of a base model": (["red", "--branches", "b.png", "--model", "starter-base"], "method 'foi' needs"),
    "a long instruction": (["red " * 90], "does not fit"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_makes_no_sense(name, cli, unchanged):
    args, said = WRONG[name]
    out = [] if "-o" in args else ["-o", "words.png"]
    cli("attend", "house.png", *args, *out).refused(said)
    unchanged()


def test_the_branches_name_is_looked_at_before_a_model_is_loaded(cli, unchanged, monkeypatch):
    monkeypatch.setattr(showtell, "load", None)
    cli("attend", "house.png", "red", "-o", "words.png", "--branches", "b.webp").refused("b.webp: the sheet")
    cli("attend", "house.png", "red", "-o", "b.png", "--branches", "b.png", "--force").refused("b.png: is --out")
    unchanged()


def test_a_picture_that_is_missing(cli, unchanged):
    cli("attend", "none.png", "red", "-o", "words.png").refused("none.png: no such file")
    unchanged()


@pytest.mark.skipif(not loading.starters_dir().is_dir(), reason="the starter models are not here")
def test_the_starters_words_look_where_their_things_are():
    """On the starter: the peak of a thing's name is on the thing, and it is found among all words."""
    editor, hits, kept = showtell.load("starter", device="cpu"), 0, 0
    for seed in range(5):
        case = showtell.scenes.sample(seed, actions=["remove"])
        found = attending.attend(editor, case.before, case.instructions[0], seed=seed)
        [word] = [word for word in found.words if word.keyword]
        kept += case.edits[0].kind in word.text
        hits += bool(case.masks[0][word.peak[1], word.peak[0]])
    assert kept >= 4 and hits >= 4
