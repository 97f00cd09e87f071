"""Whole batches: resumed, reordered, cut in parts and killed, a row's result is the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from showtell import batching, images, loading, recipe, scenes
from showtell.errors import Cancelled, FileFormatError, ModelError, OutputError
from tests.batching import making
from tests.batching.making import packed, pictures, results, run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def random_starters(tiny_starters):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOWTELL_STARTERS", str(tiny_starters))
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Five pictures, the middle one broken."""
    path = making.folder(
        tmp_path_factory.mktemp("source") / "in", ("a.png", "b.jpg", "c.png", "sub/d.png", "sub/e.png")
    )
    (path / "c.png").write_bytes(making.picture(2)[:300])
    return path


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """The batch of it, row by row."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert run(source, out=out, batch_size=1).made == 4
    return out


def test_a_folder_becomes_a_folder_and_a_broken_picture_is_told(source, whole):
    assert sorted(pictures(whole)) == ["a.png", "b.png", "sub/d.png", "sub/e.png"]
    found = results(whole)
    assert list(found) == ["a", "b", "c", "sub/d", "sub/e"]
    assert "c.png: is broken or cut short" in found["c"]["error"] and found["c"]["output"] is None
    made = recipe.read(whole / "sub" / "d.png")
    assert made.seed == found["sub/d"]["seed"] and made.instructions == ("make it red",)
    assert made.input.path == str(source / "sub" / "d.png") and found["sub/d"]["seconds"] > 0


def test_what_is_there_is_not_made_again(source, whole):
    before = pictures(whole)
    done = run(source, out=whole, batch_size=1)
    assert (done.made, done.before, [row for row, _ in done.failed]) == (0, 4, ["c"])
    assert pictures(whole) == before


def test_order_parts_and_a_manifest_change_no_byte(source, whole, tmp_path):
    rows = [{"image": name, "instruction": "make it red"} for name in ("sub/e.png", "b.jpg", "sub/d.png", "a.png")]
    here = shutil.copytree(source, tmp_path / "in")
    table = here / "rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(table, (), out=tmp_path / "out", batch_size=1, limit=2)
    assert sorted(pictures(tmp_path / "out")) == ["b.png", "sub/e.png"]
    done = run(table, (), out=tmp_path / "out", batch_size=1)
    assert (done.made, done.before) == (2, 2)
    for name, data in pictures(tmp_path / "out").items():
        (tmp_path / "one.png").write_bytes(data)
        ours, theirs = recipe.read(tmp_path / "one.png"), recipe.read(whole / name)
        assert ours.to_dict() | {"input": None} == theirs.to_dict() | {"input": None}
        assert images.open_picture(data).pixels_sha256 == images.open_picture(whole / name).pixels_sha256


def test_a_subset_has_the_same_bytes(source, whole, tmp_path):
    run(source, out=tmp_path, batch_size=1, limit=2)
    assert pictures(tmp_path) == {name: data for name, data in pictures(whole).items() if "/" not in name}


def near(one, other):
    ours, theirs = (np.asarray(images.open_picture(data).rgb, dtype=int) for data in (one, other))
    return np.abs(ours - theirs).max() <= 1


def test_batches_are_the_single_edits(source, whole, tmp_path):
    run(source, out=tmp_path, batch_size=8)
    for name, data in pictures(whole).items():
        assert near(data, pictures(tmp_path)[name])
        one, many = recipe.read(whole / name).to_dict(), recipe.read(tmp_path / name).to_dict()
        assert (one.pop("batch"), many.pop("batch")) == (1, 4) and one == many


def test_rows_of_several_methods_and_their_own_words(source, tmp_path):
    here = shutil.copytree(source, tmp_path / "in")
    rows = [
        {"id": "1", "image": "a.png", "instruction": "add a star", "seed": 3},
        {"id": "2", "image": "a.png", "target": "a red house", "method": "sdedit", "set": {"strength": 0.5}},
        {"id": "3", "image": "b.jpg", "instructions": ["make the [house] red", "add a [star]"], "method": "foi"},
        {"id": "4", "image": "a.png", "instruction": "add a tree", "set": {"guidance_scale": 2}},
        {"id": "5", "image": "a.png", "method": "p2p", "target": "a red house"},
    ]
    (here / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {"out": tmp_path / "out", "settings": {"num_inference_steps": 2}}
    done = run(here / "rows.jsonl", (), **told)
    assert done.made == 4 and len(done.failed) == 1 and done.failed[0][0] == "5" and "source" in done.failed[0][1]
    made = {name: recipe.read(tmp_path / "out" / name) for name in pictures(tmp_path / "out")}
    assert made["1.png"].seed == 3 and made["2.png"].method.parameters["strength"] == 0.5
    assert made["2.png"].model.id == "starter-base" and made["3.png"].method.name == "foi"
    assert (
        made["4.png"].method.parameters["guidance_scale"] == 2
        and made["1.png"].method.origin["guidance_scale"] == "card"
    )
    rows[0]["instruction"] = "add a moon"  # another wish: this row alone is made again
    (here / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(here / "rows.jsonl", (), **told).made == 1
    assert recipe.read(tmp_path / "out" / "1.png").instructions == ("add a moon",)


def test_a_picture_that_changed_is_edited_again(source, tmp_path):
    here = shutil.copytree(source, tmp_path / "in")
    run(here, out=tmp_path / "out")
    (here / "a.png").touch()
    assert run(here, out=tmp_path / "out").made == 0  # another time, the same picture
    (here / "a.png").write_bytes(making.picture(99))
    assert run(here, out=tmp_path / "out").made == 1


def test_ctrl_c_keeps_what_was_made_and_lists_it(source, tmp_path):
    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(Cancelled, match="give the same command to go on"):
        run(source, out=tmp_path, batch_size=1, tick=stop)
    assert len(pictures(tmp_path)) == 2
    assert [line["output"] is not None for line in results(tmp_path).values()] == [True, True, False, False, False]
    assert run(source, out=tmp_path, batch_size=1).before == 2


def test_another_recipe_is_refused_and_force_starts_again(source, tmp_path):
    run(source, out=tmp_path, limit=2)
    for told, what in [
        ({"words": "make it blue"}, "words"), ({"seed": 1}, "seed"), ({"settings": {"num_inference_steps": 2}}, "settings"),
        ({"source": making.folder(tmp_path.parent / "other")}, r"input \("),
    ]:  # fmt: skip
        with pytest.raises(FileFormatError, match=f"holds results of another {what}"):
            run(**{"source": source, "out": tmp_path, **told})
    assert run(source, "make it blue", out=tmp_path, limit=2, force=True).made == 2
    assert recipe.read(tmp_path / "a.png").instructions == ("make it blue",)


def test_other_weights_under_the_same_name_are_refused(source, tmp_path, tiny_instruct_folder, instruct_pipe):
    model = shutil.copytree(tiny_instruct_folder, tmp_path / "model")
    run(source, out=tmp_path / "out", model=str(model), limit=1)
    instruct_pipe.unet.conv_in.weight.data += 1
    instruct_pipe.save_pretrained(model)
    with pytest.raises(FileFormatError, match="holds results of .*model with weights"):
        run(source, out=tmp_path / "out", model=str(model))
    assert (
        run(source, out=tmp_path / "out", model=str(model), limit=1).before == 1
    )  # nothing is to be made: no model is asked


def test_a_wrong_model_starts_nothing_and_leaves_the_folder_free(source, tmp_path):
    with pytest.raises(ModelError, match="needs an instruct model"):
        run(source, out=tmp_path, model="starter-base")
    assert run(source, out=tmp_path, limit=1).made == 1


def test_files_of_others_are_left_alone(source, tmp_path):
    (tmp_path / "a.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"a.png: exists already, and this batch did not make it"):
        run(source, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    done = run(source, out=tmp_path, skip_existing=True)
    assert (done.made, done.skipped) == (3, 1) and (tmp_path / "a.png").read_bytes() == b"mine"
    assert results(tmp_path)["a"] == {"row": "a", "output": None, "skipped": True, "error": None}
    assert run(source, out=tmp_path, force=True).made == 4 and (tmp_path / "a.png").read_bytes() != b"mine"
    assert run(source, out=tmp_path).before == 4


def shards(folder):
    words = {"instruction": "make it red", "about": {"camera": 5}}
    making.shard(folder / "s-0.tar", {n: {"png": making.picture(int(n)), "json": words} for n in ("1", "2")})
    making.shard(folder / "s-1.tar", {n: {"png": making.picture(int(n))} for n in ("3", "4")})
    return folder


def test_shards_become_shards_of_the_same_names(tmp_path):
    done = run(shards(tmp_path / "in"), out=tmp_path / "out", batch_size=1)
    assert done.made == 4 and sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == ["s-0.tar", "s-1.tar"]
    found = packed(tmp_path / "out" / "s-0.tar")
    assert list(found) == ["1.png", "1.json", "2.png", "2.json"]
    told = json.loads(found["1.json"])
    assert told["about"] == {"camera": 5} and told["edit"]["recipe"]["instructions"] == ["make it red"]
    assert results(tmp_path / "out")["s-1.tar: 3"]["output"] == "s-1.tar"
    assert run(tmp_path / "in", out=tmp_path / "out", batch_size=1).before == 4
    # The same rows in one shard: the same pictures.
    rows = {n: {"png": making.picture(int(n))} for n in ("4", "2", "3", "1")}
    making.shard(tmp_path / "other" / "all.tar", rows)
    run(tmp_path / "other" / "all.tar", out=tmp_path / "again", batch_size=1)
    both = {**found, **packed(tmp_path / "out" / "s-1.tar")}
    again = packed(tmp_path / "again" / "all.tar")
    assert all(again[name] == both[name] for name in again if name.endswith(".png"))


def test_a_sample_that_fails_is_tried_again_and_the_shard_packed_anew(tmp_path):
    rows = {"1": {"png": making.picture(1)}, "2": {"png": making.picture(2)[:300]}, "3": {"png": making.picture(3)}}
    path = making.shard(tmp_path / "s.tar", rows)
    done = run(path, out=tmp_path / "out")
    assert [row for row, _ in done.failed] == ["s.tar: 2"] and done.made == 2
    assert [name for name in packed(tmp_path / "out" / "s.tar") if name.endswith("png")] == ["1.png", "3.png"]
    making.shard(path, {**rows, "2": {"png": making.picture(2)}})
    done = run(path, out=tmp_path / "out")
    assert (done.made, done.before) == (1, 2)
    assert [name for name in packed(tmp_path / "out" / "s.tar") if name.endswith("png")] == ["1.png", "2.png", "3.png"]
    assert not (tmp_path / "out" / ".showtell" / "rows" / "s.tar").exists()


class Killed(BaseException):
    """What no code of ours catches."""


@pytest.mark.parametrize("after", [False, True])
def test_shards_killed_at_any_move_are_whole_after_the_next_run(tmp_path, monkeypatch, after):
    from showtell import work
    from showtell.batching import outputs
    from showtell.batching.packed import PackedStore
    from showtell.work import Done, Item

    stat = {"bytes": 1, "mtime_ns": 2}
    items = [
        Item(id=f"i{n}", shard=n // 3, told={"name": f"k/{n}", "digest": "a", "picture": {"stat": stat, "size": 1}})
        for n in range(6)
    ]

    def go(folder):
        def make(part):
            return [
                Done(id=one.id, record={"input": stat}, files={"png": one.id.encode(), "json": b"{}"}) for one in part
            ]

        outputs.files.make_folder(folder)
        store = PackedStore(folder, ["x.tar", "y.tar"])
        store.tidy()
        return work.run(items, lambda: make, store, batch_size=2)

    go(tmp_path / "whole")
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.tar")}
    real = os.replace
    for point in range(0, 16, 2):
        folder, seen = tmp_path / f"{point}", []

        def killing(*told, seen=seen, point=point):
            seen.append(told)
            if len(seen) == point + 1:
                if after:
                    real(*told)
                raise Killed
            return real(*told)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killing)
            with pytest.raises(Killed):
                go(folder)
        go(folder)
        assert {path.name: path.read_bytes() for path in folder.glob("*.tar")} == whole
        assert go(folder).before == 6 and not list(folder.rglob("*.part"))


@pytest.mark.skipif(not loading.starters_dir().is_dir(), reason="the starter models are not here")
def test_scenes_by_the_starter_killed_in_the_middle(tmp_path, monkeypatch):
    """Real edits in a process that is killed as soon as it has made some; the rest is made, and all are right."""
    monkeypatch.delenv("SHOWTELL_STARTERS")
    (tmp_path / "in").mkdir()
    for seed in range(4):
        scenes.sample(seed, split="train").before.save(tmp_path / "in" / f"{seed}.png")
    command = [sys.executable, "-m", "showtell.cli", "batch", "in", "make it a negative", "-o", "out", "--steps", "2"]
    process = subprocess.Popen([*command, "--batch-size", "1"], cwd=tmp_path)
    while not list((tmp_path / "out").glob("*.png")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = pictures(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    done = batching.run("in", ["make it a negative"], out="out", settings={"num_inference_steps": 2}, batch_size=1)
    assert done.before >= 1 and done.made + done.before == 4 and done.failed == ()
    found = pictures(tmp_path / "out")
    assert there.items() <= found.items() and len(found) == 4
    for name in found:
        before, after = (np.asarray(Image.open(tmp_path / folder / name), dtype=int) for folder in ("in", "out"))
        assert np.abs(before - after).mean() > 10  # it did something
        assert recipe.read(tmp_path / "out" / name).model.id == "starter"
