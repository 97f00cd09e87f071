"""`showtell train instruct` as a user runs it: trained, looked at first, resumed, refused, and used afterwards."""

from __future__ import annotations

import json

import pytest

from tests.training import making

ARGS = (
    "--data",
    "pairs",
    "--path",
    "pairs",
    "--device",
    "cpu",
    "--set",
    "train.batch_size=2",
    "--set",
    "data.held_out=0",
)


@pytest.fixture
def pairs(folder):
    return making.pairs(folder / "pairs", 4, spoil={3: {"before.png": b"no picture"}})


def test_an_editor_is_trained_and_edits(cli, pairs, folder) -> None:
    (folder / "c.yaml").write_text("train: {steps: 9, learning_rate: 0.001}\n")
    result = cli("train", "instruct", "c.yaml", *ARGS, "--steps", "2", "--seed", "4", "-o", "mine")
    assert (result.code, result.out) == (0, "trained in mine/model (2 steps, seed 4)\n")
    assert result.err.count("training: step ") == 2 and "note: left out: p000003" in result.err
    assert json.loads((folder / "mine" / "config.json").read_text())["train"]["learning_rate"] == 0.001
    edit = ("edit", "house.png", "make it red", "--model", "mine/model", "-o", "red.png", "--steps", "1")
    assert cli(*edit).code == 0
    cli("train", "instruct", "c.yaml", *ARGS, "-o", "mine").refused("go on with it by --resume")
    # the folder knows its configuration; a constant rate may be given more steps
    more = cli("train", "instruct", "-o", "mine", "--resume", "--steps", "3", "--json")
    assert more.json["steps"] == 3 and more.json["rows"] == 3 and more.json["left_out"] == 1 and more.err == ""
    cli("train", "instruct", "-o", "mine", "--resume", "--seed", "5").refused(
        "another configuration: seed (was 4, is 5); put that back"
    )


def test_a_dry_run_tells_and_leaves_nothing(cli, pairs, unchanged) -> None:
    unchanged(begin=True)
    result = cli("train", "instruct", "--preset", "starter", *ARGS, "--dry-run", "-o", "mine")
    assert result.code == 0
    assert "noise_exponent: 0.5" in result.out and "3 to train on" in result.out and "activations" in result.out
    assert cli("train", "instruct", *ARGS, "--dry-run", "--json").json["problems"][0]["id"] == "p000003"
    unchanged()


@pytest.mark.parametrize(
    ("args", "culprit"),
    [
        (["none.yaml"], "none.yaml: no such file"),
        (["--set", "train.stepz=3"], "train.stepz is not a key"),
        (["--set", "train"], "write KEY=VALUE"),
        ([], "data.path is missing"),
        (["--data", "pears", "--path", "."], "data set 'pears' is not known"),
        (["--path", "nowhere"], "nowhere: does not exist"),
        (["--path", ".", "--resume"], "holds no run to resume"),
        (["--path", ".", "--model", "nobody"], "nobody: no such model"),
    ],
)
def test_bad_input_is_one_line(cli, args, culprit, unchanged) -> None:
    cli("train", "instruct", *args, "--device", "cpu").refused(culprit)
