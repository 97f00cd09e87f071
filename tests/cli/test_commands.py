"""The commands beside edit and replay, when all is well."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import showtell
from showtell.cli import console


def test_scenes_writes_pictures_masks_and_words(cli):
    result = cli("scenes", "--seed", "7", "--count", "2", "--edits", "2", "-o", "made", "--json")
    assert result.code == 0 and result.json["seed"] == 7 and result.json["written"] == ["made"]
    described = json.loads(Path("made/scenes.json").read_text(encoding="utf-8"))
    assert described == result.json["cases"] and [d["seed"] for d in described] == [7, 8]
    case = showtell.scenes.sample(7, edits=2)
    assert described[0]["instructions"] == case.instructions
    assert np.array_equal(np.asarray(Image.open("made/7-after.png")), np.asarray(case.after))
    assert np.array_equal(np.asarray(Image.open("made/7-mask-2.png")) > 0, case.masks[1])
    assert sorted(p.name for p in Path("made").iterdir()) == sorted(
        ["scenes.json", *described[0]["files"], *described[1]["files"]]
    )


def test_scenes_keeps_what_is_there(cli, unchanged):
    assert cli("scenes", "--seed", "1", "-o", "made").code == 0
    unchanged(begin=True)
    cli("scenes", "--seed", "2", "-o", "made").refused("made/scenes.json: exists already")
    unchanged()
    assert cli("scenes", "--seed", "2", "-o", "made", "--force").code == 0
    assert Path("made/1-before.png").exists(), "--force replaces files of the same name only"


def test_scenes_draws_a_sheet(cli):
    result = cli("scenes", "--sheet", "sheet.png", "--count", "3", "--action", "recolour", "--seed", "0")
    assert result.code == 0 and result.out.endswith("wrote sheet.png\n")
    assert Image.open("sheet.png").width > 600


def test_models_are_listed_and_described(cli):
    names = [model["name"] for model in cli("models", "list", "--json").json["models"]]
    assert names == ["starter", "starter-base", "starter-clip", "starter-fast"]
    assert cli("models", "list").out.count("\n") == 5
    assert isinstance(cli("models", "show", "starter", "--json").json["card"], dict)
    assert cli("models", "show", "starter").out.startswith("starter\n")


@pytest.mark.parametrize(
    ("name", "library", "loader"),
    [
        ("starter", "diffusers", "StableDiffusionInstructPix2PixPipeline"),
        ("starter-base", "diffusers", "StableDiffusionPipeline"),
        ("starter-clip", "transformers", "CLIPModel"),
    ],
)
def test_stock_libraries_load_what_is_exported(name, library, loader, cli):
    import importlib

    assert cli("models", "export", name, "folder").out == f"wrote {name} to folder\n"
    getattr(importlib.import_module(library), loader).from_pretrained("folder", local_files_only=True)
    cli("models", "export", name, "folder").refused("folder: exists already")
    assert cli("models", "export", name, "folder", "--force").code == 0


def test_an_exported_model_edits(cli):
    assert cli("models", "export", "starter", "mine").code == 0
    assert cli("edit", "house.png", "red", "-o", "out.png", "--model", "mine", "--steps", "1").code == 0


def test_doctor_finds_nothing_wrong_here(cli):
    result = cli("doctor", "--json", "--device", "cpu")
    assert result.code == 0 and result.json["ok"], result.out
    assert {"torch", "torchvision", "starters", "trial edit"} <= {check["name"] for check in result.json["checks"]}


def test_doctor_names_what_is_broken(cli, starters, tmp_path, monkeypatch):
    import shutil

    shutil.copytree(starters, tmp_path / "bad")
    weights = tmp_path / "bad" / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    monkeypatch.setenv("SHOWTELL_STARTERS", str(tmp_path / "bad"))
    result = cli("doctor")
    assert result.code == 1
    assert result.err.startswith("showtell: broken: starters") and len(result.err.splitlines()) == 1
    assert "BROKEN" in result.out


def test_doctor_finds_a_torchvision_that_does_not_fit(cli, tmp_path, monkeypatch):
    package = tmp_path / "site" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.syspath_prepend(str(package.parent))
    result = cli("doctor", "--json")
    assert result.code == 1
    (check,) = [c for c in result.json["checks"] if not c["ok"]]
    assert check["name"] == "torchvision" and "pip uninstall torchvision" in check["detail"]


def test_train_hands_its_options_on(cli, monkeypatch):
    from showtell.training import starter

    told = {}

    def train_starter(*, report, **kwargs):
        told.update(kwargs)
        report("clip", 1, 2, {"loss": 0.5})
        report("clip", 2, 2, {"loss": 0.25})
        return kwargs["out"]

    monkeypatch.setattr(starter, "train_starter", train_starter)
    args = ("train", "starter", "--preset", "smoke", "--out", "t", "--seed", "4", "--device", "cpu", "--until", "clip")
    result = cli(*args)
    assert (result.code, result.out) == (0, "trained in t (seed 4)\n")
    assert result.err == "training: clip, 2 steps\n"
    assert told == {
        "out": Path("t"),
        "preset_name": "smoke",
        "seed": 4,
        "device": "cpu",
        "stages": 2,
        "only": None,
    }
    assert cli(*args, "--json").json["written"] == "t"


def test_an_interrupted_training_says_how_to_go_on(cli, monkeypatch):
    from showtell.training import starter

    def train_starter(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(starter, "train_starter", train_starter)
    cli("train", "starter", "--out", "t").refused("with --resume to go on in t", code=130)


def test_an_unexpected_error_is_one_line_and_a_traceback_only_when_asked(cli, monkeypatch):
    from showtell.training import starter

    def train_starter(**_):
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(starter, "train_starter", train_starter)
    result = cli("train", "starter", "--out", "t")
    assert result.code == 1
    assert result.err == "showtell: unexpected ZeroDivisionError: two lines (set SHOWTELL_DEBUG=1 to see where)\n"
    monkeypatch.setenv("SHOWTELL_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli("train", "starter", "--out", "t")


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")
def test_a_bar_is_shown_on_a_terminal_only(cli, on_terminal):
    args = ("scenes", "--count", "3", "--sheet", "s.png", "--seed", "0", "--force")
    assert "drawing" in on_terminal(*args)
    assert cli(*args).err == ""


NASTY = "a\x1b[31mb\x9b2J\u202ec\x7fd\x07"


def test_what_a_terminal_would_obey_is_written_out(capsys):
    console.finish({}, f"{NASTY}\nmore", as_json=False, notes=[f"{NASTY}\nshowtell: all is well"])
    told = capsys.readouterr()
    assert told.out.splitlines() == [r"a\x1b[31mb\x9b2J\u202ec\x7fd\x07", "more"] and len(told.err.splitlines()) == 1
    assert console.printable(told.out.replace("\n", "")).isprintable() and r"\x1b[31m" in told.err
    console.finish({"name": NASTY}, "", as_json=True)
    told = capsys.readouterr().out
    assert told.rstrip("\n").isprintable() and json.loads(told)["name"] == NASTY
    assert [len(line) for line in console.table(["x"], [["a\nb\x1b"]]).splitlines()] == [1, 8]


@pytest.mark.parametrize(
    "text", ["", "naïve café", "日本語　全角", "مىخواهم نمی\u200cخواهم", "👩\u200d👧", "a\u00a0b", "12 °C – “x”"]
)
def test_letters_of_any_script_stay(text, capsys):
    assert console.printable(text) == text
    console.finish({"text": text}, "", as_json=True)
    assert text in capsys.readouterr().out


def test_an_error_with_text_from_a_file_is_not_obeyed(cli, folder):
    from safetensors.torch import save

    model = {"id": "", "text_encoder": "", "weights": ""}
    header = {"kind": "learned instruction", "format": 1, "span": [1, 5], "model": model}
    header["versions"] = {"\x1b[2J" + "x" * 5000: 3}
    (folder / "bad.safetensors").write_bytes(save({}, metadata={"showtell": json.dumps(header)}))
    result = cli("edit", "house.png", "-o", "out.png", "--learned", "bad.safetensors")
    result.refused(r"bad.safetensors: its header is damaged (versions.\x1b[2Jxxx")
    assert "\x1b" not in result.err and len(result.err) < 600
    cli("edit", "\x1b[2Jnone.png", "red", "-o", "out.png").refused(r"\x1b[2Jnone.png")
