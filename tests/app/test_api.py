"""The studio's endpoints, as programs use them: by gradio_client, and by plain HTTP. They give what the library gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import showtell
from showtell import recipe, scenes
from tests.app import asking
from tests.helpers.studio import upload

pytest.importorskip("gradio")
from gradio_client import Client, handle_file  # noqa: E402

TYPES = {"string", "number", "integer", "object", "array", "boolean"}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Pictures: a scene before and after, a mask, a larger one."""
    place = tmp_path_factory.mktemp("place")
    case = scenes.sample(seed=3)
    case.before.save(place / "before.png")
    case.after.save(place / "after.png")
    half = np.zeros((case.before.height, case.before.width), np.uint8)
    half[:, : case.before.width // 2] = 255
    Image.fromarray(half).save(place / "half.png")
    case.before.resize((150, 110)).save(place / "wide.jpg")
    return place


@pytest.fixture(scope="module")
def client(studio, tmp_path_factory):
    return Client(studio.address, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


@pytest.fixture(scope="module")
def http(studio):
    with httpx.Client(base_url=studio.address, timeout=asking.TIMEOUT) as http:
        yield http


@pytest.fixture(scope="module")
def editor():
    return showtell.load("starter", device="cpu")


@pytest.fixture(scope="module")
def taught(client, place):
    """What /learn gives: the file, and what is said of it."""
    pair = {"before": [handle_file(place / "before.png")], "after": [handle_file(place / "after.png")]}
    return client.predict(**pair, name="night", steps=3, seed=5, api_name="/learn")


def same(path: str | Path, expected: Image.Image) -> None:
    """The same pixels, but for rounding."""
    with Image.open(path) as found:
        assert found.size == expected.size
        apart = np.asarray(found.convert("RGB"), int) - np.asarray(expected.convert("RGB"), int)
    assert abs(apart).max() <= 1


# What there is.


def test_every_parameter_is_typed_and_documented(client):
    told = client.view_api(return_format="dict", print_info=False)
    assert not told["unnamed_endpoints"]
    assert set(told["named_endpoints"]) == {"/edit", "/learn", "/invert", "/attend"}
    for name, endpoint in told["named_endpoints"].items():
        assert endpoint["description"].endswith(("done.", "words.", "dB.", "word.")), name
        for each in (*endpoint["parameters"], *endpoint["returns"]):
            assert len(each["label"]) > 6 and not each["label"].startswith("parameter_"), each
        for each in endpoint["parameters"]:
            assert each["component"] == "Json" or each["type"]["type"] in TYPES, each
            assert each["parameter_has_default"] in (True, False) and each["python_type"]["type"], each


NEEDED = {
    "/edit": ["image", "instruction"],
    "/learn": ["before", "after"],
    "/invert": ["image"],
    "/attend": ["image", "instruction"],
}
DEFAULTS = {
    "/edit": {
        "method": "ip2p", "seed": None, "steps": None, "guidance_scale": None, "image_guidance_scale": None,
        "negative_prompt": "", "weights": None, "mask": None, "fit": "fit", "size": None, "source": "", "eta": None,
        "inversion": None,
    },
    "/learn": {"name": "", "init": "", "steps": None, "seed": 0},
    "/invert": {"method": "pti", "source": "", "target": "", "steps": None},
    "/attend": {"seed": 0, "strength": None},
}  # fmt: skip


@pytest.mark.parametrize("name", NEEDED)
def test_all_but_what_is_needed_has_a_default(client, name):
    parameters = client.view_api(return_format="dict", print_info=False)["named_endpoints"][name]["parameters"]
    assert [each["parameter_name"] for each in parameters if not each["parameter_has_default"]] == NEEDED[name]
    optional = {
        each["parameter_name"]: each["parameter_default"] for each in parameters if each["parameter_has_default"]
    }
    assert optional == DEFAULTS[name]


# By gradio_client.


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("before.png", {"seed": 7, "steps": 3}),
        ("before.png", {"seed": 8, "steps": 2, "guidance_scale": 4, "image_guidance_scale": 1.2}),
        ("before.png", {"seed": 8, "steps": 2, "negative_prompt": "red"}),
        ("wide.jpg", {"seed": 9, "steps": 2, "fit": "pad"}),
        ("wide.jpg", {"seed": 9, "steps": 2, "size": 96}),
    ],
)
def test_an_edit_is_that_of_the_library(client, editor, place, file, options):
    path, told = client.predict(
        image=handle_file(place / file), instruction="make it night", **options, api_name="/edit"
    )
    named = {"steps": "num_inference_steps", "size": "resolution"}
    expected = editor.edit(place / file, "make it night", **{named.get(k, k): v for k, v in options.items()})
    same(path, expected.image)
    assert told["seed"] == options["seed"] and told["seconds"] > 0
    made = recipe.read(path)
    assert json.loads(told["recipe"]) == json.loads(made.to_json())
    assert made.input.path == file and made.instructions == ("make it night",)


def test_the_recipe_replays(client, place):
    path, told = client.predict(
        image=handle_file(place / "before.png"), instruction="make it night", steps=3, api_name="/edit"
    )
    assert isinstance(told["seed"], int)
    again = showtell.replay(path, place / "before.png", device="cpu")
    same(path, again.image)


def test_several_instructions_with_weights(client, editor, place):
    words = ["make the sky night", "make the house red"]
    path, told = client.predict(
        image=handle_file(place / "before.png"), instruction="\n".join(words), method="foi", weights=[1.5, 0.5], seed=2,
        steps=3, api_name="/edit",
    )  # fmt: skip
    edit = editor.edit(place / "before.png", words, method="foi", weights=[1.5, 0.5], seed=2, num_inference_steps=3)
    same(path, edit.image)
    assert told["keywords"] == json.loads(json.dumps(edit.keywords)) and len(told["keywords"]) == 2


def test_a_mask(client, editor, place):
    path, _ = client.predict(
        image=handle_file(place / "before.png"), instruction="make it night", mask=handle_file(place / "half.png"),
        seed=4, steps=3, api_name="/edit",
    )  # fmt: skip
    same(
        path,
        editor.edit(
            place / "before.png", "make it night", mask=place / "half.png", seed=4, num_inference_steps=3
        ).image,
    )
    with Image.open(path) as found, Image.open(place / "before.png") as before:
        right = (before.width // 2, 0, before.width, before.height)
        assert found.convert("RGB").crop(right).tobytes() == before.convert("RGB").crop(right).tobytes()


def test_learn_and_call_it_by_its_name(client, editor, place, taught):
    file, told = taught
    assert Path(file).name == "night.safetensors"
    assert told["name"] == "night" and told["steps"] == 3 and told["loss"] > 0
    path, _ = client.predict(
        image=handle_file(place / "before.png"), instruction="<night> make it red", seed=1, steps=3, api_name="/edit"
    )
    look = showtell.LearnedInstruction.load(file)
    expected = editor.edit(
        place / "before.png", "<night> make it red", learned={"night": look}, seed=1, num_inference_steps=3
    )
    same(path, expected.image)
    [learned] = recipe.read(path).learned
    assert learned.name == "night" and [part.path for part in learned.parts] == ["night.safetensors"]


def test_invert_and_edit_what_was_inverted(client, place):
    picture = handle_file(place / "before.png")
    image, file, told = client.predict(image=picture, source="a house", steps=4, api_name="/invert")
    assert told["method"] == "pti" and told["psnr"] > 5
    with Image.open(image) as found, Image.open(place / "before.png") as before:
        assert found.size == before.size
    asked = {"instruction": "a house at night", "method": "pti", "eta": 0.8, "seed": 0}
    path, _ = client.predict(image=picture, inversion=handle_file(file), **asked, api_name="/edit")
    alone, _ = client.predict(image=None, inversion=handle_file(file), **asked, api_name="/edit")
    base = showtell.load("starter-base", device="cpu")
    expected = base.edit(showtell.Inversion.load(file), "a house at night", method="pti", eta=0.8, seed=0)
    same(path, expected.image)
    same(alone, expected.image)


def test_where_words_look(client, place):
    sheet, told = client.predict(
        image=handle_file(place / "before.png"), instruction="make the [house] red", api_name="/attend"
    )
    assert {word["word"] for word in told["words"]} >= {"house", "red"}
    assert [word["word"] for word in told["words"] if word["keyword"]] == ["house"]
    with Image.open(sheet) as found:
        assert min(found.size) > 64


# By plain HTTP, as curl does.


def test_a_list_of_parameters(http, studio, editor, place):
    [picture] = upload(studio.address, [place / "before.png"])
    answer = asking.ask(
        http, "edit", [picture, "make it night", "ip2p", 11, 3, *[None] * 2, "", None, None, "fit", *[None] * 4]
    )
    found = place / "by-list.png"
    found.write_bytes(http.get(answer[0]["url"]).content)
    same(found, editor.edit(place / "before.png", "make it night", seed=11, num_inference_steps=3).image)
    assert recipe.read(found).seed == 11 and answer[1]["seed"] == 11


def test_parameters_by_their_names(http, studio, editor, place):
    [picture] = upload(studio.address, [place / "before.png"])
    told: dict[str, Any] = {"image": picture, "instruction": "make it night", "seed": 12, "steps": 3}
    answer = asking.ask(http, "edit", told)
    found = place / "by-names.png"
    found.write_bytes(http.get(answer[0]["url"]).content)
    same(found, editor.edit(place / "before.png", "make it night", seed=12, num_inference_steps=3).image)


def test_how_far_it_is(http, studio, place):
    [picture] = upload(studio.address, [place / "before.png"])
    told = {"image": picture, "instruction": "make it night", "seed": 12, "steps": 40}
    seen = list(asking.events(http, "edit", asking.start(http, "edit", told)))
    steps = [data[1] for what, data in seen if what == "generating" and data[1] and "phase" in data[1]]
    assert steps and all(each["total"] == 40 and 0 < each["done"] <= 40 for each in steps)
    assert seen[-1][0] == "complete"


def test_what_was_made_can_be_edited_again(http, studio, place):
    [picture] = upload(studio.address, [place / "before.png"])
    made, _ = asking.ask(http, "edit", {"image": picture, "instruction": "make it night", "seed": 1, "steps": 2})
    again, told = asking.ask(http, "edit", {"image": made, "instruction": "make it red", "seed": 1, "steps": 2})
    assert again["path"] != made["path"] and json.loads(told["recipe"])["input"]["path"] == Path(made["path"]).name
