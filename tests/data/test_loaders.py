"""Every loader reads its published layout: which words, pictures, masks, groups and pairs a row has."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from showtell import data, scenes
from showtell.errors import FileFormatError, UsageError
from tests.helpers import datasets


def same(picture: Image.Image, seed: int) -> bool:
    """Whether it is the drawn picture of a seed, as JPEG may have changed it."""
    other = np.asarray(datasets.drawn(seed), dtype=float)
    return bool(np.abs(np.asarray(picture, dtype=float) - other).mean() < 40)


@pytest.mark.parametrize("name", datasets.BUILDERS)
def test_a_whole_data_set_has_no_problems_and_everything_opens(name, tmp_path):
    found = data.load(name, datasets.BUILDERS[name](tmp_path))
    assert found.name == name and found.rows and found.problems == ()
    for row in found.rows:
        before = row.before()
        assert before.mode == "RGB" and before.size == datasets.SIZE
        assert row.instructions or row.target_caption
        assert data.safe_id(row.id) == row.id
        json.dumps(row.described())
        if row.after is not None:
            assert row.after().size == datasets.SIZE
        if row.mask is not None:
            mask = row.mask()
            assert mask.shape == datasets.SIZE[::-1] and mask.dtype == bool and mask.any() and not mask.all()
        for pair in filter(None, (row.pair, *row.more_pairs)):
            assert [picture.size for picture in pair()] == [datasets.SIZE] * 2


@pytest.mark.parametrize("name", datasets.BUILDERS)
def test_the_same_again_in_another_process_and_in_another_place(name, tmp_path):
    one, other = (data.load(name, datasets.BUILDERS[name](tmp_path / where)) for where in ("x", "y"))
    assert [row.id for row in one.rows] == [row.id for row in other.rows]
    assert one.fingerprint == other.fingerprint
    row = pickle.loads(pickle.dumps(one.rows[0]))  # noqa: S301
    assert row.before().tobytes() == one.rows[0].before().tobytes()


def test_the_first_rows_alone(tmp_path):
    path = datasets.coco(tmp_path)
    assert [row.id for row in data.load("coco", path, limit=2).rows] == [f"{i:012d}" for i in (0, 1)]


def test_pie_bench(tmp_path):
    found = data.load("pie-bench", datasets.pie_bench(tmp_path))
    row = found.rows[1]
    assert row.id == "000000000001" and row.group == "1 change object" and same(row.before(), 1)
    assert row.instructions == ("Change the [cat] to a dog",)
    assert (row.source_caption, row.target_caption) == ("a cat on a bench", "a dog on a bench")
    mask = row.mask()
    assert mask[0].all() and mask[-1].all() and mask[:, 0].all() and mask[:, -1].all()  # the published decoder's border
    bare = data.load("pie-bench", tmp_path, border=False)
    inner = bare.rows[1].mask()
    assert not inner[0].any() and (mask[1:-1, 1:-1] == inner[1:-1, 1:-1]).all() and inner.any()
    assert bare.settings == {"border": False} and bare.fingerprint != found.fingerprint


def test_magicbrush_by_turn_and_by_session(tmp_path):
    path = datasets.magicbrush(tmp_path)
    turns = data.load("magicbrush", path)
    assert [row.id for row in turns.rows] == ["1000-1", "1000-2", "1001-1", "1001-2"]
    second = turns.rows[1]
    assert second.instructions == ("edit 2",) and second.group == "turn 2"
    assert second.source_caption == "what 1000-output1.png shows"
    assert second.before().tobytes() == datasets.drawn(1).tobytes()
    assert second.after().tobytes() == datasets.drawn(2).tobytes()
    assert (second.mask() == datasets.region()).all()
    session = data.load("magicbrush", path, turns="multi", descriptions="local").rows[1]
    assert session.id == "1001" and session.instructions == ("edit 1", "edit 2") and session.group == "2 turns"
    assert session.target_caption == "a part of 1001-output2.png"
    assert session.before().tobytes() == datasets.drawn(10).tobytes()
    assert session.after().tobytes() == datasets.drawn(12).tobytes()
    (path / "edit_sessions.json").unlink()  # the list of turns alone says the same
    assert data.load("magicbrush", path).fingerprint == turns.fingerprint


def test_magicbrush_tables(tmp_path):
    path = datasets.magicbrush_tables(tmp_path)
    turns = data.load("magicbrush", path)
    assert [row.id for row in turns.rows] == ["7-1", "7-2", "8-1", "8-2"]  # of the split dev
    assert turns.rows[1].before().tobytes() == datasets.drawn(1).tobytes()
    assert (turns.rows[3].mask() == datasets.region()).all()
    session = data.load("magicbrush", path, turns="multi").rows[0]
    assert session.instructions == ("edit 1", "edit 2")
    assert session.after().tobytes() == datasets.drawn(2).tobytes()
    datasets.write(
        path / "global_descriptions.json", {n: {f"{n}-output{t}.png": f"{n} {t}" for t in (1, 2)} for n in "78"}
    )
    assert [row.target_caption for row in data.load("magicbrush", path).rows] == ["7 1", "7 2", "8 1", "8 2"]


def test_ip2p_is_split_by_prompt(tmp_path):
    path = datasets.ip2p(tmp_path)
    of = {
        split: [row.source_caption for row in data.load("ip2p", path, split=split).rows]
        for split in ("train", "val", "test")
    }
    assert {split: len(found) for split, found in of.items()} == {"train": 18, "val": 1, "test": 1}
    assert of["train"] + of["val"] + of["test"] == [f"a cat {i}" for i in range(20)]


def test_ip2p_pairs_and_directions(tmp_path):
    path = datasets.ip2p(tmp_path, count=20)
    every = data.load("ip2p", path, split="val", every=True)
    assert [row.id for row in every.rows] == [f"shard-00-0000018-{seed}" for seed in (1800, 1801, 1802)]
    assert same(every.rows[2].pair()[0], 180) and same(every.rows[2].pair()[1], 1180)  # the next pair, round about
    shown = data.load("ip2p", path, split="val", directions=True, shots=2)
    (row,) = shown.rows
    assert same(row.before(), 182) and same(row.after(), 1182)  # the third pair is what is edited
    assert same(row.pair()[0], 180) and [same(p()[1], 1181) for p in row.more_pairs] == [True]
    assert (row.instructions, row.target_caption) == (("make it a dog 18",), "a dog 18")
    with pytest.raises(FileFormatError, match="no row"):
        data.load("ip2p", path, directions=True, shots=3)  # there are three pairs a prompt
    best = data.load("ip2p", path, split="test", every=True, min_direction=0.29)
    assert [row.id[-4:] for row in best.rows] == ["1901", "1902"]
    (path / "shard-00/0000019/metadata.jsonl").write_text('{"seed": 1900, "clip_sim_dir": 0.3}\n')
    with pytest.raises(
        FileFormatError, match="metadata.jsonl has no clip_sim_dir of seed 1901"
    ):  # unscored is not good
        data.load("ip2p", path, split="test", every=True, min_direction=0.29)


def test_visiis_folders(tmp_path):
    found = data.load("ip2p", datasets.visii(tmp_path), directions=True, shots=1)
    assert [row.id for row in found.rows] == ["art-1", "dog-1"]
    row = found.rows[0]
    assert row.before().tobytes() == datasets.drawn(1).tobytes()
    assert row.pair()[1].tobytes() == datasets.drawn(10).tobytes()
    assert row.source_caption == "a house"
    (tmp_path / "art" / "prompt.json").unlink()  # who shows need not tell
    assert data.load("ip2p", tmp_path, directions=True).rows[0].instructions == ()
    (tmp_path / "art" / "prompt.txt").write_text("turn it into art\n")
    assert data.load("ip2p", tmp_path, directions=True).rows[0].instructions == ("turn it into art",)


def test_imagenet_draws_from_near_classes(tmp_path):
    path = datasets.imagenet(tmp_path)
    found = data.load("imagenet", path, count=4)
    again = data.load("imagenet", path, count=4)
    assert [row.id for row in found.rows] == [row.id for row in again.rows] and len(found.rows) == 4
    for row in found.rows:
        assert row.target_caption == f"a photo of a {row.group}" and row.source_caption != row.target_caption
    (cat,) = (row for row in found.rows if row.source_caption == "a photo of a Chihuahua")
    assert cat.instructions == ("turn the [Chihuahua] into a tabby",) and cat.group == "tabby"
    assert len(found.reals["tabby"]) == 2 and same(found.reals["tabby"][0](), 0)
    assert set(found.reals) == {row.group for row in found.rows}


def test_imagenet_pairs_that_are_given(tmp_path):
    path = datasets.imagenet(tmp_path)
    image = "n02085620/ILSVRC2012_val_00000011.JPEG"
    datasets.write(path / "pairs.json", [{"image": image, "source": "n02085620", "target": "mountain bike"}])
    (row,) = data.load("imagenet", path, template="one {}, please").rows
    assert row.id == "ILSVRC2012_val_00000011-n03792782" and row.target_caption == "one mountain bike, please"
    assert same(row.before(), 11)


def test_imagenet_classes_of_one_name(tmp_path):
    """As "crane", a bird and a machine: their pictures are kept apart, and the name alone says too little."""
    path = datasets.imagenet(tmp_path)
    (path / "LOC_synset_mapping.txt").write_text("n02123045 crane\nn02085620 crane, lifting\nn03792782 mountain bike\n")
    image = "n03792782/ILSVRC2012_val_00000020.JPEG"
    targets = ("n02123045", "n02085620", "crane")
    listed = [{"image": image, "source": "mountain bike", "target": target} for target in targets]
    datasets.write(path / "pairs.json", listed)
    found = data.load("imagenet", path)
    assert [row.group for row in found.rows] == ["crane (n02123045)", "crane (n02085620)"]
    assert {row.target_caption for row in found.rows} == {"a photo of a crane"}
    assert same(found.reals["crane (n02085620)"][1](), 11)
    assert [one.what for one in found.problems] == ["class 'crane' is the name of n02123045 and n02085620: give the id"]


def test_coco_samples_with_its_seed(tmp_path):
    path = datasets.coco(tmp_path, count=12)
    some = [data.load("coco", path, count=5, seed=seed) for seed in (0, 0, 1)]
    ids = [[row.id for row in found.rows] for found in some]
    assert ids[0] == ids[1] != ids[2] and len(ids[0]) == 5
    row = data.load("coco", path, count=None).rows[3]
    assert row.source_caption == row.target_caption == "caption 1 of 3"  # the first in the file


def test_foi(tmp_path):
    path = datasets.foi(tmp_path)
    found = data.load("foi", path)
    row = found.rows[0]
    assert row.instructions == ("make the [cat] red", "remove the [tree]") and row.group == "2 instructions"
    assert row.after().tobytes() == datasets.drawn(9).tobytes() and (row.mask() == datasets.region()).all()
    lines = datasets.write(tmp_path / "foi.jsonl", json.loads(path.read_text()))
    assert data.load("foi", lines).fingerprint == found.fingerprint
    assert data.load("foi", tmp_path).fingerprint == found.fingerprint


def test_tedbench(tmp_path):
    path = datasets.tedbench(tmp_path)
    row = data.load("tedbench", path).rows[2]
    assert row.target_caption == "A photo of a sitting dog 2." and row.instructions == () and same(row.before(), 2)
    told = json.loads((path / "input_list.json").read_text())
    (path / "input_list.json").unlink()
    (path / "input_list.csv").write_text("".join(f'{r["img_name"]},"{r["target_text"]}"\n' for r in told))
    assert data.load("tedbench", path).rows[2].id == row.id


def test_emuedit(tmp_path):
    path = datasets.emuedit(tmp_path)
    found = data.load("emuedit", path)
    assert [(row.id, row.group) for row in found.rows] == [("0", "add"), ("1", "remove"), ("2", "add")]
    row = found.rows[2]  # in the second row group
    assert (
        row.before().tobytes() == datasets.drawn(2).tobytes() and row.after().tobytes() == datasets.drawn(52).tobytes()
    )
    assert (row.instructions, row.source_caption, row.target_caption) == (("edit 2",), "before 2", "after 2")
    assert [row.id for row in data.load("emuedit", path, split=None).rows][2:] == ["test-2", "validation-3"]
    assert [row.id for row in data.load("emuedit", path, task="add").rows] == ["0", "2"]
    with pytest.raises(FileFormatError, match="test, validation"):
        data.load("emuedit", path, split="none such")


def test_a_folder_of_ones_own(tmp_path):
    path = datasets.folder(tmp_path)
    cat, house = data.load("folder", path).rows
    assert cat.instructions == ("make the [cat] red", "remove the tree") and cat.after is None and cat.mask is None
    assert house.id == "house" and house.before().tobytes() == datasets.drawn(1).tobytes()
    assert house.after().tobytes() == datasets.drawn(2).tobytes() and (house.mask() == datasets.region()).all()
    datasets.save(path / "plain.png", 5)
    pair = {"pair_before": str(path / "cat.png"), "pair_after": str(path / "plain.png")}
    rows = data.load("folder", path, instruction="make it red", target="a red thing", **pair).rows
    assert rows[2].instructions == ("make it red",) and rows[2].target_caption == "a red thing"
    assert rows[0].pair()[1].tobytes() == datasets.drawn(5).tobytes()
    told = data.load("folder", path, texts="target", target="a plain thing").rows
    assert [row.target_caption for row in told] == [
        "make the [cat] red remove the tree",
        "make it blue",
        "a plain thing",
    ]


def test_scenes_as_the_command_writes_them(tmp_path):
    from showtell.cli import main

    assert main(["scenes", "--seed", "3", "--count", "2", "--edits", "2", "-o", str(tmp_path / "s"), "--json"]) == 0
    case = scenes.sample(3, edits=2)
    row = data.load("folder", tmp_path / "s").rows[0]
    assert row.id == "3" and [text.replace("[", "").replace("]", "") for text in row.instructions] == case.instructions
    assert all(f"[{word}]" in text for word, text in zip(case.keywords, row.instructions, strict=True))
    assert (row.source_caption, row.target_caption) == case.captions
    assert row.after().tobytes() == case.after.tobytes() and (row.mask() == np.any(case.masks, axis=0)).all()
    assert row.group == "+".join(sorted({edit.action for edit in case.edits}))


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_a_manifest_of_ones_own(kind, tmp_path):
    one, two = data.load("manifest", datasets.manifest(tmp_path, kind)).rows
    assert one.id == "one" and one.instructions == ("make it red", "add a star") and one.group == "g"
    assert (one.source_caption, one.target_caption) == ("a thing, grey", "a red thing")
    assert (one.mask() == datasets.region()).all() and one.after().tobytes() == datasets.drawn(2).tobytes()
    assert one.pair()[1].tobytes() == datasets.drawn(4).tobytes()
    assert two.id.startswith("b-") and two.target_caption == "a blue thing" and two.instructions == ()


def test_an_upright_line_parts_instructions_in_csv_alone(tmp_path):
    datasets.save(tmp_path / "a.png", 1)
    path = datasets.write(tmp_path / "list.jsonl", [{"image": "a.png", "instruction": "write A|B on it"}])
    assert data.load("manifest", path).rows[0].instructions == ("write A|B on it",)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cuont": 3}, "it has count, seed, split"),
        ({"count": "few"}, "count='few'"),
        ({"count": -1.5}, "count=-1.5"),
        ({"count": -1}, "count is -1: one picture is the least"),
        ({"limit": 0}, "limit is 0: one row is the least"),
    ],
)
def test_options_are_checked(options, told, tmp_path):
    with pytest.raises(UsageError, match=told):
        data.load("coco", datasets.coco(tmp_path), **options)


def test_options_as_text(tmp_path):
    path = datasets.coco(tmp_path)
    assert len(data.load("coco", path, count="2").rows) == 2
    assert data.load("coco", path, count="none").settings == {"count": None, "seed": 0, "split": "val2017"}
    assert {row.group for row in data.load("scenes", limit=3, actions="add,remove").rows} <= {"add", "remove"}
