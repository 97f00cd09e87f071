"""`showtell dataset triplets`: the file, its recipe, and what is refused before anything is asked."""

from __future__ import annotations

import json

import pytest

from tests.helpers import endpoint, language
from tests.helpers.endpoint import Reply

TRIPLETS = ("dataset", "triplets")
ANSWER = json.dumps({"edits": [{"instruction": "make it night", "edited_caption": "the same at night"}]})


@pytest.fixture
def captions(folder):
    """``captions.txt`` with three captions."""
    (folder / "captions.txt").write_text("a cat\na dog\na house\n")
    return folder / "captions.txt"


def asked(*more):
    return (*TRIPLETS, "--from", "endpoint", "--model", "words", "--captions", "captions.txt", "-o", "t.jsonl", *more)


def test_scenes(cli, folder):
    result = cli(
        *TRIPLETS, "--from", "scenes", "--count", "9", "--first", "50", "--action", "move", "-o", "t.jsonl", "--json"
    )
    assert result.code == 0, result.err
    assert result.json["triplets"] == 9 and result.json["dropped"] == {}
    lines = [json.loads(line) for line in (folder / "t.jsonl").read_text().splitlines()]
    assert [line["scene"] for line in lines] == list(range(50, 59)) and {line["group"] for line in lines} == {"move"}
    recipe = json.loads((folder / "t.recipe.json").read_text())
    assert (
        recipe["seed"] == 50 and recipe["settings"]["actions"] == ["move"] and recipe["command"] == "dataset triplets"
    )
    checked = cli("dataset", "check", "triplets", "t.jsonl", "--open", "--json")
    assert checked.code == 0 and checked.json["has"]["true results"] == 9
    cli(*TRIPLETS, "--from", "scenes", "-o", "t.jsonl").refused("t.jsonl: exists already")
    none = ("--places", "never", "--action", "move", "--count", "4", "-o", "u.jsonl")
    cli(*TRIPLETS, "--from", "scenes", *none).refused("there is no triplet (dropped: 4 unchanged)", code=1)
    assert not (folder / "u.jsonl").exists()


WRONG = {
    "another source's option": (("--count", "3"), "--count is an option of --from scenes, not of --from endpoint"),
    "a local one": (("--top-p", "0.5"), "--top-p is an option of --from local"),
    "a limit without a price": (("--max-cost", "1"), "--max-cost needs prices"),
    "what cannot be sent": (("--send", "messages=[]"), "messages cannot be set"),
    "what is sent without a name": (("--send", "low"), "write NAME=VALUE"),
    "no address": (("--endpoint", "words"), "endpoint 'words': give an http or https address"),
    "no function": (("--moderate-with", "nothing"), "write module:function"),
    "no module": (("--moderate-with", "no_such_module:f"), "cannot be imported (ModuleNotFoundError"),
    "no such function": (("--moderate-with", "json:f"), "cannot be imported (AttributeError"),
    "what is no function": (("--moderate-with", "json:__name__"), "is no function"),
    "no captions": (("--captions", "empty.txt"), "empty.txt: holds no caption"),
    "captions that are not there": (("--captions", "none.txt"), "none.txt: cannot be read"),
    "a column of lines": (("--column", "x"), "captions.txt: has no columns"),
    "no such column": (("--captions", "c.jsonl"), "has no column caption or text, but b: name it with --column"),
    "no object": (("--captions", "d.jsonl"), "d.jsonl:1: is list where an object belongs"),
    "no JSON": (("--captions", "e.jsonl"), "e.jsonl:1: is not JSON"),
    "no words": (("--block-words", "empty.txt"), "empty.txt: holds no word"),
    "no tokenizer": (("--tokenizer", "nowhere/at-all/"), "nowhere/at-all/"),
    "another ending": (("-o", "t.json"), "t.json: the file is .jsonl"),
    "no folder": (("-o", "x/t.jsonl"), "the folder x does not exist"),
    "what is too dear": (("--price-in", "1000", "--max-cost", "0.5"), "over --max-cost 0.5: say --yes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused_before_anything_is_asked(name, cli, captions, folder, unchanged):
    (folder / "empty.txt").write_text("\n# nothing\n" if "words" in name else "\n")
    (folder / "c.jsonl").write_text('{"b": 1}\n')
    (folder / "d.jsonl").write_text("[1]\n")
    (folder / "e.jsonl").write_text("{\n")
    unchanged(begin=True)
    args, said = WRONG[name]
    cli(*asked("--endpoint", "http://127.0.0.1:9/v1", *args)).refused(said)
    unchanged()


def test_what_must_be_named(cli, captions, folder, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    cli(*asked()).refused("no endpoint is named: give --endpoint")
    cli(*TRIPLETS, "--from", "endpoint", "--model", "x", "-o", "t.jsonl").refused("--from endpoint needs --captions")
    cli(*TRIPLETS, "--from", "local", "--captions", "captions.txt", "-o", "t.jsonl").refused(
        "--from local needs --model"
    )
    local = (*TRIPLETS, "--from", "local", "--captions", "captions.txt", "-o", "t.jsonl", "--model", "nowhere")
    cli(*local).refused("nowhere: cannot be loaded")
    cli(*local).refused("nowhere: cannot be loaded")  # the journal that was begun holds nothing, and is in nobody's way


def test_an_endpoint_of_the_environment(cli, captions, folder, monkeypatch):
    (folder / "judging.py").write_text("def judge(texts):\n    return 'a dog' in texts\n")
    (folder / "blocked.txt").write_text("# ours\nhouse\n")
    told = json.dumps(
        {"choices": [{"message": {"content": ANSWER}}], "usage": {"prompt_tokens": 50, "completion_tokens": 9}}
    )
    with endpoint.served(lambda n: told.encode()) as fake:
        monkeypatch.setenv("OPENAI_BASE_URL", fake.url)
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        checks = ("--moderate-with", "judging:judge", "--block-words", "blocked.txt", "--tokenizer", "starter")
        prices = ("--price-in", "1", "--price-out", "10", "--max-cost", "9", "--requests-per-minute", "100000")
        result = cli(*asked(*checks, *prices))
    assert result.code == 0 and fake.keys == ["Bearer secret"] * 2, result.err
    assert result.err.startswith("note: 2 questions, roughly ") and ": a cost of roughly 0.00" in result.err
    assert result.out.splitlines() == [
        "t.jsonl: 1 triplets (dropped: 1 caption blocked word, 1 moderated)",
        "100 tokens read and 18 written, a cost of 0.0003",
    ]
    recipe = json.loads((folder / "t.recipe.json").read_text())
    assert recipe["model"] == {"id": "words", "endpoint": fake.url} and recipe["source"]["path"] == "captions.txt"
    assert recipe["settings"]["moderation"] == "judging:judge" and recipe["made"]["cost"] == pytest.approx(0.00028)


def test_rows_that_fail_are_listed_and_asked_again(cli, captions, folder):
    replies = iter([ANSWER, Reply(400), Reply(400), ANSWER, ANSWER])
    with endpoint.served(lambda n: next(replies)) as fake:
        one = asked("--endpoint", fake.url, "--concurrency", "1")
        result = cli(*one)
        assert result.code == 1 and "2 failed; --resume asks about them again" in result.out
        assert "p000001: " in result.out and "status 400" in result.out and "roughly" in result.out.splitlines()[1]
        cli(*one).refused("exists already; go on with --resume")
        again = cli(*one, "--resume", "--json")
    assert again.code == 0 and (again.json["triplets"], again.json["kept"]) == (3, 1)
    assert again.json["estimate"]["questions"] == 2 and len(fake.asked) == 5
    cli(*one, "--resume", "--temperature", "0").refused("was begun with temperature=0.7, not 0.0")
    cli(*one, "--resume", "--send", "temperature=").refused("was begun with temperature=0.7, not None")


def test_what_is_sent_with_each_question(cli, captions):
    with endpoint.served(lambda n: ANSWER) as fake:
        sent = ("--send", "max_tokens=", "--send", "max_completion_tokens=99", "--send", "reasoning_effort=low")
        assert cli(*asked("--endpoint", fake.url, *sent)).code == 0
    question = {key: value for key, value in fake.asked[0].items() if key != "messages"}
    assert question == {"model": "words", "temperature": 0.7, "max_completion_tokens": 99, "reasoning_effort": "low"}


def test_captions_of_a_table(cli, folder):
    (folder / "c.csv").write_text("id,alt\n1,a cat\n2,\n3,a dog\n")
    (folder / "c.jsonl").write_text('{"text": "a fox"}\n"a fish"\n{"text": "\\ud800"}\n{"text": 3}\n')
    with endpoint.served(lambda n: ANSWER) as fake:
        for name, more in (("c.csv", ("--column", "alt")), ("c.jsonl", ("--limit", "3"))):
            one = (*asked("--endpoint", fake.url), "--captions", name, *more, "--force", "--json")
            result = cli(*one)
            assert result.code == 0 and result.json["triplets"] == 2, result.err
            assert sum(result.json["dropped"].values()) == 1
    assert sorted(q["messages"][-1]["content"].split("\n")[0] for q in fake.asked) == [
        f"Caption: a {what}" for what in ("cat", "dog", "fish", "fox")
    ]


def test_a_model_of_ones_own(cli, captions, folder):
    language.answering(folder / "words")
    one = (*TRIPLETS, "--from", "local", "--captions", "captions.txt", "-o", "t.jsonl", "--max-tokens", "40")
    result = cli(*one, "--model", "words", "--temperature", "0", "--device", "cpu", "--json")
    assert result.code == 0, result.err
    assert result.json["triplets"] == 3 and result.json["usage"]["written"] == 3 * 9
    assert json.loads((folder / "t.recipe.json").read_text())["seed"] == 0
