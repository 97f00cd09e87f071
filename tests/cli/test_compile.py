"""`showtell edit --compile` and `showtell batch --compile`: the same pictures, and how long it took."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow


def test_compiled_edits_are_the_same_pictures_and_tell_the_seconds(cli, folder):
    told = ("edit", "house.png", "make it red", "--steps", 2, "--seed", 1)
    assert cli(*told, "-o", "plain.png").code == 0
    done = cli(*told, "-o", "compiled.png", "--compile", "--json")
    assert done.code == 0, done.err
    assert any(note.startswith("compiled in ") for note in done.json["notes"])
    plain, compiled = (np.asarray(Image.open(folder / name), dtype=int) for name in ("plain.png", "compiled.png"))
    assert np.abs(plain - compiled).max() <= 1


def test_a_compiled_batch_is_the_same_batch(cli, folder):
    (folder / "in").mkdir()
    Image.open("house.png").save("in/one.png")
    assert cli("batch", "in", "make it red", "-o", "plain", "--steps", 2).code == 0
    done = cli("batch", "in", "make it red", "-o", "compiled", "--steps", 2, "--compile")
    assert done.code == 0, done.err
    plain, compiled = (np.asarray(Image.open(folder / name / "one.png"), dtype=int) for name in ("plain", "compiled"))
    assert np.abs(plain - compiled).max() <= 1
