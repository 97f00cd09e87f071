"""The resize rule, for any size; there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from showtell import fitting
from showtell.errors import MethodError

sides = st.integers(1, 6000)
shapes = st.sampled_from([(512, 64), (768, 64), (64, 16), (64, 8), (128, 16)])


@given(sides, sides, shapes)
def test_sides_are_multiples_and_the_longer_is_near_the_models_size(width, height, shape):
    resolution, multiple = shape
    w, h = fitting.model_size((width, height), resolution=resolution, multiple=multiple)
    assert w % multiple == 0 and h % multiple == 0
    assert min(w, h) >= multiple
    assert resolution <= max(w, h) <= 2 * resolution
    assert (w >= h) == (width >= height) or w == h


@given(sides, sides, shapes)
def test_the_aspect_ratio_changes_by_less_than_the_rounding(width, height, shape):
    resolution, multiple = shape
    w, h = fitting.model_size((width, height), resolution=resolution, multiple=multiple)
    if max(w, h) < 2 * resolution:
        short, long = sorted((w, h))
        exact = short * max(width, height) / min(width, height)
        assert long <= max(exact, resolution) and exact - long < multiple


@given(st.integers(1, 8), st.integers(1, 8))
def test_a_size_that_fits_is_kept(a, b):
    size = (64 * a, 64 * b)
    assert fitting.model_size(size, resolution=max(size), multiple=64) == size


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((512, 512), (512, 512)),
        ((640, 480), (512, 384)),
        ((600, 400), (576, 384)),
        ((480, 640), (384, 512)),
        ((1, 1), (512, 512)),
    ],
)
def test_the_published_rule(size, expected):
    assert fitting.model_size(size, resolution=512, multiple=64) == expected


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from(fitting.FITS))
def test_there_and_back_has_the_inputs_size(width, height, fit):
    image = Image.new("RGB", (width, height), (10, 200, 30))
    frame = fitting.frame_for(image.size, fit=fit, resolution=64, multiple=16)
    inside = fitting.into_frame(image, frame)
    assert inside.size == frame.frame
    back = fitting.out_of_frame(inside, frame, image)
    assert back.size == image.size
    assert np.abs(np.asarray(back, dtype=int) - np.asarray(image, dtype=int)).max() <= 1


@pytest.mark.parametrize("fit", fitting.FITS)
def test_each_fit_keeps_things_in_their_place(fit):
    across, down = np.meshgrid(np.linspace(0, 255, 150), np.linspace(0, 255, 90))
    image = Image.fromarray(np.stack([across, down, across], 2).astype(np.uint8))
    frame = fitting.frame_for(image.size, fit=fit, resolution=64, multiple=16)
    back = fitting.out_of_frame(fitting.into_frame(image, frame), frame, image)
    gap = np.abs(np.asarray(back, dtype=int) - np.asarray(image, dtype=int))
    assert gap.mean() < 2


def test_crop_gives_the_margin_back_untouched():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 110, 3), dtype=np.uint8))
    frame = fitting.frame_for(image.size, fit="crop", resolution=64, multiple=16)
    assert frame.box[0] > 1
    back = fitting.out_of_frame(Image.new("RGB", frame.frame, "red"), frame, image)
    margin = int(frame.box[0])
    assert np.array_equal(np.asarray(back)[:, :margin], np.asarray(image)[:, :margin])
    assert np.asarray(back)[32, 55].tolist() == [255, 0, 0]


def test_pad_keeps_the_aspect_ratio():
    frame = fitting.frame_for((100, 60), fit="pad", resolution=64, multiple=16)
    left, top, right, bottom = frame.inner
    assert abs((right - left) / (bottom - top) - 100 / 60) < 0.05


def test_an_unknown_fit_lists_the_known():
    with pytest.raises(MethodError, match="fit, crop, pad"):
        fitting.frame_for((8, 8), fit="stretch", resolution=64, multiple=16)
