"""`showtell token`: all is well, everything is wrong, and a stop in the middle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import showtell
from showtell.tokens import LearnedToken
from tests.cli import pictures
from tests.helpers import tiny

QUICK = ("--steps", "3", "--batch-size", "2", "--init", "house")
TOKEN = ("token", "house.png", "-o", "toy.safetensors", *QUICK)


def test_it_says_what_it_wrote_and_diffusers_loads_it(folder, cli):
    result = cli(*TOKEN)
    assert result.code == 0 and result.out.startswith("wrote toy.safetensors (seed 0): <toy> after 3 steps, loss ")
    assert sorted(p.name for p in folder.iterdir()) == ["house.png", "toy.safetensors"]
    pipe = tiny.pipeline("base")
    pipe.load_textual_inversion("toy.safetensors")
    assert "<toy>" in pipe.tokenizer.get_vocab()


def test_json_and_the_same_as_python(folder, cli):
    pictures.plain(32, 40).save("other.png")
    told = cli(
        "token", "house.png", "other.png", "--word", "<hut>", "-o", "hut.safetensors", *QUICK, "--vectors", "2",
        "--template", "make {} red", "--template", "{}", "--no-mirror", "--seed", "4", "--device", "cpu", "--json",
    ).json  # fmt: skip
    assert (told["written"], told["word"], told["vectors"], told["seed"]) == ("hut.safetensors", "<hut>", 2, 4)
    assert (
        told["steps_done"] == 3 and told["how"]["templates"] == ["make {} red", "{}"] and told["how"]["mirror"] is False
    )
    assert [picture["path"] for picture in told["how"]["pictures"]] == ["house.png", "other.png"]
    editor = showtell.load("starter-base", device="cpu")
    found = editor.learn_token(
        ["house.png", "other.png"], "<hut>", steps=3, batch_size=2, init="house", num_vectors=2, mirror=False, seed=4,
        templates=["make {} red", "{}"],
    )  # fmt: skip
    assert torch.equal(LearnedToken.load("hut.safetensors").vectors, found.vectors)


def test_a_style_has_sentences_of_its_own(cli):
    assert cli(*TOKEN, "--style", "--json").json["how"]["templates"] == "style"


def test_nothing_is_overwritten_without_force(cli, unchanged):
    assert cli(*TOKEN).code == 0
    unchanged(begin=True)
    cli(*TOKEN, "--seed", "9").refused("toy.safetensors: exists already")
    unchanged()
    assert cli(*TOKEN, "--seed", "9", "--force").code == 0
    assert LearnedToken.load("toy.safetensors").how["seed"] == 9


def test_stopped_it_goes_on_to_the_same_word(cli):
    assert cli(*TOKEN).code == 0
    whole = LearnedToken.load("toy.safetensors").vectors
    Path("toy.safetensors").unlink()
    editor = showtell.load("starter-base")
    with pytest.raises(KeyboardInterrupt):  # what a kill leaves
        _stopped(editor, Path("toy.learning.safetensors"))
    cli(*TOKEN).refused("toy.learning.safetensors: holds an unfinished learning")
    cli(*TOKEN, "--resume", "--word", "<doll>").refused("belongs to another learning")
    assert cli(*TOKEN, "--resume").code == 0
    assert torch.equal(LearnedToken.load("toy.safetensors").vectors, whole)
    assert not Path("toy.learning.safetensors").exists()
    again = cli(*TOKEN, "--resume", "--force")
    assert again.code == 0 and "nothing to go on from" in again.err


def _stopped(editor, kept):
    from showtell import teaching

    def stop(i, n, loss):
        if i == 2:
            raise KeyboardInterrupt

    teaching.teach(editor, "house.png", steps=3, batch_size=2, init="house", checkpoint=kept, callback=stop)


@pytest.mark.parametrize(
    "args, culprit",
    [
        (("token", "none.png", "-o", "toy.safetensors"), "none.png"),
        (
            ("token", "house.png", "-o", "toy.bin"),
            "toy.bin: the name of a learned word's file must end in .safetensors",
        ),
        (("token", "house.png", "-o", "nowhere/toy.safetensors"), "the folder nowhere does not exist"),
        (("token", "house.png", "-o", "a.learning.safetensors"), "are for unfinished learnings"),
        ((*TOKEN, "--word", "a toy"), "'a toy' cannot stand in a text"),
        ((*TOKEN, "--word", "house"), "'house' is a word that the model has already"),
        ((*TOKEN, "--steps", "0"), "steps=0"),
        ((*TOKEN, "--lr", "nan"), "learning_rate=nan"),
        ((*TOKEN, "--template", "a house"), "no place for the word"),
        ((*TOKEN, "--model", "starter"), "needs a base model"),
        (("token", "-o", "toy.safetensors"), "IN..."),
        (("token", "house.png"), "--out"),
    ],
)
def test_wrong_use_is_one_line(cli, unchanged, args, culprit):
    cli(*args).refused(culprit)
    unchanged()


def test_small_pictures_are_named(cli):
    pictures.plain(6, 6).save("tiny.png")
    cli("token", "tiny.png", "-o", "toy.safetensors", *QUICK).refused("tiny.png: is 6x6, too small")
