"""In front of Gradio: by which name and from where it may be asked, what is there, and what every answer says."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from pathlib import Path

import pytest
from PIL import Image

from showtell.app.guard import Guard
from showtell.app.limits import Limits
from tests.app import wire
from tests.app.wire import ask, post
from tests.helpers.browser import launch

pytest.importorskip("gradio")

NOTHING = "there is nothing here"


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    with wire.serve(tmp_path_factory.mktemp("uploads"), Limits(upload_bytes=100_000, json_bytes=20_000)) as served:
        yield served


@pytest.fixture(scope="module")
def browser():
    with launch() as running:
        yield running


def test_the_guard_is_outermost(studio):
    assert isinstance(studio.blocks.app.middleware_stack, Guard)


# Names.


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:7860", "[::1]:80", "LOCALHOST:1"])
def test_this_machine_has_three_names(studio, host):
    assert ask(studio.port, "/config", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example:7860",
        "127.0.0.1.nip.io",
        "127.0.0.2",
        "0.0.0.0:7860",
        "localhost.",
        "[::2]",
    ],
)
@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/file=/etc/passwd", "/assets/x.js", "/nothing"])
def test_another_name_is_turned_away(studio, host, path):
    answer = ask(studio.port, path, headers={"Host": host})
    assert answer.status == 421 and answer.line.startswith("this server does not go by that name")


@pytest.mark.parametrize(
    "host", ["", "localhost@evil.example", "local host", "localhost:80:80", "localhost/", "evil.example,localhost"]
)
def test_no_name_at_all(studio, host):
    assert ask(studio.port, "/", headers={"Host": host}).status == 400


def test_a_request_without_a_host_or_with_two(studio):
    for lines in (
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", studio.port), timeout=5) as line:
            line.sendall(lines)
            assert wire.reply(line).status == 400


def test_what_a_proxy_is_called_is_not_believed(studio):
    config = json.loads(
        ask(studio.port, "/config", headers={"X-Forwarded-Host": "evil.example", "X-Gradio-Server": "http://evil"}).body
    )
    assert "evil" not in json.dumps(config)


# Other sites.


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "file://", "http://127.0.0.1.evil.example", "x"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_sites_page(studio, method, origin):
    path = "/config" if method == "GET" else "/gradio_api/run/go"
    answer = ask(
        studio.port,
        path,
        method=method,
        headers={"Origin": origin, "Content-Type": "text/plain"},
        body=b'{"data": [null]}',
    )
    assert answer.status == 403 and answer.line == "another site's page may not ask for this"


def test_the_own_page(studio):
    own = f"http://127.0.0.1:{studio.port}"
    assert (
        post(studio.port, "/gradio_api/run/go", {"data": [None]}, Origin=own, Sec_Fetch_Site="same-origin").status
        == 200
    )
    assert post(studio.port, "/gradio_api/run/go", {"data": [None]}).status == 200
    # A link from elsewhere may lead here.
    assert ask(studio.port, "/", headers={"Sec-Fetch-Site": "cross-site"}).status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_sites_form_without_an_origin(studio, site):
    assert post(studio.port, "/gradio_api/run/go", {"data": [None]}, Sec_Fetch_Site=site).status == 403


def test_a_preflight_is_not_answered(studio):
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = ask(studio.port, "/gradio_api/run/go", method="OPTIONS", headers=asked)
    assert answer.status == 403 and not [name for name in answer.headers if name.startswith("access-control")]


# What is there.

GONE = [
    "proxy=https://x.hf.space/", "proxy=http://127.0.0.1/", "file/etc/passwd", "stream/a/b/1/playlist.m3u8",
    "stream/a/b/1/playlist-file", "custom_component/x/client/component/style.css", "deep_link?session_hash=x", "token", "token/",
    "run-history/buckets", "run-history/records", "runs", "runs/", "monitoring", "profiling/traces", "dev/reload", "vibe-code",
    "vibe-code/", "mcp", "mcp/", "nothing", "", "heartbeat/", "file=", "call/",
]  # fmt: skip
GONE_POST = [
    "process_recording", "stream/x", "stream/x/close", "vibe-edit", "undo-vibe-edit/", "vibe-code", "vibe-starter-queries",
    "run-history/connect", "profiling/clear", "run/", "mcp/",
]  # fmt: skip
GONE_ELSEWHERE = [
    "/monitoring", "/monitoring/summary", "/monitoring/x", "/openapi.json", "/docs", "/pwa_icon", "/pwa_icon/3", "//config",
    "/config//", "/assets/", "/gradio_api", "http://evil/config", "/config%0a", "/gradio_api/info%00", "/x/../config",
    "/assets/..%2findex.html", "/static/%2e%2e/%2e%2e/x", "/static/..%5cx", "/static/img%5c..%5cx", "/static/img/logo.svg%0a",
]  # fmt: skip
THERE = [
    "/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/gradio_api/info", "/gradio_api/info/",
    "/gradio_api/app_id", "/gradio_api/queue/status", "/static/img/logo.svg",
]  # fmt: skip


@pytest.mark.parametrize("path", [*("/gradio_api/" + name for name in GONE), *GONE_ELSEWHERE])
def test_what_is_not_used_is_not_there(studio, path):
    answer = ask(studio.port, path)
    assert (answer.status, answer.line) == (404, NOTHING)


@pytest.mark.parametrize("name", GONE_POST)
def test_what_is_not_used_is_not_there_to_be_sent_to(studio, name):
    answer = post(studio.port, f"/gradio_api/{name}", {})
    assert (answer.status, answer.line) == (404, NOTHING)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods(studio, method):
    assert ask(studio.port, "/", method=method).status in (400, 405)  # CONNECT is not even a path


@pytest.mark.parametrize("path", THERE)
def test_what_is_used_is_there(studio, path):
    assert ask(studio.port, path).status == 200


# Headers, streams.


def test_every_answer_has_the_headers(studio):
    answers = {
        200: ask(studio.port, "/"),
        421: ask(studio.port, "/", headers={"Host": "evil"}),
        404: ask(studio.port, "/nothing"),
        422: post(studio.port, "/gradio_api/queue/join", {}),
        500: post(studio.port, "/gradio_api/run/go", {"data": []}),
        413: post(studio.port, "/gradio_api/run/go", "x" * 30_000),
    }
    for status, answer in answers.items():
        assert answer.status == status
        assert answer.headers["x-content-type-options"] == ["nosniff"]
        assert answer.headers["referrer-policy"] == ["no-referrer"]
        assert answer.headers["x-frame-options"] == ["SAMEORIGIN"]
        [policy] = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; ") and "connect-src 'self';" in policy and "http" not in policy


def test_a_stream_is_passed_on_as_it_comes(studio):
    assert post(studio.port, "/gradio_api/queue/join", {"data": [], "fn_index": 1, "session_hash": "abc"}).status == 200
    with socket.create_connection(("127.0.0.1", studio.port), timeout=10) as line:
        about = {"Host": f"127.0.0.1:{studio.port}", "Connection": "close"}
        line.sendall(wire.head("GET", "/gradio_api/queue/data?session_hash=abc", about))
        times, data = [], b""
        while piece := line.recv(65536):
            data += piece
            times += [time.monotonic()] * piece.count(b'"process_generating"')
    assert b"text/event-stream" in data and b'"process_completed"' in data
    assert len(times) >= 3 and times[-1] - times[0] > 0.4


def call(guard: Guard, scope: dict, *messages: dict) -> list[dict]:
    """What a guard sends for a request."""
    told, sent = iter(messages), []

    async def receive():
        return next(told)

    async def send(message):
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    return sent


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_what_is_no_request_passes(kind):
    async def app(scope, receive, send):
        await send(scope)

    assert call(Guard(app, limits=Limits(), hosts=("localhost",), uploads=Path), {"type": kind}) == [{"type": kind}]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://a.gradio.live", 200),
        ("https://b.example", 200),
        ("https://evil.example", 403),
        ("http://a.gradio.live:8", 403),
    ],
)
def test_behind_a_tunnel(origin, status):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    headers = [
        (b"host", b"a.gradio.live"),
        (b"x-forwarded-host", b"b.example, c.example"),
        (b"origin", origin.encode()),
    ]
    guard = Guard(app, limits=Limits(), hosts=("*",), uploads=Path)
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/cancel", "headers": headers}
    body = {"type": "http.request", "body": b"{}"}
    assert call(guard, scope, body)[0]["status"] == status


def test_accounts_still_work(tmp_path):
    with wire.serve(tmp_path, Limits(), auth=[("alice", "wonderland")]) as served:
        assert served.go(None).status == 401
        about = {"Content-Type": "application/x-www-form-urlencoded"}
        wrong = ask(served.port, "/login", method="POST", headers=about, body=b"username=alice&password=x")
        right = ask(served.port, "/login", method="POST", headers=about, body=b"username=alice&password=wonderland")
        assert (wrong.status, right.status) == (400, 200)
        cookies = "; ".join(cookie.partition(";")[0] for cookie in right.headers["set-cookie"])
        assert post(served.port, "/gradio_api/run/go", {"data": [None]}, Cookie=cookies).status == 200


def test_the_page_works_in_a_browser_and_asks_nobody_else(studio, browser, tmp_path):
    Image.new("RGB", (16, 12), "red").save(tmp_path / "a red “one” ☃.png")
    tab, asked, wrong = browser.new_page(), [], []
    tab.set_default_timeout(15_000)
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    address = f"http://localhost:{studio.port}/"
    tab.goto(address)
    tab.set_input_files("input[type=file] >> nth=0", tmp_path / "a red “one” ☃.png")
    tab.wait_for_selector(f'img[src^="{address}gradio_api/file="]')
    tab.get_by_role("button", name="go", exact=True).click()
    deadline = time.monotonic() + 10
    while not studio.seen[-1:] or not str(studio.seen[-1]).endswith("☃.png"):
        assert time.monotonic() < deadline, studio.seen
        tab.wait_for_timeout(50)
    tab.close()
    assert Path(studio.seen[-1]).is_relative_to(studio.uploads)
    assert not wrong and not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
