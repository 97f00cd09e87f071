"""What a program can get wrong at the studio's endpoints: one line that names the culprit, and nothing of the server's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app import asking
from tests.app.asking import refusal
from tests.app.junk import FILES
from tests.helpers.studio import running, upload

pytest.importorskip("gradio")

HUGE = 10**400
NUMBERS = ("7", "x" * 5000, True, [1], {"a": 1}, float("nan"), float("inf"), float("-inf"), HUGE, -HUGE, 1e300)


class Asked:
    """A studio that is asked for what it refuses."""

    def __init__(self, studio: Any, http: httpx.Client, place: Path) -> None:
        self.studio, self.http, self.place = studio, http, place
        self.files: dict[str, dict[str, Any]] = {}

    def file(self, name: str) -> dict[str, Any]:
        """An uploaded file."""
        if name not in self.files:
            [self.files[name]] = upload(self.studio.address, [self.place / name])
        return dict(self.files[name])

    def refuses(self, endpoint: str, *said: str, **told: Any) -> str:
        """Assert one clear line with all of ``said`` in it; files are told by their names."""
        told = {name: self._filed(value) for name, value in told.items()}
        if endpoint in ("edit", "attend"):
            told = {"image": self.file("house.png"), "instruction": "make it red"} | told
        if endpoint == "edit":
            told = {"seed": 1, "steps": 1} | told
        line = refusal(self.http, endpoint, told)
        assert "\n" not in line and 10 < len(line) <= 1000, line
        for each in said:
            assert each in line, line
        assert not re.search(
            r"traceback|error:|pydantic|gradio\b(?!\.FileData)|/tmp|/work|showtell-studio", line, re.I
        ), line
        return line

    def _filed(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._filed(each) for each in value]
        return self.file(value) if isinstance(value, str) and value in FILES else value


@pytest.fixture(scope="module")
def asked(tiny_starters, tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    for name, data in FILES.items():
        (place / name).write_bytes(data)
    limits = ("--most-pixels", "20000", "--most-steps", "50")
    with (
        running(tmp_path_factory.mktemp("library"), *limits, starters=tiny_starters) as studio,
        httpx.Client(base_url=studio.address, timeout=asking.TIMEOUT) as http,
    ):
        yield Asked(studio, http, place)
        [made, _] = asking.ask(
            http, "edit", {"image": upload(studio.address, [place / "house.png"])[0], "instruction": "red", "steps": 1}
        )
        assert made["path"]
    # A refusal is no news: the log has nothing of it.
    assert "Traceback" not in "".join(studio.said), "".join(studio.said)[-3000:]


# Pictures.


@pytest.mark.parametrize("endpoint", ["edit", "attend", "invert"])
def test_a_picture_that_is_missing(asked, endpoint):
    asked.refuses(endpoint, "image", "missing", image=None)


@pytest.mark.parametrize("endpoint", ["edit", "attend", "invert"])
@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("text.png", "is not a picture that can be read"), ("empty.png", "empty"), ("large.png", "200x200"),
        ("bomb.png", "over the limit of 0.02 megapixels"), ("truncated.png", "is broken or cut short"),
        ("broken.safetensors", "is not a picture"), ("pickled.pt", "is not a picture"),
    ],
)  # fmt: skip
def test_a_picture_that_cannot_be_opened(asked, endpoint, file, said):
    assert asked.refuses(endpoint, said, image=file).startswith("image: ")


@pytest.mark.parametrize("value", ["house", 5, True, ["house.png"], {"a": 1}, {"path": ""}])
def test_what_is_no_file(asked, value):
    asked.refuses("edit", "upload", image=value)
    asked.refuses("edit", "upload", mask=value)
    asked.refuses("edit", "upload", method="pti", inversion=value)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "house.png", "../house.png", "http://127.0.0.1:1/x.png", "file:///etc/passwd"]
)
def test_a_file_that_was_not_uploaded(asked, path):
    for more in ({}, {"meta": {"_type": "gradio.FileData"}}):
        assert "pictures are uploaded first" in asked.refuses("edit", image={"path": path, **more})


def test_an_uploaded_file_that_is_not_there(asked):
    gone = asked.file("house.png") | {"meta": {"_type": "gradio.FileData"}}
    gone["path"] = str(Path(gone["path"]).with_name("gone.png"))
    assert asked.refuses("edit", "not there any more", image=gone).startswith("image: ")


def test_a_mask_of_another_size(asked):
    asked.refuses("edit", "mask", "24x24", "32x32", mask="other.png")
    assert asked.refuses("edit", "is not a picture", mask="text.png").startswith("mask: ")


# Words.


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "instruction"), ("", "instruction"), (" \n\t\n", "instruction"), (5, "instruction: 5"),
        (["red"], "instruction: a list"), ("red\n" * 9, "9 instructions"), ("ok\n" + "x" * 2001, "line 2: 2001 characters"),
        ("x" * 100_000, "line 1: 100000 characters"), ("\ud800", "line 1"), ("a\0b", "line 1"), ("make it <nobody>", "<nobody>"),
        ("<../../etc/passwd>", "etc/passwd>"),
    ],
)  # fmt: skip
def test_instructions(asked, value, said):
    for endpoint in ("edit", "attend"):
        asked.refuses(endpoint, said, instruction=value)


@pytest.mark.parametrize("name", ["negative_prompt", "source"])
@pytest.mark.parametrize(
    ("value", "said"), [(5, "5"), (["x"], "a list"), ("x" * 2001, "2001 characters"), ("\ud800", "character")]
)
def test_other_texts(asked, name, value, said):
    assert asked.refuses("edit", said, **{name: value}).startswith(f"{name}: ")


# Numbers.


@pytest.mark.parametrize("value", [0, 51, -1, 2.5, *NUMBERS], ids=lambda value: repr(value)[:12])
def test_steps(asked, value):
    for endpoint in ("edit", "invert"):
        line = asked.refuses(endpoint, "is not a whole number from 1 to 50", image="house.png", steps=value)
        assert line.startswith("steps: ")


@pytest.mark.parametrize("value", [-1, 2.5, 2**63, *NUMBERS], ids=lambda value: repr(value)[:12])
def test_seeds(asked, value):
    for endpoint in ("edit", "attend"):
        assert asked.refuses(endpoint, "is not a whole number from 0 to", seed=value).startswith("seed: ")


@pytest.mark.parametrize("value", [0, 31, 4097, 64.5, *NUMBERS], ids=lambda value: repr(value)[:12])
def test_sizes(asked, value):
    assert asked.refuses("edit", "is not a whole number from 32 to 4096", size=value).startswith("size: ")


def test_a_size_that_would_take_the_device_for_itself(asked):
    assert asked.refuses("edit", "size: 4096 is too large for this model", size=4096)


@pytest.mark.parametrize("name", ["guidance_scale", "image_guidance_scale", "eta"])
@pytest.mark.parametrize("value", [-1, "7", True, {}, float("nan"), HUGE], ids=lambda value: repr(value)[:12])
def test_scales(asked, name, value):
    method = "pti" if name == "eta" else "ip2p"
    asked.refuses("edit", name, "a number", method=method, **{name: value})


@pytest.mark.parametrize("value", [-1, 1.5, "x" * 5000, float("nan"), HUGE], ids=lambda value: repr(value)[:12])
def test_the_strength_of_noise(asked, value):
    asked.refuses("attend", "strength", "from 0 to 1", strength=value)


@pytest.mark.parametrize(
    "value",
    [
        [1],
        [1, 2, 3],
        1,
        "1,2",
        ["1", "2"],
        [[1], [2]],
        {"a": 1},
        [True, 1],
        [float("nan"), 1],
        [-1, 1],
        [HUGE, 1],
        [1, 11],
    ],
    ids=lambda value: repr(value)[:12],
)
def test_weights(asked, value):
    asked.refuses("edit", "weight", method="foi", instruction="make it [red]\nmake it [blue]", weights=value)


def test_what_a_method_does_not_have(asked):
    assert asked.refuses("edit", "'ip2p'", weights=[2]).startswith("weights: ")
    assert asked.refuses("edit", "'ip2p'", eta=0.5).startswith("eta: ")


# Choices.


@pytest.mark.parametrize("value", [None, "", "grid", "IP2P", 5, ["ip2p"], {}, "x" * 5000, "\ud800", "../x"])
def test_a_method_that_is_not_here(asked, value):
    asked.refuses("edit", "method ", "choose one of ip2p, foi", method=value)
    line = asked.refuses("invert", "choose one of pti, nti, ddim", image="house.png", method=value)
    assert line.startswith("method: ")


@pytest.mark.parametrize("value", [None, "", "FIT", 5, ["fit"], "x" * 5000, "\ud800"])
def test_a_fit_that_there_is_not(asked, value):
    assert asked.refuses("edit", "choose one of fit, crop, pad", fit=value).startswith("fit: ")


# Inversions and lessons.


@pytest.mark.parametrize("file", ["broken.safetensors", "pickled.safetensors", "pickled.pt", "house.png", "empty.png"])
def test_what_is_no_inversion(asked, file):
    for image in ("house.png", None):
        line = asked.refuses("edit", "cannot be read as an inversion", method="pti", image=image, inversion=file)
        assert line.startswith(f"inversion {file}: ")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"before": [], "after": []}, "0 pictures before the edit and 0 after it"),
        ({"after": []}, "1 pictures before the edit and 0 after it"),
        ({"before": ["house.png"] * 2}, "2 pictures before the edit and 1 after it"),
        ({"before": ["house.png"] * 9, "after": ["house.png"] * 9}, "9 pairs are too many"),
        ({"after": ["text.png"]}, "after 1: is not a picture"),
        ({"before": ["house.png", "bomb.png"], "after": ["house.png"] * 2}, "before 2: "),
        ({"before": None}, "0 pictures before the edit"), ({"before": "house"}, "file"), ({"before": 5}, "file"),
        *(({"steps": steps}, "steps: ") for steps in (0, 5001, 2.5, "3", float("nan"), HUGE)),
        *(({"seed": seed}, "seed: ") for seed in (-1, 2.5, "3", float("inf"), HUGE)),
        ({"name": "///"}, "name"), ({"name": 5}, "name: 5"), ({"init": "x" * 2001}, "init: 2001 characters"),
        ({"init": [1]}, "init: "),
    ],
    ids=str,
)  # fmt: skip
def test_lessons(asked, told, said):
    asked.refuses("learn", said, **{"before": ["house.png"], "after": ["house.png"], "steps": 1} | told)
    unfinished = asked.studio.folder / "unfinished"
    assert not unfinished.exists() or not list(unfinished.iterdir())


# Requests.


def test_parameters_that_are_not_there(asked):
    assert refusal(asked.http, "edit", {"instruction": "red"}) == "No value provided for required argument: image"
    assert asked.refuses("edit", "`prompt`", prompt="red")
    assert (
        refusal(asked.http, "edit", []) == "the request's values are not those of this endpoint, in number or in kind"
    )


@pytest.mark.parametrize("name", ["nothing", "predict", "Edit", "0"])
def test_an_endpoint_that_is_not_there(asked, name):
    for data in ([], {}):
        assert refusal(asked.http, name, data) == "there is no endpoint of this name or number"


@pytest.mark.parametrize("body", [b"", b"[", b"5", b'"x"', b"[1]", b'{"data": 5}', b"\xff\xfe", b'{"data": [NaN]'])
def test_bodies_that_are_none(asked, body):
    for path in ("call/edit", "queue/join", "run/edit"):
        answer = asked.http.post(f"/gradio_api/{path}", content=body, headers=asking.JSON)
        assert answer.status_code in (400, 404, 422), answer.text
        assert "\n" not in asking.line_of(answer) and "/work" not in answer.text
