"""Methods of other packages: found by their entry points, and used like those here."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

import showtell
from showtell import methods
from showtell.errors import MethodError
from tests.helpers import outsiders


@pytest.fixture
def installed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(outsiders.install(tmp_path / "site")))


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))


def test_a_class_is_a_method_like_any_other(installed, editor, picture):
    assert "louder" in methods.names() and "ip2p" in methods.names()
    plain, loud = (
        editor.edit(picture, "make it red", method=name, seed=1, num_inference_steps=2) for name in ("ip2p", "louder")
    )
    assert loud.recipe.method.name == "louder" and loud.image.size == picture.size
    assert not np.array_equal(np.asarray(plain.image), np.asarray(loud.image))


def test_a_function_edits_picture_by_picture(installed, editor, picture, tmp_path):
    edit = editor.edit(picture, ["make it [red]", "more"], method="negative", seed=1)
    assert np.array_equal(np.asarray(edit.image), np.asarray(ImageOps.invert(picture)))
    assert edit.recipe.method.parameters == {"grey": False}
    grey = editor.edit([picture, picture], ["a", "b"], method="negative", seed=[1, 2], grey=True)
    assert all(np.ptp(np.asarray(one.image).astype(int), axis=2).max() == 0 for one in grey)
    mask = np.zeros((48, 64), bool)
    mask[:, :32] = True
    half = np.asarray(editor.edit(picture, "a", method="negative", seed=1, mask=mask).image)
    assert np.array_equal(half[:, 32:], np.asarray(picture)[:, 32:]) and not np.array_equal(half, np.asarray(picture))
    edit.save(tmp_path / "out.png")
    again = showtell.replay(tmp_path / "out.png", input=picture, editor=editor)
    assert np.array_equal(np.asarray(again.image), np.asarray(edit.image))


def test_it_joins_a_comparison(installed, editor, picture):
    found = editor.compare(picture, ["red"], methods=["ip2p", "negative"], seed=0, num_inference_steps=1)
    assert list(found) == ["ip2p", "negative"]


@pytest.mark.parametrize(
    ("method", "told", "words"),
    [
        ("broken", "a", "gave no picture but a str"),
        ("smaller", "a", r"gave a picture of \(8, 8\), not of \(64, 48\)"),
        ("negative", None, "failed: nothing was said"),
        ("needy", "a", "'size' has no default value"),
        ("taken", "a", "'kinds' means something else in every method: rename it"),
        ("quits", "a", "failed: 0"),
        ("absent", "a", "is not known: choose one of ip2p, .*louder"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(installed, editor, picture, method, told, words):
    with pytest.raises(MethodError, match=words) as error:
        editor.edit(picture, told, method=method, seed=0)
    assert "\n" not in str(error.value)


def test_a_setting_that_the_function_does_not_have(installed, editor, picture):
    with pytest.raises(MethodError, match="'strength' is not a hyper-parameter of method 'negative', which has: grey"):
        editor.edit(picture, "a", method="negative", strength=1, seed=0)


def test_names_do_not_clash(tmp_path, monkeypatch, editor, picture):
    first = outsiders.install(tmp_path / "one", name="one", points={"mine": "negative", "ip2p": "negative"})
    monkeypatch.syspath_prepend(str(first))
    assert methods.resolve("ip2p") == methods.InstructPix2Pix()  # what is here stays what it is
    second = outsiders.install(tmp_path / "two", name="two", points={"mine": "negative"})
    monkeypatch.syspath_prepend(str(second))
    with pytest.raises(MethodError, match="'mine' is given by .* and by .*: uninstall one of them"):
        methods.resolve("mine")


def test_an_entry_point_that_leads_nowhere(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(outsiders.install(tmp_path / "a", name="ab", points={"lost": "nothing"})))
    with pytest.raises(MethodError, match="'lost': ab:nothing cannot be imported"):
        methods.resolve("lost")
