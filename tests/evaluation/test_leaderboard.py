"""The leaderboard: a row for each system of a committed result, one board a data set and protocol, nothing mixed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from tests.helpers import results

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "showtell evaluate --dataset drawn --out mine"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("leaderboard", ROOT / "tools" / "leaderboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def summary(tmp_path):
    return results.build(tmp_path / "out", rows=4, failed=[("foi", 2)], parquet=False) / "summary.json"


@pytest.fixture
def board(tool, tmp_path):
    """``board(*arguments)``: the tool's exit code, on a page and a folder of its own."""
    folder = tmp_path / "entries"
    folder.mkdir()

    def run(*arguments: str) -> int:
        return tool.main(arguments, page_path=tmp_path / "page.md", folder=folder)

    run.folder, run.page = folder, tmp_path / "page.md"
    return run


def add(board, summary, name="Ours", **more) -> int:
    options = {"by": "us", "command": COMMAND, **more}
    return board("add", str(summary), "--name", name, *(f"--{key}={value}" for key, value in options.items()))


def rows(text: str) -> list[list[str]]:
    """The cells of the tables' bodies."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [line for line in lines if line[0] not in ("System", "---")]


def change(path: Path, change) -> None:
    told = json.loads(path.read_text(encoding="utf-8"))
    change(told)
    path.write_text(json.dumps(told), encoding="utf-8")


def test_the_committed_page_is_what_the_committed_results_make(tool):
    assert tool.main(["--check"]) == 0


def test_systems_are_rows_with_intervals_counts_and_how_they_were_made(board, summary):
    assert add(board, summary, url="https://example.org/a") == 0 and board() == 0
    text = board.page.read_text(encoding="utf-8")
    first, second = rows(text)
    assert first[0].startswith("foi") and second[0].startswith("ip2p")  # by the first measure, PSNR
    assert first[2].startswith("**21.38**<br><small>21.00&nbsp;to&nbsp;21.75</small>") and "without" in first[2]
    assert first[1] == "starter<br><small>000000000000</small>" and "guidance&#95;scale = 7.5" in second[0]
    assert first[4].startswith("4<br><small>1 failed")
    for words in ("## drawn, protocol tiny", results.PROTOCOL.digest, "[Ours](https://example.org/a) by us", "a machine", COMMAND,
                  "[file](results/leaderboard/ours.json)", "PSNR ↑", "L1 ↓"):  # fmt: skip
        assert words in text, words
    kept = json.loads((board.folder / "ours.json").read_text(encoding="utf-8"))
    assert "groups" not in kept


def test_a_method_added_later_is_one_row_of_the_same_table(board, summary):
    add(board, summary)
    assert add(board, summary, "Theirs", systems="foi") == 0 and board() == 0
    text = board.page.read_text(encoding="utf-8")
    assert text.count("\n## drawn") == 1 and len(rows(text)) == 3
    assert sorted(row[-1] for row in rows(text)) == ["1", "1", "2"]


@pytest.mark.parametrize("other", ["protocol", "dataset"])
def test_another_protocol_or_listing_is_another_board(tool, board, summary, other):
    def differ(told):
        if other == "dataset":
            told["evaluation"]["dataset"]["fingerprint"] = "f" * 16
        else:
            protocol = told["evaluation"]["protocol"]
            protocol["measures"][0]["input"] = "another size"
            protocol["digest"] = tool.digest(protocol)

    add(board, summary)
    change(summary, differ)
    assert add(board, summary, "Other") == 0 and board() == 0
    assert board.page.read_text(encoding="utf-8").count("\n## drawn") == 2


def test_bounds_stand_last_and_are_not_the_best(board, tmp_path):
    built = results.build(tmp_path / "bounds", rows=3, systems=("foi", "pti", "truth"), parquet=False)
    add(board, built / "summary.json")
    board()
    found = rows(board.page.read_text(encoding="utf-8"))
    assert [row[0].split("<")[0] for row in found] == ["pti", "foi", "truth"]
    assert "**" in found[0][2] and "**" not in "".join(found[1] + found[2])


def test_the_digest_is_the_protocols_own(tool):
    assert tool.digest(json.loads(json.dumps(results.PROTOCOL.describe()))) == results.PROTOCOL.digest


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda e: e["evaluation"]["protocol"]["measures"][0].update(input="another"), "changed by hand"),
        (lambda e: e["rows"][0]["measures"].update(psnr={"value": "9"}), "no list of rows"),
        (lambda e: e["rows"].clear(), "no rows"),
        (lambda e: e["evaluation"]["dataset"].update(fingerprint=["x"]), "says no data set"),
        (lambda e: e.pop("evaluation"), "not a summary"),
        (lambda e: e["evaluation"]["systems"].clear(), "does not say what the system"),
        (lambda e: e["entry"].update(url="javascript:alert(1)"), "not an address"),
        (lambda e: e.update(entry=["x"]), "is not a result"),
    ],
)
def test_a_broken_result_is_refused_by_its_name_and_the_page_stays(board, summary, capsys, spoil, said):
    add(board, summary)
    board()
    before = board.page.read_bytes()
    change(board.folder / "ours.json", spoil)
    assert board() == 2 and board("--check") == 2
    error = capsys.readouterr().err
    assert "ours.json: " in error and said in error and error.count("\n") == 2
    assert board.page.read_bytes() == before


def test_check_says_that_the_page_is_old(board, summary, capsys):
    assert board() == 0 and board("--check") == 0
    assert "No results yet" in board.page.read_text(encoding="utf-8")
    add(board, summary)
    assert board("--check") == 1 and "out of date" in capsys.readouterr().err


def test_words_of_a_result_are_no_markup(board, summary):
    add(board, summary, "A | <script>alert(1)</script> [x](y) `z`\n# it's", command="a | b `c` </code><b>")
    assert board() == 0
    text = board.page.read_text(encoding="utf-8")
    assert (
        "<script" not in text
        and "<b>" not in text
        and "\n# " not in text.partition("## drawn")[2]
        and "&#35; it's" in text
        and "[x]" not in text
    )
    assert len({len(row) for row in rows(text)}) == 1


def test_nothing_is_replaced_unasked_and_wrong_input_is_said(board, summary, capsys):
    assert add(board, summary) == 0 and add(board, summary) == 2
    assert "exists already" in capsys.readouterr().err
    assert board("add", str(summary), "--name=Ours", "--by=us", "--command=x", "--force") == 0
    assert add(board, summary, "None", systems="nobody") == 2 and "'nobody'" in capsys.readouterr().err
    assert add(board, summary.with_name("rows.json"), "None") == 2 and "not a summary" in capsys.readouterr().err
    assert [path.name for path in board.folder.iterdir()] == ["ours.json"]
