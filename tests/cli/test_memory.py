"""What saves memory, as the command line has it."""

from __future__ import annotations

import json

import pytest
from PIL import ImageOps

from tests.cli import pictures


@pytest.fixture
def house(folder, starters):
    pictures.plain().save("house.png")
    ImageOps.invert(pictures.plain().convert("RGB")).save("blue.png")
    return "house.png"


FRUGAL = ("--vae-tiling", "--attention-slicing", "--device", "cpu")


def test_what_fits_is_a_table_and_json(cli, starters) -> None:
    shown = cli("models", "fit", "starter", "--device", "cpu")
    assert shown.code == 0 and "should be free" in shown.out and "gradient_checkpointing=True" in shown.out
    assert "yes" in shown.out
    told = cli("models", "fit", "starter", "--free", "0.000001", "--batch-size", "2", "--json")
    found = json.loads(told.out)
    assert told.code == 0 and found["batch_size"] == 2 and found["kind"] == "instruct"
    assert not any(way["fits"] for way in found["ways"]) and any("offload" in way["options"] for way in found["ways"])
    wrong = cli("models", "fit", "nothing-of-the-kind")
    assert wrong.code == 2 and wrong.err.count("\n") == 1 and "nothing-of-the-kind" in wrong.err


def test_every_command_takes_what_saves_memory(cli, house) -> None:
    saved = (*FRUGAL, "--gradient-checkpointing", "--json")
    edit = cli("edit", house, "make it red", "-o", "red.png", "--steps", "1", *saved)
    assert edit.code == 0 and json.loads(edit.out)["recipe"]["vae_tiling"] is True
    look = (
        "learn",
        "--before",
        house,
        "--after",
        "blue.png",
        "-o",
        "look.safetensors",
        "--steps",
        "1",
        "--tokens",
        "2",
    )
    assert cli(*look, *saved).code == 0
    inverted = cli("invert", house, "--source", "a house", "-o", "back.safetensors", "--steps", "2", *saved)
    assert inverted.code == 0
    batch = cli("batch", ".", "make it red", "-o", "out", "--steps", "1", "--limit", "1", *saved)
    assert batch.code == 0, batch.err
    other = cli("batch", ".", "make it red", "-o", "out", "--steps", "1", "--limit", "1", "--device", "cpu")
    assert other.code == 2 and "vae tiling" in other.err
    word = cli("token", house, "-o", "toy.safetensors", "--word", "<toy>", "--init", "a", "--steps", "1", *saved)
    assert word.code == 0, word.err


def test_offloading_on_a_cpu_is_one_line(cli, house) -> None:
    for command in (("edit", house, "red", "-o", "a.png"), ("invert", house, "-o", "a.safetensors")):
        found = cli(*command, "--offload", "model", "--device", "cpu")
        assert found.code == 2 and found.err.count("\n") == 1 and "the device is cpu" in found.err


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("models", "fit", "starter", "--free", "inf"), "--free inf: give the GiB that are free"),
        (("edit", "house.png", "red", "--method", "foi", "--compile", "-o", "out.png"), "--compile: foi needs"),
        (("bench", "student", "--student", "starter-base", "--count", "2"), "needs an instruct model"),
        (
            ("train", "distill", "--preset", "starter-fast", "--set", "distill.solver_steps=40"),
            "distill.solver_steps is 40",
        ),
        (("train", "distill", "--model", "starter"), "say what is to be distilled"),
    ],
)
def test_what_cannot_be_asked_is_one_line(cli, house, command, told) -> None:
    shown = cli(*command)
    assert shown.code == 2 and told in shown.err and shown.err.count("\n") == 1
