"""The telling room, clicked and typed through in a browser as a person would."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio")

import showtell
from tests.helpers import browser as browsers
from tests.helpers.rooms import Rooms


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A scene's file, and the case."""
    case = showtell.scenes.sample(24, edits=2)
    path = tmp_path_factory.mktemp("scene") / "house.png"
    case.before.save(path)
    return path


def edited(rooms, scene, words: str, *, steps: int = 6, seed: int | None = 5) -> None:
    rooms.drop("tell-picture", scene)
    rooms.write("tell-lines", words)
    if seed is not None:
        rooms.write("tell-seed", str(seed))
    rooms.open("tell-settings")
    rooms.write("tell-steps", str(steps))
    rooms.press("tell-run")
    rooms.until("done in")


def gap(a: Image.Image, b: Image.Image) -> int:
    return int(np.abs(np.asarray(a.convert("RGB"), dtype=int) - np.asarray(b.convert("RGB"), dtype=int)).max())


def test_an_edit_is_what_the_editor_makes(rooms, scene, tmp_path):
    edited(rooms, scene, "put it at night", steps=12)
    assert "seed 5" in rooms.line()
    rooms.shot("tell")
    assert rooms.tab.locator("#tell-result img").count() >= 2
    file = rooms.download("tell-download", tmp_path)
    made = showtell.recipe.read(file)
    assert (made.seed, made.instructions, made.method.name) == (5, ("put it at night",), "ip2p")
    assert made.method.origin["num_inference_steps"] == "given" and made.method.origin["guidance_scale"] == "card"
    assert made.input.path == "house.png"  # and no folder of the server's
    own = showtell.load("starter").edit(scene, "put it at night", seed=5, num_inference_steps=12)
    with Image.open(file) as picture:
        assert gap(picture, own.image) <= 1
    assert rooms.value("tell-seed") != "5"  # a new one, unless it is to be kept


def test_a_result_brings_its_settings_back(browser, studio, rooms, scene, tmp_path):
    rooms.tab.get_by_text("Each in its own place").click()
    rooms.open("tell-settings")
    rooms.write("tell-negative", "a boat")
    rooms.tab.locator("#tell-fit").get_by_text("pad").click()
    rooms.open("tell-settings")
    edited(rooms, scene, "put a green [star] in the top left\nerase the [flower]")
    file = rooms.download("tell-download", tmp_path)
    with browsers.page(browser, f"{studio.address}/") as tab:
        other = Rooms(tab)
        other.drop("tell-picture", file)
        told = other.until("its settings are back")
        assert "house.png" in told  # its input is not known here
        other.open("tell-settings")
        assert other.value("tell-lines") == "put a green [star] in the top left\nerase the [flower]"
        assert (other.value("tell-seed"), other.value("tell-steps"), other.value("tell-negative")) == (
            "5",
            "6",
            "a boat",
        )
        assert tab.locator("#tell-method input[value=foi]").is_checked()
        assert tab.locator("#tell-fit input[value=pad]").is_checked()
        assert tab.locator("#tell-lock input").is_checked()
        other.drop("tell-picture", scene)
        other.press("tell-run")
        other.until("done in")
        again = other.download("tell-download", tmp_path / "again")
        other.drop("tell-picture", file)  # now its input is known
        assert "house.png" not in other.until("its settings are back")
    with Image.open(file) as first, Image.open(again) as second:
        assert gap(first, second) == 0


def test_each_in_its_place_with_weights_and_a_painted_one(browser, studio, rooms, scene, tmp_path):
    rooms.drop("tell-picture", scene)
    rooms.write("tell-lines", "put a green [star] in the top left\nerase the [flower]")
    assert not rooms.tab.locator("#tell-weight-1").is_visible()
    rooms.tab.get_by_text("Each in its own place").click()
    rooms.tab.locator("#tell-weight-2", has_text="erase the [flower]").wait_for()
    rooms.write("tell-weight-2", "0.5")
    rooms.open("tell-painting")
    rooms.tab.locator("#tell-whose input").click()
    rooms.tab.get_by_role("option", name="line 1").click()
    rooms.tab.wait_for_timeout(500)
    box = rooms.tab.locator("#tell-painter canvas").bounding_box()
    mouse = rooms.tab.mouse
    mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
    mouse.down()
    mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.3 * box["height"], steps=6)
    mouse.up()
    rooms.until("painted for line 1")
    rooms.shot("tell-painted")
    rooms.press("tell-run")
    rooms.until("done in")
    assert rooms.tab.locator("#tell-overlay img").is_visible()
    rooms.shot("tell-places")
    file = rooms.download("tell-download", tmp_path)
    made = showtell.recipe.read(file)
    assert made.weights == (1.0, 0.5)
    assert made.masks[0] is not None and made.masks[1] is None
    with browsers.page(browser, f"{studio.address}/") as tab:  # what was painted comes back with the result
        other = Rooms(tab)
        other.drop("tell-picture", file)
        other.until("its settings are back")
        other.drop("tell-picture", scene)
        tab.wait_for_timeout(500)
        other.press("tell-run")
        other.until("done in")
        again = other.download("tell-download", tmp_path / "again")
    with Image.open(file) as first, Image.open(again) as second:
        assert gap(first, second) == 0


def test_many_at_once_and_back(rooms, scene):
    edited(rooms, scene, "put it at night", steps=3)
    rooms.open("tell-many")
    rooms.write("tell-count", "3")
    rooms.write("tell-seed", "40")
    rooms.press("tell-vary")
    rooms.until("3 pictures")
    assert rooms.pictures("tell-grid") == 3 and rooms.pictures("tell-strip") == 4
    rooms.pick("tell-grid", 1)
    rooms.until("seed 41")
    assert rooms.value("tell-seed") == "41"
    rooms.write("tell-across-values", "1.5, 3")
    rooms.write("tell-down-values", "1, 2, 4")
    rooms.press("tell-cross")
    rooms.until("6 pictures")
    rooms.shot("tell-grid")
    rooms.pick("tell-grid", 5)
    rooms.tab.wait_for_function("document.querySelector('#tell-words-scale input').value == '3'")
    rooms.pick("tell-strip", rooms.pictures("tell-strip") - 1)  # the oldest
    rooms.until("seed 5")
    assert rooms.value("tell-seed") == "5"


def test_a_result_is_edited_further(rooms, scene, tmp_path):
    edited(rooms, scene, "put it at night", steps=4)
    file = rooms.download("tell-download", tmp_path)
    rooms.press("tell-again")
    rooms.until("the result is now the picture")
    rooms.write("tell-lines", "make it a mosaic")
    rooms.press("tell-run")
    rooms.until("done in")
    made = showtell.recipe.read(rooms.download("tell-download", tmp_path / "second"))
    from showtell import images

    assert made.input.pixels_sha256 == images.open_picture(file).pixels_sha256


def test_it_is_stopped_by_a_key_and_what_was_there_stays(rooms, scene):
    edited(rooms, scene, "put it at night", steps=4)
    rooms.write("tell-steps", "200")
    rooms.tab.locator("#tell-lines textarea").focus()
    rooms.tab.keyboard.press("Control+Enter")
    rooms.until("editing")
    rooms.tab.locator("#tell-preview img").wait_for()
    rooms.shot("tell-running")
    rooms.tab.keyboard.press("Escape")
    rooms.until("stopped", patience=10_000)
    assert rooms.pictures("tell-strip") == 1
    rooms.write("tell-steps", "3")
    rooms.press("tell-run")
    rooms.until("done in")


def test_what_is_wrong_is_one_line_in_its_place(rooms, scene, tmp_path):
    rooms.press("tell-run")
    rooms.until("the picture is missing")
    rooms.drop("tell-picture", scene)
    rooms.write("tell-seed", "-1")
    rooms.write("tell-lines", "put it at night")
    rooms.press("tell-run")
    rooms.until("seed=-1 is out of range")
    rooms.write("tell-seed", "1")
    rooms.write("tell-lines", "")
    rooms.press("tell-run")
    rooms.until("say what is to change")
    rooms.write("tell-lines", "<nobody> at night")
    rooms.press("tell-run")
    assert "no learned edit" in rooms.until("<nobody>")
    assert rooms.tab.locator("#tell-line [role=alert]").count() == 1
    rooms.shot("tell-wrong")
    broken = tmp_path / "broken.png"
    broken.write_bytes(scene.read_bytes()[:400])
    rooms.tab.locator("#tell-picture button[aria-label='Remove Image']").click()
    rooms.tab.locator("#tell-picture input[type=file]").set_input_files(str(broken))
    rooms.until("broken")


def test_an_example_is_one_click(rooms):
    rooms.pick("tell-examples", 0)
    rooms.until("done in")
    assert rooms.value("tell-lines")
    rooms.shot("tell-example")


def test_tabs_do_not_see_each_other(browser, studio, rooms, scene):
    edited(rooms, scene, "put it at night", steps=3)
    with browsers.page(browser, f"{studio.address}/") as tab:
        other = Rooms(tab)
        edited(other, scene, "make it a mosaic", steps=2)
        assert other.pictures("tell-strip") == 1
    rooms.press("tell-run")
    rooms.tab.wait_for_function("document.querySelectorAll('#tell-strip button.thumbnail-item').length == 2")


def test_what_waits_in_line_says_so_and_can_be_stopped(browser, studio, rooms, scene):
    rooms.drop("tell-picture", scene)
    rooms.write("tell-lines", "put it at night")
    rooms.open("tell-settings")
    rooms.write("tell-steps", "150")
    rooms.press("tell-run")
    rooms.until("editing")
    with browsers.page(browser, f"{studio.address}/") as tab:
        other = Rooms(tab)
        other.drop("tell-picture", scene)
        other.write("tell-lines", "make it a mosaic")
        other.press("tell-run")
        other.until("waiting for its turn")
        other.press("tell-stop")
        rooms.press("tell-stop")
        rooms.until("stopped")
        other.until("stopped")
        assert other.pictures("tell-strip") == 0
        other.press("tell-run")
        other.until("done in")


def stroke(rooms, across: float, down: float) -> None:
    """A short stroke on the painter."""
    box = rooms.tab.locator("#tell-painter canvas").bounding_box()
    x, y = box["x"] + across * box["width"], box["y"] + down * box["height"]
    rooms.tab.mouse.move(x, y)
    rooms.tab.mouse.down()
    rooms.tab.mouse.move(x + 6, y + 6, steps=2)
    rooms.tab.mouse.up()


def ink(rooms) -> list[bool]:
    """Whether there is paint in the left, and in the right half of the canvas."""
    script = """() => {
        const c = document.querySelector("#tell-painter canvas"), p = c.getContext("2d"), w = Math.floor(c.width / 2);
        return [0, w].map((x) => p.getImageData(x, 0, w, c.height).data.some((v, i) => i % 4 === 3 && v > 0));
    }"""
    return rooms.tab.evaluate(script)


def turned(rooms, line: str) -> None:
    rooms.tab.locator("#tell-whose input").click()
    rooms.tab.get_by_role("option", name=line).click()
    rooms.tab.wait_for_timeout(700)


def test_each_line_keeps_its_own_paint(rooms, scene):
    rooms.drop("tell-picture", scene)
    rooms.write("tell-lines", "put a green [star] in the top left\nerase the [flower]")
    rooms.tab.get_by_text("Each in its own place").click()
    rooms.open("tell-painting")
    turned(rooms, "line 1")
    stroke(rooms, 0.2, 0.3)
    rooms.until("painted for line 1")
    turned(rooms, "line 2")
    assert ink(rooms) == [False, False]
    stroke(rooms, 0.8, 0.6)
    rooms.until("painted for line 2")
    assert ink(rooms) == [False, True]
    turned(rooms, "line 1")
    assert ink(rooms) == [True, False]
    rooms.tab.locator("#tell-painter .st-undo").click()
    turned(rooms, "line 2")
    rooms.tab.locator("#tell-painter .st-clear").click()
    rooms.until("nothing is painted here")
    turned(rooms, "line 1")
    assert ink(rooms) == [True, False]
    rooms.write("tell-lines", "put it at night")
    rooms.tab.wait_for_timeout(700)
    turned(rooms, "all lines")
    assert ink(rooms) == [False, False]


def test_one_piece_of_work_at_a_time_and_the_next_goes_well(rooms, scene):
    edited(rooms, scene, "put it at night", steps=2)
    rooms.write("tell-steps", "120")
    rooms.press("tell-run")
    rooms.until("editing")
    rooms.tab.wait_for_timeout(1500)
    rooms.go("Look inside")
    rooms.drop("inside-picture", scene)
    rooms.write("inside-lines", "put it at night")
    rooms.press("inside-look")
    rooms.until("one piece of work at a time", "inside-line")
    rooms.go("Tell")
    rooms.press("tell-stop")
    rooms.until("stopped")
    rooms.write("tell-steps", "2")
    for count in (2, 3):
        rooms.press("tell-run")
        rooms.tab.wait_for_function(f"document.querySelectorAll('#tell-strip button.thumbnail-item').length == {count}")
    rooms.press("tell-stop")
    rooms.until("nothing is running")
