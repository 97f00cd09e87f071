"""A studio with accounts and little patience: nobody gets what is another's, and everybody gets an answer."""

from __future__ import annotations

import contextlib
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.app import asking
from tests.app.asking import Page, Refused
from tests.helpers.studio import running, upload

pytest.importorskip("gradio")
from gradio_client import Client, handle_file  # noqa: E402
from gradio_client.exceptions import AuthenticationError  # noqa: E402

PASSWORDS = {"anna": "annas secret", "bert": "berts secret"}
WAITING, SECONDS = 2, 2
#: An edit of so many steps would take the tiny starter long.
ENDLESS = 1000
COLORS = ("red", "blue", "green")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("place")
    for color in COLORS:
        Image.new("RGB", (32, 32), color).save(place / f"{color}.png")
    return place


@pytest.fixture(scope="module")
def studio(place, tiny_starters):
    accounts = [word for user, password in PASSWORDS.items() for word in ("--auth", f"{user}:{password}")]
    limits = ("--most-waiting", str(WAITING), "--most-seconds", str(SECONDS), "--most-steps", str(ENDLESS))
    (place / "temp").mkdir()
    temp = {"TMPDIR": str(place / "temp")}
    with running(place / "library", *accounts, *limits, starters=tiny_starters, env=temp) as served:
        yield served


class Visitor:
    """Somebody who has logged in."""

    def __init__(self, studio: Any, user: str, place: Path) -> None:
        self.http = httpx.Client(base_url=studio.address, timeout=asking.TIMEOUT)
        told = {"username": user, "password": PASSWORDS[user]}
        self.http.post("/login", data=told).raise_for_status()
        files = [place / f"{color}.png" for color in COLORS]
        self.files = upload(studio.address, files, cookies=self.http.cookies)

    def edit(self, **options: Any) -> list[Any]:
        """An edit of the visitor's red picture."""
        return asking.ask(self.http, "edit", self.asks(**options))

    def asks(self, **options: Any) -> dict[str, Any]:
        return {"image": self.files[0], "instruction": "make it night", "seed": 1, "steps": 2} | options


@pytest.fixture(scope="module")
def anna(studio, place):
    return Visitor(studio, "anna", place)


@pytest.fixture(scope="module")
def bert(studio, place):
    return Visitor(studio, "bert", place)


@pytest.fixture(scope="module")
def stranger(studio):
    with httpx.Client(base_url=studio.address, timeout=asking.TIMEOUT) as http:
        yield http


# Strangers.

API = "/gradio_api/"
OPEN = ("/", "/theme.css", "/manifest.json", "/robots.txt", "/logout", f"{API}startup-events")
SHUT = (
    "/config", *(f"{API}{name}" for name in (
        "info", "openapi.json", "app_id", "user", "login_check", "theme.css", "queue/data?session_hash=x", "queue/status",
        "upload_progress?upload_id=x", "heartbeat/x", "call/edit/x", "call/v2/edit/x", "file=/etc/passwd",
    )),
)  # fmt: skip
SHUT_POST = (
    "queue/join", "cancel", "reset", "upload", "component_server", "call/edit", "call/v2/edit", "run/edit", "run/predict",
    "api/predict",
)  # fmt: skip


@pytest.mark.parametrize("path", SHUT)
def test_strangers_are_told_nothing(stranger, path):
    assert stranger.get(path).status_code == 401


@pytest.mark.parametrize("path", SHUT_POST)
def test_strangers_can_do_nothing(stranger, path):
    body = {"data": [], "fn_index": 0, "session_hash": "x", "event_id": "x"}
    assert stranger.post(f"{API}{path}", json=body).status_code == 401
    assert stranger.post(f"{API}{path}", files={"files": ("x.png", b"x")}).status_code == 401


@pytest.mark.parametrize("path", OPEN)
def test_what_is_open_says_nothing(stranger, anna, path):
    answer = stranger.get(path)
    assert answer.status_code in (200, 302)
    assert "tell-picture" not in answer.text and "sessions" not in answer.text.lower().replace("all_session", "")


def test_strangers_get_no_file(stranger, anna):
    made, _ = anna.edit()
    for file in (made, anna.files[0]):
        path = f"{API}file={file['path']}"
        assert stranger.get(path).status_code == 401
        assert anna.http.get(path).status_code == 200
        assert stranger.get(path, headers={"cookie": "access-token-x=y"}).status_code == 401


@pytest.mark.parametrize("told", [("anna", "berts secret"), ("anna", ""), ("carl", "annas secret"), ("", "")])
def test_a_wrong_password(stranger, studio, told):
    assert stranger.post("/login", data={"username": told[0], "password": told[1]}).status_code in (400, 422)
    with pytest.raises((AuthenticationError, ValueError)):
        Client(studio.address, auth=told, verbose=False)
    with pytest.raises(AuthenticationError):
        Client(studio.address, verbose=False)


def test_gradio_client_logs_in(studio, place):
    client = Client(
        studio.address, auth=("anna", PASSWORDS["anna"]), verbose=False, download_files=str(place / "downloads")
    )
    path, told = client.predict(
        image=handle_file(place / "red.png"), instruction="make it night", seed=3, steps=2, api_name="/edit"
    )
    assert told["seed"] == 3 and Path(path).is_file()


# Each other.


def test_neither_reads_the_others_files(anna, bert):
    made, _ = anna.edit()
    for file in (made, *anna.files):
        assert anna.http.get(f"{API}file={file['path']}").status_code == 200
        refused = bert.http.get(f"{API}file={file['path']}")
        assert refused.status_code == 404 and refused.text == "there is nothing here\n"
        for named in ({"path": file["path"]}, file, {"path": "", "url": file.get("url", f"{API}file={file['path']}")}):
            with pytest.raises(Refused, match="pictures are uploaded first"):
                bert.edit(image=named)
            with pytest.raises(Refused, match="pictures are uploaded first"):
                bert.edit(mask=named)
    again, _ = anna.edit(image=made)
    assert again["path"] != made["path"]


def test_neither_calls_the_others_learned_edits(anna, bert):
    lesson = {"before": anna.files[:1], "after": anna.files[1:2], "name": "annas", "steps": 1}
    file, told = asking.ask(anna.http, "learn", lesson)
    assert told["name"] == "annas"
    assert anna.edit(instruction="<annas>")[1]["seed"] == 1
    with pytest.raises(Refused, match="<annas> names no learned edit: the library is empty"):
        bert.edit(instruction="<annas>")
    assert bert.http.get(f"{API}file={file['path']}").status_code == 404
    lesson |= {"before": bert.files[:1], "after": bert.files[2:]}
    assert asking.ask(bert.http, "learn", lesson)[1]["name"] == "annas"  # the name is free in his library
    # In a session of the same name, too.
    pages = [Page(each.http, "one-name") for each in (anna, bert)]
    looks = [page.do("show-looks", "select", of={"index": 0, "value": ""}) for page in pages]
    paths = [f"{API}file={look['show-export'][-1]['value']['path']}" for look in looks]
    for mine, others, path in ((anna, bert, paths[0]), (bert, anna, paths[1])):
        assert mine.http.get(path).status_code == 200 and others.http.get(path).status_code == 404
    for page in pages:
        assert (
            "not there any more"
            in page.do("show-looks", "select", of={"index": 1, "value": ""})["show-library-line"][-1]
        )


def test_neither_sees_the_others_results_under_one_name(anna, bert):
    one, other = (Page(each.http, "same-name") for each in (anna, bert))
    one.set(tell_picture=anna.files[0], tell_lines="make it night", tell_steps=2, tell_seed=5)
    one.do("tell-run")
    assert "is now the picture" in one.do("tell-again")["tell-line"][-1]
    assert "there is no result yet" in other.do("tell-again")["tell-line"][-1]


# In turn.


def test_all_are_answered_in_turn(anna, bert):
    """One at a time, whoever came first; whoever finds the line full is told so."""
    answers: list[int] = []

    def answered(number: int, event: str, who: Visitor) -> int:
        told = list(asking.events(who.http, "edit", event))[-1]
        assert told[0] == "complete" and told[1][1]["seed"] == number
        answers.append(number)
        return number

    visitors = (anna, bert, anna)
    with ThreadPoolExecutor(3) as pool:
        waiting = []
        for number, who in enumerate(visitors):
            waiting.append(
                pool.submit(answered, number, asking.start(who.http, "edit", who.asks(seed=number, steps=40)), who)
            )
            time.sleep(0.1)
        refused = who.http.post(f"{API}call/v2/edit", json=anna.asks())
        assert [each.result() for each in waiting] == [0, 1, 2]
    assert answers == [0, 1, 2]
    assert refused.status_code == 503
    assert asking.line_of(refused) == f"Queue is full. Max size is {WAITING} and size is {WAITING}."
    assert bert.edit()[1]["seed"] == 1


@pytest.mark.parametrize(
    "options",
    [{}, {"method": "pti", "instruction": "a house"}, {"method": "foi", "instruction": "it [red]\nit [blue]"}],
    ids=["ip2p", "pti", "foi"],
)
def test_what_takes_too_long_is_ended(anna, options):
    began = time.monotonic()
    with pytest.raises(
        Refused, match=rf"^this took longer than the {SECONDS} seconds that one request may take here: [^\n]+$"
    ):
        anna.edit(steps=ENDLESS, **options)
    assert SECONDS <= time.monotonic() - began < SECONDS + 6
    assert anna.edit()[1]["seed"] == 1


def test_a_lesson_that_takes_too_long_can_be_gone_on_with(studio, bert):
    """What was learned in its time is kept."""
    page = Page(bert.http, "lesson")
    page.set(show_before_1=bert.files[0], show_after_1=bert.files[2], show_name="slow", show_steps=5000)
    said = page.do("show-learn")["show-line"]
    assert "took longer than" in str(said[-1])
    with contextlib.suppress(Refused):
        asking.ask(
            bert.http, "learn", {"before": bert.files[:1], "after": bert.files[2:], "steps": 5000, "name": "slower"}
        )
    from showtell.app.unfinished import Unfinished

    [home] = [each for each in (studio.folder / "accounts").iterdir() if each.name.startswith("bert-")]
    lessons = Unfinished(home / "unfinished").list()
    assert {lesson.name for lesson in lessons} == {"slow", "slower"}
    assert all((lesson.steps_done() or 0) > 0 for lesson in lessons)


def test_ctrl_c_ends_it_in_good_order(studio, place, anna):
    """The last test: in the middle of an edit."""
    asking.start(anna.http, "edit", anna.asks(steps=ENDLESS))
    time.sleep(0.5)
    assert len(list((place / "temp").glob("showtell-studio-*"))) == 1
    studio.process.send_signal(signal.SIGINT)
    assert studio.process.wait(timeout=20) == 0
    assert not list((place / "temp").glob("showtell-studio-*"))
    assert "Traceback" not in "".join(studio.said), "".join(studio.said)[-3000:]
