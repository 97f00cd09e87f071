"""Triplets from an endpoint on a real socket: what is asked, what it costs, what is dropped; nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from showtell.data.asking import Endpoint, Pace, Refused, Unanswered
from showtell.engine import triplets_asked, triplets_captions, triplets_endpoint, triplets_making, triplets_prompt
from showtell.engine.triplets_checks import Checks
from showtell.engine.triplets_endpoint import Asker, Prices
from showtell.engine.triplets_journal import Journal
from showtell.engine.triplets_judging import Judges
from showtell.errors import FileFormatError, ShowtellError, UsageError
from tests.helpers import endpoint
from tests.helpers.endpoint import Reply

CAPTIONS = ["a cat on a mat", "a dog in a park", "a house", "an old tree", "a boat at sea", "two birds"]


def caption_of(question) -> str:
    first = next(m["content"] for m in reversed(question["messages"]) if m["content"].startswith("Caption: "))
    return first.split("\n")[0].removeprefix("Caption: ")


def edits(*pairs) -> str:
    return json.dumps({"edits": [{"instruction": told, "edited_caption": target} for told, target in pairs]})


def counted(text, read=100, written=10) -> bytes:
    """An answer with the tokens that it took."""
    told = {"choices": [{"message": {"content": text}}], "usage": {"prompt_tokens": read, "completion_tokens": written}}
    return json.dumps(told).encode()


def good(question) -> bytes:
    caption = caption_of(question)
    return counted(edits(("make it night", f"{caption} at night")))


class Answers:
    """An endpoint that answers each question well, unless ``other`` has something else to say about a caption."""

    def __init__(self, other=lambda caption, before: None):
        self.other, self.captions = other, []

    def __call__(self, number):
        question = self.fake.asked[number]
        if "messages" not in question:
            return self.other(question["input"], 0)
        caption = caption_of(question)
        before = self.captions.count(caption)
        self.captions.append(caption)
        return self.other(caption, before) or good(question)


@pytest.fixture
def serve(tmp_path):
    """``serve(other)``: an endpoint for the length of the test."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(other=lambda caption, before: None):
            answers = Answers(other)
            answers.fake = stack.enter_context(endpoint.served(answers))
            return answers

        yield start


def quiet(title):
    from contextlib import nullcontext

    return nullcontext(lambda done, total, figure="": None)


def job(tmp_path, captions=CAPTIONS, **options) -> triplets_making.Job:
    (tmp_path / "captions.txt").write_text("".join(f"{caption}\n" for caption in captions))
    checks = options.get("checks", Checks())
    items, dropped = triplets_captions.read(tmp_path / "captions.txt", checks)
    return triplets_making.Job(out=tmp_path / "t.jsonl", items=items, dropped=dropped, **options)


def asker(answers, *, count=1, attempts=3, **options) -> Asker:
    given = {"wait": 0.001, "timeout": 10.0, "retries": 1, **options}
    return Asker(endpoint=Endpoint(url=answers.fake.url, model="words", **given), count=count, attempts=attempts)


def make(one, ask, *, resume=False, **options):
    begun = triplets_making.start_of(one, {"model": "words"}, resume=resume)
    return triplets_making.from_endpoint(one, ask, begun, quiet, **options)


def test_what_is_asked_and_what_becomes_of_it(serve, tmp_path):
    answers = serve()
    made = make(job(tmp_path), asker(answers, options={"temperature": 0.3, "max_tokens": 99}, key="secret"))
    assert [one.id for one in made.triplets] == [f"p{i:06d}" for i in range(6)]
    assert [one.source_caption for one in made.triplets] == CAPTIONS
    assert {(one.instruction, one.origin) for one in made.triplets} == {("make it night", "endpoint")}
    assert made.failed == () and made.dropped == {} and made.usage == {"read": 600, "written": 60, "rough": 0}
    question = answers.fake.asked[0]
    assert (question["temperature"], question["max_tokens"], question["model"]) == (0.3, 99, "words")
    assert question["messages"][0]["role"] == "system" and len(question["messages"]) == 2 + 2 * 12
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert lines[2] == {
        "id": "p000002", "source_caption": "a house", "instruction": "make it night", "target_caption": "a house at night",
        "origin": "endpoint",
    }  # fmt: skip
    assert not any(b"secret" in path.read_bytes() for path in tmp_path.iterdir())


def test_every_example_is_what_is_asked_for():
    for count in (1, 2):
        talk = triplets_prompt.conversation("x", count)
        shown = [m["content"] for m in talk if m["role"] == "assistant"]
        assert len(set(shown)) == len(triplets_prompt.EXAMPLES) and 8 <= len(shown) <= 12
        for (caption, _), answer in zip(triplets_prompt.EXAMPLES, shown, strict=True):
            for edit in triplets_prompt.understood(answer, count):
                from showtell.data.triplets import Triplet

                one = Triplet(
                    id="x", source_caption=caption, instruction=edit.instruction, target_caption=edit.target_caption
                )
                assert Checks().fault(one) is None and len(edit.instruction.split()) <= 15


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ("Sorry, no.", "no JSON object"),
        ('{"edits": [', "not JSON"),
        ("{" * 5000, "not JSON"),
        ('{"edit": []}', 'no list "edits"'),
        ('{"edits": []}', "0 edits, not 1"),
        ('{"edits": ["night"]}', 'edit 1 has no text "instruction"'),
        ('{"edits": [{"instruction": "x", "edited_caption": 3}]}', 'no text "edited_caption"'),
        (edits(("x", "a" * 500)), "longer than 400"),
        ('{"edits": [{"instruction": "\\ud800", "edited_caption": "a"}]}', "not text"),
    ],
)
def test_an_answer_that_cannot_be_used_is_given_back(answer, wrong, serve, tmp_path):
    """Once with what is wrong; the second answer is taken."""
    answers = serve(lambda caption, before: counted(answer) if before == 0 else None)
    made = make(job(tmp_path, CAPTIONS[:1]), asker(answers))
    assert len(made.triplets) == 1 and made.usage["read"] == 200
    told = answers.fake.asked[1]["messages"][-1]["content"]
    assert wrong in told and answers.fake.asked[1]["messages"][-2] == {"role": "assistant", "content": answer[:4000]}


def test_words_around_the_object_do_no_harm():
    told = f"Here:\n```json\n{edits(('make it {{red}}', 'a red cat'))}\n``` {{or not}}"
    [edit] = triplets_prompt.understood(told, 1)
    assert edit.target_caption == "a red cat"
    thought = '<think>perhaps {red}, or {"a": {}} ...</think>' + edits(("make it blue", "a blue cat"))
    assert triplets_prompt.understood(thought, 1)[0].target_caption == "a blue cat"


def test_unusable_rows_are_counted_and_not_asked_again(serve, tmp_path):
    answers = serve(lambda caption, before: counted("no") if caption == "a house" else None)
    made = make(job(tmp_path), asker(answers, attempts=2))
    assert len(made.triplets) == 5 and made.dropped == {"unusable answer": 1} and made.failed == ()
    asked = len(answers.captions)
    assert asked == 5 + 2
    again = make(job(tmp_path), asker(answers), resume=True)
    assert again.triplets == made.triplets and again.kept == 6 and len(answers.captions) == asked
    assert again.usage == made.usage


def test_what_is_dropped_is_counted_by_reason(serve, tmp_path):
    told = {
        "a cat on a mat": ("leave it", "A cat, on a mat!"),
        "a dog in a park": (" ", "a dog at night"),
        "a house": ("make it big", "word " * 61),
        "an old tree": ("burn it", "a burnt old tree"),
        "a boat at sea": ("make it red", "a red boat at sea"),
        "a boat at dock": ("make it red", "a red boat at dock"),
    }
    answers = serve(lambda caption, before: counted(edits(told[caption])))
    captions = [*told, "  A BOAT at  sea.", "", "two " * 61, "burn the house"]
    one = job(tmp_path, captions, checks=Checks(blocked=("BURN", "sky scraper")))
    made = make(one, asker(answers))
    assert [one.id for one in made.triplets] == ["p000004", "p000005"]
    assert made.dropped == {
        "blocked word": 1, "caption blocked word": 1, "caption too long": 1, "caption twice": 1, "empty": 1,
        "too long": 1, "unchanged": 1,
    }  # fmt: skip
    assert len(answers.captions) == 6
    recipe = json.loads((tmp_path / "t.recipe.json").read_text())
    assert recipe["made"]["dropped"] == made.dropped and recipe["made"]["triplets"] == 2


def test_several_edits_of_a_caption(serve, tmp_path):
    def three(caption, before):
        pairs = [(f"make it {word}", f"{caption}, {word}") for word in ("red", "blue", "red")]
        return counted(edits(*pairs))

    answers = serve(three)
    made = make(job(tmp_path, CAPTIONS[:2], count=3), asker(answers, count=3))
    assert [one.id for one in made.triplets] == ["p000000-v0", "p000000-v1", "p000001-v0", "p000001-v1"]
    assert made.dropped == {"twice": 2}
    assert answers.fake.asked[0]["messages"][-1]["content"].endswith("Edits: 3")


def test_busy_endpoints_are_asked_again_and_a_row_that_fails_stays_alone(serve, tmp_path):
    def busy(caption, before):
        if caption == "a house" and before == 0:
            return Reply(429, {"Retry-After": "7"})
        return Reply(500) if caption == "an old tree" and before < 4 else None

    answers, pauses = serve(busy), []
    made = make(job(tmp_path), asker(answers, pause=pauses.append))
    assert [label for label, _ in made.failed] == ["p000003"] and "status 500" in made.failed[0][1]
    assert len(made.triplets) == 5 and sorted(pauses) == [0.001, 7.0]
    again = make(job(tmp_path), asker(answers, retries=2, pause=pauses.append), resume=True)
    assert again.failed == () and [one.id for one in again.triplets] == [f"p{i:06d}" for i in range(6)]
    assert answers.captions.count("an old tree") == 2 + 3 and len(answers.captions) == 5 + 1 + 5


def test_an_endpoint_that_refuses_ends_it_and_what_was_answered_is_kept(serve, tmp_path):
    answers = serve(lambda caption, before: Reply(401) if caption == "an old tree" else None)
    one = job(tmp_path, concurrency=1)
    with pytest.raises(Refused, match="status 401"):
        make(one, asker(answers))
    assert answers.captions == CAPTIONS[:4] and not one.out.exists()
    answers.other = lambda caption, before: None
    assert len(make(one, asker(answers), resume=True).triplets) == 6
    assert answers.captions == CAPTIONS[:4] + CAPTIONS[3:]


def test_an_endpoint_that_is_down_is_not_asked_about_every_row(serve, tmp_path):
    answers = serve(lambda caption, before: Reply(None))
    one = job(tmp_path, [f"picture {i}" for i in range(60)], concurrency=2)
    with pytest.raises(ShowtellError, match=r"stopped after 2\d of 60 rows: 2\d in a row got no answer"):
        make(one, asker(answers, retries=0))
    assert len(answers.captions) < 30


def test_an_answer_that_trickles_in_is_not_waited_for_longer_than_the_timeout(serve, tmp_path):
    answers = serve(lambda caption, before: Reply(200, body=b" " * 10_000, slow=0.02))
    with pytest.raises(Unanswered, match="timed out"):
        asker(answers, timeout=0.2, retries=0).endpoint.ask([{"role": "user", "content": "Caption: a cat"}])


@pytest.mark.parametrize("status", [400, 401])
def test_a_key_that_the_endpoint_repeats_is_not_said_on(serve, status, tmp_path):
    answers = serve(lambda caption, before: Reply(status, body=b"no such key: sk-verysecret"))
    ask = asker(answers, key="sk-verysecret")
    if status == 401:
        with pytest.raises(Refused, match=r"no such key: \.\.\.") as found:
            make(job(tmp_path), ask)
        assert "verysecret" not in str(found.value)
    else:
        made = make(job(tmp_path), ask)
        assert len(made.failed) == len(CAPTIONS) and "verysecret" not in str(made.failed)
    assert "verysecret" not in (tmp_path / "t.journal.jsonl").read_text()


def test_half_a_character_in_a_journal_is_kept_as_json_names_it(tmp_path):
    journal = Journal(path=tmp_path / "j.jsonl")
    journal.begin({})
    journal.append({"id": "p0", "error": "half \ud83d of one, and café"})
    assert [one["error"] for one in journal.lines()] == ["half \ud83d of one, and café"]


@pytest.mark.parametrize("timeout", [float("inf"), float("nan"), 0.0])
def test_a_timeout_that_no_clock_can_hold(timeout):
    with pytest.raises(UsageError, match="timeout .*: give seconds"):
        Endpoint(url="http://localhost:1", model="words", timeout=timeout)


def test_requests_are_spaced():
    """On a clock of our own: a fourth request within the minute waits for its turn."""
    now, waits = [0.0], []
    pace = Pace(120, clock=lambda: now[0], pause=waits.append)
    for at in (0.0, 0.1, 0.1, 5.0):
        now[0] = at
        pace()
    assert waits == [pytest.approx(0.4), pytest.approx(0.9)]


def test_each_request_waits_for_its_turn_repetitions_too(serve, tmp_path):
    answers = serve(lambda caption, before: Reply(503) if caption == "a house" and before == 0 else None)
    turns = []
    make(job(tmp_path), asker(answers, pace=lambda: turns.append(1)))
    assert len(turns) == len(answers.fake.asked) == 7


def test_the_cost_is_counted_and_stops_at_its_limit(serve, tmp_path):
    answers = serve()
    one, prices = job(tmp_path, concurrency=1), Prices(read=1000.0, written=10_000.0)  # 0.1 + 0.1 a row
    with pytest.raises(
        ShowtellError, match=r"stopped after [34] of 6 rows: they cost 0\.[68]000, and --max-cost is 0\.5"
    ):
        make(one, asker(answers), prices=prices, most=0.5)
    assert 3 <= len(answers.captions) <= 4  # one may have been on its way
    made = make(one, asker(answers), prices=prices, resume=True)
    assert len(answers.captions) == 6 and made.cost == pytest.approx(1.2) and len(made.triplets) == 6


def test_an_endpoint_that_does_not_count_is_counted_roughly(serve, tmp_path):
    plain = edits(("make it night", "a cat at night"))
    answers = serve(lambda caption, before: plain)
    made = make(job(tmp_path, CAPTIONS[:1]), asker(answers))
    rough = triplets_endpoint.estimate(job(tmp_path, CAPTIONS[:1]).items, 1)
    assert made.usage["rough"] == 1 and made.usage["written"] == -(-len(plain) // 4)
    assert made.usage["read"] == pytest.approx(rough.read, rel=0.01) and rough.written > 10


def test_moderation_of_the_endpoint_and_of_ones_own(serve, tmp_path):
    def other(told, before):
        if isinstance(told, list):
            results = [{"flagged": "dog" in text, "categories": {"dogs": "dog" in text, "x": False}} for text in told]
            return json.dumps({"results": results}).encode()
        return None

    answers, seen = serve(other), []

    def mine(texts):
        seen.append(texts)
        return "no trees" if "tree" in texts[0] else None

    ask = asker(answers)
    judges = Judges(endpoint=ask.endpoint, own=mine, name="mine:judge")
    one = job(tmp_path, judges=judges)
    made = make(one, ask)
    assert made.dropped == {"moderated": 2} and len(made.triplets) == 4
    assert answers.fake.paths.count("/v1/moderations") == 6 and len(seen) == 5
    asked = len(answers.fake.asked)
    assert make(one, ask, resume=True).triplets == made.triplets and len(answers.fake.asked) == asked and len(seen) == 5
    flags = [
        line["verdict"]["flag"] for line in Journal(path=tmp_path / "t.journal.jsonl").lines() if "verdict" in line
    ]
    assert sorted(flags) == ["", "", "", "", "dogs", "no trees"]


def test_what_could_not_be_moderated_failed_and_is_moderated_later(serve, tmp_path):
    faults = [ValueError("ouch")]

    def mine(texts):
        if "house" in texts[0] and faults:
            raise faults.pop()

    answers = serve()
    one = job(tmp_path, judges=Judges(own=mine, name="mine:judge"))
    made = make(one, asker(answers))
    assert made.failed == (("p000002", "moderation: mine:judge failed (ValueError: ouch)"),) and len(made.triplets) == 5
    again = make(one, asker(answers), resume=True)
    assert again.failed == () and len(again.triplets) == 6 and len(answers.captions) == 6


def test_an_endpoint_without_moderation(serve, tmp_path):
    answers = serve(lambda told, before: Reply(404) if isinstance(told, list) else None)
    ask = asker(answers)
    with pytest.raises(Refused, match="404"):
        make(job(tmp_path, judges=Judges(endpoint=ask.endpoint)), ask)
    with pytest.raises(Unanswered, match="not a moderation"):
        answers.other = lambda told, before: b'{"results": 3}'
        ask.endpoint.flagged(["x"])


# --- going on ------------------------------------------------------------------------------------------------------


def test_half_a_line_is_no_line(serve, tmp_path):
    answers = serve()
    one = job(tmp_path, concurrency=1)
    whole = make(one, asker(answers))
    path = tmp_path / "t.journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for cut in (1, 20, len(lines[-1]) - 2):
        path.write_bytes(b"".join(lines[:-1]) + lines[-1][:cut])
        before = len(answers.captions)
        again = make(one, asker(answers), resume=True)
        assert again.triplets == whole.triplets and answers.captions[before:] == ["two birds"]
        assert len(list(Journal(path=path).lines())) == 6
    path.write_bytes(b"".join(lines[:3]) + b"\0\0\xff{]\n" + b"[1]\n" + b"".join(lines[4:]))
    before = len(answers.captions)
    assert make(one, asker(answers), resume=True).triplets == whole.triplets
    assert answers.captions[before:] == [json.loads(lines[3])["caption"]]


def test_captions_may_be_added_and_changed(serve, tmp_path):
    answers = serve()
    make(job(tmp_path, CAPTIONS[:3]), asker(answers))
    made = make(job(tmp_path, ["a fox", *CAPTIONS[1:]]), asker(answers), resume=True)
    assert [one.source_caption for one in made.triplets] == ["a fox", *CAPTIONS[1:]]
    assert sorted(answers.captions[3:]) == sorted(["a fox", *CAPTIONS[3:]])


def test_a_journal_of_other_settings_is_not_gone_on_with(serve, tmp_path):
    one = job(tmp_path)
    make(one, asker(serve()))
    with pytest.raises(UsageError, match="was begun with model=words, not others: give the same"):
        triplets_making.start_of(one, {"model": "others"}, resume=True)
    for text in ("", "[]\n", "nonsense\n", '{"kind": "showtell triplets"}\n', '{"settings": {}, "kind": 3}\n'):
        (tmp_path / "t.journal.jsonl").write_text(text)
        with pytest.raises(FileFormatError, match=r"t.journal.jsonl"):
            triplets_making.start_of(one, {"model": "words"}, resume=True)
    (tmp_path / "t.journal.jsonl").unlink()
    with pytest.raises(UsageError, match="has no t.journal.jsonl beside it"):
        triplets_asked.start(one.out, {}, resume=True)


def test_several_processes_write_to_one_journal(tmp_path):
    path = tmp_path / "t.journal.jsonl"
    Journal(path=path).begin({})
    code = (
        "import sys; from pathlib import Path; from showtell.engine.triplets_journal import Journal\n"
        "for i in range(40): Journal(path=Path(sys.argv[1])).append({'id': f'{sys.argv[2]}-{i}', 'caption': 'x' * 5000})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in ("a", "b")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert len(Journal(path=path).records()) == 80


def test_a_full_disk_leaves_no_half_of_a_line(tmp_path):
    path = tmp_path / "t.journal.jsonl"
    Journal(path=path).begin({})
    size = path.stat().st_size
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from showtell.engine.triplets_journal import Journal\n"
        "from showtell.errors import OutputError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 50}, {size + 50}))\n"
        "try: Journal(path=Path(sys.argv[1])).append({'id': 'a', 'caption': 'x' * 500})\n"
        "except OutputError as error: sys.exit(40 + error.exit_code)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60).returncode == 41
    assert path.stat().st_size == size


KILLED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in a shell's background is started with it ignored
from pathlib import Path
from contextlib import nullcontext
from showtell.data.asking import Endpoint
from showtell.engine import triplets_captions, triplets_making
from showtell.engine.triplets_checks import Checks
from showtell.engine.triplets_endpoint import Asker
folder = Path(sys.argv[1])
items, _ = triplets_captions.read(folder / "captions.txt", Checks())
one = triplets_making.Job(out=folder / "t.jsonl", items=items, concurrency=3)
asker = Asker(endpoint=Endpoint(url=sys.argv[2], model="words"))
begun = triplets_making.start_of(one, {"model": "words"}, resume=False)
triplets_making.from_endpoint(one, asker, begun, lambda title: nullcontext(lambda *told: None))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_loses_nothing_and_doubles_nothing(how, serve, tmp_path):
    reached, go = threading.Event(), threading.Event()

    def other(caption, before):
        if caption == "picture 6" and not go.is_set():
            reached.set()
            go.wait(30)
        return None

    answers = serve(other)
    one = job(tmp_path, [f"picture {i}" for i in range(12)])
    command = [sys.executable, "-c", KILLED, str(tmp_path), answers.fake.url]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert reached.wait(120)
        journal, until = tmp_path / "t.journal.jsonl", time.monotonic() + 60
        while (
            journal.read_bytes().count(b"\n") < 6 and time.monotonic() < until
        ):  # answers on their way are no rows yet
            time.sleep(0.01)
        process.send_signal(how)
        if how == signal.SIGINT:
            threading.Timer(0.3, go.set).start()  # what is on its way is waited for
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        go.set()
    assert process.returncode != 0 and not (tmp_path / "t.jsonl").exists()
    known = Journal(path=tmp_path / "t.journal.jsonl").records()
    assert len(known) >= 5
    if how == signal.SIGINT:
        assert "Cancelled: interrupted; " in err and "of 12 rows are answered and kept: go on with --resume" in err
        assert sorted(answers.captions) == sorted(record["caption"] for record in known.values())
    before = list(answers.captions)
    make(one, asker(answers), resume=True)
    now = answers.captions[len(before) :]
    left = {f"picture {i}" for i in range(12)} - {record["caption"] for record in known.values()}
    assert set(now) == left and len(now) <= len(left) + 3  # the last questions of one that was killed may be heard late
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"p{i:06d}" for i in range(12)]
