"""Candidates of training pairs: what each draws, and that it is the same however it is made."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import showtell
from showtell.data.triplets import Triplet
from showtell.engine import candidates, pictures
from showtell.engine.candidates import PAPER, Lots
from showtell.engine.filter_choose import Bounds
from showtell.errors import FileFormatError, MethodError, ModelError, UsageError

WORDS = [
    ("a red circle by day", "make the circle blue", "a blue circle by day"),
    ("a blue house at night", "turn the house yellow", "a yellow house at night"),
    ("a green star in a desert", "remove the star", "nothing in a desert"),
]


def triplet(number):
    source, told, target = WORDS[number % 3]
    return Triplet(id=f"p{number}", source_caption=source, instruction=told, target_caption=target)


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "triplets.jsonl"
    lines = [dict(zip(("source_caption", "instruction", "target_caption"), words, strict=True)) for words in WORDS]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def settled(**told):
    return Lots(**told).settled({})[0]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), few=st.integers(1, 5), more=st.integers(5, 12), pairs=st.integers(1, 4))
def test_a_candidates_draws_depend_on_nothing_but_its_name_and_the_seed(seed, few, more, pairs):
    told = [triplet(n) for n in range(pairs)]
    small = candidates.items(told[:1], settled(candidates=few), seed=seed, shard_size=1)
    large = candidates.items(told[::-1], settled(candidates=more), seed=seed, shard_size=3)
    found = {item.id: item.told for item in large}
    assert all(found[item.id] == item.told for item in small)
    assert len(found) == pairs * more == len({item.told["seed"] for item in large})


def test_guidance_and_share_are_uniform_between_the_papers_ends():
    rows = candidates.items([triplet(n) for n in range(30)], settled(candidates=100), seed=1, shard_size=10)
    for name, (low, high) in (("guidance_scale", PAPER["guidance"]), ("self_replace_steps", PAPER["self_attention"])):
        drawn = np.array([row.told[name] for row in rows])
        assert low <= drawn.min() and drawn.max() <= high
        # 3,000 uniform draws: a tenth of the range holds 300, give or take 16 (one deviation)
        assert np.abs(np.histogram(drawn, bins=10, range=(low, high))[0] - 300).max() < 5 * 16.5
    assert {row.shard for row in rows} == {0, 1, 2}
    assert all(row.shard == int(row.told["pair"][1:]) // 10 for row in rows)


def test_left_out_the_card_is_asked_and_then_the_paper():
    found, origin = Lots(candidates=3).settled({"guidance": [2, 5], "candidates": 9})
    assert found.candidates == 3 and found.guidance == (2.0, 5.0) and found.num_inference_steps == 100
    assert origin["candidates"] == "given" and origin["guidance"] == "card" and origin["scheduler"] == "paper"


@pytest.fixture(scope="module")
def made(listed, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "pairs"
    report = pictures.make(listed, out, lots=Lots(candidates=2, num_inference_steps=2), shard_size=2, batch_size=4)
    assert report.made == 6 and not report.failed
    return out


def opened(out):
    found = {}
    for path in sorted((out / "data").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, name = member.name.partition(".")
                found.setdefault(key, {})[name] = tar.extractfile(member).read()
    return found


def test_each_candidate_is_a_pair_with_its_draws(made):
    found = opened(made)
    assert sorted(found) == [f"p{n:06d}-c{c:02d}" for n in range(3) for c in range(2)]
    for key, row in found.items():
        told = json.loads(row["json"])
        before, after = (Image.open(io.BytesIO(row[f"{name}.png"])) for name in ("before", "after"))
        assert before.size == after.size == (64, 64) and told["pair"] == key[:7]
        assert 2.0 <= told["guidance_scale"] <= 7.5 and 0.1 <= told["self_replace_steps"] <= 0.9
        assert told["instruction"] in [words[1] for words in WORDS]
        assert np.abs(np.asarray(before, float) - np.asarray(after, float)).mean() > 1
    recipe = json.loads((made / "recipe.json").read_text())
    assert recipe["origin"]["guidance"] == "card" and recipe["model"]["id"] == "starter-base"


def test_a_candidate_is_what_imagine_makes_of_its_record(made):
    row = opened(made)["p000001-c01"]
    told = json.loads(row["json"])
    one = showtell.load("starter-base").imagine(
        told["source_caption"], told["target_caption"], seed=told["seed"], guidance_scale=told["guidance_scale"],
        self_replace_steps=told["self_replace_steps"], cross_replace_steps=0.0, num_inference_steps=2,
        scheduler="euler-ancestral", blend="none",
    )[0]  # fmt: skip
    for name, picture in (("before", one.before), ("after", one.after)):
        kept = np.asarray(Image.open(io.BytesIO(row[f"{name}.png"])), int)
        assert np.abs(kept - np.asarray(picture, int)).max() <= 1


def test_a_few_shards_at_a_time_are_the_same_rows(monkeypatch):
    pairs, lots = [triplet(n) for n in range(11)], settled(candidates=3)
    for most, sizes in ((1, [6, 6, 6, 6, 6, 3]), (17, [12, 12, 9]), (1000, [33])):
        monkeypatch.setattr(candidates, "_AT_ONCE", most)
        found = list(candidates.parts(pairs, lots, seed=1, shard_size=2))
        assert [len(part) for part in found] == sizes
        assert [one for part in found for one in part] == candidates.items(pairs, lots, seed=1, shard_size=2)


def test_names_are_keys_for_every_reader(tmp_path):
    path = tmp_path / "named.jsonl"
    ids = ["a.1", "a.2", "a-1", "../../up", "é", 7]
    words = {"source_caption": "a", "instruction": "b", "target_caption": "c"}
    path.write_text("".join(json.dumps({**words, "id": one}) + "\n" for one in ids))
    found = [one.id for one in candidates.read_triplets(path)]
    assert len(set(found)) == 6 and found[2] == "a-1" and found[5] == "7"
    assert not any(set(one) & set("./") for one in found)


def test_judged_at_once_what_fails_leaves_scores_and_no_pictures(listed, tmp_path):
    least = {"image": -1.0, "caption": -1.0}
    for name, direction, kept in (("all", -1.0, 2), ("none", 1.0, 0)):
        lots, bounds = Lots(candidates=1, num_inference_steps=2), Bounds(direction=direction, **least)
        pictures.make(listed, tmp_path / name, lots=lots, clip="starter-clip", bounds=bounds, limit=2)
        records = [json.loads(line) for line in (tmp_path / name / "records/000000.jsonl").read_text().splitlines()]
        assert [record["kept"] for record in records] == [bool(kept)] * 2
        assert all(-1 <= record["scores"]["before"] <= 1 for record in records)
        assert records[0]["scored_by"]["id"] == "starter-clip"
        assert len(opened(tmp_path / name)) == kept
        told = json.loads((tmp_path / name / "recipe.json").read_text())["filter"]
        assert told["direction"] == direction and told["clip"] == records[0]["scored_by"]
    with pytest.raises(UsageError, match="no CLIP that judges at once"):
        pictures.make(listed, tmp_path / "other", bounds=Bounds(direction=0.5))


def test_one_words_too_many_fails_alone(listed, tmp_path):
    path = tmp_path / "long.jsonl"
    long = {"source_caption": "a red circle " * 40, "instruction": "make it blue", "target_caption": "a blue circle"}
    path.write_text(listed.read_text() + json.dumps(long) + "\n")
    report = pictures.make(path, tmp_path / "out", lots=Lots(candidates=1, num_inference_steps=1), batch_size=4)
    assert report.made == 3 and [row for row, _ in report.failed] == ["p000003-c00"]
    assert "there is room for 75" in report.failed[0][1]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 4: is not JSON"),
        ('{"source_caption": "a", "instruction": "b"}', "line 4: the target caption is missing"),
        ('{"id": "p000001", "input": "a", "edit": "b", "output": "c"}', "line 4: the id 'p000001' is there twice"),
        ("[1]", "line 4: is list where an object"),
        ('{"input": "a \\ud800 b", "edit": "b", "output": "c"}', "line 4: has half of a character"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(listed, tmp_path, line, says):
    path = tmp_path / "broken.jsonl"
    path.write_text(listed.read_text() + line + "\n")
    with pytest.raises(FileFormatError, match=says):
        pictures.make(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_settings_and_models_are_one_line(listed, tmp_path):
    with pytest.raises(MethodError, match="is not a range"):
        Lots(guidance=(9.0, 3.0))
    with pytest.raises(MethodError, match="self_attention"):
        Lots(self_attention=(0.5, 1.5))
    with pytest.raises(MethodError, match="candidates=0"):
        Lots(candidates=0)
    with pytest.raises(UsageError, match="encoding 'bmp'"):
        pictures.make(listed, tmp_path / "out", encoding="bmp")
    with pytest.raises(ModelError, match="needs a base model"):
        pictures.make(listed, tmp_path / "out", model="starter")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(FileFormatError, match="holds no triplet"):
        pictures.make(tmp_path / "empty.jsonl", tmp_path / "out")
    assert not (tmp_path / "out").exists()
