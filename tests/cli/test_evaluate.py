"""`showtell evaluate` as it is typed: what it writes, says and refuses."""

from __future__ import annotations

import json
import os

import pytest
from PIL import Image

from tests.helpers import datasets, outsiders


@pytest.fixture
def manifest(tmp_path):
    """Three pictures of a user's own, one of which does not open, and a line whose picture is missing."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (24, 24), colour).save(folder / f"{number}.png")
    (folder / "1.png").write_bytes(b"no picture")
    lines = [{"id": f"n{i}", "before": f"{i}.png", "instruction": "turn it around", "after": "0.png"} for i in range(4)]
    (folder / "list.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return folder / "list.jsonl"


def test_what_cannot_be_used_is_named_and_the_rest_goes_on(cli, manifest, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(outsiders.install(tmp_path / "site")))
    out = tmp_path / "out"
    told = (
        "evaluate",
        "--dataset",
        "manifest",
        "--data",
        manifest,
        "--protocol",
        "pixels",
        "--methods",
        "input,negative",
    )
    found = cli(*told, "--model", "starter", "--out", out)
    assert found.code == 1, found.err
    assert "n3" in found.err and "n1" in found.err and "Traceback" not in found.err
    summary = json.loads((out / "summary.json").read_text())
    assert [(row["system"], row["count"], row["failed"]) for row in summary["rows"]] == [
        ("input", 2, 1), ("negative", 2, 1)
    ]  # fmt: skip
    assert {path.name for path in out.iterdir()} >= {"report.html", "results.parquet", "summary.json", "edits", "plots"}
    again = json.loads(cli(*told, "--out", out, "--json").out)
    assert [row["failed"] for row in again["rows"]] == [1, 1]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (["--methods", "ip2q"], "'ip2q' is not known: choose from ip2p"),
        (["--methods", ""], "no system to evaluate: name some with --methods"),
        (["--methods", "input", "--dataset", "nothing"], "'nothing' is not known: choose one of scenes"),
        (["--methods", "input", "--dataset", "coco"], "needs the path where it lies"),
        (["--methods", "input", "--protocol", "nothing"], "'nothing' is not known"),
        (["--methods", "input", "--shard", "4/4"], "write it as I/N with I from 0 to N - 1"),
        (["--methods", "input", "--option", "edits"], "write NAME=VALUE"),
        (["--system", "wide=foi,gama=1"], "'gama' is not a hyper-parameter of method 'foi'"),
        (["--sweep", "foi=1,2"], "write it as METHOD.SETTING=VALUE"),
        (["--methods", "input", "--option", "colour=red"], "colour"),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(cli, tmp_path, told, words):
    found = cli("evaluate", *told, "--out", tmp_path / "out")
    assert found.code == 2 and words in found.err and len(found.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_options_are_those_of_dataset_check(cli, tmp_path):
    Image.new("RGB", (24, 24), "red").save(tmp_path / "a.png")
    told = ("folder", tmp_path, "--option", "instruction=2024", "--json")
    checked = json.loads(cli("dataset", "check", *told).out)
    rest = (
        "--option",
        "instruction=2024",
        "--methods",
        "input",
        "--protocol",
        "pixels",
        "--out",
        tmp_path / "out",
        "--json",
    )
    found = json.loads(cli("evaluate", "--dataset", "folder", "--data", tmp_path, *rest).out)
    assert found["evaluation"]["dataset"]["fingerprint"] == checked["fingerprint"]


@pytest.mark.parametrize(("below", "words"), [("", "is a file; name a folder"), ("out", "lies below a file")])
def test_a_folder_that_cannot_be_is_said_in_one_line(cli, tmp_path, below, words):
    (tmp_path / "file").write_text("mine")
    found = cli(
        "evaluate", "--limit", "1", "--methods", "input", "--protocol", "pixels", "--out", tmp_path / "file" / below
    )
    assert found.code == 2 and words in found.err and len(found.err.strip().splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_a_broken_picture_whose_name_is_no_utf_8_fails_alone(cli, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    Image.new("RGB", (24, 24), "red").save(folder / "a.png")
    try:
        (folder / os.fsdecode(b"b\xff.png")).write_bytes(b"no picture")
    except OSError:
        pytest.skip("this file system has no such names")
    told = ("--data", folder, "--option", "instruction=x", "--methods", "input", "--protocol", "pixels")
    found = cli("evaluate", "--dataset", "folder", *told, "--out", tmp_path / "out")
    assert found.code == 1 and "1 pictures could not be made or measured" in found.err and "unexpected" not in found.err
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["rows"][0]["count"] == 1


def test_real_pictures_of_a_class_that_do_not_open_are_told(cli, tmp_path):
    path = datasets.imagenet(tmp_path / "imagenet")
    names = [{"image": f.relative_to(path).as_posix(), "source": "tabby", "target": "Chihuahua"}
             for f in sorted((path / "n02123045").iterdir())]  # fmt: skip
    datasets.write(path / "pairs.json", names)
    (path / "n02085620" / "broken.JPEG").write_bytes(b"no picture")
    told = (
        "--dataset",
        "imagenet",
        "--data",
        path,
        "--methods",
        "input",
        "--protocol",
        "starter",
        "--out",
        tmp_path / "out",
    )
    found = cli("evaluate", *told)
    assert (
        found.code == 1 and "1 real pictures of the classes cannot be used" in found.err and "broken.JPEG" in found.err
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["rows"][0]["measures"]["class_frechet_distance"]["value"] > 0  # of those that do


def test_another_protocol_is_refused(cli, tmp_path):
    told = ("evaluate", "--limit", "1", "--methods", "input", "--out", tmp_path)
    assert cli(*told, "--protocol", "pixels").code == 0
    found = cli(*told, "--protocol", "starter")
    assert found.code == 2 and "another protocol" in found.err and "name another folder" in found.err
