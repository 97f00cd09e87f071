"""The page in a real browser: a whole study by keys and clicks, left in the middle, saved and tallied; nothing is asked for."""

from __future__ import annotations

import http.server
import json
import threading

import pytest

from showtell import study
from tests.helpers import browser, results

pytestmark = pytest.mark.xdist_group("browser")  # one browser, not one a worker
SYSTEMS = ("ip2p", "foi", "pti")
HOSTILE = '</script><img src=x onerror="document.title=1"><b>bold</b>'


@pytest.fixture(scope="module")
def chromium():
    with browser.launch() as running:
        yield running


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    root = results.build(folder / "results", rows=4, systems=SYSTEMS, words={0: [HOSTILE]}, parquet=False)
    built = study.make(root, count=4, checks=2, seed=2, title=HOSTILE, consent=f"Agree? {HOSTILE}")
    page = folder / "study.html"
    page.write_text(built.page, encoding="utf-8")
    return page, built.key


def begin(tab) -> None:
    assert tab.is_disabled("#start")
    tab.check("#agree")
    tab.click("#start")


def asked(tab, key):
    """The question on the screen and, in the order of the screen, its codes: told by the pictures, as no name is there."""
    return tab.evaluate(
        """() => {
            const data = JSON.parse(document.getElementById("study").textContent);
            const shown = [...document.querySelectorAll("#choices img")].map((img) => data.pictures.indexOf(img.src));
            const ask = document.getElementById("ask").textContent.includes("follows") ? "instruction" : "image";
            const before = data.pictures.indexOf(document.getElementById("before-picture").src);
            const found = data.questions.filter((q) => q.ask === ask && q.before === before
                && q.choices.length === shown.length && q.choices.every((c) => shown.includes(c.picture)));
            if (found.length !== 1) throw Error("not one question");
            return [found[0].id, shown.map((n) => found[0].choices.find((c) => c.picture === n).code)];
        }"""
    )


def place_of(tab, key, system: str) -> int:
    """Where the system's picture is on the screen, or a check's right one; from 0."""
    number, codes = asked(tab, key)
    question = next(q for q in key.questions if q.id == number)
    if question.right is not None:
        return codes.index(question.right)
    return codes.index(next(c.code for c in question.choices if c.system == system))


def checked(tab) -> list[bool]:
    return [box.get_attribute("aria-checked") == "true" for box in tab.locator("#choices [role=radio]").all()]


def saved(tab, folder) -> dict:
    with tab.expect_download() as waiting:
        tab.click("#save")
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return {"path": path, "name": path.name, "content": json.loads(path.read_text())}


def test_a_whole_study_by_keys_with_a_reload_in_the_middle(chromium, made, tmp_path):
    page, key = made
    with browser.page(chromium, page) as tab:
        begin(tab)
        people: list[str] = []
        for turn in range(len(key.questions)):
            assert tab.text_content("#where") == f"Question {turn + 1} of 10"
            assert tab.is_disabled("#next") and not any(checked(tab))
            tab.keyboard.press("Enter")  # nothing is chosen yet: it stays
            place = place_of(tab, key, "foi")
            tab.keyboard.press(str(place + 1))
            assert checked(tab) == [i == place for i in range(3)]
            if turn == 4:
                shown = asked(tab, key)
                tab.reload()
                assert asked(tab, key) == shown and checked(tab) == [i == place for i in range(3)]
            people.append(asked(tab, key)[0])
            tab.keyboard.press("Enter")
        assert sorted(people) == sorted(q.id for q in key.questions)
        assert "that was all" in tab.text_content("#end-title")
        file = saved(tab, tmp_path)
        assert tab.input_value("#text") == file["path"].read_text()
        tab.reload()
        assert tab.is_visible("#end") and tab.text_content("#code") == file["content"]["participant"]
        assert tab.title() == HOSTILE and tab.locator("b").count() == 0
        assert not tab.evaluate("document.cookie") and tab.evaluate("localStorage.length") == 1
    assert file["name"] == f"answers-{key.study}-{file['content']['participant']}.json" and file["content"]["complete"]
    found = study.tally([file["path"]], key)
    assert found.participants == 1 and found.answers == 8 and not found.dropped and not found.refused
    assert found.cell("foi", "instruction", "all").votes == found.cell("foi", "image", "all").votes == 4
    assert sum(found.places) == 8


def test_clicks_arrows_and_going_back(chromium, made):
    page, key = made
    with browser.page(chromium, page) as tab:
        begin(tab)
        tab.click("#choices [role=radio] >> nth=2")
        assert checked(tab) == [False, False, True]
        tab.keyboard.press("ArrowLeft")
        assert checked(tab) == [False, True, False]
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("ArrowRight")  # the last stays the last
        assert checked(tab) == [False, False, True]
        first = asked(tab, key)
        tab.click("#next")
        assert asked(tab, key) != first and not any(checked(tab)) and tab.is_disabled("#next")
        tab.keyboard.press("9")  # there is no such picture
        assert not any(checked(tab))
        tab.keyboard.press("Backspace")
        assert asked(tab, key) == first and checked(tab) == [False, False, True] and tab.is_disabled("#back")
        tab.keyboard.press("Enter")
        tab.click("#back")
        assert asked(tab, key) == first


def test_two_tabs_of_one_browser_are_one_participant(chromium, made):
    page, key = made
    with browser.page(chromium, page) as tab:
        begin(tab)
        tab.keyboard.press("1")
        second = tab.context.new_page()
        second.goto(page.as_uri())
        second.keyboard.press("Enter")
        second.wait_for_function("document.getElementById('where').textContent.startsWith('Question 2 ')")
        second.keyboard.press("2")
        here = asked(second, key)
        tab.wait_for_function("document.getElementById('where').textContent.startsWith('Question 2 ')")
        assert asked(tab, key) == here and checked(tab) == [False, True, False]
        tab.keyboard.press("Enter")
        second.wait_for_function("document.getElementById('where').textContent.startsWith('Question 3 ')")
        second.close()
        assert tab.get_attribute("#bar", "aria-valuenow") == "2"


def test_pictures_are_enlarged_beside_the_one_before(chromium, made):
    page, _ = made
    with browser.page(chromium, page) as tab:
        begin(tab)
        small = [tab.get_attribute(f"#choices img >> nth={i}", "src") for i in range(3)]
        tab.click(".zoom >> nth=1")
        assert tab.is_visible("#large") and tab.get_attribute("#large-picture", "src") == small[1]
        assert tab.get_attribute("#large-before", "src") == tab.get_attribute("#before-picture", "src")
        tab.keyboard.press("ArrowRight")
        assert tab.get_attribute("#large-picture", "src") == small[2] and not any(checked(tab))
        tab.click("#take")
        assert not tab.is_visible("#large") and checked(tab) == [False, False, True]
        tab.keyboard.press("z")
        assert "your choice" in tab.text_content("#large-name")
        tab.keyboard.press("Escape")
        tab.click("#before")
        assert tab.is_visible("#large-before") and not tab.is_visible("#large-picture")


def test_two_people_see_orders_of_their_own_and_one_can_stop_early(chromium, made, tmp_path):
    page, key = made
    with browser.page(chromium, page) as tab:
        begin(tab)
        tab.keyboard.press("1")
        first = asked(tab, key)
        tab.click("#stop")
        assert "1 of 10" in tab.text_content("#end-text")
        file = saved(tab, tmp_path)
        assert not file["content"]["complete"]
        assert [a["question"] for a in file["content"]["answers"]] == [first[0]]
        orders = set()
        tab.on("dialog", lambda asking: asking.accept())
        for _ in range(3):
            if tab.is_visible("#question"):
                tab.click("#stop")
            tab.click("#anew")
            begin(tab)
            assert not any(checked(tab))
            orders.add(str(asked(tab, key)))
        assert len(orders) > 1
        tab.click("#stop")
        assert tab.is_disabled("#save") and tab.text_content("#code") != file["content"]["participant"]


def test_a_damaged_store_is_begun_anew(chromium, made):
    page, key = made
    name = f"showtell-study-{key.study}"
    known = {"participant": "AAAA-2222", "screen": "question"}
    with browser.page(chromium, page) as tab:
        for wrong in (
            "{",
            "[]",
            {**known, "participant": "<b>"},
            {**known, "at": 99, "answers": {"x": 1, HOSTILE: None}},
        ):
            text = wrong if isinstance(wrong, str) else json.dumps(wrong)
            # The page keeps its state when it is left: this comes after that.
            tab.evaluate(
                "([n, t]) => window.addEventListener('pagehide', () => localStorage.setItem(n, t))", [name, text]
            )
            tab.reload()
            if tab.is_visible("#intro"):
                begin(tab)
            assert tab.text_content("#where") == "Question 1 of 10" and not any(checked(tab))


def test_on_a_phone_everything_fits_its_width(chromium, made, tmp_path):
    page, _ = made
    with browser.page(chromium, page, size=browser.PHONE, is_mobile=True, has_touch=True) as tab:
        for screen in ("intro", "question", "end"):
            assert tab.is_visible(f"#{screen}")
            wide, view = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide <= view == browser.PHONE["width"]
            tab.screenshot(path=tmp_path / f"{screen}.png")
            if screen == "intro":
                tab.check("#agree")
                tab.tap("#start")
            elif screen == "question":
                tab.tap("#choices [role=radio] >> nth=1")
                assert checked(tab) == [False, True, False]
                tab.tap("#stop")


TRIES = """async () => {
    const image = new Promise((done) => { const i = new Image(); i.onload = i.onerror = done; i.src = "/leak-image"; });
    try { navigator.sendBeacon("/leak-beacon", "x"); } catch { /* refused */ }
    document.body.insertAdjacentHTML("beforeend", "<iframe src='/leak-frame'></iframe>");
    await image;
    return await fetch("/leak-fetch").then(() => "sent", () => "stopped");
}"""


def test_the_policy_stops_whatever_would_be_sent(chromium, made):
    """Not only good manners: even a script of somebody else's cannot reach the server that the page came from."""
    reached: list[str] = []
    pages = {"/study": made[0].read_bytes(), "/plain": b"<!doctype html><link rel=icon href=data:,><body>"}

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            reached.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(pages.get(self.path, b""))

        do_POST = do_GET

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tab = chromium.new_page()
        for name, expected in (("/study", "stopped"), ("/plain", "sent")):
            tab.goto(f"http://127.0.0.1:{server.server_port}{name}")
            assert tab.evaluate(TRIES) == expected
        tab.close()
        server.shutdown()
    assert reached[:2] == ["/study", "/plain"] and {"/leak-image", "/leak-fetch"} <= set(reached)
