"""`showtell learn`, and what it writes in `edit` and `replay`: all is well, everything is wrong, and a kill in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.torch import save_file

import showtell
from showtell import learned_file, learning
from showtell.cli import main
from tests.cli import pictures

PAIR = ("--before", "house.png", "--after", "after.png")
QUICK = ("--steps", "6", "--check-every", "3", "--timesteps-per-step", "2", "--tokens", "4", "--clip-weight", "0")
LEARN = ("learn", *PAIR, "-o", "look.safetensors", *QUICK)
NOW = ("--steps", "2", "--seed", "3")


@pytest.fixture
def pair(folder):
    """The working directory with an after of ``house.png`` in it."""
    ImageOps.invert(pictures.plain()).save("after.png")
    return folder


@pytest.fixture(scope="module")
def learned(tiny_starters) -> bytes:
    """A learned file's content, with its noises."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOWTELL_STARTERS", str(tiny_starters))
        editor = showtell.load("starter", device="cpu")
    pair = (pictures.plain(), ImageOps.invert(pictures.plain()))
    found = learning.study(editor, pair, steps=3, timesteps_per_step=2, num_tokens=4, clip_weight=0, record_noise=True)
    return learned_file.to_bytes(found.look)


@pytest.fixture
def look(pair, learned):
    """A learned file, ``look.safetensors``."""
    Path("look.safetensors").write_bytes(learned)
    return showtell.LearnedInstruction.load("look.safetensors")


def test_it_says_what_it_wrote(pair, cli):
    result = cli(*LEARN)
    assert result.code == 0 and result.err == ""
    assert result.out.startswith("wrote look.safetensors (seed 0): step ") and "of 6 was the best" in result.out
    assert sorted(p.name for p in pair.iterdir()) == ["after.png", "house.png", "look.safetensors"]


def test_the_noises_are_kept_on_request(pair, cli):
    assert cli(*LEARN, "--record-noise", "--json").json["noise"] is True
    assert showtell.LearnedInstruction.load("look.safetensors").noise is not None


def test_json_is_one_object_with_the_checks(pair, cli):
    told = cli(*LEARN, "--json", "--seed", "5").json
    assert (told["written"], told["name"], told["seed"], told["tokens"]) == ("look.safetensors", "look", 5, 4)
    assert [step for step, _ in told["checks"]] == [0, 3, 6] and told["notes"] == []
    assert told["kept_loss"] == min(loss for _, loss in told["checks"]) and told["noise"] is False
    assert told["how"]["clip_weight"] == 0 and told["how"]["steps"] == 6 and told["how"]["num_tokens"] == 4


def test_the_command_line_and_python_learn_the_same(pair, cli):
    assert cli(*LEARN, "--device", "cpu").code == 0
    editor = showtell.load("starter", device="cpu")
    found = learning.study(
        editor, ("house.png", "after.png"), steps=6, check_every=3, timesteps_per_step=2, num_tokens=4, clip_weight=0
    )
    assert torch.equal(showtell.LearnedInstruction.load("look.safetensors").embeds, found.look.embeds)


def test_the_options_reach_the_learning(pair, cli):
    options = [
        "--lr", "0.5", "--mse-weight", "2", "--clip-weight", "0.3", "--guidance-scale", "2", "--fit", "pad",
        "--image-guidance-scale", "1.2", "--patience", "7", "--clip", "starter-clip", "--init", "make the house red",
        "--mirror",
    ]  # fmt: skip
    how = cli("learn", *PAIR, "-o", "look.safetensors", "--steps", "1", *options, "--json").json["how"]
    told = {key: how[key] for key in ("learning_rate", "mse_weight", "clip_weight", "guidance_scale", "patience")}
    assert list(told.values()) == [0.5, 2, 0.3, 2, 7]
    assert (how["image_guidance_scale"], how["fit"], how["init_words"]) == (1.2, "pad", "make the house red")
    assert how["mirror"] is True


def test_the_papers_values_on_request(pair, cli):
    how = cli("learn", *PAIR, "-o", "look.safetensors", "--paper", "--steps", "1", "--json").json["how"]
    assert (how["steps"], how["learning_rate"], how["num_tokens"], how["mse_weight"]) == (1, 1e-3, 10, 4)


def test_several_pairs_and_pictures_of_other_sizes(pair, cli):
    pictures.plain(64, 48).save("wide.png")
    more = ("--before", "after.png", "--after", "wide.png")
    result = cli(*LEARN, *more)
    assert result.code == 0
    assert result.err == (
        "note: pair 2: before is 40x32 and after is 64x48; the after was brought to the before's size\n"
    )
    assert len(showtell.LearnedInstruction.load("look.safetensors").how["pairs"]) == 2


def test_a_strip_shows_how_it_grows(pair, cli):
    result = cli(*LEARN, "--strip", "strip.png", "--json")
    assert result.json["strip"] == "strip.png"
    assert Image.open("strip.png").width > 5 * 128  # before, after, and three checks
    shutil.move("look.safetensors", "other.safetensors")
    cli(*LEARN, "--strip", "strip.png").refused("strip.png: exists already")


def test_a_long_strip_has_the_first_the_last_and_the_best():
    from showtell.cli import growth

    steps = list(range(0, 1001, 50))
    for kept in steps:
        which = growth.chosen(steps, kept)
        assert len(set(which)) == growth.MOST and which == sorted(which)
        assert {0, len(steps) - 1, steps.index(kept)} <= set(which)
    assert growth.chosen([0, 50], 0) == [0, 1]


def test_a_loss_that_is_not_a_number_keeps_the_best(pair, cli):
    result = cli(*LEARN, "--lr", "1e30", "--json")
    assert result.code == 0, result.err
    assert "the loss was not a number at step 2" in result.json["notes"][0]
    assert (result.json["kept_step"], result.json["steps_done"]) == (0, 1)
    assert showtell.LearnedInstruction.load("look.safetensors").embeds.isfinite().all()


# Using what was learned.


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_a_learned_file_alone_is_the_instruction(look, cli):
    assert cli("edit", "house.png", "--learned", "look.safetensors", "-o", "out.png", *NOW).code == 0
    edit = showtell.load("starter", device="cpu").edit("house.png", look, seed=3, num_inference_steps=2)
    assert np.array_equal(pixels("out.png"), np.asarray(edit.image))


def test_words_call_it_by_its_name(look, cli):
    result = cli("edit", "house.png", "<look:0.5> a star", "--learned", "look.safetensors", "-o", "out.png", *NOW)
    assert (result.code, result.err) == (0, "")
    editor = showtell.load("starter", device="cpu")
    edit = editor.edit("house.png", look * 0.5 + "a star", seed=3, num_inference_steps=2)
    assert np.array_equal(pixels("out.png"), np.asarray(edit.image))


def test_words_that_do_not_call_it_follow_it_and_that_is_said(look, cli):
    result = cli("edit", "house.png", "a star", "--learned", "look.safetensors", "-o", "out.png", *NOW)
    assert result.code == 0
    assert result.err == 'note: the words do not call <look>, so it was put before them: "<look> a star"\n'
    assert showtell.recipe.read("out.png").instructions == ("<look> a star",)


def test_strength_is_a_factor(look, cli):
    args = ("edit", "house.png", "--learned", "look.safetensors", *NOW)
    assert cli(*args, "--strength", "0.5", "-o", "out.png").code == 0
    assert showtell.recipe.read("out.png").learned[0].parts[0].weight == 0.5
    edit = showtell.load("starter", device="cpu").edit("house.png", look * 0.5, seed=3, num_inference_steps=2)
    assert np.array_equal(pixels("out.png"), np.asarray(edit.image))
    assert "the pixels are the same" in cli("replay", "out.png", "-o", "again.png").err


def test_two_learned_files(look, cli):
    shutil.copyfile("look.safetensors", "other.safetensors")
    both = ("--learned", "look.safetensors", "--learned", "other.safetensors", "-o", "out.png", *NOW)
    assert cli("edit", "house.png", "<look> <other:2>", *both).code == 0
    assert [record.name for record in showtell.recipe.read("out.png").learned] == ["look", "other"]
    cli("edit", "house.png", *both, "--force").refused("several learned files and no words")
    cli("edit", "house.png", "<look>", *both, "--force").refused("<other> is not in the words")


def test_recorded_noise_does_not_depend_on_the_seed(look, cli):
    args = ("edit", "house.png", "--learned", "look.safetensors", "--noise", "recorded", "--steps", "2")
    for seed in (1, 2):
        assert cli(*args, "--seed", seed, "-o", f"{seed}.png").code == 0
    assert np.array_equal(pixels("1.png"), pixels("2.png"))
    assert showtell.recipe.read("1.png").noise == "recorded"


def test_replay_finds_a_learned_file_that_has_moved(look, cli, folder):
    assert cli("edit", "house.png", "--learned", "look.safetensors", "-o", "out.png", *NOW).code == 0
    assert "the pixels are the same" in cli("replay", "out.png", "-o", "a.png").err
    (folder / "look.safetensors").rename(folder / "moved.safetensors")
    cli("replay", "out.png", "-o", "b.png").refused("look.safetensors) is not there: give its file with --learned")
    result = cli("replay", "out.png", "--learned", "moved.safetensors", "-o", "b.png")
    assert result.code == 0 and "the pixels are the same" in result.err
    cli("replay", "out.png", "--learned", "house.png", "-o", "c.png").refused("house.png: cannot be read as a learned")


def test_visual_prompting_by_a_grid(pair, cli):
    args = ("edit", "house.png", "--method", "grid", *PAIR, "--model", "starter-base", "-o", "out.png", *NOW)
    assert cli(*args).code == 0
    base = showtell.load("starter-base", device="cpu")
    pair = [("house.png", "after.png")]
    edit = base.edit("house.png", method="grid", pairs=pair, seed=3, num_inference_steps=2)
    assert np.array_equal(pixels("out.png"), np.asarray(edit.image))
    assert "the pixels are the same" in cli("replay", "out.png", "-o", "again.png").err


# What a user can get wrong.

ONE = ("--before", "house.png")
LEARNING = {
    "odd number": (["learn", *PAIR, *ONE, "-o", "l.safetensors"], "3 pictures, 2 with --before and 1 with --after"),
    "no after": (["learn", *ONE, "-o", "l.safetensors"], "'--after'"),
    "no output": (["learn", *PAIR], "'--out' / '-o'"),
    "identical": (["learn", *ONE, "--after", "same.png", "-o", "l.safetensors"], "same.png are the same picture"),
    "missing": (["learn", *ONE, "--after", "none.png", "-o", "l.safetensors"], "none.png: no such file"),
    "no picture": (["learn", *ONE, "--after", "text.png", "-o", "l.safetensors"], "text.png: is not a picture"),
    "steps 0": (["learn", *PAIR, "-o", "l.safetensors", "--steps", "0"], "steps=0 is out of range"),
    "no tokens": (["learn", *PAIR, "-o", "l.safetensors", "--tokens", "0"], "num_tokens=0"),
    "76 tokens": (["learn", *PAIR, "-o", "l.safetensors", "--tokens", "76"], "num_tokens=76"),
    "negative rate": (["learn", *PAIR, "-o", "l.safetensors", "--lr", "-1"], "learning_rate=-1"),
    "rate nan": (["learn", *PAIR, "-o", "l.safetensors", "--lr", "nan"], "learning_rate=nan"),
    "no loss": (["learn", *PAIR, "-o", "l.safetensors", "--mse-weight", "0", "--clip-weight", "0"], "both 0"),
    "guidance": (["learn", *PAIR, "-o", "l.safetensors", "--guidance-scale", "0.5"], "guidance_scale=0.5"),
    "a pickle's suffix": (["learn", *PAIR, "-o", "l.pt"], "must end in .safetensors"),
    "a kept name": (["learn", *PAIR, "-o", "l.learning.safetensors"], "for unfinished learnings"),
    "no folder": (["learn", *PAIR, "-o", "no/l.safetensors"], "the folder no does not exist"),
    "name too long": (["learn", *PAIR, "-o", "x" * 250 + ".safetensors"], "the name is too long"),
    "exists": (["learn", *PAIR, "-o", "nan.safetensors"], "nan.safetensors: exists already"),
    "strip suffix": (["learn", *PAIR, "-o", "l.safetensors", "--strip", "s.jpg"], "must end in .png"),
    "strip exists": (["learn", *PAIR, "-o", "l.safetensors", "--strip", "house.png"], "house.png: exists already"),
    "negative seed": (["learn", *PAIR, "-o", "l.safetensors", "--seed", "-1"], "'--seed'"),
    "words in no encoding": (["learn", *PAIR, "-o", "l.safetensors", "--init", "\udce9"], "encoding"),
}
EDITING = {
    "nothing asked": (["edit", "house.png", "-o", "o.png"], "the instruction is missing: give WORDS"),
    "strength alone": (["edit", "house.png", "x", "-o", "o.png", "--strength", "2"], "give one with --learned"),
    "truncated": (["edit", "house.png", "-o", "o.png", "--learned", "cut.safetensors"], "cut.safetensors: cannot be"),
    "not there": (["edit", "house.png", "-o", "o.png", "--learned", "no.safetensors"], "no.safetensors: no such file"),
    "nan": (["edit", "house.png", "-o", "o.png", "--learned", "nan.safetensors"], "nan.safetensors: is damaged"),
    "shapes": (["edit", "house.png", "-o", "o.png", "--learned", "shape.safetensors"], "shape.safetensors: is damaged"),
    "newer": (["edit", "house.png", "-o", "o.png", "--learned", "new.safetensors"], "newer than 1: update showtell"),
    "other file": (["edit", "house.png", "-o", "o.png", "--learned", "odd.safetensors"], "is not a learned instruct"),
    "too strong": (["edit", "house.png", "-o", "o.png", "--learned", "look.safetensors", "--strength", "11"], "11"),
    "strength nan": (["edit", "house.png", "-o", "o.png", "--learned", "look.safetensors", "--strength", "nan"], "nan"),
    "strength in words": (["edit", "house.png", "<look:much>", "-o", "o.png", "--learned", "look.safetensors"], "much"),
    "too strong in words": (["edit", "house.png", "<look:99>", "-o", "o.png", "--learned", "look.safetensors"], "99"),
    "one name twice": (
        ["edit", "house.png", "-o", "o.png", "--learned", "look.safetensors", "--learned", "look.safetensors"],
        "two learned instructions are called <look>",
    ),
    "no noise kept": (["edit", "house.png", "x", "-o", "o.png", "--noise", "recorded"], "--record-noise"),
    "unknown noise": (["edit", "house.png", "x", "-o", "o.png", "--noise", "pink"], "'pink' is not one of"),
    "a pair for words": (["edit", "house.png", "x", "-o", "o.png", *PAIR], "showtell learn --before"),
    "a grid without": (["edit", "house.png", "-o", "o.png", "--method", "grid"], "--before and --after"),
    "half a pair": (["edit", "house.png", "-o", "o.png", "--method", "grid", *ONE], "--after is missing"),
    "grid of one": (["edit", "house.png", "-o", "o.png", "--method", "grid", *ONE, "--after", "same.png"], "same.png"),
    "grid's guidance": (
        ["edit", "house.png", "-o", "o.png", "--method", "grid", *PAIR, "--image-guidance-scale", "1"],
        "'image_guidance_scale' is not a hyper-parameter of method 'grid'",
    ),
}  # fmt: skip


@pytest.fixture
def damaged(look):
    """Files beside a learned one that are none."""
    with safe_open("look.safetensors", framework="pt") as file:
        header = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    whole = Path("look.safetensors").read_bytes()
    Path("cut.safetensors").write_bytes(whole[: len(whole) // 2])
    save_file({**tensors, "prompt_embeds": tensors["prompt_embeds"] * torch.nan}, "nan.safetensors", header)
    save_file({**tensors, "ids": tensors["ids"][:-1]}, "shape.safetensors", header)
    save_file(tensors, "new.safetensors", {"showtell": header["showtell"].replace('"format": 1', '"format": 2')})
    save_file(tensors, "odd.safetensors", {"format": "pt"})
    Path("text.png").write_text("once upon a time")
    shutil.copyfile("house.png", "same.png")


@pytest.mark.parametrize("name", [*LEARNING, *EDITING])
def test_wrong_use_is_one_line_before_a_model_is_loaded(name, damaged, cli, unchanged, monkeypatch):
    args, said = {**LEARNING, **EDITING}[name]
    monkeypatch.setenv("SHOWTELL_STARTERS", "gone")  # with no model to load, it is still this that is told
    unchanged(begin=True)
    cli(*args).refused(said)
    unchanged()


def test_a_learned_file_of_another_model(look, cli, tiny_instruct_folder, unchanged, folder):
    from safetensors.torch import load_file

    shutil.copytree(tiny_instruct_folder, folder / "other")
    weights = next((folder / "other" / "text_encoder").glob("*.safetensors"))
    tensors = {name: tensor.flip(0).contiguous() for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    unchanged(begin=True)
    args = ("edit", "house.png", "--learned", "look.safetensors", "-o", "out.png", "--model", "other")
    cli(*args).refused("was learned with another text encoder (starter)")
    unchanged()


def test_words_that_leave_no_room(look, cli, unchanged):
    unchanged(begin=True)
    long = "a " * 74
    args = ("edit", "house.png", f"<look> {long}", "--learned", "look.safetensors", "-o", "out.png")
    cli(*args).refused("does not fit: 78 tokens with it, and there is room for 75")
    cli("learn", *PAIR, "-o", "l.safetensors", "--init", "a " * 76).refused("does not fit")
    cli("edit", "house.png", "<lok>", "<look>", "--learned", "look.safetensors", "-o", "o.png").refused(
        "<lok> names no"
    )
    unchanged()


def test_a_loss_that_was_never_a_number_writes_nothing(pair, cli, starters, tmp_path_factory, monkeypatch, unchanged):
    from safetensors.torch import load_file

    bad = tmp_path_factory.mktemp("bad") / "starters"
    shutil.copytree(starters, bad)
    path = next((bad / "unet-instruct").glob("*.safetensors"))
    weights = load_file(path)
    weights["conv_in.weight"] *= torch.nan
    save_file(weights, path, metadata={"format": "pt"})
    monkeypatch.setenv("SHOWTELL_STARTERS", str(bad))
    unchanged(begin=True)
    cli(*LEARN).refused("the loss is not a number from the start", code=1)
    assert not list(pair.glob("look*"))


# Stopping and going on.

RUNNER = """
    import contextlib, signal, sys, time
    from showtell import learned_file, learning
    from showtell.cli import console, main

    # What runs in a shell's background is started with the signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextlib.contextmanager
    def progress(title, *, as_json):
        def tick(done, total, figure=""):
            print("step", done, flush=True)
            time.sleep(0.5 if done >= 5 else 0)  # what ends it comes now
        yield tick

    console.progress = progress
    learning._SAVE_EVERY = 0.0
    sys.exit(main(sys.argv[1:]))
"""
LONG = (*LEARN, "--steps", "14", "--patience", "0")


def begun(*args: str) -> subprocess.Popen[str]:
    """The command in a process of its own, five steps into the learning."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RUNNER), *args], stdout=pipe, stderr=pipe, text=True
    )
    assert process.stdout is not None
    for _ in range(5):
        assert process.stdout.readline().startswith("step"), process.communicate()[1]
    return process


@pytest.fixture(scope="module")
def whole(tiny_starters, tmp_path_factory) -> bytes:
    """The bytes of what the whole learning gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOWTELL_STARTERS", str(tiny_starters))
        patch.chdir(tmp_path_factory.mktemp("whole"))
        pictures.plain().save("house.png")
        ImageOps.invert(pictures.plain()).save("after.png")
        assert main(LONG) == 0
        return Path("look.safetensors").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_it_goes_on_to_the_same_bytes(how, whole, pair, cli):
    process = begun(*LONG)
    try:
        process.send_signal(how)
        err = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert not Path("look.safetensors").exists() and Path("look.learning.safetensors").is_file()
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert err == (
            "showtell: interrupted; look.learning.safetensors keeps what was learned: give the same command with "
            "--resume to go on\n"
        )
    cli(*LONG).refused("look.learning.safetensors: holds an unfinished learning; go on with it by --resume")
    cli(*LONG, "--resume", "--lr", "0.5").refused("look.learning.safetensors: belongs to another learning")
    other = ("--before", "after.png", "--after", "house.png", "-o", "look.safetensors", *LONG[len(PAIR) + 3 :])
    cli("learn", *other, "--resume").refused("belongs to another learning")
    told = cli(*LONG, "--resume", "--json")
    assert told.code == 0, told.err
    assert Path("look.safetensors").read_bytes() == whole
    assert sorted(p.name for p in pair.iterdir()) == ["after.png", "house.png", "look.safetensors"]


def test_an_unfinished_learning_that_is_damaged(pair, cli):
    Path("look.learning.safetensors").write_bytes(b"half")
    cli(*LEARN, "--resume").refused("look.learning.safetensors: cannot be gone on from")
    assert cli(*LEARN, "--force").code == 0, "--force starts anew"
    assert not Path("look.learning.safetensors").exists()


def test_with_nothing_to_go_on_from_it_begins_and_says_so(pair, cli):
    result = cli(*LEARN, "--resume")
    assert result.code == 0 and "the learning began anew" in result.err


def test_ctrl_c_before_the_first_step_leaves_nothing(pair, cli, monkeypatch, unchanged):
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(learning, "study", stopped)
    unchanged(begin=True)
    cli(*LEARN).refused("interrupted before the first step", code=130)
    unchanged()


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")
def test_the_bar_shows_the_loss_on_a_terminal_only(pair, cli, on_terminal):
    shown = on_terminal(*LEARN, "--force")
    assert "learning" in shown and "loss 0." in shown
    assert cli(*LEARN, "--force").err == ""
