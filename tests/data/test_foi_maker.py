"""Asking a model for instructions, against an endpoint on a real socket: what it gets, and what its answers become."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace

import pytest
from PIL import Image

from showtell import data
from showtell.data import foi, foi_maker
from showtell.data.asking import Endpoint, Refused, Unanswered
from showtell.data.reading import Unusable
from showtell.errors import FileFormatError, OutputError, UsageError
from tests.helpers import datasets, endpoint
from tests.helpers.endpoint import GOOD, Reply

GOOD_TEXT = json.dumps(GOOD)


@pytest.fixture
def pictures(tmp_path):
    return [datasets.save(tmp_path / "pictures" / f"{i}.png", i, (40, 30)) for i in range(3)]


def asked(fake: endpoint.Fake, **options) -> Endpoint:
    return Endpoint(url=fake.url, model="seeing", **{"wait": 0.001, "timeout": 10.0, **options})


def test_what_is_asked_and_what_becomes_of_it(pictures, tmp_path):
    out = tmp_path / "foi.json"
    with endpoint.served(lambda n: f"Here it is:\n```json\n{GOOD_TEXT}\n```") as fake:
        made = foi_maker.make(pictures, out, asked(fake, key="secret"))
    assert (len(made.entries), made.problems, made.kept) == (3, (), 0)
    assert fake.paths == ["/v1/chat/completions"] * 3 and fake.keys == ["Bearer secret"] * 3
    question = fake.asked[1]
    assert question["model"] == "seeing"
    text, shown = question["messages"][0]["content"]
    assert "2 to 4 changes" in text["text"] and '"keyword"' in text["text"]
    kind, encoded = shown["image_url"]["url"].split(",", 1)
    seen = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert kind == "data:image/jpeg;base64" and seen.size == (40, 30)
    found = data.load("foi", out)
    assert found.problems == () and [row.id for row in found.rows] == [data.safe_id(f"pictures/{i}") for i in range(3)]
    row = found.rows[0]
    assert row.instructions == ("make the [house] blue", "replace the [tree] with a lamp")
    assert (row.source_caption, row.target_caption) == (GOOD["source_caption"], GOOD["target_caption"])
    assert b"secret" not in out.read_bytes() and "secret" not in repr(asked(fake, key="secret"))


def test_large_pictures_are_sent_small(tmp_path):
    datasets.save(tmp_path / "large.png", 0, (2100, 300))
    url = foi_maker.data_url(tmp_path / "large.png")
    assert Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).size == (1024, 146)


def changed(**changes) -> str:
    return json.dumps({**GOOD, **changes})


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ("I cannot help with that.", "no JSON object"),
        ('{"instructions": [', "no JSON object"),
        ("{not: json}", "not JSON"),
        (changed(instructions=GOOD["instructions"][:1]), "1 instructions, not 2 to 4"),
        (changed(instructions=GOOD["instructions"] * 3), "6 instructions"),
        (
            changed(instructions=[{"text": "make it red", "keyword": "cat"}] * 2),
            "'cat' does not stand in instruction 1",
        ),
        (changed(instructions=[{"text": "make it red"}] * 2), "no keyword"),
        (changed(instructions=["make it red"] * 2), "instructions.0"),
        (changed(target_caption=""), "target caption is empty"),
        (changed(target_caption=GOOD["source_caption"]), "the same"),
        (changed(source_caption="a " * 200), "longer than 300"),
        (changed(source_caption="a house\x1b[31m"), "several lines"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "source_caption"}), "source_caption: Field required"),
    ],
)
def test_an_answer_that_cannot_be_used_is_given_back_with_what_is_wrong(answer, wrong, pictures, tmp_path):
    with pytest.raises(Unusable, match=wrong):
        foi_maker.understood(answer)
    with endpoint.served(lambda n: GOOD_TEXT if n else answer) as fake:
        made = foi_maker.make(pictures[:1], tmp_path / "foi.json", asked(fake))
    assert len(made.entries) == 1 and made.problems == ()
    first, said, again = fake.asked[1]["messages"]
    assert first == fake.asked[0]["messages"][0] and said == {"role": "assistant", "content": answer}
    assert again["role"] == "user" and wrong.split(":")[0] in again["content"]


def test_a_picture_without_an_answer_is_a_problem_and_the_rest_goes_on(pictures, tmp_path):
    pictures[2].write_bytes(b"no picture")
    out = tmp_path / "foi.jsonl"
    with endpoint.served(lambda n: GOOD_TEXT if n > 1 else "no") as fake:
        made = foi_maker.make(pictures, out, asked(fake), attempts=2)
    assert len(fake.asked) == 3
    assert [(one.id, one.kind) for one in made.problems] == [
        ("pictures/0.png", "answer"),
        ("pictures/2.png", "picture"),
    ]
    assert "after 2 questions: there is no JSON object" in made.problems[0].what
    assert [json.loads(line)["image"] for line in out.read_text().splitlines()] == ["pictures/1.png"]


def test_it_goes_on_where_it_stopped(pictures, tmp_path):
    out = tmp_path / "foi.json"

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with endpoint.served(lambda n: GOOD_TEXT) as fake:
        with pytest.raises(KeyboardInterrupt):
            foi_maker.make(pictures, out, asked(fake), told=stop)
        assert len(data.load("foi", out).rows) == 2  # whole after every picture
        before = out.read_bytes()
        with pytest.raises(OutputError, match="--resume"):
            foi_maker.make(pictures, out, asked(fake))
        assert out.read_bytes() == before and len(fake.asked) == 2
        made = foi_maker.make(pictures, out, asked(fake), resume=True)
        assert (len(fake.asked), len(made.entries), made.kept) == (3, 3, 2)
        assert foi_maker.make(pictures, out, asked(fake), resume=True).kept == 3 and len(fake.asked) == 3
    assert [entry["image"] for entry in json.loads(out.read_text())] == [f"pictures/{i}.png" for i in range(3)]


def test_a_file_that_is_something_else_is_not_gone_on_with(pictures, tmp_path):
    out = datasets.write(tmp_path / "foi.json", {"mine": 1})
    with endpoint.served(lambda n: GOOD_TEXT) as fake, pytest.raises(FileFormatError, match=r"foi\.json"):
        foi_maker.make(pictures, out, asked(fake), resume=True)
    assert json.loads(out.read_text()) == {"mine": 1} and fake.asked == []
    datasets.write(out, [{"image": "a.png"}])
    with pytest.raises(FileFormatError, match=r"foi\.json: a\.png: .*Field required"):
        foi_maker.make(pictures, out, Endpoint(url="http://localhost", model="m"), resume=True)


@pytest.mark.parametrize(
    "reply", [Reply(429, {"Retry-After": "0"}), Reply(503), Reply(None)], ids=["429", "503", "broken"]
)
def test_a_busy_endpoint_is_asked_again(reply, pictures, tmp_path):
    pauses: list[float] = []
    with endpoint.served(lambda n: GOOD_TEXT if n == 2 else reply) as fake:
        made = foi_maker.make(pictures[:1], tmp_path / "foi.json", asked(fake, wait=2.0, pause=pauses.append))
    assert len(made.entries) == 1 and len(fake.asked) == 3
    assert pauses == ([0.0, 0.0] if reply.status == 429 else [2.0, 4.0])


def test_pauses_have_an_end(pictures):
    pauses: list[float] = []
    told = pytest.raises(Unanswered, match=r"status 429\) \(3 times\)")
    with endpoint.served(lambda n: Reply(429, {"Retry-After": "100000"})) as fake, told:
        asked(fake, retries=2, pause=pauses.append).ask([])
    assert pauses == [60.0, 60.0]


def test_a_wrong_key_ends_it_and_keeps_what_was_answered(pictures, tmp_path):
    out = tmp_path / "foi.json"
    told = pytest.raises(Refused, match="status 401")
    with endpoint.served(lambda n: Reply(401) if n else GOOD_TEXT) as fake, told as caught:
        foi_maker.make(pictures, out, asked(fake, key="secret"))
    assert len(fake.asked) == 2 and len(data.load("foi", out).rows) == 1
    assert "secret" not in str(caught.value) and caught.value.exit_code == 1


def test_a_redirection_does_not_get_the_key(pictures):
    with (
        endpoint.served(lambda n: GOOD_TEXT) as elsewhere,
        endpoint.served(lambda n: Reply(302, {"Location": elsewhere.url})) as fake,
        pytest.raises(Refused, match="redirects"),
    ):
        asked(fake, key="secret").ask([])
    assert elsewhere.asked == []


@pytest.mark.parametrize(
    "body",
    [
        b"<html>", b"{}", b'{"choices": []}', b'{"choices": [{"message": {"content": null}}]}',
        b'{"choices": [{"message": {"content": [{"text": null}, 5]}}]}',
    ],
)  # fmt: skip
def test_what_is_no_chat_completion(body):
    with endpoint.served(lambda n: body) as fake, pytest.raises(Unanswered, match="endpoint's answer"):
        asked(fake).ask([])


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://x/", "localhost:8000", "http://", "http://a b/", "http://[x/"]
)
def test_addresses_that_are_none(url):
    with pytest.raises(UsageError, match="give an http or https address"):
        Endpoint(url=url, model="m")
    for where in ("http://me:secret@localhost/v1", "http://localhost/v1?key=secret", "http://localhost/v1#x"):
        with pytest.raises(UsageError, match="give the address alone") as caught:
            Endpoint(url=where, model="m")
        assert "secret" not in str(caught.value)
    with pytest.raises(UsageError, match="no header can hold"):
        Endpoint(url="http://localhost", model="m", key="a\nb")


def test_pictures_elsewhere_are_refused_before_anything_is_asked(pictures, tmp_path):
    (tmp_path / "out").mkdir()
    with endpoint.served(lambda n: GOOD_TEXT) as fake:
        with pytest.raises(UsageError, match="lies outside"):
            foi_maker.make(pictures, tmp_path / "out" / "foi.json", asked(fake))
        with pytest.raises(OutputError, match=r"\.json or \.jsonl"):
            foi_maker.make(pictures, tmp_path / "foi.txt", asked(fake))
    assert fake.asked == []


def test_what_is_written_is_read_again():
    entry = replace(foi_maker.understood(GOOD_TEXT), image="a.png", masks=("1.png", "2.png"), after="b.png")
    assert foi.parse(json.loads(foi.written([entry], lines=False))[0]) == entry
    assert foi.parse(foi.written([entry], lines=True).decode()) == entry
