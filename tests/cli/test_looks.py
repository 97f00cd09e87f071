"""`showtell models looks`."""

from __future__ import annotations

import dataclasses
import math
import weakref
from pathlib import Path

import pytest
import torch
from PIL import Image

from showtell.learned import LearnedFor, LearnedInstruction


def made(**changes) -> LearnedInstruction:
    """A learned instruction that nothing was learned for."""
    generator = torch.Generator().manual_seed(0)
    embeds = torch.randn(77, 16, generator=generator)
    thumbnail = (Image.new("RGB", (64, 48), "red"), Image.new("RGB", (64, 48), "blue"))
    look = LearnedInstruction(
        embeds=embeds, empty_embeds=embeds * 0.5, ids=tuple(range(77)), span=(1, 5), thumbnails=(thumbnail,),
        model=LearnedFor(id="starter", text_encoder="a", weights="b"),
        how={"init_words": "make it red", "steps_done": 200, "kept_step": 150, "kept_loss": 0.0625, "pairs": [{}, {}]},
    )  # fmt: skip
    return dataclasses.replace(look, **changes)


@pytest.fixture
def shelf(folder) -> Path:
    """A folder with two learned instructions and other things."""
    shelf = folder / "shelf"
    shelf.mkdir()
    made().save(shelf / "ink.safetensors")
    made(thumbnails=(), how={}).save(shelf / "bare.safetensors")
    whole = (shelf / "ink.safetensors").read_bytes()
    (shelf / "cut.safetensors").write_bytes(whole[:-100])
    (shelf / "late.learning.safetensors").write_bytes(b"")
    (shelf / "sub.safetensors").mkdir()
    (shelf / "notes.txt").write_text("not looked at")
    return shelf


def test_each_is_listed_with_what_it_was_learned_from(shelf, cli):
    result = cli("models", "looks", "shelf")
    assert result.code == 0
    rows = [line.split() for line in result.out.splitlines()]
    assert [row[0] for row in rows] == ["name", "bare", "ink"]
    assert rows[2][:9] == ["ink", "4", "starter", "make", "it", "red", "200", "0.0625", "2"]


def test_json_and_the_files_that_are_none(shelf, cli):
    told = cli("models", "looks", "shelf", "--json").json
    bare, ink = told["looks"]
    assert (ink["file"], ink["name"], ink["tokens"], ink["model"]) == ("ink.safetensors", "ink", 4, "starter")
    assert (ink["init"], ink["steps_done"], ink["kept_loss"], ink["pairs"]) == ("make it red", 200, 0.0625, 2)
    assert ink["bytes"] == (shelf / "ink.safetensors").stat().st_size and ink["noise"] is False
    assert (bare["steps_done"], bare["kept_loss"], bare["pairs"]) == (None, None, None)
    reasons = {other["file"]: other["reason"] for other in told["others"]}
    assert reasons["cut.safetensors"].startswith("cannot be read as a learned instruction")
    assert reasons["late.learning.safetensors"].startswith("is an unfinished learning")
    assert set(reasons) == {"cut.safetensors", "late.learning.safetensors"}


def test_a_sheet_of_their_pairs(shelf, cli, unchanged):
    result = cli("models", "looks", "shelf", "-o", "sheet.png")
    assert result.code == 0 and result.out.endswith("wrote sheet.png\n")
    colours = {colour for _, colour in Image.open("sheet.png").convert("RGB").getcolors(2**20)}
    assert {(255, 0, 0), (0, 0, 255)} <= colours
    cli("models", "looks", "shelf", "-o", "sheet.png").refused("sheet.png: exists already")


def test_a_folder_without_any(folder, cli, unchanged):
    result = cli("models", "looks", ".", "-o", "sheet.png", "--json")
    assert result.code == 0 and result.json["looks"] == [] and result.json["written"] is None
    assert result.json["notes"] == ["sheet.png was not written: there is nothing to show"]
    assert cli("models", "looks", ".").out == ".: no learned instructions\n"
    unchanged()


@pytest.mark.parametrize(
    "how",
    [
        {"steps_done": "many", "kept_loss": [1], "pairs": 7, "init_words": {"a": 1}},
        {"steps_done": 10**400, "kept_loss": 10**400, "kept_step": -1, "pairs": {"a": 1}, "init_words": ["red"]},
        {"steps_done": 2.5, "kept_loss": -math.inf, "mixed": "\x1b[2J"},
        {"steps_done": None, "kept_loss": True},
        {"steps_done": True, "kept_loss": math.nan, "init_words": "\x1b[31mred\nand\u202e more " + "x" * 500},
    ],
)
def test_what_a_file_says_of_itself_is_not_trusted(how, folder, cli):
    made(how=how, model=LearnedFor(id="\x1b[2J", text_encoder="", weights="")).save("odd.safetensors")
    result = cli("models", "looks", ".", "-o", "sheet.png")
    assert result.code == 0, result.err
    assert "\x1b" not in result.out and "\u202e" not in result.out and len(result.out.splitlines()) == 3
    row = cli("models", "looks", ".", "--json").json["looks"][0]
    assert row["steps_done"] is row["kept_step"] is row["kept_loss"] is row["pairs"] is None and not row["mixed"]


def test_names_of_files_are_not_obeyed(folder, cli):
    made().save("\x1b[31mred.safetensors")
    Path("\x1b[32m\x9b5m\ngreen.safetensors").write_bytes(b"")
    result = cli("models", "looks", ".", "-o", "sheet.png")
    assert result.code == 0 and len(result.out.splitlines()) == 3 and len(result.err.splitlines()) == 1
    told = cli("models", "looks", ".", "--json")
    for text in (result.out, result.err, told.out):
        assert "\x1b" not in text and "\x9b" not in text
    assert told.json["looks"][0]["file"] == "\x1b[31mred.safetensors"
    assert told.json["others"][0]["file"] == "\x1b[32m\x9b5m\ngreen.safetensors"


def test_one_file_is_held_at_a_time(shelf, cli, monkeypatch):
    alive, load = weakref.WeakSet(), LearnedInstruction.load

    def watched(path):
        assert len(alive) <= 1
        alive.add(look := load(path))
        return look

    monkeypatch.setattr(LearnedInstruction, "load", staticmethod(watched))
    for name in ("third", "fourth"):
        made().save(shelf / f"{name}.safetensors")
    assert cli("models", "looks", "shelf", "-o", "sheet.png").code == 0


WRONG = {
    "no folder": (["none"], "none: no such folder"),
    "a file": (["house.png"], "house.png: is a file"),
    "a name too long": (["x" * 300], "cannot be read"),
    "another kind of sheet": (["shelf", "-o", "sheet.jpg"], "must end in .png"),
    "no folder for the sheet": (["shelf", "-o", "none/sheet.png"], "the folder none does not exist"),
    "nothing named": ([], "DIR"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_one_line(name, shelf, cli, unchanged):
    args, said = WRONG[name]
    unchanged(begin=True)
    cli("models", "looks", *args).refused(said)
    unchanged()
