"""A page shows every system of a row, hides which is which, is the same for the same seed, and takes every word as text."""

from __future__ import annotations

import base64
import io
import json
import random
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from showtell import study
from showtell.errors import FileFormatError, UsageError
from showtell.study import assembling, plan
from showtell.study.folder import Line
from tests.helpers import results

SYSTEMS = ("ip2p", "foi", "pti")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = results.build(tmp_path_factory.mktemp("study") / "results", rows=8, systems=SYSTEMS, parquet=False)
    return root, study.make(root, count=6, checks=5, seed=3)


def data_of(page: str) -> dict:
    """What the page's script reads."""
    found = re.search(r'<script type="application/json" id="study">(.*?)</script>', page, re.S)
    return json.loads(found[1])


def picture_of(url: str) -> Image.Image:
    head, data = url.split(",", 1)
    assert re.fullmatch(r"data:image/(png|jpeg);base64", head)
    return Image.open(io.BytesIO(base64.b64decode(data)))


def same(url: str, drawn: Image.Image) -> bool:
    return np.array_equal(np.asarray(picture_of(url)), np.asarray(drawn))


def test_every_question_shows_every_system_of_its_row(made):
    _, built = made
    told = data_of(built.page)
    assert [q["id"] for q in told["questions"]] == [q.id for q in built.key.questions]
    rows = Counter()
    for shown, question in zip(told["questions"], built.key.questions, strict=True):
        row = int(question.row.removeprefix("row-"))
        assert same(told["pictures"][shown["before"]], results.picture(row))
        assert [c["code"] for c in shown["choices"]] == [c.code for c in question.choices]
        assert shown["ask"] == question.criterion and question.parts == len(shown["words"])
        if question.right is not None:
            continue
        rows[question.row] += 1
        assert {c.system for c in question.choices} == set(SYSTEMS)
        for choice, c in zip(shown["choices"], question.choices, strict=True):
            mark = results.COLOURS[(row + SYSTEMS.index(c.system) + 1) % len(results.COLOURS)]
            assert same(told["pictures"][choice["picture"]], results.picture(row, mark=mark))
    assert set(rows.values()) == {2} and set(rows) == set(built.rows) and len(rows) == 6
    several = {q.row for q in built.key.questions if q.parts > 1}
    assert len(several) == 3  # as many of one instruction as of several


def test_a_check_has_one_right_picture_among_those_of_other_rows(made):
    _, built = made
    told = data_of(built.page)
    seen = Counter()
    for shown, question in zip(told["questions"], built.key.questions, strict=True):
        if question.right is None:
            continue
        row = int(question.row.removeprefix("row-"))
        seen[question.criterion] += 1
        for choice in shown["choices"]:
            url = told["pictures"][choice["picture"]]
            if choice["code"] == question.right:
                assert same(url, results.picture(row, mark="white" if question.criterion == "instruction" else ""))
            else:
                assert any(same(url, results.picture(other)) for other in range(8) if other != row)
        assert len(shown["choices"]) == len(SYSTEMS) and {c.system for c in question.choices} == {None}
    assert seen == {"image": 3, "instruction": 2}


def test_nothing_in_the_page_says_which_system_is_which(made):
    _, built = made
    text = re.sub(r"data:image[^\"]*", "", built.page)
    for name in (*SYSTEMS, "row-0", "starter"):
        assert not re.search(rf"\b{name}\b", text), name
    codes = [c.code for q in built.key.questions for c in q.choices]
    assert len(set(codes)) == len(codes) and all(re.fullmatch("[0-9a-f]{8}", code) for code in codes)
    # Neither the place in a question nor the order of the pictures follows the system.
    told = data_of(built.page)
    pictures = {c["code"]: c["picture"] for q in told["questions"] for c in q["choices"]}
    real = [q for q in built.key.questions if q.right is None]
    for where in (
        lambda q: tuple(c.system for c in q.choices),
        lambda q: tuple(sorted(SYSTEMS, key={c.system: pictures[c.code] for c in q.choices}.get)),
    ):
        assert len({where(q) for q in real}) >= 3


def test_a_recipe_in_a_picture_does_not_reach_the_page(tmp_path):
    root = results.build(tmp_path / "results", rows=2, parquet=False)
    path = root / "edits" / "foi" / "row-000.png"
    note = PngImagePlugin.PngInfo()
    note.add_text("showtell", "method foi")
    Image.open(path).resize((24, 20)).save(path, pnginfo=note)  # of another size, too
    for url in data_of(study.make(root, checks=0).page)["pictures"]:
        picture = picture_of(url)
        assert picture.size == (48, 40) and not getattr(picture, "text", None)


def test_pictures_of_a_row_have_one_format_and_the_longest_side_that_was_asked_for(tmp_path):
    root = results.build(tmp_path / "results", rows=1, size=(400, 300), parquet=False)
    rng = np.random.default_rng(0)
    for name in ("foi", "ip2p"):  # noise, which no PNG makes small; the two others are plain
        noise = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "edits" / name / "row-000.png")
    told = data_of(study.make(root, checks=0, side=400).page)
    assert {picture_of(url).format for url in told["pictures"]} == {"JPEG"}
    small = [picture_of(url) for url in data_of(study.make(root, checks=0, side=64).page)["pictures"]]
    assert {picture.size for picture in small} == {(64, 48)} and {picture.format for picture in small} == {"PNG"}


def test_the_same_seed_gives_the_same_bytes_and_another_one_another_study(made):
    root, built = made
    again = study.make(root, count=6, checks=5, seed=3)
    assert again.page == built.page and again.key == built.key
    other = study.make(root, count=6, checks=5, seed=4)
    assert other.key.study != built.key.study and other.page != built.page


def test_the_key_can_be_read_again_and_a_damaged_one_is_refused(made):
    _, built = made
    text = json.dumps(built.key.described())
    assert plan.read_key(text, name="study.key.json") == built.key
    told = json.loads(text)
    told["systems"] = told["systems"][:2]
    for damaged in (text[:-9], "[]", "{}", json.dumps(told), text.replace("study key", "study answer sheet")):
        with pytest.raises(FileFormatError, match="study.key.json"):
            plan.read_key(damaged, name="study.key.json")


HOSTILE = (
    '</script><script>document.title="owned"</script>', "<!--<script>", '"><img src=x onerror=alert(1)>', "& \u2028 \ud800 ]]>",
)  # fmt: skip


def test_hostile_words_are_text(tmp_path):
    root = results.build(tmp_path / "results", rows=2, words={0: HOSTILE, 1: HOSTILE[:1]}, parquet=False)
    page = study.make(root, checks=0, title=HOSTILE[0], consent=HOSTILE[2]).page
    assert page.count("<script") == 2 and page.count("</script>") == 2 and "<!--" not in page and "onerror" in page
    assert "<img src=x" not in page and "<title>&lt;/script&gt;" in page
    told = data_of(page)
    assert told["title"] == HOSTILE[0] and told["consent"] == HOSTILE[2]
    shown = [*HOSTILE[:3], "& \u2028 ? ]]>"]
    assert sorted(q["words"] for q in told["questions"]) == sorted([shown, shown, shown[:1], shown[:1]])


def test_the_page_forbids_itself_to_ask_for_anything(made):
    _, built = made
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', built.page)[1]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy and "http" not in policy
    assert not re.search(r"https?://|<link(?! rel=\"icon\" href=\"data:,\")|<script src", built.page)


def test_words_are_the_instructions_without_brackets_else_the_caption():
    row = Line(id="a", instructions=("make the [circle] red", "[sky] and [sea]", "a[0"), target_caption="a red circle")
    assert assembling.words(row) == ["make the circle red", "sky and sea", "a[0"] and assembling.parts(row) == 3
    row = Line(id="a", target_caption="a red circle")
    assert assembling.words(row) == ["a red circle"] and assembling.parts(row) == 1


@pytest.mark.parametrize(
    ("singles", "multis", "count", "expected"),
    [
        (9, 9, 4, (2, 2)),
        (9, 9, 5, (3, 2)),
        (1, 9, 6, (1, 5)),
        (9, 1, 6, (5, 1)),
        (2, 1, 9, (2, 1)),
        (2, 3, None, (2, 3)),
    ],
)
def test_as_many_rows_with_several_instructions_as_with_one(singles, multis, count, expected):
    found = plan.pick([f"s{i}" for i in range(singles)], [f"m{i}" for i in range(multis)], count)
    assert (sum(n[0] == "s" for n in found), sum(n[0] == "m" for n in found)) == expected
    assert len(set(found)) == len(found)


def test_orders_are_even_in_the_long_run():
    """Over 600 questions each system stands at each place 200 times, give or take four standard deviations."""
    rng = random.Random(0)
    asked = plan.questions([(f"r{i}", 1) for i in range(300)], SYSTEMS, rng=rng, codes=plan.Codes(rng))
    for place in range(3):
        counts = Counter(question.choices[place].system for question in asked)
        assert all(abs(n - 200) < 4 * (600 * 2 / 9) ** 0.5 for n in counts.values())


def test_rows_that_a_system_has_not_edited_are_left_out_and_counted(tmp_path):
    root = results.build(tmp_path / "results", rows=5, systems=SYSTEMS, failed=[("foi", 1), ("pti", 1)], parquet=False)
    (root / "edits" / "pti" / "row-002.png").write_bytes(b"\x89PNG broken")
    (root / "truths" / "row-003.png").unlink()
    built = study.make(root, checks=3)
    assert sorted(built.rows) == ["row-000", "row-003", "row-004"]
    told = " | ".join(built.notes)
    assert "1 of 5 rows left out: not edited by foi" in told and "row-002.png" in told and "3 rows, not 40" in told
    assert len(study.make(root, systems=["ip2p", "foi"], checks=0).rows) == 4


def test_a_page_that_no_browser_takes_is_refused_before_it_is_made(tmp_path, monkeypatch):
    root = results.build(tmp_path / "results", rows=3, parquet=False)
    monkeypatch.setattr("showtell.study.making.TOO_LARGE", 3000)
    with pytest.raises(UsageError, match=r"--count\) or smaller ones \(--side"):
        study.make(root, checks=0)


def test_equal_pictures_of_two_systems_are_told(tmp_path):
    root = results.build(tmp_path / "results", rows=3, parquet=False)
    assert not any("the very same picture" in note for note in study.make(root, checks=0).notes)
    twin = root / "edits" / "ip2p" / "row-001.png"
    (root / "edits" / "foi" / "row-001.png").write_bytes(twin.read_bytes())
    assert any(
        note.startswith("in 1 of 3 rows two systems have the very same") for note in study.make(root, checks=0).notes
    )


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"systems": ["ip2p", "nobody"]}, "'nobody'"),
        ({"systems": ["ip2p"]}, "2 to 9"),
        ({"count": 0}, "--count 0"),
        ({"checks": -1}, "--checks -1"),
        ({"checks": 99}, "--checks 99"),
        ({"side": 8}, "--side 8"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_what_cannot_be_is_refused(made, options, culprit):
    with pytest.raises(UsageError, match=re.escape(culprit)):
        study.make(made[0], **options)


def test_a_folder_that_is_none_or_was_altered_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is no result folder"):
        study.make(tmp_path)
    root = results.build(tmp_path / "results", rows=2, parquet=False)
    whole = (root / "evaluation.json").read_text()
    for wrong in (
        whole.replace('"name": "foi"', '"name": "../foi"'),
        whole.replace('"name": "foi"', '"name": "ip2p"'),
        whole[:50],
    ):
        (root / "evaluation.json").write_text(wrong)
        with pytest.raises(FileFormatError, match="evaluation.json"):
            study.make(root)
    (root / "evaluation.json").write_text(whole)
    rows = (root / "rows.json").read_text()
    for wrong in (rows.replace("row-001", "../../row"), rows[:30], '[{"id": 3}]', "{}"):
        (root / "rows.json").write_text(wrong)
        with pytest.raises(FileFormatError, match="rows.json"):
            study.make(root)


def test_points_of_a_sweep_can_be_compared(tmp_path):
    names = ("foi-guidance_scale=1.5", "foi-guidance_scale=2")
    root = results.build(tmp_path / "results", rows=2, systems=names, parquet=False)
    built = study.make(root, checks=0)
    assert tuple(system.name for system in built.key.systems) == names
    assert plan.read_key(json.dumps(built.key.described()), name="key") == built.key


def test_without_a_single_whole_row_there_is_no_page(tmp_path):
    root = results.build(tmp_path / "results", rows=2, failed=[("foi", 0), ("foi", 1)], parquet=False)
    with pytest.raises(
        UsageError, match=r"no row has a picture of every system \(2 of 2 rows left out: not edited by foi\)"
    ):
        study.make(root)
