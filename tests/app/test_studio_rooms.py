"""The other rooms of the studio, clicked and typed through in a browser as a person would; and on a phone, and in the dark."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio")

import showtell
from tests.helpers import browser as browsers
from tests.helpers.rooms import Rooms


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Pictures before and after an edit, and another one that it fits."""
    folder = tmp_path_factory.mktemp("pair")
    case = showtell.scenes.sample(113, actions=["style"], split="train")
    other = showtell.scenes.apply(case, to=9, split="train")
    found = []
    for name, picture in (("before", case.before), ("after", case.after), ("other", other.before)):
        picture.save(folder / f"{name}.png")
        found.append(folder / f"{name}.png")
    return found


def taught(rooms: Rooms, pair, name: str, *, steps: int) -> None:
    """Show a pair, and begin to learn."""
    rooms.go("Show")
    rooms.drop("show-before-1", pair[0])
    rooms.drop("show-after-1", pair[1])
    rooms.write("show-name", name)
    if not rooms.tab.locator("#show-steps").is_visible():
        rooms.open("show-settings")
    rooms.write("show-steps", str(steps))
    rooms.press("show-learn")


def test_an_edit_is_shown_kept_and_used(rooms, pair, tmp_path):
    taught(rooms, pair, "old film", steps=30)
    rooms.tab.locator("#show-curve canvas, #show-curve svg").first.wait_for(timeout=40_000)
    rooms.until("learned <old-film>", "show-line")
    assert rooms.pictures("show-growth") >= 2
    rooms.tab.locator("#show-looks", has_text="old-film").wait_for()
    rooms.drop("show-picture", pair[2])
    rooms.write("show-words", "put it at night")
    rooms.write("show-apply-seed", "3")
    rooms.press("show-apply")
    rooms.until("done in", "show-apply-line")
    rooms.shot("show")
    made = showtell.recipe.read(rooms.download("show-download", tmp_path))
    assert made.instructions == ("<old-film> put it at night",) and made.seed == 3
    assert made.learned[0].parts[0].path == "old-film.safetensors"  # and no folder of the server's
    rooms.go("Tell")
    rooms.drop("tell-picture", pair[2])
    rooms.write("tell-lines", "<old-film:0.5>")
    rooms.press("tell-run")
    rooms.until("done in")


def test_the_library_is_searched_renamed_exported_imported_and_emptied(rooms, pair, tmp_path):
    taught(rooms, pair, "first", steps=10)
    rooms.until("learned <first>", "show-line")
    rooms.open("show-keeping")
    file = rooms.download("show-export", tmp_path)
    assert file.name == "first.safetensors"
    assert showtell.LearnedInstruction.load(file).how["steps_done"] == 10
    rooms.write("show-new-name", "autumn leaves")
    rooms.press("show-rename")
    rooms.until("<autumn-leaves>", "show-library-line")
    rooms.choose("show-import", file)
    rooms.until("<first> is in your library", "show-library-line")
    rooms.write("show-search", "AUTUMN")
    rooms.tab.wait_for_function("document.querySelectorAll('#show-looks button.thumbnail-item').length == 1")
    rooms.shot("show-library")
    rooms.pick("show-looks", 0)
    rooms.until("<autumn-leaves>", "show-chosen")
    rooms.press("show-delete")
    rooms.until("once more", "show-library-line")
    rooms.press("show-delete")
    rooms.until("<autumn-leaves> is deleted", "show-library-line")
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"nothing of the kind")
    rooms.choose("show-import", wrong)
    rooms.tab.locator("#show-library-line [role=alert]").wait_for()
    rooms.write("show-search", "")
    taught(rooms, pair, "first", steps=10)
    rooms.until("in your library already", "show-line")


def test_a_stopped_learning_goes_on(browser, studio, rooms, pair):
    taught(rooms, pair, "slow", steps=2000)
    rooms.until("learning, step", "show-line")
    rooms.tab.wait_for_timeout(6500)  # it is kept every five seconds
    rooms.press("show-stop")
    rooms.until("stopped", "show-line")
    rooms.tab.locator("#show-unfinished-box").wait_for()
    rooms.shot("show-unfinished")
    with browsers.page(browser, f"{studio.address}/") as tab:  # another day
        other = Rooms(tab)
        other.go("Show")
        assert other.value("show-unfinished").startswith("slow, step")
        other.press("show-go-on")
        other.until("learning, step", "show-line")
        other.press("show-stop")
        other.until("stopped", "show-line")
        other.press("show-discard")
        other.until("discarded", "show-line")
        tab.locator("#show-unfinished-box").wait_for(state="hidden")


def test_the_result_is_described_and_slid(rooms, pair, tmp_path):
    rooms.go("Describe")
    rooms.drop("describe-picture", pair[2])
    rooms.write("describe-target", "a red house at night")
    rooms.press("describe-run")
    told = rooms.until("done in", "describe-line")
    assert "the inversion was there already" not in told
    rooms.tab.locator("#describe-reconstruction img").wait_for()
    assert "dB" in rooms.line("describe-reconstruction-line")
    first = rooms.download("describe-download", tmp_path)
    slider = rooms.tab.locator("#describe-eta input[type=range]")
    slider.focus()
    rooms.tab.keyboard.press("Home")
    rooms.until("the inversion was there already", "describe-line")
    rooms.shot("describe")
    second = rooms.download("describe-download", tmp_path / "second")
    etas = [showtell.recipe.read(file).method.parameters["eta"] for file in (first, second)]
    assert etas == [0.9, 0]
    with Image.open(first) as one, Image.open(second) as other:
        assert np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() > 8
    rooms.drop("describe-picture", first)
    rooms.until("its settings are back", "describe-line")
    assert rooms.value("describe-eta") == "0.9"
    rooms.go("Tell")
    assert rooms.pictures("tell-strip") == 0  # each room has its own results
    rooms.drop("tell-picture", first)
    rooms.until("see Describe")


def test_the_inside_is_looked_at(rooms):
    rooms.go("Look inside")
    rooms.pick("inside-examples", 5)
    rooms.until("one call of the network", "inside-line")
    assert rooms.pictures("inside-maps") == 10 and rooms.pictures("inside-branches") == 6
    rooms.shot("inside")
    rooms.tab.locator("#inside-maps", has_text="star · keyword").wait_for()


def test_keys_change_rooms_and_terms_are_tooltips(rooms):
    rooms.tab.keyboard.press("Alt+3")
    rooms.tab.locator("#describe-target").wait_for()
    assert "equation 9" in rooms.tab.locator("#describe-eta").get_attribute("title")
    rooms.tab.keyboard.press("Alt+1")
    rooms.tab.locator("#tell-lines").wait_for()
    assert "InstructPix2Pix" in rooms.tab.locator("#tell-method").get_attribute("title")
    # everything that can be done can be reached by the keyboard
    for _ in range(40):
        rooms.tab.keyboard.press("Tab")
        if rooms.tab.evaluate("document.activeElement.closest('#tell-run') !== null"):
            break
    else:
        raise AssertionError("no number of tabs leads to the button")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser, studio, scheme):
    with browsers.page(browser, f"{studio.address}/", size=browsers.PHONE, color_scheme=scheme) as tab:
        rooms = Rooms(tab)
        for name in ("Tell", "Show", "Describe", "Look inside"):
            tab.keyboard.press("Alt+" + str(1 + ("Tell", "Show", "Describe", "Look inside").index(name)))
            tab.wait_for_timeout(500)
            assert tab.locator(f"#room-{name.split()[-1].lower()}").is_visible()
            assert tab.evaluate("document.documentElement.scrollWidth") <= browsers.PHONE["width"] + 1
            rooms.shot(f"phone-{scheme}-{name.split()[0].lower()}")
        assert tab.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
