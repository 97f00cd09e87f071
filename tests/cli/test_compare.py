"""`showtell edit --compare` and `editor.compare`: several methods side by side."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import showtell
from showtell import comparing, images, recipe
from showtell.errors import MethodError, TextError
from tests.cli import pictures
from tests.helpers import looks

TOLD = ["make the [circle] red", "add a blue [star]"]
STEPS = {"num_inference_steps": 3, "seed": 1}
QUICK = ("--steps", "3", "--seed", "1")
COMPARE = ("edit", "house.png", *TOLD, "--compare", "ip2p,sequential,foi")

# That a sequence cannot be replayed is a note, and so a warning.
pytestmark = pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")


def pixels(picture) -> bytes:
    """Of a picture or the file of one."""
    opened = picture if isinstance(picture, Image.Image) else Image.open(picture)
    return opened.tobytes()


def test_each_result_is_that_of_its_method_alone(editor):
    found = editor.compare(pictures.plain(), TOLD, weights=[1, 0.5], tau=0.3, **STEPS)
    assert list(found) == ["ip2p", "sequential", "foi"]
    plain = editor.edit(pictures.plain(), TOLD, **STEPS)
    foi = editor.edit(pictures.plain(), TOLD, method="foi", weights=[1, 0.5], tau=0.3, **STEPS)
    one = editor.edit(pictures.plain(), TOLD[0], **STEPS)
    two = editor.edit(one.image, TOLD[1], **STEPS)
    for name, alone in (("ip2p", plain), ("sequential", two), ("foi", foi)):
        assert pixels(found[name].image) == pixels(alone.image), name
        assert found[name].seed == 1
    assert len({pixels(edit.image) for edit in found.values()}) == 3
    assert found["foi"].recipe.weights == (1, 0.5) and found["ip2p"].recipe.weights == ()
    assert "cannot be replayed alone" in found["sequential"].notes[-1]
    assert all(pixels(edit.source) == pixels(pictures.plain()) for edit in found.values())


def test_without_a_seed_all_share_one(editor):
    found = editor.compare(pictures.plain(), "red", methods=["ip2p", "foi"], num_inference_steps=2)
    assert found["ip2p"].seed == found["foi"].seed


def test_sequential_keeps_transparency_and_takes_looks(editor):
    clear = pictures.plain().convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    look = looks.made(editor.pipe, noise=True)
    edit = comparing.sequential(
        editor, clear, ["red", "<night>", look + "a star"], learned=look, noise="recorded", **STEPS
    )
    assert edit.image.mode == "RGBA" and edit.image.getchannel("A").tobytes() == clear.getchannel("A").tobytes()
    assert pixels(edit.source) == pixels(images.open_picture(clear).rgb)
    single = comparing.sequential(editor, pictures.plain(), "red", **STEPS)
    assert pixels(single.image) == pixels(editor.edit(pictures.plain(), "red", **STEPS).image)
    assert not any("cannot be replayed" in note for note in single.notes)


BAD = [
    ({"methods": ["ip2p", "magic"]}, "'magic' is not known: choose from"),
    ({"methods": ["ip2p", "ip2p"]}, "'ip2p' is named twice"),
    ({"methods": []}, "give a list"),
    ({"methods": "ip2p"}, "give a list"),
    ({"methods": ["ip2p", "sequential"], "weights": [1, 1]}, "weights are for a method"),
    ({"methods": ["ip2p", "sequential"], "tau": 0.1}, "'tau' is not a hyper-parameter of any of these"),
    ({"weights": [1]}, "weights has 1 items"),
    ({"masks": [None, np.zeros((32, 40), bool)]}, "the mask is empty"),
    ({"tau": 7}, "tau=7 is out of range"),
    ({"mask_step": 3}, "mask_step=3 is out of range"),
    ({"generator": 3}, "'generator' is not"),
    ({"fit": "zoom"}, "fit='zoom'"),
    ({"scheduler": "magic"}, "magic"),
    ({"methods": ["ip2p", "grid"]}, "method 'grid' needs"),
    ({"seed": -1}, "seed=-1"),
]


@pytest.mark.parametrize(("options", "said"), BAD, ids=[said for _, said in BAD])
def test_what_is_wrong_is_found_before_the_first_edit(editor, options, said):
    ran = []
    with pytest.raises(showtell.errors.UsageError, match=said):
        editor.compare(
            pictures.plain(), TOLD, callback=lambda *step: ran.append(step), **{"num_inference_steps": 3, **options}
        )
    assert ran == []


def test_words_that_are_missing_and_pictures_in_lists(editor):
    with pytest.raises(TextError, match="the instruction is missing"):
        editor.compare(pictures.plain(), None)
    with pytest.raises(TextError, match="the instruction is missing"):
        comparing.sequential(editor, pictures.plain(), [])
    with pytest.raises(TextError, match="the instruction is empty"):
        comparing.sequential(editor, pictures.plain(), ["red", " "])
    with pytest.raises(MethodError, match="one picture is compared at a time"):
        editor.compare([pictures.plain()], ["red"])


# --- the command line ----------------------------------------------------------------------------------------------


def test_the_sheet_and_every_result_are_written(cli):
    told = ("--weights", "1,0.5", "--set", "tau=0.3", "--save-masks")
    result = cli(*COMPARE, "-o", "out.png", *told, *QUICK, "--json")
    assert result.code == 0, result.err
    assert result.json["written"] == "out.png" and list(result.json["methods"]) == ["ip2p", "sequential", "foi"]
    for name, entry in result.json["methods"].items():
        assert entry["written"] == f"out.{name}.png" and entry["seed"] == result.json["seed"] == 1
        assert recipe.read(entry["written"]).to_dict() == entry["recipe"]
    assert result.json["methods"]["foi"]["overlay"] == "out.foi.overlay.png"
    assert Image.open("out.foi.mask2.png").size == (40, 32)
    with Image.open("out.png") as sheet:
        assert sheet.width > 1400 and sheet.height > 300
        seen = np.asarray(sheet.convert("RGB"))
    before = seen[120:300, 45:290].reshape(-1, 3)  # the input is on it
    assert (np.abs(before.astype(int) - (60, 90, 200)).max(1) < 8).mean() > 0.3
    for name in ("ip2p", "foi"):
        again = cli("replay", f"out.{name}.png", "-o", f"again.{name}.png")
        assert again.code == 0 and "the pixels are the same" in again.err
    cli("replay", "out.sequential.png", "-o", "again.png").refused("its input was a picture in memory")


def test_notes_say_whose_they_are(cli):
    args = (
        "edit",
        "house.png",
        "make the circle red",
        "a star",
        "-o",
        "out.jpg",
        "--compare",
        "sequential, foi",
        *QUICK,
    )
    result = cli(*args)
    assert result.code == 0, result.err
    assert "note: sequential: made in 2 edits" in result.err and "note: foi: keyword of" in result.err
    assert result.out.splitlines() == ["wrote out.sequential.png", "wrote out.foi.png", "wrote out.jpg (seed 1)"]
    assert Image.open("out.jpg").format == "JPEG"


WRONG = {
    "an unknown method": (["--compare", "ip2p,magic"], "'magic' is not known"),
    "none": (["--compare", ""], "'' is not known"),
    "one twice": (["--compare", "foi,foi"], "'foi' is named twice"),
    "a method beside them": (["--compare", "ip2p,foi", "--method", "foi"], "--method and --compare do not go together"),
    "weights for nobody": (["--compare", "ip2p,sequential", "--weights", "1,1"], "weights are for a method"),
    "too few weights": (["--compare", "ip2p,foi", "--weights", "1"], "weights has 1 items"),
    "a hyper-parameter of nobody": (
        ["--compare", "ip2p,sequential", "--set", "tau=1"],
        "of any of these methods: ip2p, seq",
    ),
    "out of range": (["--compare", "ip2p,foi", "--set", "tau=8"], "tau=8 is out of range"),
    "no pair": (["--compare", "ip2p,grid"], "method 'grid' needs a pair"),
    "a result that is there": (["--compare", "ip2p,foi"], "out.foi.png: exists already"),
    "a mask that is there": (
        ["--compare", "ip2p,sequential", "--mask", "white.png", "--save-masks"],
        "out.ip2p.mask1.png",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_makes_no_sense_is_found_before_a_model_is_loaded(name, cli, folder, unchanged):
    args, said = WRONG[name]
    for taken in ("out.foi.png", "out.ip2p.mask1.png"):
        (folder / taken).write_bytes(b"precious")
    Image.new("L", (40, 32), 255).save("white.png")
    unchanged(begin=True)
    cli("edit", "house.png", *TOLD, "-o", "out.png", "--model", "no-such-model", *args).refused(said)
    unchanged()


def test_a_step_that_is_not_run_stops_all_of_them(cli, unchanged):
    cli(*COMPARE, "-o", "out.png", "--set", "mask_step=9", *QUICK).refused("mask_step=9 is out of range")
    unchanged()
