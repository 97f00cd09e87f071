"""The studio's limits: what is over one is refused in a line that names it, and never tells where the server keeps its files."""

from __future__ import annotations

import dataclasses
import io
import os

import numpy as np
import pytest
from PIL import Image

from showtell.app.limits import Limits
from showtell.errors import ImageError, MethodError, TextError


def png(width: int = 8, height: int = 6, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(file, kind, **options)
    return file.getvalue()


def test_the_defaults():
    limits = Limits()
    assert limits.upload_bytes == 32 * 1024 * 1024 and limits.json_bytes == 8 * 1024 * 1024
    assert (limits.pixels, limits.steps, limits.words, limits.tiles) == (16_000_000, 200, 2000, 36)
    assert (limits.instructions, limits.pairs, limits.learn_steps) == (8, 8, 5000)
    assert (limits.queue, limits.seconds, limits.sessions, limits.history) == (32, 600.0, 64, 40)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
@pytest.mark.parametrize("value", [0, -1, float("nan"), True, "8", None])
def test_a_limit_is_positive(name, value):
    with pytest.raises(MethodError, match=f"the limit {name} is"):
        Limits(**{name: value})


def test_a_picture_by_its_path_keeps_the_bare_name(tmp_path):
    file = tmp_path / "secret folder" / "my house.png"
    file.parent.mkdir()
    file.write_bytes(png())
    picture = Limits().picture(file, "the picture")
    assert picture.size == (8, 6) and picture.path == "my house.png" and picture.sha256
    assert Limits().picture(str(file)).path == "my house.png"
    assert Limits().picture(png(), "the mask").path is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the mask: the file is empty"),
        (b"words", "the mask: is not a picture"),
        (png()[:50], "the mask: is broken"),
        (png(40, 30), "the mask: 40x30 is over the limit of"),
        (png() + bytes(5000), "the mask: 0.00484 MiB is over the limit of 0.00381 MiB"),
    ],
    ids=["empty", "words", "broken", "many pixels", "many bytes"],
)
def test_a_picture_that_is_refused_is_called_by_its_name(tmp_path, data, said):
    limits = Limits(pixels=1000, upload_bytes=4000)
    file = tmp_path / "in  folder.png"
    file.write_bytes(data)
    for source in (file, data):
        with pytest.raises(ImageError) as caught:
            limits.picture(source, "the mask")
        assert str(caught.value).startswith(said)
        assert tmp_path.name not in str(caught.value) and file.name not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.png", ".", "nul\0.png", "x" * 5000])
def test_a_picture_that_is_not_there(tmp_path, name):
    with pytest.raises(ImageError, match="the picture: .*upload it again") as caught:
        Limits().picture(os.path.join(tmp_path, name), "the picture")
    assert tmp_path.name not in str(caught.value)


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="not there any more"):
        Limits().picture(tmp_path / "pipe")


def test_notes_call_a_picture_by_its_name(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert Limits().picture(tmp_path / "moving.gif", "picture 2").notes == (
        "picture 2: has 2 frames; only the first is edited",
    )


@pytest.mark.parametrize("value", [1, 20, 20.0, 200])
def test_a_whole_number(value):
    number = Limits().whole("steps", value, 1, 200)
    assert number == value and type(number) is int


@pytest.mark.parametrize(
    "value", [0, 201, 2.5, -1, True, None, "20", [20], float("nan"), float("inf"), 10**30, -(10**30), {"path": "/etc"}]
)
def test_no_whole_number(value):
    with pytest.raises(MethodError, match="^steps: .* is not a whole number from 1 to 200$") as caught:
        Limits().whole("steps", value, 1, 200)
    assert len(str(caught.value)) < 120


def test_a_text():
    limits = Limits(words=10)
    assert limits.text("line 1", "é" * 10) == "é" * 10
    assert limits.text("line 1", "") == ""
    with pytest.raises(TextError, match="^line 1: 11 characters are too many; write at most 10$"):
        limits.text("line 1", "x" * 11)


@pytest.mark.parametrize("value", [None, 3, ["a"], {"a": 1}, b"a", "\ud800", "nul\0"])
def test_no_text(value):
    with pytest.raises(TextError, match="^line 1: "):
        Limits().text("line 1", value)


def test_a_number_that_python_does_not_print():
    with pytest.raises(MethodError, match="^seed: a huge number is not"):
        Limits().whole("seed", 10**6000, 0, 2**32)
