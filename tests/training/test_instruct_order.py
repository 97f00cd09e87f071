"""Frames, the order of rows and the parts of a step: pure functions, whatever their sizes."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from showtell.errors import UsageError
from showtell.training.instruct import buckets, configuring, draws, settings, stepping
from showtell.training.instruct.buckets import Order


@given(st.integers(64, 1024), st.sampled_from([8, 16, 64]))
def test_frames_are_of_about_the_models_area_and_sides_that_it_can_halve(resolution: int, multiple: int) -> None:
    found = buckets.frames(resolution, multiple)
    side = resolution // multiple * multiple
    assert found[0] == (side, side) and len(set(found)) == len(found)
    assert all((h, w) in found for w, h in found if w <= side)
    for width, height in found:
        assert width % multiple == height % multiple == 0
        assert side * side - multiple * max(width, height) < width * height <= side * side
        assert max(width, height) <= 2.5 * min(width, height)
    assert buckets.frames(resolution, multiple, several=False) == found[:1]


def test_a_resolution_below_the_models_smallest_step_is_refused() -> None:
    with pytest.raises(UsageError, match="data.resolution is 32: the model needs sides that are multiples of 64"):
        buckets.frames(32, 64)


@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(0, 1), st.floats(0, 1))
def test_a_picture_covers_its_frame_and_is_cropped_as_little_as_can_be(w: int, h: int, x: float, y: float) -> None:
    known = buckets.frames(512, 64)
    frame = known[buckets.nearest((w, h), known)]
    left, top, right, bottom = buckets.cover((w, h), frame, (x, y))
    assert -1e-6 <= left < right <= w + 1e-6 and -1e-6 <= top < bottom <= h + 1e-6
    assert (right - left) / (bottom - top) == pytest.approx(frame[0] / frame[1], rel=1e-6)
    assert right - left == pytest.approx(w) or bottom - top == pytest.approx(h)


@pytest.mark.parametrize(
    ("size", "frame"), [((64, 64), (512, 512)), ((400, 300), (576, 448)), ((100, 900), (320, 768))]
)
def test_the_nearest_frame(size, frame) -> None:
    known = buckets.frames(512, 64)
    assert known[buckets.nearest(size, known)] == frame


@st.composite
def orders(draw) -> Order:
    counts = draw(st.lists(st.integers(1, 30), min_size=1, max_size=5))
    bucket = draw(st.permutations([b for b, n in enumerate(counts) for _ in range(n)]))
    kind = draw(st.sampled_from(["random", "shards"]))
    shard = tuple(draw(st.lists(st.integers(0, 6), min_size=len(bucket), max_size=len(bucket))))
    return Order(
        bucket=tuple(bucket), batch_size=draw(st.integers(1, 12)), seed=draw(st.integers(0, 99)), kind=kind, shard=shard
    )


@given(orders(), st.integers(0, 200))
def test_a_batch_is_of_one_bucket_and_the_same_whenever_it_is_asked_for(order: Order, step: int) -> None:
    bucket, rows = order.batch_at(step)
    assert len(rows) == order.batch_size and {order.bucket[row] for row in rows} == {bucket}
    again = Order(**{key: getattr(order, key) for key in ("bucket", "batch_size", "seed", "kind", "shard")})
    assert again.batch_at(step) == (bucket, rows)


@given(orders())
def test_every_row_of_a_bucket_comes_once_before_any_comes_again_and_buckets_have_their_shares(order: Order) -> None:
    steps, total = 60, len(order.bucket)
    seen: dict[int, list[int]] = {}
    for step in range(steps):
        bucket, rows = order.batch_at(step)
        seen.setdefault(bucket, []).extend(rows)
    for bucket, count in Counter(order.bucket).items():
        rows = seen.get(bucket, [])
        for start in range(0, len(rows) - count + 1, count):
            assert len(set(rows[start : start + count])) == count
        assert abs(len(rows) / order.batch_size - steps * count / total) <= len(set(order.bucket))


def test_epochs_and_seeds_differ() -> None:
    one, other = (Order(bucket=(0,) * 50, batch_size=50, seed=seed) for seed in (0, 1))
    assert one.batch_at(0) != one.batch_at(1) and one.batch_at(0) != other.batch_at(0)


def test_shards_are_read_in_long_runs() -> None:
    shards = tuple(i // 10 for i in range(200))
    order = Order(bucket=(0,) * 200, batch_size=40, seed=3, kind="shards", shard=shards)
    found = [{shards[row] for row in order.batch_at(step)[1]} for step in range(5)]
    assert all(len(one) == 4 for one in found) and set.union(*found) == set(range(20))
    assert order.batch_at(0)[1] != sorted(order.batch_at(0)[1])
    long = Order(bucket=(0,) * 8192, batch_size=2048, seed=3, kind="shards")
    assert len({row // 512 for row in long.batch_at(0)[1]}) == 4


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 6))
def test_every_sample_of_a_step_is_taken_once_by_one_process(batch: int, micro: int, world: int) -> None:
    config = configuring.configure({"train": {"batch_size": batch, "micro_batch": micro}})
    parts = [stepping.chunks(config, 7, rank=rank, world=world) for rank in range(world)]
    taken = [position for part in parts for chunk in part for position in chunk.positions]
    assert sorted(taken) == list(range(batch))
    assert all(len(chunk.positions) <= config.micro_batch(world) <= micro for part in parts for chunk in part)
    assert all([chunk.last for chunk in part] == [False] * (len(part) - 1) + [True] for part in parts if part)


def drawn(step: int, position: int, **sections):
    return draws.draw(configuring.configure(sections), step, position, (4, 2, 2))


def test_a_samples_draws_are_its_own_and_no_option_changes_another_ones() -> None:
    plain = drawn(3, 1)
    assert torch.equal(plain.noise, drawn(3, 1, data={"flip": True, "crop": "random"}).noise)
    assert drawn(3, 1, data={"crop": "random"}).crop != (0.5, 0.5) == plain.crop
    others = [drawn(3, 2), drawn(4, 1), drawn(3, 1, seed=1)]
    assert all(not torch.equal(plain.noise, other.noise) and plain.level != other.level for other in others)
    assert not torch.equal(plain.noise, plain.posterior)


def test_dropout_has_the_asked_shares_sample_by_sample() -> None:
    shares = {"drop_text": 0.2, "drop_image": 0.1, "drop_both": 0.3}
    config = configuring.configure({"train": shares, "data": {"flip": True}})
    found = [draws.draw(config, step, 0, (1, 1, 1)) for step in range(3000)]
    kept = Counter((one.text, one.image) for one in found)
    expected = {(False, True): 0.2, (True, False): 0.1, (False, False): 0.3, (True, True): 0.4}
    assert {key: count / 3000 for key, count in kept.items()} == pytest.approx(expected, abs=0.03)
    assert sum(one.flip for one in found) / 3000 == pytest.approx(0.5, abs=0.03)


def test_the_rate_warms_up_and_falls() -> None:
    train = settings.Train(steps=100, learning_rate=1.0, warmup_steps=10, schedule="linear", fall=0.5)
    assert [settings.rate(train, step) for step in (0, 9, 49, 75, 100)] == pytest.approx([0.1, 1, 1, 0.5, 0])
    cosine = settings.Train(steps=100, learning_rate=1.0, schedule="cosine")
    assert [settings.rate(cosine, step) for step in (0, 50, 100)] == pytest.approx([1, 0.5, 0])
    assert settings.rate(settings.Train(steps=100, learning_rate=2.0), 99) == 2
