"""Pictures that are unusual and fine: they are edited, and what was done to them is said."""

from __future__ import annotations

import pytest
from PIL import Image

from tests.cli import pictures

KINDS = {
    "cmyk.jpg": lambda path: pictures.plain().convert("CMYK").save(path),
    "grey.png": lambda path: pictures.plain().convert("L").save(path),
    "palette.png": lambda path: pictures.plain().convert("P").save(path),
    "bilevel.png": lambda path: pictures.plain().convert("1").save(path),
    "deep.png": pictures.deep,
    "deep.tiff": pictures.deep,
    "lossy.webp": lambda path: pictures.plain().save(path),
    "one.png": lambda path: pictures.plain(1, 1).save(path),
    "wide.png": lambda path: pictures.plain(300, 7).save(path),
    "odd.png": lambda path: pictures.plain(101, 67).save(path),
}


@pytest.mark.parametrize("name", KINDS)
def test_it_is_edited_at_its_own_size(name, cli, folder):
    KINDS[name](folder / name)
    result = cli("edit", name, "make it red", "-o", "out.png", "--steps", "1")
    assert result.code == 0, result.err
    assert Image.open("out.png").size == Image.open(name).size
    assert ("squeezed" in result.err) if name == "wide.png" else (result.err == "")


def test_of_an_animation_the_first_frame_is_edited_and_said(cli, folder):
    pictures.animated(folder / "moving.gif")
    result = cli("edit", "moving.gif", "make it red", "-o", "out.png", "--steps", "1")
    assert result.code == 0
    assert result.err == "note: moving.gif: has 3 frames; only the first is edited\n"


def test_a_photograph_is_turned_upright(cli, folder):
    pictures.turned(folder / "photo.jpg")
    assert cli("edit", "photo.jpg", "make it red", "-o", "out.png", "--steps", "1").code == 0
    assert Image.open("out.png").size == (20, 40)


def test_transparency_comes_back(cli, folder):
    picture = pictures.plain().convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture.save("glass.png")
    assert cli("edit", "glass.png", "make it red", "-o", "out.png", "--steps", "1").code == 0
    edited = Image.open("out.png")
    assert edited.mode == "RGBA" and edited.getchannel("A").tobytes() == picture.getchannel("A").tobytes()


def test_of_200_words_it_says_what_was_cut(cli):
    words = " ".join(f"word{i}" for i in range(200))
    result = cli("edit", "house.png", words, "-o", "out.png", "--steps", "1")
    assert result.code == 0
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith("note: the instruction is too long") and "word199" in result.err


def test_a_path_with_spaces_and_accents(cli, folder):
    name = "Élan vital – 猫.png"
    pictures.plain().save(folder / name)
    result = cli("edit", name, "make it red", "-o", f"out {name}", "--steps", "1", "--json")
    assert result.code == 0 and result.json["written"] == f"out {name}"
