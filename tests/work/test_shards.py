"""Rows of work: whatever happens, each row is there once, whole, and shards hold what their manifest says."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell import work
from showtell.errors import FileFormatError, UsageError
from showtell.work import Done, Item, ShardStore

RECIPE = {"command": "test", "settings": {"steps": 2}, "seed": 0}


def rows(count=10, size=4):
    return [Item(id=f"r{n:03d}", shard=n // size, told={"n": n}) for n in range(count)]


def make(asked=None, bad=(), drop=()):
    """A worker whose results follow from the row alone; ``asked`` collects what it was asked for."""

    def worker(items):
        if asked is not None:
            asked.extend(item.id for item in items)
        return [one(item) for item in items]

    def one(item):
        n = item.told["n"]
        if item.id in bad:
            return Done(id=item.id, record={"n": n}, error=f"{item.id} is bad")
        files = {} if item.id in drop else {"after.png": b"picture %d" % n, "before.png": b"b" * n}
        return Done(id=item.id, record={"n": n, "instruction": f"make it {n}"}, files=files)

    return worker


def go(folder, items=None, *, layout="webdataset", **told):
    store = ShardStore.begin(folder, RECIPE, layout=layout)
    batch_size = told.pop("batch_size", 3)
    return work.run(items or rows(), lambda: make(**told), store, batch_size=batch_size)


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "out"
    go(folder)
    return folder


def test_a_run_leaves_shards_and_a_manifest_and_nothing_else(whole):
    assert sorted(contents(whole)) == [
        "data/train-000000.tar", "data/train-000001.tar", "data/train-000002.tar", "manifest.json", "recipe.json",
        "records/000000.json", "records/000000.jsonl", "records/000001.json", "records/000001.jsonl",
        "records/000002.json", "records/000002.jsonl",
    ]  # fmt: skip
    told = json.loads((whole / "manifest.json").read_text())
    assert told["rows"] == 10 and told["failed"] == [] and told["recipe"]["seed"] == 0
    for shard in told["shards"]:
        path = whole / shard["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == shard["sha256"]
        assert path.stat().st_size == shard["bytes"]
    with tarfile.open(whole / "data/train-000001.tar") as tar:
        assert tar.getnames()[:3] == ["r004.after.png", "r004.before.png", "r004.json"]
        assert tar.extractfile("r004.after.png").read() == b"picture 4"


def test_webdataset_reads_the_shards(whole):
    import webdataset

    urls = [str(path) for path in sorted((whole / "data").glob("*.tar"))]
    found = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [one["__key__"] for one in found] == [row.id for row in rows()]
    assert json.loads(found[7]["json"])["instruction"] == "make it 7"
    assert found[7]["before.png"] == b"b" * 7


def test_datasets_reads_its_own_layout(tmp_path):
    import datasets

    go(tmp_path / "out", layout="datasets")
    files = [str(path) for path in sorted((tmp_path / "out" / "data").glob("*.parquet"))]
    found = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(found.features["after"], datasets.Image)
    plain = found
    for name in ("before", "after"):
        plain = plain.cast_column(name, datasets.Image(decode=False))  # these are no pictures
    assert [row["id"] for row in plain] == [row.id for row in rows()]
    assert plain[3]["instruction"] == "make it 3" and plain[3]["after"]["bytes"] == b"picture 3"


@settings(max_examples=15, deadline=None)
@given(batch_size=st.integers(1, 12), order=st.permutations(range(10)))
def test_neither_batches_nor_order_change_a_byte(whole, tmp_path_factory, batch_size, order):
    folder = tmp_path_factory.mktemp("other") / "out"
    items = rows()
    store = ShardStore.begin(folder, RECIPE)
    by_shard = sorted((items[n] for n in order), key=lambda item: item.shard)
    # the order within a shard is the input's; that of the work is not
    first = [item for n, item in enumerate(by_shard) if n % 2]
    for item, done in zip(first, make()(first), strict=True):
        store.keep(item, done)
    work.run(items, make, store, batch_size=batch_size)
    assert contents(folder) == contents(whole)


class Killed(BaseException):
    """What no code of ours catches, as a kill is not caught."""


def test_killed_at_any_move_of_a_file_nothing_is_lost_or_doubled(whole, tmp_path, monkeypatch):
    """Every result becomes visible by a move; so a kill just before and just after each of them is every kill that counts."""
    real, moves = os.replace, []

    def counting(source, target):
        moves.append(target)
        return real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counting)
        go(tmp_path / "count")
    assert len(moves) > 30
    for point in range(0, len(moves), 3):
        for after in (False, True):
            folder, seen = tmp_path / f"{point}{after}", []

            def killing(source, target, seen=seen, point=point, after=after):
                seen.append(target)
                if len(seen) == point + 1:
                    if after:
                        real(source, target)
                    raise Killed
                return real(source, target)

            with monkeypatch.context() as patch:
                patch.setattr(os, "replace", killing)
                with pytest.raises(Killed):
                    go(folder)
            asked = []
            report = go(folder, asked=asked)
            assert report.made == len(asked) == len(set(asked)) and report.made + report.before == 10
            assert contents(folder) == contents(whole)


def test_a_row_that_fails_is_listed_and_tried_again(whole, tmp_path):
    report = go(tmp_path, bad={"r001", "r009"})
    assert report.failed == (("r001", "r001 is bad"), ("r009", "r009 is bad")) and report.made == 8
    told = json.loads((tmp_path / "manifest.json").read_text())
    assert told["rows"] == 8 and [one["id"] for one in told["failed"]] == ["r001", "r009"]
    asked = []
    again = go(tmp_path, asked=asked)
    assert asked == ["r001", "r009"] and again.failed == () and again.before == 8
    assert contents(tmp_path) == contents(whole)


def test_rows_of_which_nothing_is_kept_have_a_record(tmp_path):
    go(tmp_path, drop={"r000", "r001", "r002", "r003"})
    lines = [json.loads(line) for line in (tmp_path / "records/000000.jsonl").read_text().splitlines()]
    assert [line["kept"] for line in lines] == [False] * 4
    assert not (tmp_path / "data/train-000000.tar").exists()
    assert json.loads((tmp_path / "manifest.json").read_text())["shards"][0]["file"] is None


def test_a_worker_that_raises_drops_its_own_row_alone(tmp_path):
    def worker(items):
        if any(item.id == "r002" for item in items):
            raise ValueError("no\nsuch thing")
        return make()(items)

    report = work.run(rows(), lambda: worker, ShardStore.begin(tmp_path, RECIPE), batch_size=4)
    assert report.failed == (("r002", "ValueError: no such thing"),) and report.made == 9


def test_another_recipe_and_a_strangers_folder_are_refused(whole, tmp_path):
    with pytest.raises(FileFormatError, match="was begun with another steps"):
        ShardStore.begin(whole, {**RECIPE, "settings": {"steps": 3}})
    with pytest.raises(FileFormatError, match="was begun with another layout"):
        ShardStore.begin(whole, RECIPE, layout="datasets")
    (tmp_path / "holiday.png").write_bytes(b"mine")
    with pytest.raises(FileFormatError, match=r"has holiday.png but no recipe.json"):
        ShardStore.begin(tmp_path, RECIPE)
    with pytest.raises(UsageError, match="two rows of work have the id 'r000'"):
        work.run([*rows(), rows()[0]], make, ShardStore.begin(whole, RECIPE))


FULL = """
import resource, signal, sys

from pathlib import Path
from tests.work.test_shards import RECIPE, large, rows
from showtell import work
from showtell.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    work.run(rows(), lambda: large, work.ShardStore.begin(Path(sys.argv[1]), RECIPE), batch_size=2)
except OutputError as error:
    print(error.exit_code, error)
"""


def large(items):
    """Rows that fit the disk one by one, but not in a shard."""
    return [Done(id=item.id, files={"after.png": bytes([item.told["n"]]) * 20_000}) for item in items]


def test_a_disk_that_fills_up_within_a_shard_leaves_nothing_corrupt(tmp_path):
    folder = tmp_path / "out"
    told = subprocess.run(
        [sys.executable, "-c", FULL, str(folder)], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert told.stdout.startswith("1 ") and "cannot be written" in told.stdout and told.stdout.count("\n") == 1, told
    assert list((folder / "data").iterdir()) == [] and not list(folder.rglob(".showtell.*"))
    report = work.run(rows(), lambda: large, ShardStore.begin(folder, RECIPE))
    assert report.before >= 4 and json.loads((folder / "manifest.json").read_text())["rows"] == 10


def test_more_rows_may_be_asked_for_later_and_fewer_again(whole, tmp_path):
    go(tmp_path, rows(6))
    report = go(tmp_path)
    assert report.before == 4 and report.made == 6  # the half shard is made again, the whole one is not
    assert contents(tmp_path) == contents(whole)
    assert go(tmp_path, rows(6)).made == 0 and contents(tmp_path) == contents(whole)


def test_a_store_can_be_handed_to_another_process(tmp_path):
    import pickle

    store = pickle.loads(pickle.dumps(ShardStore.begin(tmp_path, RECIPE)))  # noqa: S301
    store.keep(rows()[0], make()(rows()[:1])[0])
    assert [item.id for item in store.pending(rows())] == [row.id for row in rows()[1:]]


def test_a_part_that_lost_its_end_is_made_again(tmp_path):
    store = ShardStore.begin(tmp_path, RECIPE)
    for item, done in zip(rows()[:2], make()(rows()[:2]), strict=True):
        store.keep(item, done)
    (tmp_path / "parts/000000/r001.after.png").write_bytes(b"pict")
    assert [item.id for item in store.pending(rows()[:2])] == ["r001"]


def test_a_shard_that_is_lost_or_cut_short_is_made_again(whole, tmp_path):
    go(tmp_path)
    (tmp_path / "data/train-000000.tar").unlink()
    os.truncate(tmp_path / "data/train-000002.tar", 700)
    (tmp_path / "records/000001.jsonl").unlink()
    assert go(tmp_path).made == 10 and contents(tmp_path) == contents(whole)


def test_what_a_kill_left_of_a_shard_goes_when_it_is_packed(whole, tmp_path):
    ShardStore.begin(tmp_path, RECIPE)
    left = tmp_path / "data/.showtell.train-000001.tar.1a2b3c.part"
    left.write_bytes(b"half a shard")
    go(tmp_path)
    assert not left.exists() and contents(tmp_path) == contents(whole)


def test_parts_are_one_run(whole, tmp_path):
    ticks = []
    store = ShardStore.begin(tmp_path, RECIPE)
    parts = (rows()[first : first + 4] for first in (0, 4, 8))
    report = work.run_in_parts(
        parts, 10, lambda: make(bad={"r005"}), store, tick=lambda done, count: ticks.append((done, count))
    )
    assert report.made == 9 and report.failed == (("r005", "r005 is bad"),)
    assert sorted(set(ticks)) == [(n, 10) for n in range(11)]
    assert go(tmp_path).before == 9 and contents(tmp_path) == contents(whole)


def test_the_same_value_from_elsewhere_is_the_same_recipe(tmp_path):
    ShardStore.begin(tmp_path, {**RECIPE, "origin": {"steps": "card"}})
    ShardStore.begin(tmp_path, {**RECIPE, "origin": {"steps": "given"}, "versions": {"showtell": "9"}})


def test_half_a_character_is_kept_as_json_names_it(tmp_path):
    record = {"instruction": "half \ud83d of one, and café"}
    work.run(rows(1), lambda: lambda items: [Done(id="r000", record=record, files={"after.png": b"x"})],
             ShardStore.begin(tmp_path, RECIPE))  # fmt: skip
    line = (tmp_path / "records/000000.jsonl").read_bytes()
    assert json.loads(line)["instruction"] == record["instruction"] and "café".encode() in line
    with tarfile.open(tmp_path / "data/train-000000.tar") as tar:
        assert json.load(tar.extractfile("r000.json")) == record


def test_two_runs_do_not_work_on_one_folder(tmp_path):
    code = "import sys; from pathlib import Path; from showtell.work import alone\nwith alone(Path(sys.argv[1])): pass"
    other = [sys.executable, "-c", code, str(tmp_path)]
    with work.alone(tmp_path):
        told = subprocess.run(other, capture_output=True, text=True)
    assert told.returncode == 1 and "another run works on it" in told.stderr
    assert subprocess.run(other).returncode == 0 and not list(tmp_path.iterdir())


def test_a_folder_in_which_nothing_was_made_takes_another_recipe(tmp_path):
    ShardStore.begin(tmp_path, {**RECIPE, "settings": {"steps": -1}})
    go(tmp_path, rows(1))
    assert json.loads((tmp_path / "manifest.json").read_text())["recipe"]["settings"] == {"steps": 2}
    with pytest.raises(FileFormatError, match="was begun with another steps"):
        ShardStore.begin(tmp_path, {**RECIPE, "settings": {"steps": 3}})
