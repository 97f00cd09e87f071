"""`showtell study` as it is typed."""

from __future__ import annotations

import json

import pytest

from showtell.study import plan
from tests.helpers import results
from tests.study.answering import answered, write


@pytest.fixture
def made(cli, folder):
    results.build("results", rows=4, parquet=False)
    result = cli(
        "study", "make", "results", "--count", "4", "--checks", "2", "--seed", "5", "-o", "study.html", "--json"
    )
    assert result.code == 0, result.err
    return result.json, plan.read_key((folder / "study.key.json").read_text(), name="study.key.json")


def test_make_writes_a_page_and_its_key(made, folder):
    told, key = made
    page = (folder / "study.html").read_text()
    assert key.study in page and key.hash in page
    assert told["study"] == key.study and told["bytes"] == len(page.encode()) and told["questions"] == 10
    assert told["systems"] == ["ip2p", "foi"] and told["checks"] == 2 and told["seed"] == 5


def test_make_overwrites_nothing(made, cli, folder):
    cli("study", "make", "results", "-o", "study.html").refused("study.html")
    (folder / "study.html").unlink()
    cli("study", "make", "results", "-o", "study.html").refused("study.key.json")
    assert not (folder / "study.html").exists()
    assert cli("study", "make", "results", "-o", "study.html", "--force", "--checks", "0").code == 0
    cli("study", "make", "results", "-o", "x.key.json").refused("x.key.json: name the page .html")


def test_make_refuses_what_cannot_be(cli, folder):
    cli("study", "make", "nowhere", "-o", "s.html").refused("nowhere")
    results.build("results", rows=2, parquet=False)
    cli("study", "make", "results", "-o", "s.html", "--systems", "foi,who").refused("'who'")
    cli("study", "make", "results", "-o", "gone/s.html").refused("gone")
    assert not list(folder.glob("s.*"))


def test_tally_prints_the_table_and_says_what_it_refused(made, cli, folder):
    _, key = made
    for i, who in enumerate(("AAAA-2222", "BBBB-3333")):
        write(folder / f"{i}.json", answered(key, lambda q: "foi", who=who))
    result = cli("study", "tally", "0.json", "1.json", "--key", "study.key.json", "-o", "table.json")
    assert result.code == 0 and "2 participant(s) counted" in result.out
    assert "One instruction (2 rows; by chance 50.0 %)" in result.out and "80.83 %" in result.out
    assert (
        "foi 100.0 % (4/4) 51.0 to 100.0 100.0 to 100.0 23.17 %" in " ".join(result.out.split())
        and "Guo and Lin" in result.out
    )
    assert json.loads((folder / "table.json").read_text())["participants"] == 2
    (folder / "bad.json").write_text("{}")
    result = cli("study", "tally", "0.json", "bad.json", "1.json", "--key", "study.key.json", "--json")
    assert result.code == 1 and result.json["participants"] == 2
    assert [file["path"] for file in result.json["refused"]] == ["bad.json"]
    cli("study", "tally", "bad.json", "--key", "study.key.json").refused("bad.json")
    cli("study", "tally", "0.json", "--key", "none.json").refused("none.json")
    cli("study", "tally", "0.json", "--key", "0.json").refused("0.json")
