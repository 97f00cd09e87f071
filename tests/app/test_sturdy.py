"""A studio with many visitors: each sees their own, who leaves frees the device, and nothing piles up."""

from __future__ import annotations

import base64
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from showtell import scenes
from tests.app import asking
from tests.app.asking import Page
from tests.helpers.studio import running, upload

pytest.importorskip("gradio")
from gradio_client import Client, handle_file  # noqa: E402

#: An edit of so many steps takes the starter some 15 seconds.
LONG = 200
#: MiB by which 40 edits may enlarge the process, about half a MiB each, and all that its scratch folder may hold.
GROWTH, SCRATCH = 24, 32


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("place")
    scenes.sample(seed=1).before.save(place / "house.png")
    scenes.sample(seed=2).before.save(place / "other.png")
    (place / "temp").mkdir()
    return place


@pytest.fixture(scope="module")
def studio(place):
    with running(place / "library", env={"TMPDIR": str(place / "temp")}) as served:
        yield served


@pytest.fixture(scope="module")
def http(studio):
    with httpx.Client(base_url=studio.address, timeout=asking.TIMEOUT) as http:
        yield http


@pytest.fixture(scope="module")
def files(studio, place):
    return upload(studio.address, [place / "house.png", place / "other.png"])


def asks(files: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    return {"image": files[0], "instruction": "make it night", "seed": 1, "steps": 2} | options


# Two at once.


def test_two_clients_at_once(studio, place):
    """Each is told of its own edit, and is given that."""

    def edited(number: int) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
        client = Client(studio.address, verbose=False, download_files=str(place / f"downloads-{number}"))
        picture = handle_file(place / ("house.png", "other.png")[number])
        job = client.submit(image=picture, instruction="make it night", seed=number, steps=6 + number, api_name="/edit")
        path, told = job.result(timeout=60)
        return path, told, [each[1] for each in job.outputs() if "phase" in each[1]]

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(edited, range(2)))
    for number, (path, told, seen) in enumerate(found):
        made = json.loads(told["recipe"])
        assert made["seed"] == number and made["input"]["path"] == ("house.png", "other.png")[number]
        assert {each["total"] for each in seen} <= {0, 6 + number}
        with Image.open(path) as result:
            assert json.loads(result.text["showtell"])["seed"] == number
    alone = [edited(number)[0] for number in range(2)]
    for (path, _, _), again in zip(found, alone, strict=True):
        with Image.open(path) as first, Image.open(again) as second:
            assert first.tobytes() == second.tobytes()


@pytest.fixture
def pages(http, request):
    """Two visitors' pages."""
    return [Page(http, f"{name}-{abs(hash(request.node.name)):x}") for name in ("anna", "bert")]


def test_no_visitor_sees_anothers_results(pages, files):
    anna, bert = pages
    anna.set(tell_picture=files[0], tell_lines="make it night", tell_steps=2, tell_seed=5)
    assert "tell-result" in anna.do("tell-run")
    assert "is now the picture" in anna.do("tell-again")["tell-line"][-1]
    assert "there is no result yet" in bert.do("tell-again")["tell-line"][-1]
    assert anna.do("tell-strip", "select", of={"index": 0, "value": ""})["tell-seed"] == [5]
    for index in (0, -1, 1):
        seen = bert.do("tell-strip", "select", of={"index": index, "value": ""})
        assert "not kept any more" in seen["tell-line"][-1] and "tell-seed" not in seen and "tell-result" not in seen


def test_no_visitor_sees_anothers_grid(pages, files):
    anna, bert = pages
    anna.set(tell_picture=files[0], tell_lines="make it night", tell_steps=1, tell_seed=5, tell_count=2)
    assert "tell-grid" in anna.do("tell-vary")
    assert anna.do("tell-grid", "select", of={"index": 1, "value": ""})["tell-seed"] == [6]
    assert "not kept any more" in bert.do("tell-grid", "select", of={"index": 1, "value": ""})["tell-line"][-1]


def test_no_visitor_uses_anothers_mask(pages, files):
    anna, bert = pages
    nothing = np.zeros((64, 64, 4), np.uint8)
    nothing[:2, :2] = 255
    file = io.BytesIO()
    Image.fromarray(nothing).save(file, "PNG")
    drawn = {"picture": None, "mask": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"}
    results = []
    for page in (anna, bert):
        page.set(tell_picture=files[0], tell_lines="make it night", tell_steps=2, tell_seed=5, tell_painter=drawn)
        page.do("tell-picture", "change")
        if page is anna:
            page.do("tell-painter", "input")
        page.do("tell-run")
        results.append(page.do("tell-again")["tell-picture"][-1])
    made = [json.loads(text_of(page.http, result)) for page, result in zip(pages, results, strict=True)]
    assert made[0]["mask"] is not None and made[1]["mask"] is None


def text_of(http: httpx.Client, file: dict[str, Any]) -> str:
    with Image.open(io.BytesIO(http.get(file["url"]).content)) as found:
        return found.text["showtell"]


def test_no_visitor_uses_anothers_inversion(pages, files):
    """An inversion that is there already serves again, but only whoever made it."""
    anna, bert = pages
    inverted = []
    for page in (anna, anna, bert):
        page.set(describe_picture=files[0], describe_target="a house at night", describe_steps=4)
        inverted.append("inverting" in json.dumps(page.do("describe-run")["describe-line"]))
    assert inverted == [True, False, True]


def test_no_visitor_stops_anothers_work(pages, http, files):
    anna, bert = pages
    event = asking.start(http, "edit", asks(files, steps=30))
    stream = asking.events(http, "edit", event)
    next(stream)
    assert "nothing is running" in bert.do("tell-stop")["tell-line"][-1]
    assert [what for what, _ in stream][-1] == "complete"
    anna.set(tell_picture=files[0])


# Those who leave.


def prompt(http: httpx.Client, files: list[dict[str, Any]]) -> None:
    """The device is free: an edit is made long before one of ``LONG`` steps would have ended."""
    began = time.monotonic()
    asking.ask(http, "edit", asks(files))
    assert time.monotonic() - began < 6


def test_a_client_that_cancels(studio, place, http, files):
    client = Client(studio.address, verbose=False)
    asked = {"image": handle_file(place / "house.png"), "instruction": "make it night", "steps": LONG}
    job = client.submit(**asked, api_name="/edit")
    wait_for(lambda: any("phase" in each[1] for each in job.outputs()))
    assert job.cancel()
    prompt(http, files)
    path, _ = client.predict(**{**asked, "steps": 2}, api_name="/edit")  # and it may ask again
    assert Path(path).is_file()


def test_a_client_that_hangs_up(http, files, studio):
    with httpx.Client(base_url=studio.address, timeout=asking.TIMEOUT) as other:
        event = asking.start(other, "edit", asks(files, steps=LONG))
        with other.stream("GET", f"/gradio_api/call/edit/{event}") as stream:
            for line in stream.iter_lines():
                if '"done"' in line:
                    break
    prompt(http, files)


def test_a_tab_that_is_closed(studio, http, files):
    page = Page(http, "closed-tab")
    page.set(tell_picture=files[0], tell_lines="make it night", tell_steps=LONG, tell_seed=5)
    with httpx.Client(base_url=studio.address, timeout=asking.TIMEOUT) as other:
        page.http = other
        seen = page.seen("tell-run")
        assert next(value for name, value in seen if "editing" in str(value))
        seen.close()
    prompt(http, files)


def test_one_who_waits_in_line_and_hangs_up(studio, http, files):
    """Whoever leaves before their turn is passed over."""
    first = asking.events(http, "edit", asking.start(http, "edit", asks(files, steps=30)))
    next(first)
    with httpx.Client(base_url=studio.address, timeout=asking.TIMEOUT) as other:
        event = asking.start(other, "edit", asks(files, steps=LONG))
        with other.stream("GET", f"/gradio_api/call/edit/{event}"):
            time.sleep(0.2)
    assert [what for what, _ in first][-1] == "complete"
    prompt(http, files)


def wait_for(happened: Any, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)


# What stays.


def test_many_edits_in_a_row(studio, place):
    """Neither the process nor its scratch folder grows."""
    client = Client(studio.address, verbose=False, download_files=False)

    def edit(count: int) -> None:
        for number in range(count):
            picture = handle_file(place / ("house.png", "other.png")[number % 2])
            asked = {"image": picture, "instruction": "make it night", "seed": number, "steps": 1}
            client.predict(**asked, api_name="/edit")

    edit(10)
    first = studio.memory()
    edit(40)
    grown = (studio.memory() - first) / 2**20
    held = sum(file.stat().st_size for file in (place / "temp").rglob("*") if file.is_file()) / 2**20
    print(f"memory grew by {grown:.1f} MiB, scratch holds {held:.1f} MiB")  # noqa: T201
    assert grown < GROWTH and held < SCRATCH
