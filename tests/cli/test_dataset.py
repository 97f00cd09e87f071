"""`showtell dataset`: what it counts, names and returns; asking an endpoint from the command line."""

from __future__ import annotations

import json

import pytest

from tests.cli import pictures
from tests.helpers import datasets, endpoint
from tests.helpers.endpoint import GOOD


def test_a_whole_data_set(cli, folder):
    datasets.emuedit(folder / "emu")
    result = cli("dataset", "check", "emuedit", "emu", "--open")
    assert result.code == 0 and result.err == ""
    assert result.out.startswith("emuedit: 3 rows, 0 problems") and "remove  1" in result.out
    told = cli("dataset", "check", "emuedit", "emu", "--option", "split=none", "--limit", "2", "--json").json
    assert (told["rows"], told["usable"], told["has"]["true results"]) == (2, 2, 2)
    assert told["settings"] == {"split": None, "task": None} and told["groups"] == {"add": 1, "remove": 1}


def test_problems_are_counted_and_named(cli, folder):
    path = datasets.foi(folder / "foi")
    (path.parent / "pictures" / "2.png").unlink()
    datasets.save_mask(path.parent / "pictures" / "mask1.png", (9, 9))
    result = cli("dataset", "check", "foi", "foi")
    assert result.code == 1 and "1 rows, 2 problems" in result.out
    assert "missing file  1" in result.out and "mask          1" in result.out
    assert "pictures/2.png: the picture pictures/2.png is not there" in result.out
    assert [one["id"] for one in cli("dataset", "check", "foi", "foi", "--json").json["problems"]] == [
        "pictures/0.png", "pictures/2.png",
    ]  # fmt: skip


def test_opening_finds_what_a_listing_does_not_tell(cli, folder):
    path = datasets.foi(folder / "foi").parent / "pictures"
    (path / "1.png").write_bytes((path / "1.png").read_bytes()[:200])
    (path / "after.png").write_bytes(b"")
    assert cli("dataset", "check", "foi", "foi").code == 0
    result = cli("dataset", "check", "foi", "foi", "--open", "--json")
    assert result.code == 1 and (result.json["rows"], result.json["usable"]) == (3, 1)
    assert [("1.png" in one["what"] or "after.png" in one["what"]) for one in result.json["problems"]] == [True, True]


@pytest.mark.parametrize(
    ("args", "culprit"),
    [
        (("pie", "."), "'pie'"),
        (("pie-bench", "nowhere"), "nowhere"),
        (("pie-bench", "."), "mapping_file.json"),
        (("pie-bench",), "path"),
        (("scenes", "."), "drawn"),
        (("scenes", "--option", "edits"), "'edits'"),
        (("scenes", "--option", "edit=1"), "'edit'"),
        (("folder", ".", "--option", "texts=both"), "texts='both'"),
    ],
)
def test_wrong_use(args, culprit, cli):
    cli("dataset", "check", *args).refused(culprit)


def test_names_in_a_data_set_do_not_reach_the_terminal_raw(cli, folder):
    datasets.write(
        folder / "list.jsonl", [{"image": "house.png", "instruction": "x"}, {"id": "\x1b[31m", "image": "a\x1b"}]
    )
    result = cli("dataset", "check", "manifest", "list.jsonl")
    assert result.code == 1 and "\x1b" not in result.out and "x1b" in result.out


def test_asking_an_endpoint(cli, folder, monkeypatch):
    pictures.plain().save(folder / "barn.png")
    monkeypatch.setenv("MY_KEY", "secret")

    def answers(number):
        return json.dumps(GOOD) if number else "I see a house."

    with endpoint.served(answers) as fake:
        base = ("dataset", "foi", "house.png", "barn.png", "-o", "foi.json", "--model", "m", "--key-env", "MY_KEY")
        first = cli(*base, "--endpoint", fake.url, "--attempts", "1")
        assert first.code == 1 and "1 pictures (0 from before), 1 failed" in first.out and "house.png: " in first.out
        assert set(fake.keys) == {"Bearer secret"}
        cli(*base, "--endpoint", fake.url).refused("--resume")
        again = cli(*base, "--endpoint", fake.url, "--resume", "--json")
    assert again.code == 0 and (again.json["entries"], again.json["kept"], len(fake.asked)) == (2, 1, 3)
    assert cli("dataset", "check", "foi", "foi.json", "--open").code == 0


def test_an_endpoint_that_is_not_there(cli, folder):
    base = ("dataset", "foi", "house.png", "-o", "foi.json", "--model", "m", "--retries", "0", "--endpoint")
    result = cli(*base, "http://127.0.0.1:9/v1")
    assert result.code == 1 and "no connection" in result.out and not (folder / "foi.json").exists()
    cli(*base, "file:///etc/passwd").refused("/etc/passwd")
