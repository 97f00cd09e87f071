"""Votes are counted as by hand, intervals are those of the formulas, and what is not an answer is refused by name."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from showtell import study
from showtell.errors import FileFormatError, UsageError
from showtell.study import answers, table
from showtell.study.folder import Model, System
from tests.helpers import results
from tests.study.answering import answered, write

SYSTEMS = ("ip2p", "foi", "sdedit")


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    root = results.build(tmp_path_factory.mktemp("study") / "results", rows=8, systems=SYSTEMS, parquet=False)
    return study.make(root, count=8, checks=4, seed=1).key


def mixed(question):
    """FoI for every row with several instructions; of the others IP2P where the row's number divides by 4, else SDEdit."""
    if question.parts > 1:
        return "foi"
    return "ip2p" if int(question.row[-3:]) % 4 == 0 else "sdedit"


def test_votes_are_counted_as_by_hand(tmp_path, key):
    people = [
        answered(key, mixed, who="AAAA-2222"),
        answered(key, lambda q: "foi" if q.criterion == "image" else "ip2p", who="BBBB-3333"),
        answered(key, lambda q: None if q.parts > 1 else "sdedit", who="CCCC-4444"),  # left out half
    ]
    paths = [write(tmp_path / f"{i}.json", content) for i, content in enumerate(people)]
    found = study.tally(paths, key)
    assert (found.participants, found.unfinished, found.checks) == (3, 1, 4)
    assert found.rows == {"single": 4, "multi": 4, "all": 8} and found.answers == 16 + 16 + 8
    expected = {  # (system, criterion, split): (votes, answers)
        ("ip2p", "instruction", "single"): (2 + 4 + 0, 12), ("ip2p", "instruction", "multi"): (0 + 4, 8),
        ("foi", "instruction", "single"): (0, 12), ("foi", "instruction", "multi"): (4 + 0, 8),
        ("sdedit", "instruction", "single"): (2 + 0 + 4, 12), ("sdedit", "instruction", "multi"): (0, 8),
        ("ip2p", "image", "single"): (2 + 0 + 0, 12), ("ip2p", "image", "multi"): (0, 8),
        ("foi", "image", "single"): (0 + 4 + 0, 12), ("foi", "image", "multi"): (4 + 4, 8),
        ("sdedit", "image", "single"): (2 + 0 + 4, 12), ("sdedit", "image", "all"): (2 + 0 + 4, 20),
        ("foi", "image", "all"): (4 + 8 + 0, 20),
    }  # fmt: skip
    for (system, criterion, split), (votes, of) in expected.items():
        cell = found.cell(system, criterion, split)
        assert (cell.votes, cell.answers) == (votes, of), cell
        assert cell.share == votes / of and cell.wilson == study.wilson(votes, of)
        assert cell.wilson[0] <= cell.share <= cell.wilson[1] and cell.bootstrap[0] <= cell.share <= cell.bootstrap[1]
    assert found.places == (40, 0, 0)
    assert sum(c.votes for c in found.cells if c.split == "all") == found.answers


@pytest.mark.parametrize(("votes", "of"), [(0, 5), (5, 5), (1, 3), (113, 1200), (970, 1200)])
def test_wilsons_interval_solves_its_equation(votes, of):
    """The ends are where the share lies 1.96 standard errors of the end itself away: (p - e)^2 n = z^2 e (1 - e)."""
    low, high = study.wilson(votes, of)
    z2, p = 1.959963984540054**2, votes / of
    for end in (low, high):
        assert math.isclose((p - end) ** 2 * of, z2 * end * (1 - end), rel_tol=1e-9, abs_tol=1e-12)
    assert 0 <= low <= p <= high <= 1


def test_the_bootstrap_draws_people_not_answers():
    """Two people who always disagree: a draw of two has the share 0, 1/2 or 1, and the ends are reached. One says nothing."""
    assert study.bootstrap([10, 0], [10, 10]) == (0.0, 1.0)
    assert study.bootstrap([10], [10]) is None and study.bootstrap([3, 0], [10, 0]) is None
    # Against every one of the 4^4 draws of four people.
    votes, of = [1, 5, 2, 0], [10, 5, 4, 6]
    draws = [(i, j, k, m) for i in range(4) for j in range(4) for k in range(4) for m in range(4)]
    shares = [float(Fraction(sum(votes[i] for i in d), sum(of[i] for i in d))) for d in draws]
    assert np.allclose(study.bootstrap(votes, of), np.percentile(shares, [2.5, 97.5]), atol=0.06)
    assert study.bootstrap(votes, of) == study.bootstrap(votes, of)


def test_who_fails_the_checks_is_dropped_and_named(tmp_path, key):
    good = answered(key, mixed, who="AAAA-2222")
    bad = answered(key, mixed, who="BBBB-3333", pass_checks=False)
    half = answered(key, mixed, who="CCCC-4444")
    checks = {q.id for q in key.questions if q.right is not None}
    for answer in [a for a in half["answers"] if a["question"] in checks][:2]:
        other = next(q for q in key.questions if q.id == answer["question"])
        answer["choice"] = next(c.code for c in other.choices if c.code != other.right)
    unchecked = answered(key, mixed, who="DDDD-5555")
    unchecked["answers"] = [a for a in unchecked["answers"] if a["question"] not in checks]
    nothing = answered(key, lambda q: None, who="EEEE-6666")
    paths = [write(tmp_path / f"{i}.json", c) for i, c in enumerate((good, bad, half, unchecked, nothing))]
    found = study.tally(paths, key)
    assert found.participants == 1 and {d.participant: d.why for d in found.dropped} == {
        "BBBB-3333": "passed 0 of 4 attention checks",
        "CCCC-4444": "passed 2 of 4 attention checks",
        "DDDD-5555": "answered none of the 4 attention checks",
        "EEEE-6666": "answered no question",
    }
    assert study.tally(paths, key, min_checks=0.5).participants == 2
    assert study.tally(paths, key, min_checks=0).participants == 4
    with pytest.raises(UsageError, match="--min-checks 1.5"):
        study.tally(paths, key, min_checks=1.5)


def test_broken_foreign_and_second_files_are_refused_by_name(tmp_path, key):
    whole = answered(key, mixed)
    twice = {**whole, "answers": [*whole["answers"], whole["answers"][0]]}
    stranger = {**whole, "answers": [{**whole["answers"][0], "choice": "ffffffff"}]}
    elsewhere = {**whole, "answers": [{**whole["answers"][0], "choice": whole["answers"][1]["choice"]}]}
    shorter = {**whole, "answers": whole["answers"][:5]}
    contents = {
        "good.json": whole,
        "again.json": whole,
        "shorter.json": shorter,
        "foreign.json": {**whole, "study": "0" * 12},
        "other-hash.json": {**whole, "hash": "0" * 64},
        "twice.json": twice,
        "stranger.json": stranger,
        "elsewhere.json": elsewhere,
        "newer.json": {**whole, "format": 2},
        "nobody.json": {**whole, "participant": " "},
        "list.json": [],
        "wrong.json": {**whole, "answers": [{"question": 3}]},
    }
    paths = [write(tmp_path / name, content) for name, content in contents.items()]
    (tmp_path / "cut.json").write_text(json.dumps(whole)[:200])
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    extra = [tmp_path / name for name in ("cut.json", "deep.json", "binary.json", "missing.json", ".")]
    found = study.tally([*paths, *extra], key)
    assert found.participants == 1 and found.answers == 16
    refused = {file.path.rsplit("/", 1)[-1]: file.why for file in found.refused}
    assert set(refused) == {*contents, *(path.name for path in extra if path.name), tmp_path.name} - {"good.json"}
    assert "same participant as" in refused["again.json"] and "good.json" in refused["shorter.json"]
    assert "another study" in refused["foreign.json"] and "another study" in refused["other-hash.json"]
    assert "answered twice" in refused["twice.json"] and "newer than 1" in refused["newer.json"]
    for name in ("stranger.json", "elsewhere.json"):
        assert "does not have" in refused[name]
    with pytest.raises(FileFormatError, match="can be counted.*cut.json"):
        study.tally([tmp_path / "cut.json"], key)


def test_of_two_files_of_a_participant_the_fuller_counts(tmp_path, key):
    whole = answered(key, mixed)
    paths = [
        write(tmp_path / "early.json", {**whole, "answers": whole["answers"][:3]}),
        write(tmp_path / "late.json", whole),
    ]
    kept, refused = answers.read_all(paths, key)
    assert len(kept) == 1 and len(kept[0].answers) == 20 and refused[0].path.endswith("early.json")


def test_the_table_has_the_papers_figures_beside_ours(tmp_path, key):
    found = study.tally([write(tmp_path / "a.json", answered(key, mixed))], key)
    single, multi = table.tables(found, key)
    assert single.title.startswith("One instruction (4 rows; by chance 33.3 %)") and multi.title.startswith("Several")
    rows = {row[0]: row[1:] for row in multi.rows}
    assert rows["foi"] == ["100.0 % (4/4)", "51.0 to 100.0", "80.83 %", "100.0 % (4/4)", "51.0 to 100.0", "81.33 %"]
    assert rows["(MagicBrush)"] == ["-", "-", "9.42 %", "-", "-", "4.75 %"] and rows["sdedit"][2] == "-"
    assert {row[0]: row[3] for row in single.rows}["ip2p"] == "12.83 %"
    only = replace(found, rows={**found.rows, "multi": 0})
    assert [each.title[:3] for each in table.tables(only, key)] == ["One"]


def test_the_published_columns_are_of_1200_answers_and_add_up():
    """60 people and 20 pictures: every published share is a whole number of 1200 answers, and a column is all of them."""
    columns = list(zip(*table.PUBLISHED.values(), strict=True))
    for column in columns:
        assert all(abs(share * 12 - round(share * 12)) < 0.07 for share in column)
        assert abs(sum(column) - 100) < 0.03


def test_which_row_of_the_paper_a_system_belongs_to():
    def named(method, model=""):
        return table.published_name(System(name="x", method=method, model=Model(id=model) if model else None))

    assert named("ip2p", "timbrooks/instruct-pix2pix") == "IP2P" and named("ip2p") == "IP2P"
    assert named("ip2p", "vinesmsuic/magicbrush-jul7") == "MagicBrush"
    assert (
        named("foi") == "FoI" and named("diffedit") == "DiffEdit" and named("p2p") == "NTI+P2P" and named("pti") is None
    )
