"""In front of Gradio: how much may be sent, in one piece or many, and what is no JSON."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.app import bodies
from showtell.app.limits import Limits
from tests.app import wire
from tests.app.wire import ask, form

pytest.importorskip("gradio")

UPLOAD = "/gradio_api/upload"


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    with wire.serve(tmp_path_factory.mktemp("uploads"), Limits(upload_bytes=100_000, json_bytes=20_000)) as served:
        yield served


# How much.


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    "path",
    ["/gradio_api/run/go", "/gradio_api/queue/join", "/gradio_api/cancel", "/login", "/gradio_api/component_server"],
)
def test_a_body_over_the_limit(studio, path, chunked):
    answer = ask(studio.port, path, method="POST", body=b'"' + b"x" * 20_000 + b'"', chunked=chunked)
    assert answer.status == 413 and answer.line == "the request is over the limit of 0.0191 MiB: send less at once"


def test_a_length_that_is_only_claimed(studio):
    for length in ("20001", "9" * 30):
        answer = ask(studio.port, "/gradio_api/run/go", method="POST", headers={"Content-Length": length})
        assert answer.status == 413 or (length != "20001" and answer.status == 400)


def left_over(studio) -> list[str]:
    """Files of uploads that did not come to their end."""
    return [name for name in os.listdir(studio.uploads) if name.startswith("tmp")]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([(f"{number}.png", bytes(90_000)) for number in range(3)], "over the limit"),
        ([("a.png", bytes(100_001))], "exceeded maximum allowed size"),  # Gradio's own
        ([(f"{number}.png", b"x") for number in range(17)], "too many files at once: send at most 16"),
    ],
    ids=["all in all", "one", "many"],
)
def test_an_upload_over_a_limit(studio, files, said, chunked):
    before = set(os.listdir(studio.uploads))
    body, about = form(*files)
    answer = ask(studio.port, UPLOAD, method="POST", headers=about, body=body, chunked=chunked)
    assert answer.status == 413 and said in answer.body.decode()
    assert set(os.listdir(studio.uploads)) == before


def test_an_upload_within_the_limits(studio):
    body, about = form(*[(f"{number}.png", bytes([number]) * 10_000) for number in range(16)])
    answer = ask(studio.port, UPLOAD, method="POST", headers=about, body=body)
    assert answer.status == 200 and len(json.loads(answer.body)) == 16


def test_a_sender_who_leaves_leaves_nothing_behind(studio):
    body, about = form(("a.png", bytes(90_000)))
    about |= {"Host": f"127.0.0.1:{studio.port}", "Content-Length": str(len(body))}
    with socket.create_connection(("127.0.0.1", studio.port), timeout=5) as line:
        line.sendall(wire.head("POST", UPLOAD, about) + body[:50_000])
        deadline = time.monotonic() + 5
        while not left_over(studio) and time.monotonic() < deadline:
            time.sleep(0.01)
    while left_over(studio) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left_over(studio)


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "", "multipart/form-data; boundary="])
def test_an_upload_of_another_kind(studio, kind):
    assert ask(studio.port, UPLOAD, method="POST", headers={"Content-Type": kind}, body=b"{}").status == 400


@given(st.lists(st.sampled_from([b"--cut", b"--", b"cut", b"-", b"\r\n", b"x" * 50]), max_size=60), st.data())
def test_parts_are_counted_however_they_are_sent(pieces, data):
    whole = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]

    async def receive():
        return messages.pop(0)

    meter = bodies.Meter(receive, 10**6, "multipart/form-data; boundary=cut")
    try:
        for _ in chunks:
            asyncio.run(meter())
    except Exception as error:  # noqa: BLE001
        assert "too many files" in str(error)
    assert (meter.refusal is not None) == (whole.count(b"--cut") > bodies.FILES + 1)


def test_no_more_is_held_than_the_limit():
    taken = []

    async def receive():
        taken.append(1000)
        return {"type": "http.request", "body": bytes(1000), "more_body": True}

    with pytest.raises(bodies.Refusal):
        asyncio.run(bodies.read(receive, 5000))
    assert sum(taken) == 6000


@pytest.mark.parametrize("index", ["99999999999", "-1", "16", " 1", "1_0", "x", "1" * 200])
def test_a_canvas_with_that_many_layers(studio, index):
    canvas = next(block for block in studio.blocks.blocks.values() if hasattr(block, "blob_storage"))

    def send(index: str, name: str = "x"):
        fields = {
            "type": "layer",
            "index": index,
            "id": name,
            "component_id": str(canvas._id),
            "session_hash": "s",
            "fn_name": "accept_blobs",
        }
        body, about = form(("a.png", b"a picture"), fields=fields)
        return ask(studio.port, "/gradio_api/component_server/", method="POST", headers=about, body=body)

    answer = send(index)
    assert answer.status == 400 and answer.line == "a canvas has at most 16 layers"
    assert send("15").status == send("null").status == 200
    if index == "x":  # what is never used does not pile up
        assert all(send("0", f"id{number}").status == 200 for number in range(70)) and len(canvas.blob_storage) == 64


# JSON.


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"{'data': []}", b"\x00", b"[1", b'"\xff"', b"1" * 5000, b"{" * 5000, b"[" * 19_000],
)
@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/run/go",
        "/gradio_api/call/go",
        "/gradio_api/call/v2/go",
        "/gradio_api/api/go",
        "/gradio_api/queue/join/",
    ],
)
def test_what_is_not_json(studio, path, body):
    answer = ask(studio.port, path, method="POST", headers={"Content-Type": "application/json"}, body=body)
    assert answer.status == 400 and answer.line == "the request is not JSON that can be read"


def test_what_is_too_much_json(studio):
    deep = json.loads("[" * 62 + "]" * 62)  # in two of the request's own
    assert studio.go(deep).status == 500  # Gradio's answer: the guard has let it pass
    assert studio.go([deep]).line == "the request is nested too deeply: 64 levels at most"
    with pytest.raises(bodies.Refusal, match="pieces"):
        bodies.checked(b"[" + b"0," * 200_000 + b"0]", (), Path("/x"))


def test_gradio_reads_what_was_checked(tmp_path):
    """Of a key that is there twice one wins, and all see the same."""
    twice = b'{"data": [{"path": "/etc/passwd", "path": null}], "b": "\\ud800", "n": NaN}'
    assert bodies.checked(twice, (), tmp_path) == b'{"data": [{"path": null}], "b": "\\ud800", "n": NaN}'
