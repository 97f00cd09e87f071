"""`showtell caption`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from showtell.inversion import pez
from showtell.metrics.clip import Clip
from tests.cli import pictures

QUICK = ("--tokens", "4", "--steps", "10")


def test_the_caption_is_on_stdout_and_all_else_on_stderr(cli):
    result = cli("caption", "house.png", "--seed", "3", *QUICK)
    found = pez.caption("house.png", clip=Clip.load(), num_tokens=4, steps=10, seed=3)
    assert (result.code, result.out) == (0, f"{found.text}\n")
    assert f"similarity {found.similarity:.3f} to starter-clip after 10 steps (seed 3)" in result.err


def test_json_has_all_of_it(cli):
    result = cli("caption", "house.png", "--seed", "3", "--json", *QUICK)
    found = pez.caption("house.png", clip=Clip.load(), num_tokens=4, steps=10, seed=3)
    assert result.err == ""
    told = result.json
    assert (told["text"], told["ids"], told["steps"], told["seed"]) == (found.text, list(found.ids), 10, 3)
    assert told["similarity"] == pytest.approx(found.similarity, abs=1e-6) and told["fits"] == found.fits
    assert (told["clip"], told["written"]) == ("starter-clip", None)


def test_a_drawn_seed_is_printed_and_repeats_the_caption(cli):
    first = cli("caption", "house.png", "--json", *QUICK).json
    assert cli("caption", "house.png", "--json", "--seed", first["seed"], *QUICK).json == first


def test_a_file_is_written_and_kept(cli, unchanged):
    args = ("caption", "house.png", "-o", "house.txt", *QUICK)
    result = cli(*args, "--seed", "3")
    assert result.code == 0 and "wrote house.txt" in result.err
    assert Path("house.txt").read_text(encoding="utf-8") == result.out
    unchanged(begin=True)
    cli(*args).refused("house.txt: exists already")
    unchanged()
    assert cli(*args, "--force", "--json").json["written"] == "house.txt"


def test_a_caption_that_is_too_long_is_said(cli, monkeypatch):
    long = pez.Caption(text="a red star", ids=(1, 2, 3), similarity=0.5, steps=9, fits=False)
    monkeypatch.setattr(pez, "caption", lambda *args, **options: long)
    result = cli("caption", "house.png", "--tokens", "2", "--json")
    assert result.json["fits"] is False and "at most 2 tokens" in result.json["notes"][0]


def test_an_exported_clip_in_a_folder_does_as_well(cli):
    assert cli("models", "export", "starter-clip", "folder").code == 0
    told = [
        cli("caption", "house.png", "--seed", "3", "--json", "--clip", c, *QUICK) for c in ("folder", "starter-clip")
    ]
    assert told[0].json["text"] == told[1].json["text"]


def test_only_the_first_frame_is_described_and_said(cli):
    pictures.animated(Path("in.gif"))
    result = cli("caption", "in.gif", *QUICK)
    assert result.code == 0 and "3 frames" in result.err


WRONG = {
    "no picture": (["in.png"], "in.png: no such file"),
    "no tokens": (["house.png", "--tokens", "0"], "num_tokens=0"),
    "too many tokens": (["house.png", "--tokens", "76"], "num_tokens=76"),
    "no steps": (["house.png", "--steps", "0"], "steps=0"),
    "steps in words": (["house.png", "--steps", "ten"], "'--steps'"),
    "unknown clip": (["house.png", "--clip", "no-such-clip"], "no-such-clip: cannot be loaded"),
    "no CLIP in the folder": (["house.png", "--clip", "empty"], "empty: cannot be loaded"),
    "no folder": (["house.png", "-o", "a/b.txt"], "the folder a does not exist"),
    "a folder": (["house.png", "-o", "empty"], "empty: is a folder"),
    "negative seed": (["house.png", "--seed", "-1"], "'--seed'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_one_line(name, cli, folder, unchanged):
    Path("empty").mkdir()
    args, said = WRONG[name]
    unchanged(begin=True)
    cli("caption", *args).refused(said)
    unchanged()


def test_what_is_wrong_is_found_before_a_model_is_loaded(cli, monkeypatch, tiny_starters):
    """With no model to load, another fault is still the one that is told."""
    monkeypatch.setenv("SHOWTELL_STARTERS", "gone")
    for args, said in (WRONG["no picture"], WRONG["no tokens"], WRONG["no folder"]):
        cli("caption", *args).refused(said)
    shutil.copyfile("house.png", "again.png")
    cli("caption", "again.png", *QUICK).refused("starter-clip: cannot be loaded")
