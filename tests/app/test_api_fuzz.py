"""Whatever is sent to the endpoints and to the page's handlers: the studio answers, lives on, and says nothing of its machine."""

from __future__ import annotations

import json
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

import showtell
from tests.app import asking
from tests.app.junk import junk, spoiled
from tests.helpers.studio import running, upload

pytest.importorskip("gradio")

#: Requests of each test, and seconds after which no more are sent.
COUNT, SECONDS = 250, 7.0
AT_ONCE = 6
FILES = ("red.png", "blue.png", "text.png", "x.safetensors")


class Target:
    """A studio under fire."""

    def __init__(self, studio: Any, http: httpx.Client, place: Path) -> None:
        self.studio, self.http = studio, http
        self.files = upload(studio.address, [place / name for name in FILES])
        self.secret = (
            str(studio.folder),
            sys.prefix,
            str(Path(showtell.__file__).parent),
            "Traceback",
            "site-packages",
        )

    def check(self, answer: httpx.Response) -> Any:
        """What an answer says, which is no failure of the server, and nothing of its machine."""
        assert answer.status_code in (200, 400, 404, 413, 422, 503), answer.text[:500]
        self.is_silent(answer.text)
        return answer.json()["event_id"] if answer.status_code == 200 else None

    def is_silent(self, text: str) -> None:
        """Assert that a text tells nothing."""
        for each in self.secret:
            assert each not in text, text[:2000]

    def read(self, url: str) -> str:
        """A stream to its end."""
        with self.http.stream("GET", url) as stream:
            assert stream.status_code == 200, stream.read()
            text = stream.read().decode()
        self.is_silent(text)
        return text


@pytest.fixture(scope="module")
def target(tiny_starters, tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    for name in FILES[:2]:
        Image.new("RGB", (32, 32), name[:-4]).save(place / name)
    (place / "text.png").write_bytes(b"no picture")
    (place / "x.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    limits = ("--most-seconds", "1", "--most-steps", "20")
    with (
        running(tmp_path_factory.mktemp("library"), *limits, starters=tiny_starters) as studio,
        httpx.Client(base_url=studio.address, timeout=asking.TIMEOUT, limits=httpx.Limits(max_connections=50)) as http,
    ):
        yield Target(studio, http, place)
    assert "Traceback" not in "".join(studio.said), "".join(studio.said)[-4000:]  # all of it was foreseen


@pytest.fixture(autouse=True)
def lives_on(target):
    """After each test a good edit is made."""
    yield
    asked = {"image": target.files[0], "instruction": "make it red", "steps": 2, "seed": 1}
    made, told = asking.ask(target.http, "edit", asked)
    assert told["seed"] == 1 and target.http.get(made["url"]).content.startswith(b"\x89PNG")
    assert target.studio.process.poll() is None


def fire(send: Any) -> int:
    """Send what ``send(number)`` makes, several at a time, until there were enough or the time is over; how many there were."""
    until, sent = time.monotonic() + SECONDS, 0

    def one(number: int) -> bool:
        if time.monotonic() > until:
            return False
        send(number)
        return True

    with ThreadPoolExecutor(AT_ONCE) as pool:
        sent = sum(pool.map(one, range(COUNT)))
    assert sent > 20
    return sent


GOOD = {
    "edit": ["image", "make it red", "ip2p", 1, 1, None, None, "", None, None, "fit", None, "", None, None],
    "learn": [["image"], ["other"], "", "", 1, 0],
    "invert": ["image", "ddim", "", "", 2],
    "attend": ["image", "make it red", 0, None],
}


def test_the_endpoints(target):
    def send(number: int) -> None:
        rng = random.Random(number)
        name = rng.choice(sorted(GOOD))
        good = json.dumps(GOOD[name])
        for number, word in enumerate(("image", "other")):
            good = good.replace(f'"{word}"', json.dumps(target.files[number]))
        body = {"data": spoiled(rng, json.loads(good), target.files)}
        answer = target.http.post(f"/gradio_api/call/{name}", content=json.dumps(body), headers=asking.JSON)
        if event := target.check(answer):
            text = target.read(f"/gradio_api/call/{name}/{event}")
            assert "event: complete" in text or "event: error" in text, text[:500]
            for what, told in told_by(text):
                if what == "error":
                    assert is_line(told["error"]), told

    fire(send)


def test_the_handlers_of_the_page(target):
    config = target.http.get("/config").json()
    values = {each["id"]: each["props"].get("value") for each in config["components"]}
    values |= {each["id"]: target.files[0] for each in config["components"] if each["type"] == "image"}
    handlers = [each for each in config["dependencies"] if each["backend_fn"]]
    assert len(handlers) > 40

    def send(number: int) -> None:
        rng = random.Random(number)
        handler = handlers[number % len(handlers)]
        body: dict[str, Any] = {
            "data": spoiled(rng, [values.get(each) for each in handler["inputs"]], target.files),
            "fn_index": handler["id"], "session_hash": session(rng),
        }  # fmt: skip
        if rng.random() < 0.7:
            body["event_data"] = rng.choice(
                ({"index": 0, "value": "x"}, {"index": [0, 1]}, {}, junk(rng, target.files))
            )
            body["trigger_id"] = rng.choice([None, 0, -1, 10**9, *[each for each, _ in handler["targets"]]])
        answer = target.http.post("/gradio_api/queue/join", content=json.dumps(body), headers=asking.JSON)
        if target.check(answer):
            text = target.read(f"/gradio_api/queue/data?session_hash={body['session_hash']}")
            assert '"process_completed"' in text, text[:500]

    fire(send)


def session(rng: random.Random) -> str:
    return "".join(rng.choice("abcdefghij") for _ in range(rng.choice((8, 12, 300))))


@pytest.mark.parametrize(
    "path", ["queue/join", "run/predict", "api/predict", "call/edit", "call/v2/edit", "cancel", "component_server"]
)
def test_bodies(target, path):
    for number in range(25):
        rng = random.Random(number)
        body = {name: junk(rng, target.files) for name in FIELDS if rng.random() < 0.6}
        answer = target.http.post(f"/gradio_api/{path}", content=json.dumps(body), headers=asking.JSON)
        assert answer.status_code in (200, 400, 404, 413, 422, 500, 503), answer.text[:300]
        assert answer.status_code != 500 or is_line(answer.json()["error"])
        target.is_silent(answer.text)


FIELDS = (
    "data", "fn_index", "session_hash", "event_id", "event_data", "trigger_id", "batched", "component_id", "fn_name", "image",
)  # fmt: skip


def told_by(text: str) -> list[tuple[str, Any]]:
    """The events of a stream."""
    lines = text.splitlines()
    return [
        (one.removeprefix("event: "), json.loads(two.removeprefix("data: ")))
        for one, two in zip(lines, lines[1:], strict=False)
        if one.startswith("event: ")
    ]


def is_line(text: Any) -> bool:
    return isinstance(text, str) and 5 < len(text) <= 1000 and "\n" not in text
