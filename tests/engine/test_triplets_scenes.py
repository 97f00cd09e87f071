"""Triplets of scenes: captions that differ, counts that add up, and the truth of each at hand."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from showtell import data, scenes
from showtell.data.triplets import Triplet
from showtell.engine import triplets, triplets_scenes
from showtell.engine.triplets_checks import Checks, normal, sift
from showtell.errors import UsageError


@pytest.fixture(scope="module")
def drawn():
    return triplets_scenes.draw(40, first=7)


def test_a_triplet_is_the_words_of_its_scene(drawn):
    assert [one.id for one in drawn[:2]] == ["p000000", "p000001"] and [one.scene for one in drawn[:2]] == [7, 8]
    for one in drawn:
        case = scenes.sample(one.scene, split="train")
        assert [one.instruction] == case.instructions
        assert normal(one.source_caption) != normal(one.target_caption)
        if one.group != "move":
            assert (one.source_caption, one.target_caption) == tuple(
                scenes.caption(scene).text for scene in (case.plan.before, case.plan.after)
            )
    assert len({one.group for one in drawn}) >= 5


def test_places_are_said_where_captions_would_else_be_the_same():
    auto, never, always = (
        triplets_scenes.draw(4, actions=("move",), places=places) for places in ("auto", "never", "always")
    )
    assert auto == always and all(" in the " in one.source_caption for one in auto)
    kept, dropped = sift(never, Checks())
    assert kept == [] and dropped == {"unchanged": 4}


def test_several_edits_are_one_instruction():
    [one] = triplets_scenes.draw(1, edits=3, split="heldout")
    assert one.instruction.count(", ") >= 2 and (one.edits, one.split) == (3, "heldout")


@pytest.mark.parametrize("options", [{"count": 0}, {"count": 1, "first": -1}, {"count": 1, "actions": ("fly",)}])
def test_what_scenes_cannot_draw(options):
    with pytest.raises(UsageError):
        triplets_scenes.draw(**options)


def test_the_file_is_a_data_set_of_true_pictures(drawn, tmp_path):
    out = tmp_path / "t.jsonl"
    twice = Triplet(**{**vars(drawn[3]), "id": "other", "instruction": drawn[3].instruction.upper() + "!"})
    made = triplets.finish(out, [*drawn, twice], Checks(), recipe={"settings": {}})
    assert made.dropped == {"twice": 1} and made.triplets == tuple(drawn)
    assert json.loads((tmp_path / "t.recipe.json").read_text())["made"]["dropped"] == {"twice": 1}
    found = data.load("triplets", out)
    assert [row.id for row in found.rows] == [one.id for one in drawn] and found.problems == ()
    for row, one in list(zip(found.rows, drawn, strict=True))[:3]:
        case = scenes.sample(one.scene, split="train")
        row = pickle.loads(pickle.dumps(row))  # noqa: S301
        assert np.array_equal(row.before(), case.before) and np.array_equal(row.after(), case.after)
        assert (row.source_caption, row.target_caption) == (one.source_caption, one.target_caption)
        assert np.array_equal(row.mask(), case.masks[0]) and row.truth.edits == case.edits


def test_what_is_no_drawn_triplet_is_a_problem(drawn, tmp_path):
    one = json.loads(drawn[0].line())
    lines = [
        one, {**one, "id": "a", "scene": None}, {**one, "id": "b", "instruction": "make it gold"}, {**one, "id": "../c"},
        {**one, "id": "d", "scene": "7"}, {**one, "id": "e", "target_caption": " "}, [1], {**one, "id": "f", "actions": 3},
        {**one, "id": "g", "split": "else"}, one,
    ]  # fmt: skip
    (tmp_path / "t.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = data.load("triplets", tmp_path / "t.jsonl")
    assert [row.id for row in found.rows] == ["p000000"]
    what = " | ".join(problem.what for problem in found.problems)
    for part in (
        "comes from no scene", "drawn with the words", "no file's name", "whole numbers", "target caption is missing",
        "is list where", "list of words", "unknown split", "another row has the id 'p000000'",
    ):  # fmt: skip
        assert part in what, (part, what)


def test_scenes_of_the_other_part_are_a_data_set_too():
    old, new = data.load("scenes", limit=1, first=7), data.load("scenes", limit=1, first=7, split="train")
    assert "split" not in old.settings and new.settings["split"] == "train"
    assert old.rows[0].instructions != new.rows[0].instructions or old.fingerprint != new.fingerprint
    before, after = new.rows[0].pair()
    assert before.size == after.size == (64, 64)


def test_older_results_keep_their_fingerprint():
    """The board in docs/results was measured on these rows."""
    assert data.load("scenes", limit=60).fingerprint == "697478d417b4b50a"
