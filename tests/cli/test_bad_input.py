"""Everything that a user can get wrong: one line, the right exit code, nothing written, nothing lost."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.cli import pictures


def broken(folder: Path) -> None:
    data = (folder / "house.png").read_bytes()
    (folder / "in.png").write_bytes(data[: len(data) // 2])


def text(folder: Path) -> None:
    (folder / "in.png").write_text("once upon a time there was a house", encoding="utf-8")


INPUTS = {
    "missing": (lambda folder: None, "in.png: no such file"),
    "empty": (lambda folder: (folder / "in.png").touch(), "in.png: the file is empty"),
    "broken": (broken, "in.png: is broken"),
    "not a picture": (text, "in.png: is not a picture"),
    "a folder": (lambda folder: (folder / "in.png").mkdir(), "in.png: is a folder"),
    "0x0": (lambda folder: pictures.png_header(0, 0, folder / "in.png"), "in.png"),
    "50000x50000": (lambda folder: pictures.png_header(50_000, 50_000, folder / "in.png"), "megapixels"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_a_picture_that_cannot_be_edited(name, cli, folder, unchanged):
    make, said = INPUTS[name]
    make(folder)
    unchanged(begin=True)
    began = time.monotonic()
    cli("edit", "in.png", "make it red", "-o", "out.png").refused(said)
    assert time.monotonic() - began < 5  # refused from the header, before a model is loaded
    unchanged()


WRONG = {
    "empty instruction": (["house.png", "", "-o", "out.png"], "instruction is empty"),
    "blank instruction": (["house.png", "  ", "-o", "out.png"], "instruction is empty"),
    "words in no encoding": (["house.png", "a \udce9 b", "-o", "out.png"], "encoding"),
    "negative in no encoding": (["house.png", "x", "-o", "out.png", "--negative", "\udce9"], "encoding"),
    "unknown method": (["house.png", "x", "-o", "out.png", "--method", "magic"], "'magic' is not known"),
    "unknown model": (["house.png", "x", "-o", "out.png", "--model", "no-such-model"], "no-such-model: no such model"),
    "unknown scheduler": (["house.png", "x", "-o", "out.png", "--scheduler", "magic"], "magic"),
    "guidance below 1": (["house.png", "x", "-o", "out.png", "--guidance-scale", "0.5"], "guidance_scale=0.5"),
    "guidance nan": (["house.png", "x", "-o", "out.png", "--guidance-scale", "nan"], "guidance_scale=nan"),
    "negative image guidance": (["house.png", "x", "-o", "out.png", "--image-guidance-scale", "-1"], "image_guidance"),
    "no steps": (["house.png", "x", "-o", "out.png", "--steps", "0"], "num_inference_steps=0"),
    "steps in words": (["house.png", "x", "-o", "out.png", "--steps", "ten"], "'--steps'"),
    "negative seed": (["house.png", "x", "-o", "out.png", "--seed", "-1"], "'--seed'"),
    "unknown fit": (["house.png", "x", "-o", "out.png", "--fit", "zoom"], "'zoom' is not one of"),
    "name too long": (["house.png", "x", "-o", "x" * 300 + ".png"], "the name is too long"),
    "model's name too long": (["house.png", "x", "-o", "out.png", "--model", "m" * 300], "no such model"),
    "input's name too long": (["x" * 300 + ".png", "x", "-o", "out.png"], "cannot be read"),
    "too wide for WebP": (["wide.png", "x", "-o", "out.webp", "--model", "none"], "at most 16383 pixels a side"),
    "scheduler that takes more": (["house.png", "x", "-o", "out.png", "--scheduler", "KarrasVe"], "does not fit"),
    "too few steps": (["house.png", "x", "-o", "out.png", "--scheduler", "pndm", "--steps", "1"], "cannot take 1"),
    "unknown device": (["house.png", "x", "-o", "out.png", "--device", "abacus"], "'abacus' is not one of"),
    "unknown option": (["house.png", "x", "-o", "out.png", "--strenght", "1"], "--strenght"),
    "no output named": (["house.png", "x"], "'--out' / '-o'"),
    "no words": (["house.png", "-o", "out.png"], "WORDS"),
    "unknown kind of file": (["house.png", "x", "-o", "out.xyz"], "out.xyz"),
    "folder that is not there": (["house.png", "x", "-o", "nowhere/out.png"], "nowhere"),
    "output is a folder": (["house.png", "x", "-o", "sub.png"], "sub.png: is a folder"),
    "below a file": (["house.png", "x", "-o", "house.png/out.png"], "house.png"),
    "mask missing": (["house.png", "x", "-o", "out.png", "--mask", "m.png"], "m.png: no such file"),
    "mask of another size": (["house.png", "x", "-o", "out.png", "--mask", "small.png"], "small.png"),
    "empty mask": (["house.png", "x", "-o", "out.png", "--mask", "black.png"], "black.png"),
    "pickle as a model": (["house.png", "x", "-o", "out.png", "--model", "model.ckpt"], "model.ckpt"),
    "renamed pickle": (["house.png", "x", "-o", "out.png", "--model", "pickle.safetensors"], "pickle.safetensors"),
    "folder without a model": (["house.png", "x", "-o", "out.png", "--model", "sub.png"], "sub.png"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_request_that_makes_no_sense(name, cli, folder, unchanged):
    import torch

    args, said = WRONG[name]
    (folder / "sub.png").mkdir()
    Image.new("L", (40, 32), 0).save("black.png")
    Image.new("L", (8, 8), 255).save("small.png")
    Image.new("L", (16_384, 1), 255).save("wide.png")
    for pickle in ("model.ckpt", "pickle.safetensors"):
        torch.save({"weight": torch.zeros(2)}, folder / pickle)
    unchanged(begin=True)
    cli("edit", *args).refused(said)
    unchanged()


def test_cuda_where_there_is_none(cli, unchanged):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    cli("edit", "house.png", "x", "-o", "out.png", "--device", "cuda").refused("'cuda' is not available")
    unchanged()


def test_an_existing_output_is_kept_unless_forced(cli, folder, unchanged):
    (folder / "out.png").write_bytes(b"precious")
    unchanged(begin=True)
    cli("edit", "house.png", "make it red", "-o", "out.png").refused("out.png: exists already; use --force")
    unchanged()
    forced = cli("edit", "house.png", "make it red", "-o", "out.png", "--force", "--steps", "1")
    assert forced.code == 0, forced.err
    assert Image.open("out.png").size == (40, 32)


def test_the_wrong_kind_of_model(cli, tiny_base_folder, unchanged):
    result = cli("edit", "house.png", "make it red", "-o", "out.png", "--model", tiny_base_folder)
    result.refused("method 'ip2p' needs an instruct model")
    unchanged()


def test_weights_of_another_shape(cli, folder, tiny_instruct_folder, unchanged):
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_instruct_folder, folder / "odd")
    path = folder / "odd" / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.weight"] = weights["conv_in.weight"][:, :5].contiguous()
    save_file(weights, path, metadata={"format": "pt"})
    unchanged(begin=True)
    cli("edit", "house.png", "make it red", "-o", "out.png", "--model", "odd").refused("odd")
    unchanged()


def test_a_pickle_inside_a_model_folder(cli, folder, tiny_instruct_folder, unchanged):
    import torch

    shutil.copytree(tiny_instruct_folder, folder / "odd")
    torch.save({"weight": torch.zeros(2)}, folder / "odd" / "unet" / "diffusion_pytorch_model.safetensors")
    unchanged(begin=True)
    cli("edit", "house.png", "make it red", "-o", "out.png", "--model", "odd").refused("odd")
    unchanged()


@pytest.mark.parametrize("command", ["edit", "scenes", "export"])
def test_a_full_disk_is_not_the_users_doing(command, cli, monkeypatch, unchanged):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(shutil, "copyfile", lambda *_: full(0))
    commands = {
        "edit": ["edit", "house.png", "make it red", "-o", "out.png", "--steps", "1"],
        "scenes": ["scenes", "-o", "scenes", "--seed", "1"],
        "export": ["models", "export", "starter-clip", "clip"],
    }
    cli(*commands[command]).refused("No space left on device", code=1)
    unchanged()


def test_a_forced_output_survives_a_full_disk(cli, folder, monkeypatch, unchanged):
    (folder / "out.png").write_bytes(b"precious")
    unchanged(begin=True)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    cli("edit", "house.png", "red", "-o", "out.png", "--force", "--steps", "1").refused("No space left", code=1)
    unchanged()


def test_a_folder_that_may_not_be_written(cli, folder, unchanged):
    (folder / "locked").mkdir(mode=0o500)
    target = "locked/out.png"
    if os.access(folder / "locked", os.W_OK):  # root may write anywhere but into the kernel's own folders
        target = "/proc/showtell.png"
    if not Path(target).parent.is_dir():
        pytest.skip("no folder here refuses this user")
    cli("edit", "house.png", "make it red", "-o", target, "--steps", "1").refused(f"{target}:")
    unchanged()


def test_replay_wants_a_recipe(cli, folder, unchanged):
    pictures.turned(folder / "photo.jpg")
    unchanged(begin=True)
    cli("replay", "house.png", "-o", "out.png").refused("house.png: carries no recipe")
    cli("replay", "photo.jpg", "-o", "out.png").refused("photo.jpg: is not a PNG")
    cli("replay", "nothing.png", "-o", "out.png").refused("nothing.png: no such file")
    unchanged()


def test_replay_wants_the_input(cli, folder, unchanged):
    assert cli("edit", "house.png", "make it red", "-o", "red.png", "--steps", "1").code == 0
    (folder / "house.png").rename(folder / "moved.png")
    unchanged(begin=True)
    cli("replay", "red.png", "-o", "again.png").refused("house.png: the input of red.png is not there")
    cli("replay", "red.png", "--input", "nothing.png", "-o", "again.png").refused("nothing.png: no such file")
    unchanged()


OTHERS = {
    "unknown command": (["edti"], "'edti'"),
    "unknown starter": (["models", "show", "starter-xl"], "'starter-xl' is not a starter model"),
    "unknown starter to export": (["models", "export", "starter-xl", "x"], "'starter-xl' is not a starter model"),
    "models without a command": (["models"], "Missing command"),
    "scenes to nowhere": (["scenes"], "nothing to write"),
    "too many edits": (["scenes", "--edits", "9", "-o", "s"], "'--edits'"),
    "unknown edit": (["scenes", "--action", "explode", "-o", "s"], "'explode'"),
    "scenes into a file": (["scenes", "-o", "house.png"], "house.png: is a file"),
    "scenes below a file": (["scenes", "-o", "house.png/s"], "house.png"),
    "sheet of another kind": (["scenes", "--sheet", "sheet.jpg"], "must end in .png"),
    "sheet too large": (["scenes", "--sheet", "sheet.png", "--count", "201"], "at most 200 cases"),
    "export to a name too long": (["models", "export", "starter", "x" * 300], "the name is too long"),
    "demo to a name too long": (["demo", "--out", "x" * 300], "the name is too long"),
    "unknown preset": (["train", "starter", "--preset", "huge"], "'huge' is not one of"),
    "training into a file": (["train", "starter", "--out", "house.png"], "house.png: is a file"),
    "nothing to resume": (["train", "starter", "--out", "t", "--resume"], "t: holds no run to resume"),
    "export over other files": (["models", "export", "starter", ".", "--force"], "was not written by showtell"),
    "bench over a file": (["bench", "starter", "-o", "house.png"], "house.png: exists already"),
    "demo into a file": (["demo", "--out", "house.png"], "house.png: is a file"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_commands_refuse_nonsense(name, cli, unchanged):
    args, said = OTHERS[name]
    cli(*args).refused(said)
    unchanged()


def test_a_second_training_does_not_overwrite_the_first(cli, folder, unchanged):
    (folder / "trained" / "run").mkdir(parents=True)
    cli("train", "starter", "--preset", "smoke").refused("trained: holds a run already; go on with it by --resume")
    unchanged()
