"""What controls say: wishes and their limits, grids, painted masks, and recipes that become controls again."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from showtell.app import grids, painted, telling
from showtell.app.library import Library
from showtell.app.limits import Limits
from showtell.app.sessions import Sessions
from showtell.app.telling import Wish
from showtell.app.workshop import Workshop
from showtell.errors import MethodError, ShowtellError, TextError, UsageError


@pytest.fixture
def shop(starters):
    return Workshop("starter", device="cpu")


def test_a_wish_takes_only_what_differs_from_the_methods_own(shop):
    own = shop.defaults("instruct", "ip2p")
    same = Wish(lines=("a",), num_inference_steps=own.num_inference_steps, guidance_scale=own.guidance_scale)
    assert not {"num_inference_steps", "guidance_scale"} & set(same.options(shop, "instruct"))
    other = Wish(lines=("a",), guidance_scale=own.guidance_scale + 1, weights=(0.5,))
    told = other.options(shop, "instruct")
    assert told["guidance_scale"] == own.guidance_scale + 1 and "weights" not in told  # which ip2p has not
    with pytest.raises(MethodError, match="foi"):
        Wish(lines=("a",), masks={0: np.ones((4, 4), bool)}).options(shop, "instruct")


@pytest.mark.parametrize(
    "wish, said",
    [
        (Wish(lines=()), "say what is to change"),
        (Wish(lines=("a",) * 9), "at most 8 lines"),
        (Wish(lines=("a" * 3000,)), "3000 characters"),
        (Wish(lines=("a",), num_inference_steps=1000), "from 1 to 200"),
        (Wish(lines=("a",), negative_prompt="\ud800"), "cannot be written"),
    ],
)
def test_too_much_is_one_line(wish, said):
    with pytest.raises(ShowtellError, match=said):
        wish.check(Limits())


def test_lines_and_numbers():
    assert telling.lines_of(" make it red \n\n  put it   at night ") == ("make it red", "put it at night")
    assert telling.whole("") is None and telling.whole(20.0) == 20
    for wrong in ("x", 1.5, float("nan"), float("inf"), []):
        with pytest.raises(UsageError):
            telling.whole(wrong)


def test_axes():
    limits = Limits()
    across = grids.axis("closeness to the words", "1, 2.5,3")
    assert across.values == (1.0, 2.5, 3.0)
    assert grids.axis("nothing", "7").values == (None,)
    assert grids.seeds(5, 3).values == (5, 6, 7)
    for name, values, said in (
        ("steps", "1.5", "whole numbers"),
        ("steps", "", "write some"),
        ("steps", "1, 1", "twice"),
        ("x", "1", "choose"),
    ):
        with pytest.raises(UsageError, match=said):
            grids.axis(name, values)
    from showtell.methods import FocusOnInstruction, InstructPix2Pix

    with pytest.raises(UsageError, match="two different"):
        grids.check(Wish(lines=("a",)), across, across, InstructPix2Pix(), limits)
    with pytest.raises(UsageError, match="too many"):
        grids.check(Wish(lines=("a",)), grids.seeds(0, 40), grids.Axis(), InstructPix2Pix(), limits)
    with pytest.raises(MethodError, match="eta"):
        grids.check(Wish(lines=("a",)), grids.axis("eta", "0, 1"), grids.Axis(), InstructPix2Pix(), limits)
    with pytest.raises(MethodError, match="weight"):
        grids.check(Wish(lines=("a",)), grids.axis("weight of line 1", "0, 1"), grids.Axis(), InstructPix2Pix(), limits)
    grids.check(
        Wish(lines=("a",)),
        grids.axis("weight of line 1", "0, 1"),
        grids.axis("strength of the noise", "0.5"),
        FocusOnInstruction(),
        limits,
    )


def test_masks_travel_in_the_png(tmp_path, picture):
    file, limits = tmp_path / "a.png", Limits()
    picture(40, 30).save(file)
    plain = file.read_bytes()
    masks = {0: np.arange(1200).reshape(30, 40) % 7 == 0, -1: np.ones((30, 40), bool)}
    file.write_bytes(painted.with_masks(plain, masks))
    found = painted.masks_of(file, limits=limits)
    assert all(np.array_equal(found[number], mask) for number, mask in masks.items()) and len(found) == 2
    with Image.open(file) as image:
        assert image.size == (40, 30)
    assert painted.with_masks(plain, {}) == plain
    for told in (b'{"0": "junk"}', b"[]", b'{"x": ""}', b"{" * 5000):
        data = painted.CHUNK.encode() + b"\0" + told
        file.write_bytes(plain[:-12] + painted._chunk(data) + plain[-12:])
        assert painted.masks_of(file, limits=limits) == {}


def test_a_recipe_becomes_controls(tmp_path, shop, picture):
    library, file = Library(tmp_path / "library"), tmp_path / "edited.png"
    with shop.at_work("instruct") as editor:
        edit = editor.edit(
            picture(), ["make the [thing] red", "erase the [other]"], method="foi", seed=9, weights=[1, 0.5],
            num_inference_steps=3, scheduler="ddim", fit="pad", resolution=64, negative_prompt="fog",
        )  # fmt: skip
    edit.save(file)
    found = telling.restored(file, library, Limits())
    assert found is not None and found.notes == ()
    wish = found.wish
    assert (wish.lines, wish.method, wish.seed, wish.weights) == (edit.recipe.instructions, "foi", 9, (1.0, 0.5))
    assert (wish.scheduler, wish.fit, wish.resolution, wish.negative_prompt) == ("ddim", "pad", 64, "fog")
    assert wish.num_inference_steps == 3
    with shop.at_work("instruct") as editor:
        again = editor.edit(picture(), wish.words, **wish.options(shop, "instruct"))
    assert np.array_equal(np.asarray(again.image), np.asarray(edit.image))
    picture().save(tmp_path / "plain.png")
    assert telling.restored(tmp_path / "plain.png", library, Limits()) is None


def test_sessions_are_few_and_each_has_its_own(tmp_path):
    sessions = Sessions(tmp_path, Limits(sessions=3))
    first = sessions.of("tab", None)
    assert sessions.of("tab", None) is first
    assert sessions.of("tab", "somebody") is not first
    for number in range(5):
        sessions.of(f"other-{number}", None)
    assert len(sessions) == 3 and not first.folder.exists()
    working = sessions.of("working", None)
    run = working.begin()
    for number in range(5):
        sessions.of(f"more-{number}", None)
    assert sessions.of("working", None) is working  # nobody at work is sent away
    working.end(run)
    sessions.leave("working", None)
    assert run.cancelled() or working.run is None
    for wrong in (None, "", "x" * 300):
        with pytest.raises(ShowtellError):
            sessions.of(wrong, None)
    sessions.close()
    assert len(sessions) == 0 and not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_words_are_needed_where_a_learned_edit_is_missing(tmp_path):
    with pytest.raises(TextError, match="<nobody>"):
        telling.called(Library(tmp_path / "library"), ["<nobody> at night"])


def test_what_waits_in_line_is_stopped_and_two_clicks_are_one(tmp_path):
    session = Sessions(tmp_path, Limits()).of("tab", None)
    assert session.turn(0) == session.turn("junk") == "wanted"  # of an endpoint, which does not ask before
    first, second = session.ask(), session.ask()
    assert session.turn(second.number) == "twice" and session.turn(first.number) == "wanted"
    run = session.begin()
    assert session.ask().state == "twice"  # while one is running
    assert session.stop() and run.cancelled() and session.run is None
    session.waiting.clear()
    lost = session.ask()  # the line is full: it never has its turn
    lost.asked -= 60
    later = session.ask()
    assert session.turn(later.number) == "wanted"
    assert session.stop() and session.turn(lost.number) == "stopped"
    assert not session.stop()
    for _ in range(100):
        session.ask()
    assert len(session.waiting) < 50
