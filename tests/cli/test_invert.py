"""`showtell invert`: all is well, everything is wrong, and a kill in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import showtell
from showtell.inversions import Inversion
from tests.cli import pictures

TARGET, SOURCE = "a blue [star] to the tree", "a red star to the tree"
INVERT = ("invert", "house.png", "-o", "x.safetensors", "--steps", "4")


def test_it_says_what_it_wrote(cli, folder):
    result = cli(*INVERT, "--picture", "back.png")
    assert result.code == 0 and result.err == ""
    first, second = result.out.splitlines()
    assert first.startswith("wrote x.safetensors: pti, reconstructed to ") and "serves any target" in first
    assert second == "wrote back.png"
    assert sorted(path.name for path in folder.iterdir()) == ["back.png", "house.png", "x.safetensors"]
    assert np.array_equal(np.asarray(Image.open("back.png")), np.asarray(Inversion.load("x.safetensors").image))


def test_json_is_one_object(cli):
    told = cli(*INVERT, TARGET, "--json").json
    assert (told["written"], told["method"], told["target"]) == ("x.safetensors", "pti", TARGET)
    assert told["serves"] == f"the target {TARGET!r} only" and told["settings"]["start"] == "target"
    assert told["psnr"] == Inversion.load("x.safetensors").psnr and told["notes"] == [] and told["picture"] is None


def test_the_command_line_and_python_find_the_same(cli):
    told = (
        "--ratio",
        "0.5",
        "--guidance-scale",
        "3",
        "--inversion-guidance-scale",
        "1",
        "--inner-steps",
        "2",
        "--lr",
        "0.05",
    )
    assert cli(*INVERT, *told, "--source", SOURCE, "--fit", "pad").code == 0
    back = showtell.load("starter-base", device="cpu").invert(
        "house.png", source=SOURCE, num_inference_steps=4, encoding_ratio=0.5, guidance_scale=3,
        inversion_guidance_scale=1, inner_steps=2, learning_rate=0.05, fit="pad",
    )  # fmt: skip
    assert Inversion.load("x.safetensors").sha256 == back.sha256


@pytest.mark.parametrize("method", ["nti", "ddim"])
def test_the_other_methods(method, cli):
    few = ("--inner-steps", "1") if method == "nti" else ()
    result = cli(*INVERT, "--method", method, "--source", SOURCE, *few, "--json")
    assert result.code == 0 and result.json["method"] == method, result.err
    edited = cli("edit", "house.png", TARGET, "--inversion", "x.safetensors", "-o", "out.png", "--seed", 1, "--json")
    assert edited.code == 0, edited.err
    assert edited.json["recipe"]["method"]["name"] == {"nti": "p2p", "ddim": "ddim-edit"}[method]
    assert "the pixels are the same" in cli("replay", "out.png", "-o", "again.png").err


WRONG = {
    "ratio 0": ([*INVERT, "--ratio", "0"], "encoding_ratio=0"),
    "ratio 2": ([*INVERT, "--ratio", "2"], "encoding_ratio=2"),
    "ratio nan": ([*INVERT, "--ratio", "nan"], "encoding_ratio=nan"),
    "no steps": (["invert", "house.png", "-o", "x.safetensors", "--steps", "0"], "num_inference_steps=0"),
    "inner steps": ([*INVERT, "--inner-steps", "101"], "inner_steps=101"),
    "inner steps of ddim": ([*INVERT, "--method", "ddim", "--inner-steps", "1"], "'inner_steps' is not a hyper-parameter"),
    "rate": ([*INVERT, "--lr", "-1"], "learning_rate=-1.0"),
    "guidance": ([*INVERT, "--guidance-scale", "-1"], "guidance_scale=-1.0"),
    "a target for nti": ([*INVERT, TARGET, "--method", "nti"], "target is for inversion 'pti'"),
    "a start for ddim": ([*INVERT, "--method", "ddim", "--start", "empty"], "start is for inversion 'pti'"),
    "an unknown method": ([*INVERT, "--method", "p2p"], "'p2p' is not one of"),
    "start without target": ([*INVERT, "--start", "target"], "needs a target"),
    "start without source": ([*INVERT, "--start", "source"], "--start source needs --source"),
    "start beside target": ([*INVERT, TARGET, "--start", "empty"], "serves any target: leave the target out"),
    "an empty target": ([*INVERT, " "], "the target is empty"),
    "an empty source": ([*INVERT, "--source", ""], "--source is empty"),
    "a pickle's suffix": (["invert", "house.png", "-o", "x.pt"], "must end in .safetensors"),
    "a kept name": (["invert", "house.png", "-o", "x.inverting.safetensors"], "for unfinished inversions"),
    "exists": (["invert", "house.png", "-o", "there.safetensors"], "there.safetensors: exists already"),
    "the picture exists": ([*INVERT, "--picture", "house.png"], "house.png: exists already"),
    "the picture's suffix": ([*INVERT, "--picture", "back.gif"], "must end in one of"),
    "no picture": (["invert", "none.png", "-o", "x.safetensors"], "none.png"),
    "no folder": (["invert", "house.png", "-o", "no/x.safetensors"], "the folder no does not exist"),
    "no token": ([*INVERT, "--token", "house.png"], "house.png: cannot be read as a learned word"),
    "words in no encoding": ([*INVERT, "\udce9"], "encoding"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_makes_no_sense_is_found_before_a_model_is_loaded(name, cli, folder, unchanged):
    (folder / "there.safetensors").write_bytes(b"precious")
    args, said = WRONG[name]
    unchanged(begin=True)
    cli(*args, "--model", "no-such-model").refused(said)
    unchanged()


def test_an_instruct_model_and_a_long_target_are_refused(cli, unchanged):
    cli(*INVERT, "--model", "starter").refused("method 'invert pti' needs a base model")
    cli(*INVERT, "tree " * 99).refused("does not fit")
    unchanged()


def test_a_tuning_that_breaks_says_where_and_what_is_kept(cli, folder):
    cli(*INVERT, "--lr", "1e30").refused("x.inverting.safetensors keeps the steps before it: go on with --resume")
    assert not Path("x.safetensors").exists() and Path("x.inverting.safetensors").is_file()
    cli(*INVERT).refused("x.inverting.safetensors: holds an unfinished inversion")
    assert cli(*INVERT, "--force").code == 0
    assert not Path("x.inverting.safetensors").exists()


# Stopping and going on.

RUNNER = """
    import contextlib, signal, sys, time
    from showtell import inverting
    from showtell.cli import console, main

    # What runs in a shell's background is started with the signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextlib.contextmanager
    def progress(title, *, as_json):
        def tick(done, total, figure="", title=title):
            print(title, done, flush=True)
            time.sleep(0.05)
        yield tick

    console.progress = progress
    inverting._SAVE_EVERY = 0.0
    sys.exit(main(sys.argv[1:]))
"""
LONG = (*INVERT, "--steps", "14")


def begun(*args: str, title: str) -> subprocess.Popen[str]:
    """The command in a process of its own, some steps into the tuning, or into what comes before it."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RUNNER), *args], stdout=pipe, stderr=pipe, text=True
    )
    assert process.stdout is not None
    while not (line := process.stdout.readline()).startswith(f"{title} 5"):
        assert line, process.communicate()[1]
    return process


def stopped(process: subprocess.Popen[str], how: signal.Signals) -> str:
    """End it so; what it said on stderr."""
    try:
        process.send_signal(how)
        return process.communicate(timeout=120)[1]
    finally:
        process.kill()


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_it_goes_on_to_the_same_bytes(how, cli, folder):
    assert cli(*LONG).code == 0
    whole = Path("x.safetensors").rename("whole.bin").read_bytes()
    err = stopped(begun(*LONG, title="tuning"), how)
    assert not Path("x.safetensors").exists() and Path("x.inverting.safetensors").is_file()
    if how == signal.SIGINT:
        assert err == (
            "showtell: interrupted; x.inverting.safetensors keeps what was found: give the same command with --resume to "
            "go on\n"
        )
    cli(*LONG).refused("x.inverting.safetensors: holds an unfinished inversion; go on with it by --resume")
    cli(*LONG, "--resume", "--ratio", "0.5").refused("x.inverting.safetensors: belongs to another inversion")
    pictures.plain().rotate(180).save("other.png")
    cli("invert", "other.png", *LONG[2:], "--resume").refused("belongs to another inversion")
    assert cli(*LONG, "--resume").code == 0
    assert Path("x.safetensors").read_bytes() == whole
    assert sorted(path.name for path in folder.iterdir()) == ["house.png", "other.png", "whole.bin", "x.safetensors"]


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_before_the_tuning_there_is_nothing_to_keep(starters, unchanged):
    process = begun(*LONG, title="inverting")
    assert stopped(process, signal.SIGINT) == (
        "showtell: interrupted before there was anything to keep; what was there before is unchanged\n"
    )
    unchanged()


def test_an_unfinished_inversion_that_is_damaged(cli):
    Path("x.inverting.safetensors").write_bytes(b"half")
    cli(*INVERT, "--resume").refused("x.inverting.safetensors: cannot be gone on from")
    assert cli(*INVERT, "--force").code == 0, "--force starts anew"
    assert not Path("x.inverting.safetensors").exists()


def test_with_nothing_to_go_on_from_it_begins_and_says_so(cli):
    result = cli(*INVERT, "--resume")
    assert result.code == 0 and "the inversion began anew" in result.err
