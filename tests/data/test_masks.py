"""PIE-Bench's run-length masks against the published decoder, written out; pictures with holes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from showtell.data import openers, pie_bench
from showtell.errors import ImageError
from showtell.images import open_picture
from tests.helpers import datasets

SIDE = pie_bench.SIDE
RUNS = st.lists(st.tuples(st.integers(0, SIDE * SIDE - 1), st.integers(0, 3000)), max_size=6)


def literal(encoded: list[int], *, border: bool) -> np.ndarray:
    """What the published evaluation does, pixel by pixel: each run, cut at the end, then the border."""
    flat = [0] * (SIDE * SIDE)
    for start, length in zip(encoded[::2], encoded[1::2], strict=True):
        for pixel in range(start, min(start + length, SIDE * SIDE)):
            flat[pixel] = 1
    mask = np.array(flat, dtype=bool).reshape(SIDE, SIDE)
    if border:
        mask[0, :] = mask[-1, :] = mask[:, 0] = mask[:, -1] = True
    return mask


@settings(max_examples=15)
@given(RUNS, st.booleans())
def test_decoding_is_the_published_one(runs, border):
    encoded = [number for run in runs for number in run]
    decoded = pie_bench.decode(pie_bench.checked_runs(encoded), border=border)
    np.testing.assert_array_equal(decoded, literal(encoded, border=border))


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_there_and_back(seed, share):
    mask = np.random.default_rng(seed).random((SIDE, SIDE)) < share
    again = pie_bench.decode(pie_bench.checked_runs(pie_bench.encode(mask)), border=False)
    np.testing.assert_array_equal(again, mask)


def test_a_run_over_the_end_is_cut_and_one_behind_it_is_refused():
    mask = pie_bench.decode(pie_bench.checked_runs([SIDE * SIDE - 2, 100]), border=False)
    assert mask.sum() == 2 and mask[-1, -2:].all()
    for runs in ([SIDE * SIDE, 1], [-1, 5], [1], [1, 2.0], [True, 1], "1 2", None, [2**40, 1]):
        with pytest.raises(pie_bench.Unusable):
            pie_bench.checked_runs(runs)


def test_masks_come_at_the_pictures_own_size(tmp_path):
    path = datasets.save(tmp_path / "a.png", 1, (SIDE // 4, SIDE // 2))
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[:128, :256] = True
    own = pie_bench._mask(pie_bench.checked_runs(pie_bench.encode(mask)), path, False)
    assert own.shape == (SIDE // 2, SIDE // 4)
    assert own[:64, :64].all() and own.sum() == 64 * 64


@pytest.mark.parametrize("white", [False, True])
def test_a_hole_is_transparent_or_white(white, tmp_path):
    datasets.hole(1, white=white).save(tmp_path / "hole.png")
    np.testing.assert_array_equal(openers.cut_out(open_picture(tmp_path / "hole.png")), datasets.region())


def test_a_picture_without_a_hole_marks_nothing(tmp_path):
    datasets.save(tmp_path / "whole.png", 1)
    with pytest.raises(ImageError, match=r"whole\.png: marks nothing"):
        openers.cut_out(open_picture(tmp_path / "whole.png"))


def test_a_picture_on_its_side_takes_a_mask_that_stands(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    datasets.drawn(1).save(tmp_path / "side.jpg", exif=exif)  # 24 x 16 as stored, 16 x 24 as seen
    standing = datasets.save_mask(tmp_path / "mask.png", datasets.SIZE[::-1])
    openers.check_masks([standing], tmp_path / "side.jpg")
    assert openers.masks([standing], tmp_path / "side.jpg")().shape == datasets.SIZE
