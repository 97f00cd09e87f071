"""Pairs in shards and tables: read in place, by whatever names; what is damaged is told and the rest is read."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from showtell import data
from showtell.errors import FileFormatError, ImageError, UsageError
from tests.helpers import datasets
from tests.helpers.datasets import drawn, pair, png, tar


def kinds(found: data.Dataset) -> dict[str, str]:
    return {problem.id: problem.kind for problem in found.problems}


def test_a_folder_of_pairs(tmp_path):
    found = data.load("pairs", datasets.pairs(tmp_path), verify=True)
    assert [row.id for row in found.rows] == [f"p{i:06d}-c00" for i in range(5)]
    assert [row.shard for row in found.rows] == [0, 0, 1, 1, 2]
    row = found.rows[3]
    assert row.before().tobytes() == drawn(3).tobytes() and row.after().tobytes() == drawn(103).tobytes()
    assert (row.instructions, row.source_caption, row.target_caption) == (("edit 3",), "before 3", "after 3")
    assert row.group == "recolour"
    again = pickle.loads(pickle.dumps(row))  # noqa: S301
    assert again.after().tobytes() == drawn(103).tobytes()
    other = data.load("pairs", datasets.pairs(tmp_path / "other", each=5))  # the same rows, sharded otherwise
    assert other.rows[4].shard == 0 and [r.described() for r in other.rows] == [r.described() for r in found.rows]


@pytest.mark.parametrize(
    "members",
    [
        {"7.input.jpg": b"", "7.output.jpg": b"", "7.edit_prompt.txt": b"make it red"},
        {"7.original.png": b"", "7.edited.png": b"", "7.json": b'{"edit_prompt": "make it red"}'},
        {"a/7.source.png": b"", "a/7.target.png": b"", "a/7.txt": b"make it red\n", "a/7.meta.json": b"{}"},
        {"7.json": b'{"edit": "make it red"}', "7.before.png": b"", "7.after.webp": b""},
        {"7.v2.json": b'{"edit": "make it red"}', "7.v2.before.png": b"", "7.v2.after.png": b""},
    ],
    ids=["input", "original", "source", "json first", "a dot in the key"],
)
def test_other_peoples_names(members, tmp_path):
    pictures = iter((1, 2))
    shard = tar(tmp_path / "x.tar", {k: v or png(drawn(next(pictures))) for k, v in members.items()})
    (row,) = data.load("pairs", shard).rows
    assert row.instructions == ("make it red",) and row.before().tobytes() == drawn(1).tobytes()
    assert row.after().tobytes() == drawn(2).tobytes()


def test_names_that_are_given(tmp_path):
    words = json.dumps({"say": "make it red", "instruction": "not this"}).encode()
    shard = tar(tmp_path / "x.tar", {"7.a.png": png(drawn(1)), "7.b.png": png(drawn(2)), "7.json": words})
    (row,) = data.load("pairs", shard, before="a", after="b.png", instruction="say").rows
    assert row.instructions == ("make it red",) and row.after().tobytes() == drawn(2).tobytes()
    with pytest.raises(FileFormatError, match=r"no row .*no picture before \(it has a.png, b.png, json\)"):
        data.load("pairs", shard)


def test_splits_are_in_the_names(tmp_path):
    for name, i in (("train-000000.tar", 1), ("train-000001.tar", 2), ("val-000000.tar", 3)):
        tar(tmp_path / name, pair(f"r{i}", i))
    assert [row.id for row in data.load("pairs", tmp_path, split="train").rows] == ["r1", "r2"]
    assert len(data.load("pairs", tmp_path).rows) == 3
    with pytest.raises(FileFormatError, match="has no split 'test', but train, val"):
        data.load("pairs", tmp_path, split="test")


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def header_of(path: Path, name: str) -> int:
    with tarfile.open(path) as file:
        return file.getmember(name).offset


SECOND = "data/train-000001.tar"


@pytest.mark.parametrize(
    ("damage", "told", "left"),
    [
        (lambda shard: shard.unlink(), "is not there", [0, 1, 4]),
        (lambda shard: shard.write_bytes(b""), "is empty", [0, 1, 4]),
        (lambda shard: shard.write_bytes(b"\x1f\x8b\x08" + bytes(600)), "unpack it", [0, 1, 4]),
        (lambda shard: shard.write_bytes(b"no tar at all" * 100), "no tar that can be read", [0, 1, 4]),
        (
            lambda shard: cut(shard, header_of(shard, "p000003-c00.after.png") + 600),
            "cut short in p000003",
            [0, 1, 2, 4],
        ),
        (
            lambda shard: flip(shard, header_of(shard, "p000003-c00.after.png") + 10),
            "damaged or cut short",
            [0, 1, 2, 4],
        ),
    ],
    ids=["missing", "empty", "compressed", "another file", "cut short", "a broken header"],
)
def test_a_damaged_shard_costs_its_own_rows(damage, told, left, tmp_path):
    damage(datasets.pairs(tmp_path) / SECOND)
    found = data.load("pairs", tmp_path)
    assert [int(row.id[1:7]) for row in found.rows] == left
    assert [problem.id for problem in found.problems] == [SECOND] and told in found.problems[0].what


def test_the_manifest_is_what_is_read(tmp_path):
    shard = datasets.pairs(tmp_path) / SECOND
    tar(tmp_path / "data" / "train-000009.tar", pair("stranger", 1))
    flip(shard, shard.stat().st_size - 1)  # in the padding: nothing else would notice
    assert len(data.load("pairs", tmp_path).rows) == 5
    found = data.load("pairs", tmp_path, verify=True)
    assert [row.shard for row in found.rows] == [0, 0, 1]  # files are counted as they are read
    assert kinds(found) == {SECOND: "damaged", "data/train-000009.tar": "damaged"}
    (tmp_path / "manifest.json").unlink()
    assert kinds(data.load("pairs", tmp_path))["manifest.json"] == "missing file"
    with pytest.raises(FileFormatError, match="has no manifest.json with hashes"):
        data.load("pairs", tmp_path, verify=True)
    datasets.write(tmp_path / "manifest.json", {"shards": [{"file": "../x.tar"}, {"file": None}]})
    with pytest.raises(FileFormatError, match="leaves the data set's folder"):
        data.load("pairs", tmp_path)


def test_a_damaged_row_is_told_by_its_name(tmp_path):
    members = (
        pair("good", 1) | pair("words", 2, instruction=" ", target_caption=None) | pair("lone", 3) | pair("text", 4)
    )
    del members["lone.after.png"]
    members["text.json"] = b"{"
    members |= pair("picture", 5) | {"picture.after.png": b"no picture"}
    found = data.load("pairs", tar(tmp_path / "x.tar", members | {"twice.json": b"{}"}))
    told = {"words": "missing words", "lone": "missing file", "text": "damaged", "twice": "missing file"}
    assert kinds(found) == told and [row.id for row in found.rows] == ["good", "picture"]
    with pytest.raises(ImageError, match="x.tar: picture.after.png: is not a picture"):
        found.rows[1].after()


def test_what_is_in_a_tar_stays_in_it(tmp_path):
    """Links, folders and names that climb are entries as others, or none: nothing is ever written or followed."""
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        for name, content in pair("../../up", 1).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("link.before.png")
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
    found = data.load("pairs", tmp_path / "x.tar")
    assert len(found.rows) == 1 and found.rows[0].id == data.safe_id("../../up") and not found.problems


def test_a_shard_that_shrinks_is_told_when_it_is_opened(tmp_path):
    shard = tar(tmp_path / "x.tar", pair("one", 1))
    row = data.load("pairs", shard).rows[0]
    cut(shard, 600)
    with pytest.raises(ImageError, match="x.tar: one.after.png: is cut short"):
        row.after()
    shard.unlink()
    with pytest.raises(ImageError, match="cannot be read"):
        row.before()


def test_tables_of_the_hub(tmp_path):
    found = data.load("hf", datasets.hf(tmp_path))
    assert [row.id for row in found.rows][3:] == [
        data.safe_id(f"data/train-00001-of-00002.parquet-{i:07d}") for i in (0, 1)
    ]
    assert [row.shard for row in found.rows] == [0, 0, 1, 2, 2]  # by parts of files
    row = found.rows[4]
    assert row.after().tobytes() == drawn(104).tobytes() and row.source_caption == "before 4"
    assert len(data.load("hf", tmp_path, split="test").rows) == 1
    with pytest.raises(FileFormatError, match="has no split 'dev', but test, train"):
        data.load("hf", tmp_path, split="dev")
    with pytest.raises(FileFormatError, match="no column of pictures for after"):
        data.load("hf", tmp_path, after="edit_prompt")


def test_a_folder_that_datasets_saved(tmp_path):
    library = pytest.importorskip("datasets")
    rows = [{"name": f"n{i}", "input_image": datasets.cell(drawn(i)), "output_image": datasets.cell(drawn(9)), "edit": f"e {i}"}
            for i in range(3)]  # fmt: skip
    kinds = {"name": library.Value("string"), "input_image": library.Image(), "output_image": library.Image()}
    kinds["edit"] = library.Value("string")
    one = library.Dataset.from_list(rows, features=library.Features(kinds))
    library.DatasetDict(train=one, test=one.select([1])).save_to_disk(tmp_path / "saved")
    found = data.load("hf", tmp_path / "saved", id="name")
    assert [row.id for row in found.rows] == ["n0", "n1", "n2"] and found.rows[2].before().tobytes() == drawn(
        2
    ).tobytes()
    assert pickle.loads(pickle.dumps(found.rows[1])).instructions == ("e 1",)  # noqa: S301
    assert [row.id for row in data.load("hf", tmp_path / "saved", split="test", id="name").rows] == ["n1"]
    with pytest.raises(FileFormatError, match="no column 'key' of names, but name, edit"):
        data.load("hf", tmp_path / "saved", id="key")


def test_pairs_in_tables(tmp_path):
    words = {"instruction": "make it red", "json": json.dumps({"group": "recolour", "target_caption": "a red thing"})}
    rows = [
        {"id": f"p{i}", "before": datasets.cell(drawn(i)), "after": datasets.cell(drawn(9)), **words} for i in range(3)
    ]
    rows[1]["after"] = {"bytes": None, "path": "/etc/passwd"}
    datasets.table(tmp_path / "data" / "train-000000.parquet", rows)
    (tmp_path / "data" / "train-000001.parquet").write_bytes(b"PAR1 and no more")
    found = data.load("pairs", tmp_path)
    assert [(row.id, row.group, row.target_caption) for row in found.rows][2] == ("p2", "recolour", "a red thing")
    assert kinds(found) == {"data/train-000001.parquet": "damaged"} and isinstance(found.rows[0].after(), Image.Image)
    with pytest.raises(ImageError, match="holds no picture"):
        found.rows[1].after()


@pytest.mark.parametrize(("name", "told"), [("pairs", "no .tar and no .parquet"), ("hf", "no .arrow and no .parquet")])
def test_another_folder(name, told, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UsageError, match=told):
        data.load(name, tmp_path)
    with pytest.raises(UsageError):
        data.load(name, tmp_path / "notes.txt")
