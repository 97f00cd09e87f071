"""Sifting candidates: the choice and its laws, scores that are made once, kills that cost nothing, one line for bad input."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell import data
from showtell.engine import filter as sieving
from showtell.engine import filter_candidates, filter_scores
from showtell.engine.filter_choose import CODE, TESTS, Bounds, Scores, choose
from showtell.errors import Cancelled, FileFormatError, MethodError, ModelError, UsageError
from showtell.metrics import clip as on_features
from tests.helpers import datasets

LOOSE = Bounds(image=-1, direction=-1, caption=-1, keep=2)


# -- the choice ----------------------------------------------------------------------------------------------------------------

figure = st.one_of(st.floats(-1, 1), st.sampled_from([0.2, 0.7]), st.just(math.nan))
several = st.lists(
    st.tuples(
        st.sampled_from(["p", "q", "r"]), st.builds(Scores, image=figure, direction=figure, before=figure, after=figure)
    ),
    max_size=24,
).map(lambda found: [(f"{pair}-{n:02d}", pair, scores) for n, (pair, scores) in enumerate(found)])
threshold = st.floats(-1, 1)
bounds = st.builds(Bounds, image=threshold, direction=threshold, caption=threshold, keep=st.integers(1, 5))


def kept(candidates, limits) -> set[str]:
    return {name for name, verdict in choose(candidates, limits).items() if verdict.kept}


@given(several, bounds, st.sampled_from(["image", "direction", "caption"]), threshold)
def test_raising_a_threshold_never_keeps_more(candidates, limits, name, other):
    low, high = sorted((getattr(limits, name), other))
    loose, strict = (Bounds(**{**vars(limits), name: value}) for value in (low, high))
    passed = [{n for n, verdict in choose(candidates, one).items() if not verdict.fails} for one in (loose, strict)]
    assert passed[1] <= passed[0]
    for pair in "pqr":
        few, many = ([n for n in kept(candidates, one) if n[0] == pair] for one in (strict, loose))
        assert len(few) <= len(many)
    if name == "direction":  # who is dropped leaves no place for a worse one
        assert kept(candidates, strict) <= kept(candidates, loose)


@given(several, bounds, st.randoms())
def test_the_best_of_a_pair_are_kept_whatever_the_order(candidates, limits, random):
    verdicts = choose(candidates, limits)
    shuffled = list(candidates)
    random.shuffle(shuffled)
    assert choose(shuffled, limits) == verdicts
    assert kept(candidates, limits) <= kept(candidates, Bounds(**{**vars(limits), "keep": limits.keep + 1}))
    scores = {name: found for name, _, found in candidates}
    for pair in "pqr":
        own = [name for name in verdicts if name[0] == pair and not verdicts[name].fails]
        best = sorted(own, key=lambda name: (-scores[name].direction, name))[: limits.keep]
        assert [name for name in sorted(own) if verdicts[name].kept] == sorted(best)
    for name, found in scores.items():
        good = all(getattr(found, test) >= limits.of(test) for test in TESTS)
        assert good == (not verdicts[name].fails)  # what is no number is dropped


def test_thresholds_come_from_the_user_the_card_or_what_was_published():
    card = {"image": 0.3, "keep": 2}
    found, origin = Bounds(direction=0.1).settled(card)
    assert found == Bounds(image=0.3, direction=0.1, caption=0.2, keep=2)
    assert origin == {"image": "card", "direction": "given", "caption": "code", "keep": "card"}
    assert Bounds().settled({})[0] == Bounds(**CODE) and CODE["image"] == 0.7
    assert Bounds(keep=1).settled(card, paper=True) == (
        Bounds(image=0.75, direction=0.2, caption=0.2, keep=1),
        {"image": "paper", "direction": "paper", "caption": "paper", "keep": "given"},
    )
    for wrong in ({"image": 1.1}, {"direction": math.nan}, {"caption": -2.0}, {"keep": 0}):
        with pytest.raises(MethodError, match="is out of range"):
            Bounds(**wrong)


# -- scores --------------------------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_measures(starters):
    clip = on_features.Clip.load("starter-clip")
    pictures = [(datasets.drawn(n), datasets.drawn(50 + n)) for n in range(3)] + [(datasets.drawn(7),) * 2]
    sources, targets = ["a circle"] * 4, ["a red circle", "a star", "a circle", "a blue star"]
    scores = filter_scores.score(clip, pictures, sources, targets)
    for (before, after), source, target, found in zip(pictures, sources, targets, scores, strict=True):
        b, a, s, t = (
            *(clip.image_features([one]) for one in (before, after)), *(clip.text_features([one]) for one in (source, target))
        )  # fmt: skip
        want = [on_features.clip_i(b, a), on_features.clip_d(b, a, s, t, unit=True), on_features.clip_i(b, s)]
        want.append(on_features.clip_i(a, t))
        assert [getattr(found, test) for test in TESTS] == pytest.approx(
            [float(w) for w in want], abs=2e-5, nan_ok=True
        )
    assert [math.isnan(one.direction) for one in scores] == [
        False,
        False,
        True,
        True,
    ]  # the same captions, the same pictures
    assert (
        Scores.read(scores[2].told()) == pytest.approx(scores[2], nan_ok=True) or scores[2].told()["direction"] is None
    )


def test_a_journal_survives_half_a_line(tmp_path):
    journal = filter_scores.Journal.begin(tmp_path / "scores")
    items = [filter_scores.Item(id=f"c{n}") for n in range(4)]
    scores = {"image": 0.5, "direction": None, "before": 0.1, "after": 0.2}
    journal.keep(items[0], filter_scores.Done(id="c0", record={"scores": scores}))
    (file,) = journal.folder.iterdir()
    file.write_bytes(
        file.read_bytes() + b'{"id": "c1", "scores": {"im'
    )  # killed in the middle, and a new one of the same number
    journal.keep(items[2], filter_scores.Done(id="c2", record={"scores": scores}))
    journal.keep(items[3], filter_scores.Done(id="c3", error="cannot be read"))
    found = journal.read()
    assert sorted(found) == ["c0", "c2"] and math.isnan(found["c0"].direction) and found["c2"].after == 0.2
    assert [one.id for one in journal.pending(items)] == ["c1", "c3"]  # what failed is tried again


# -- the whole -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_starters):
    """Candidates, of which two failed, and what was kept of them."""
    root = tmp_path_factory.mktemp("filter")
    failed = {"p000001_c03": {"error": "the picture is flagged"}, "p000002_c00": {"source_caption": ""}}
    datasets.candidates(root / "candidates", **failed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOWTELL_STARTERS", str(tiny_starters))
        sifted = sieving.sift([root / "candidates"], root / "kept", bounds=LOOSE, shard_size=2)
    return root, sifted


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_kept_is_a_data_set_of_pairs_with_scores(whole):
    root, sifted = whole
    found = data.load("pairs", root / "kept", verify=True)
    assert [row.id[:7] for row in found.rows] == sorted(
        f"p{i:06d}" for i in range(3) for _ in range(2)
    ) and not found.problems
    assert [row.shard for row in found.rows] == [0, 0, 1, 1, 2, 2]
    row = found.rows[0]
    i, number = int(row.id[1:7]), int(row.id[-2:])
    assert row.before().tobytes() == datasets.drawn(10 * i + number).tobytes()
    assert row.after().tobytes() == datasets.drawn(1000 + 10 * i + number).tobytes()
    records = [one for path in sorted((root / "kept/records").glob("*.jsonl")) for one in lines(path)]
    assert [one["id"] for one in records] == [row.id for row in found.rows]
    recipe = json.loads((root / "kept/recipe.json").read_text())
    assert all(one["scores"] == sifted.scores[one["id"]].told() for one in records)
    assert all(one["scored_by"] == recipe["clip"] and one["guidance_scale"] >= 7.5 for one in records)
    assert recipe["sources"][0]["recipe"]["command"] == "dataset pictures" and recipe["origin"]["keep"] == "given"
    assert recipe["clip"]["id"] == "starter-clip"


def test_the_figures_add_up(whole):
    root, _ = whole
    told = json.loads((root / "kept/report.json").read_text())
    assert (told["pairs"], told["candidates"], told["scored"], told["failed"]) == (3, 12, 10, 2)
    assert told["scored"] == told["dropped"] + told["passed"] and told["passed"] == told["kept"] + told["outranked"]
    assert told["kept"] == 6 and told["pairs_with_one"] == 3 and told["kept_of_a_pair"] == {"2": 3}
    assert {one["id"]: one["what"] for one in told["failures"]} == {
        "p000001-c03": "the picture is flagged",
        "p000002-c00": "has no source_caption: scores need both captions",
    }
    assert told["groups"]["replace"] == {"pairs": 1, "scored": 3, "passed": 3, "kept": 2, "pairs_with_one": 1}
    assert sum(one["candidates"] for one in told["settings"]["guidance_scale"]) == 10
    every = lines(root / "kept/scores.jsonl")
    assert [one["verdict"] for one in every].count("outranked") == 4 and len(every) == 11


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.glob("[dr]*/*")) if p.is_file()}


def verdicts(folder: Path) -> dict[str, str]:
    return {one["id"]: one["verdict"] for one in lines(folder / "scores.jsonl")}


class Killed(BaseException):
    """What no code of ours catches, as a kill is not caught."""


def ends_alike(candidates: Path, out: Path, whole: Path) -> None:
    """Start again, and compare with what was never stopped. Each candidate was scored once."""
    sieving.sift([candidates], out, bounds=LOOSE, shard_size=2, batch_size=4)
    assert verdicts(out) == verdicts(whole) and contents(out).keys() == contents(whole).keys()
    rows, wanted = (data.load("pairs", folder, verify=True).rows for folder in (out, whole))
    assert [row.described() for row in rows] == [row.described() for row in wanted]
    journal = [line for path in (out / "scores").iterdir() for line in lines(path)]
    assert len([one for one in journal if "scores" in one]) == 10


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_stopped_while_it_scores_it_goes_on(batches, whole, tmp_path, starters):
    root, asked = whole[0], iter(range(100))
    with pytest.raises(Cancelled):
        sieving.sift(
            [root / "candidates"], tmp_path / "kept", bounds=LOOSE, batch_size=4, shard_size=2,
            cancel=lambda: next(asked) >= batches,
        )  # fmt: skip
    assert not list((tmp_path / "kept/data").iterdir())
    ends_alike(root / "candidates", tmp_path / "kept", root / "kept")


@pytest.mark.parametrize("moves", [1, 2, 3, 9, 10, 11, 16, 25, 30, 31, 32])
def test_killed_before_any_move_of_a_file_it_goes_on(moves, whole, tmp_path, starters, monkeypatch):
    root, real, seen = whole[0], os.replace, iter(range(1, 1000))

    def killing(source, target):
        if next(seen) == moves:
            raise Killed
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killing)
        with pytest.raises(Killed):
            sieving.sift([root / "candidates"], tmp_path / "kept", bounds=LOOSE, batch_size=4, shard_size=2)
    ends_alike(root / "candidates", tmp_path / "kept", root / "kept")


def test_the_same_command_again_changes_nothing_and_other_thresholds_need_another_folder(whole, starters, tmp_path):
    root, _ = whole
    before = contents(root / "kept")
    sieving.sift([root / "candidates"], root / "kept", bounds=LOOSE, shard_size=2)
    assert contents(root / "kept") == before
    with pytest.raises(FileFormatError, match="was begun with another keep"):
        sieving.sift([root / "candidates"], root / "kept", bounds=Bounds(**{**vars(LOOSE), "keep": 1}), shard_size=2)
    one = Bounds(**{**vars(LOOSE), "keep": 1})
    sieving.sift([root / "candidates"], tmp_path / "one", bounds=one, scores=root / "kept")
    assert {n for n, v in verdicts(tmp_path / "one").items() if v == "kept"} < {
        n for n, v in verdicts(root / "kept").items() if v == "kept"
    }
    assert not any(
        '"scores"' in path.read_text() for path in (tmp_path / "one/scores").iterdir()
    )  # taken, not made again
    again = sieving.sift([root / "kept"], tmp_path / "again", bounds=one)  # what is kept can be sifted again
    assert len(again.scores) == 6 and not list((tmp_path / "again/scores").iterdir())
    with pytest.raises(FileFormatError, match="scores are of other candidates"):
        sieving.sift([root / "kept"], tmp_path / "x", bounds=one, scores=root / "kept")


def test_a_damaged_candidate_costs_itself_and_may_be_mended(tmp_path, starters):
    folder = datasets.candidates(tmp_path / "candidates", count=2)
    shard = folder / "data/train-000000.tar"
    good = shard.read_bytes()
    at = good.index(b"IDAT") + 20
    shard.write_bytes(good[:at] + bytes(30) + good[at + 30 :])
    first = sieving.sift([folder], tmp_path / "kept", bounds=LOOSE)
    assert [name for name, _ in first.failed] == ["p000000-c00"] and "before.png: is broken" in first.failed[0][1]
    shard.write_bytes(good)
    second = sieving.sift([folder], tmp_path / "kept", bounds=Bounds(**vars(LOOSE)))
    assert not second.failed and len(second.scores) == 8
    chosen = {name for name, verdict in second.verdicts.items() if verdict.kept}
    assert {row.id for row in data.load("pairs", tmp_path / "kept", verify=True).rows} == chosen
    shard.write_bytes(good[: len(good) // 2])
    third = sieving.sift([folder], tmp_path / "half", bounds=LOOSE)
    assert 0 < len(third.scores) < 8 and any("cut short" in what for _, what in third.failed)
    assert len(third.scores) + len([1 for name, _ in third.failed if name.startswith("p0")]) == 8


def test_candidates_that_were_judged_when_they_were_made(tmp_path, starters):
    """Those that failed then have scores and no pictures: they count, and no looser threshold can bring them back."""
    clip = filter_scores.identity(on_features.Clip.load("starter-clip"))
    scores = {"image": -0.9, "direction": 0.5, "before": 0.5, "after": 0.5}
    failed = {"p000000_c01": {"scores": scores, "scored_by": clip}}
    recipe = {"filter": {"clip": clip, "image": -0.8, "direction": -1, "caption": -1}}
    folder = datasets.candidates(tmp_path / "candidates", count=1, recipe=recipe, **failed)
    found = sieving.sift([folder], tmp_path / "kept", bounds=Bounds(**{**vars(LOOSE), "image": -0.8}))
    assert found.verdicts["p000000-c01"].fails == ("image",) and len(found.scores) == 4 and not found.failed
    with pytest.raises(UsageError, match="give --min-image -0.8 or more"):
        sieving.sift([folder], tmp_path / "loose", bounds=LOOSE)
    assert not (tmp_path / "loose").exists()
    other = {"p000000_c01": {"scores": scores, "scored_by": {"id": "another", "weights": "0"}}}
    folder = datasets.candidates(tmp_path / "others", count=1, **other)
    told = sieving.sift([folder], tmp_path / "third", bounds=LOOSE).failed
    assert [name for name, _ in told] == ["p000000-c01"] and "judged by another CLIP" in told[0][1]


def test_folders_whose_candidates_have_the_same_names(tmp_path, starters):
    one, two = (datasets.candidates(tmp_path / str(seed), count=1, each=2, seed=seed) for seed in (1, 2))
    found = filter_candidates.read([one, two])
    assert len({row.name for row in found.rows}) == 4 and len(found.pairs) == 2
    assert filter_candidates.read([two, one]) == found  # in whatever order
    with pytest.raises(UsageError, match="given twice"):
        filter_candidates.read([one, two, one])


def test_parquet_in_and_out(tmp_path, starters):
    pytest.importorskip("datasets")
    folder = datasets.candidates(tmp_path / "candidates", count=1, layout="datasets")
    sieving.sift([folder], tmp_path / "kept", bounds=LOOSE, layout="datasets")
    (shard,) = (tmp_path / "kept/data").iterdir()
    assert shard.suffix == ".parquet"
    rows = data.load("pairs", tmp_path / "kept", verify=True).rows
    number = int(rows[0].id[-2:])
    assert len(rows) == 2 and rows[0].after().tobytes() == datasets.drawn(1000 + number).tobytes()
    assert len(data.load("hf", tmp_path / "kept").rows) == 2 and rows[0].group == "recolour"


def unwritten(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (shutil.rmtree, "is no folder"),
        (lambda folder: (folder / "recipe.json").unlink(), "has no recipe.json"),
        (unwritten, "has not ended"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": 2}'), "of another format"),
        (
            lambda folder: (folder / "records/000000.jsonl").write_text("[]\n"),
            "line 1: is not the record of a candidate",
        ),
        (lambda folder: (folder / "data/train-000000.tar").unlink(), "holds no candidate with pictures"),
        (lambda folder: (folder / "data/train-000000.tar").write_bytes(b"no tar" * 200), "no tar that can be read"),
    ],
    ids=["none", "recipe", "unfinished", "manifest", "format", "records", "no shard", "broken shard"],
)
def test_another_folder_is_one_line(damage, told, tmp_path, starters):
    folder = datasets.candidates(tmp_path / "candidates", count=1, each=2)
    damage(folder)
    with pytest.raises(UsageError, match=told):
        sieving.sift([folder], tmp_path / "kept", bounds=LOOSE)
    assert not (tmp_path / "kept").exists()  # nothing is begun


def test_nothing_is_kept_and_all_is_told(tmp_path, starters):
    folder = datasets.candidates(tmp_path / "candidates", count=1)
    found = sieving.sift([folder], tmp_path / "kept", bounds=Bounds(image=1.0, direction=1.0, caption=1.0))
    assert not any(verdict.kept for verdict in found.verdicts.values()) and not list((tmp_path / "kept/data").iterdir())
    told = json.loads((tmp_path / "kept/report.json").read_text())
    assert told["dropped"] == 4 and told["kept_of_a_pair"] == {"0": 1}
    assert (tmp_path / "kept/report.html").stat().st_size > 10_000


def test_a_starter_that_is_no_clip_is_not_looked_for_elsewhere():
    with pytest.raises(ModelError, match="starter-base: is no CLIP: take starter-clip"):
        filter_scores.worker("starter-base", "cpu")
