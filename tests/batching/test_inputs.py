"""What a batch is made of, read before a model is: every mistake is one line that names the row."""

from __future__ import annotations

import json

import pytest

from showtell.batching import Asked, inputs
from showtell.errors import FileFormatError, MethodError, UsageError
from showtell.evaluation.making import seed_of
from tests.batching import making

RED = Asked(words=("make it red",))


def table(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(line + "\n" if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    path.write_text(text)
    return path


@pytest.fixture
def pictures(tmp_path):
    return making.folder(tmp_path / "in")


def test_a_folder_gives_every_picture_its_name_and_its_seed(pictures):
    (pictures / ".hidden").mkdir()
    (pictures / ".hidden" / "x.png").write_bytes(b"")
    found = inputs.read(pictures, RED)
    assert found.kind == "folder" and [one.told["out"] for one in found.items] == ["a", "b", "sub/c"]
    assert [one.told["seed"] for one in found.items] == [seed_of(0, name) for name in ("a", "b", "sub/c")]
    assert [one.told["words"] for one in found.items] == [["make it red"]] * 3
    assert [one.told["out"] for one in inputs.read(pictures, RED, limit=2).items] == ["a", "b"]


def test_words_of_a_picture_stand_beside_it_where_none_are_given_for_all(pictures):
    (pictures / "a.txt").write_text("make the circle red\nadd a star\n")
    found = inputs.read(pictures, Asked())
    assert [one.told["words"] for one in found.items] == [["make the circle red", "add a star"]]
    assert [name for name, _ in found.problems] == ["b.png", "sub/c.png"]
    assert "has no instruction" in found.problems[0][1]
    assert inputs.read(pictures, RED).items[0].told["words"] == ["make it red"]


def test_names_that_would_collide_are_refused(pictures):
    (pictures / "a.jpg").write_bytes(making.picture(9))
    with pytest.raises(UsageError, match=r"a.jpg and a.png would both be 'a': rename one"):
        inputs.read(pictures, RED)
    rows = table(pictures / "rows.jsonl", {"image": "b.png"}, {"image": "b.png"})
    with pytest.raises(UsageError, match=r"rows.jsonl:1 and rows.jsonl:2 would both be 'b': give each its own id"):
        inputs.read(rows, RED)


def test_a_manifest_row_has_its_own_words_method_seed_and_settings(pictures):
    rows = table(
        pictures / "rows.jsonl",
        {"image": "a.png", "instruction": "make it blue", "seed": 7, "set": {"guidance_scale": 3}},
        {"id": "x/y", "image": "a.png", "instructions": ["add a star", "remove the house"]},
        {"image": "sub/c.png", "target": "a house at night", "source": "a house", "method": "sdedit", "mask": "b.png"},
    )
    asked = Asked(words=("make it red",), settings={"num_inference_steps": 2, "image_guidance_scale": 1.2}, seed=5)
    one, two, three = (item.told for item in inputs.read(rows, asked).items)
    assert (one["words"], one["seed"], one["model"]) == (["make it blue"], 7, "starter")
    assert one["settings"] == {"num_inference_steps": 2, "image_guidance_scale": 1.2, "guidance_scale": 3}
    assert (two["out"], two["seed"], len(two["words"])) == ("x/y", seed_of(5, "x/y"), 2)
    assert (three["words"], three["source"], three["model"]) == (["a house at night"], "a house", "starter-base")
    assert three["settings"] == {"num_inference_steps": 2} and three["mask"].endswith("b.png")


def test_a_csv_says_the_same(pictures):
    rows = table(
        pictures / "rows.csv", "image,instruction,seed,set,more",
        "a.png,make it blue|add a star,7,guidance_scale=3|num_inference_steps=4,x",
        'b.png,,,"{""num_inference_steps"": 3}",',
    )  # fmt: skip
    one, two = (item.told for item in inputs.read(rows, RED).items)
    assert one["words"] == ["make it blue", "add a star"] and one["seed"] == 7
    assert one["settings"] == {"guidance_scale": 3, "num_inference_steps": 4}
    assert two["words"] == ["make it red"] and two["settings"] == {"num_inference_steps": 3}
    with pytest.raises(FileFormatError, match="has no column 'image'"):
        inputs.read(table(pictures / "bad.csv", "picture,words", "a.png,x"), RED)


BAD = [
    ({"image": "nope.png"}, "the picture nope.png is not there"),
    ({"image": "../out.png"}, "leaves the data set's folder"),
    ({"image": "/etc/passwd"}, "leaves the data set's folder"),
    ({}, "the picture is not named"),
    ({"image": "a.png", "id": "../x"}, "is no name for a result"),
    ({"image": "a.png", "id": ".showtell/x"}, "is no name for a result"),
    ({"image": "a.png", "id": "x" * 300}, "is too long a name"),
    ({"image": "a.png", "seed": "many"}, "seed 'many' is not a whole number"),
    ({"image": "a.png", "seed": -1}, "seed -1 is not a whole number"),
    ({"image": "a.png", "method": "magic"}, "method 'magic' is not known"),
    ({"image": "a.png", "set": {"tau": 1}}, "'tau' is not a hyper-parameter of method 'ip2p'"),
    ({"image": "a.png", "set": {"guidance_scale": -3}}, "guidance_scale"),
    ({"image": "a.png", "set": [1]}, "set is no object"),
    ({"image": "a.png", "instruction": 5}, "instructions is neither text"),
    ({"image": "a.png", "learned": "look.safetensors"}, "learned instruction look.safetensors is not there"),
    ({"image": "a.png", "instruction": "\ud800"}, "half of a character"),
    ([1], "is list where an object belongs"),
    ("{nonsense", "is not JSON"),
]


def test_a_row_that_cannot_be_used_is_told_and_the_rest_goes_on(pictures):
    rows = table(pictures / "rows.jsonl", *(record for record, _ in BAD), {"image": "b.png"})
    found = inputs.read(rows, RED)
    assert [item.told["out"] for item in found.items] == ["b"]
    assert [name for name, _ in found.problems] == [f"rows.jsonl:{n}" for n in range(1, len(BAD) + 1)]
    for (_, what), (_, told) in zip(BAD, found.problems, strict=True):
        assert what in told


def test_shards_give_keys_whatever_shard_they_are_in(tmp_path):
    first = {
        "x/1": {"jpg": making.picture(1), "json": {"instruction": "make it blue", "note": 5}},
        "2": {"before.png": making.picture(2), "after.png": making.picture(3), "txt": b"add a star"},
    }
    making.shard(tmp_path / "in" / "s-0.tar", first)
    making.shard(tmp_path / "in" / "s-1.tar", {"2": {"png": making.picture(2)}, "./3": {"webp": making.picture(4)}})
    for source in (tmp_path / "in", str(tmp_path / "in" / "s-*.tar")):
        found = inputs.read(source, RED)
        assert found.kind == "shards" and [item.told["out"] for item in found.items] == ["x/1", "2", "2", "3"]
    one, two, again, three = found.items
    assert one.told["words"] == ["make it blue"] and one.told["json"]["note"] == 5
    assert two.told["seed"] == again.told["seed"] == seed_of(0, "2") and two.id != again.id
    assert inputs.read(tmp_path / "in", Asked()).items[1].told["words"] == ["add a star"]
    assert [one.shard for one in found.items] == [0, 0, 1, 1] and three.told["picture"]["size"] == len(
        making.picture(4)
    )
    assert len(inputs.read(tmp_path / "in", RED, limit=3).items) == 3


def test_samples_and_shards_that_are_damaged(tmp_path):
    samples = {
        "1": {"png": making.picture(1)},
        "2": {"txt": b"no picture"},
        "3": {"png": making.picture(1), "json": b"{nonsense"},
        "../4": {"png": making.picture(1)},
        "5": {"png": making.picture(5, (64, 64))},
    }
    path = making.shard(tmp_path / "s.tar", samples)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"IEND") - 3000])
    found = inputs.read(path, RED)
    assert [item.told["out"] for item in found.items] == ["1"]
    told = dict(found.problems)
    assert "has no picture, but txt" in told["s.tar: 2"] and "its .json is no JSON" in told["s.tar: 3"]
    assert "is no name for a result" in told["s.tar: ../4"] and "is cut short" in told["s.tar"]
    edge = whole.index(b"2.txt")  # where the header of the second sample begins
    for damaged in (whole[:edge], whole[: edge + 9], whole[: edge + 2] + b"?" + whole[edge + 3 :]):
        path.write_bytes(damaged)
        found = inputs.read(path, RED)
        assert [item.told["out"] for item in found.items] == ["1"]
        assert f"damaged or cut short after {edge} bytes" in dict(found.problems)["s.tar"]
    path.write_bytes(b"nonsense" * 100)
    with pytest.raises(FileFormatError, match="is no tar that can be read"):
        inputs.read(path, RED)


def test_inputs_that_are_none(tmp_path, pictures):
    for source, what in [
        (tmp_path / "nope", "there is no such folder"),
        (tmp_path / "nope-*.tar", "there is no such folder"),
        (pictures / "a.png", "is no input"),
        (tmp_path / "empty", "holds no picture that can be edited"),
        (str(pictures / "*.png"), "a pattern is for .tar shards"),
    ]:
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(FileFormatError, match=what):
            inputs.read(source, RED)
    making.shard(pictures / "s.tar", {"1": {"png": making.picture(1)}})
    with pytest.raises(FileFormatError, match="has shards and pictures"):
        inputs.read(pictures, RED)
    (pictures / "s.tar").unlink()
    with pytest.raises(UsageError, match="its pictures are read"):
        inputs.read(pictures, RED, out=pictures)


def test_results_of_batches_are_no_input(pictures):
    (pictures / "out").mkdir()
    (pictures / "out" / "a.png").write_bytes(making.picture(1))
    making.folder(pictures / "earlier")
    (pictures / "earlier" / ".showtell").mkdir()
    found = inputs.read(pictures, RED, out=pictures / "out")
    assert [one.told["out"] for one in found.items] == ["a", "b", "sub/c"]


def test_no_result_may_take_an_inputs_place(tmp_path, pictures):
    rows = table(pictures / "rows.jsonl", {"image": "a.png"})
    shard = making.shard(tmp_path / "s.tar", {"1": {"png": making.picture(1)}})
    for source, out in [(rows, pictures), (shard, tmp_path)]:
        with pytest.raises(UsageError, match="would be overwritten"):
            inputs.read(source, RED, out=out)
    assert inputs.read(rows, RED, out=tmp_path).items


def test_what_no_row_could_be_made_with(tmp_path):
    for asked, what in [
        (Asked(method="magic"), "is not known"),
        (Asked(settings={"tau": 1}), "is not a hyper-parameter"),
        (Asked(source_caption="a house"), "source is for methods that describe"),
        (Asked(method="grid"), "needs a pair"),
        (Asked(pair=("a", "b")), "takes no pair"),
        (Asked(seed=-1), "out of range"),
    ]:
        with pytest.raises(MethodError, match=what):
            asked.check()
