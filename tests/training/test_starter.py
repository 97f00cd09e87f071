"""The whole training, from nothing to a folder that the editor loads, with a handful of steps."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch

from showtell.bench import cards, starter
from showtell.errors import UsageError
from showtell.training import corpus, denoiser, tokenizer
from showtell.training.starter import train_starter

COUNTS = (0.5, 0.3, 0.1, 0.1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_starter(out=tmp_path_factory.mktemp("trained"), preset_name="smoke")


def test_a_smoke_run_makes_every_component_in_half_precision(trained) -> None:
    from safetensors import safe_open

    for part in ("clip/model", *(f"{p}/diffusion_pytorch_model" for p in ("vae", "unet-base", "unet-instruct"))):
        with safe_open(trained / f"{part}.safetensors", "pt") as file:
            assert {file.get_slice(k).get_dtype() for k in file.keys()} <= {"F16", "I64"}  # noqa: SIM118
    assert not list(trained.glob(".*.part"))


def test_what_was_trained_edits_a_picture(trained, monkeypatch) -> None:
    import showtell
    from showtell import scenes

    monkeypatch.setenv("SHOWTELL_STARTERS", str(trained))
    edit = showtell.load("starter").edit(scenes.sample(1).before, "make it sepia", seed=0, num_inference_steps=2)
    assert edit.image.size == (64, 64)


@pytest.mark.parametrize("before", [None, "elsewhere"])
def test_the_starters_of_before_are_those_of_afterwards_whatever_happens(before, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("SHOWTELL_STARTERS", raising=False)
    if before is not None:
        monkeypatch.setenv("SHOWTELL_STARTERS", before)
    with pytest.raises(KeyboardInterrupt), cards._starters_at(tmp_path):
        assert os.environ["SHOWTELL_STARTERS"] == str(tmp_path)
        raise KeyboardInterrupt
    assert os.environ.get("SHOWTELL_STARTERS") == before


def test_a_training_ends_with_tuned_defaults_measured_figures_and_cards(trained, monkeypatch) -> None:
    monkeypatch.setenv("SHOWTELL_STARTERS", "elsewhere")
    monkeypatch.setattr(starter, "GUIDANCE_GRID", ((2.0, 1.5),))
    figures = cards.finish(trained, preset_name="smoke", seed=0, device="cpu", say=lambda line: None)
    assert os.environ["SHOWTELL_STARTERS"] == "elsewhere"
    card = json.loads((trained / "cards" / "starter.json").read_text())
    assert card["defaults"]["ip2p"] == {
        "guidance_scale": 2.0,
        "image_guidance_scale": 1.5,
        "num_inference_steps": 20,
    }
    assert card["figures"]["editing"] == figures["editing"] and figures["editing"]["edits_1"]["count"] == 4
    assert 0 <= card["figures"]["grounding"]["joined"]["iou"] <= 1
    assert "NOT reached" in card["figures"]["wanted"]["success of single edits"]
    text = (trained / "cards" / "starter-base.md").read_text()
    assert "base grounding, maximum inside" in text and "held-out" in text and "0.00085" in text
    assert {p.suffix for p in (trained / "cards").iterdir()} == {".json", ".md"}


def test_a_finished_run_is_opened_not_trained_again(trained) -> None:
    before = {p: p.stat().st_mtime_ns for p in trained.rglob("*.safetensors")}
    train_starter(out=trained, preset_name="smoke")
    assert before == {p: p.stat().st_mtime_ns for p in trained.rglob("*.safetensors")}


def test_a_folder_with_a_run_of_other_settings_is_refused(trained) -> None:
    with pytest.raises(UsageError, match="another seed"):
        train_starter(out=trained, preset_name="smoke", seed=1)


def test_an_interrupted_corpus_goes_on_to_the_same_arrays(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(corpus, "_BLOCK", 8)
    whole = corpus.make_corpus(tmp_path / "whole", cases=24, counts=COUNTS)

    def stop(stage: str, step: int, steps: int, figures: dict) -> None:
        if step == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        corpus.make_corpus(tmp_path / "cut", cases=24, counts=COUNTS, report=stop)
    with (tmp_path / "cut" / "cases.jsonl").open("a") as file:
        file.write('{"half a li')
    cut = corpus.make_corpus(tmp_path / "cut", cases=24, counts=COUNTS)
    assert corpus._count(tmp_path / "cut" / "cases.jsonl", 24) == 24
    assert np.array_equal(whole.pictures, cut.pictures) and np.array_equal(whole.regions, cut.regions)
    assert whole.entries == cut.entries


def test_marks_point_at_the_words_that_name_the_regions(tmp_path) -> None:
    made = corpus.make_corpus(tmp_path, cases=40, counts=COUNTS)
    words = tokenizer.make_tokenizer()
    from showtell import scenes

    nouns = {*scenes.KINDS, *scenes.STYLES, "background", *(b.word for b in scenes.BACKDROPS.values())}
    for entry in made.entries:
        for text in (entry.instruction, *entry.captions):
            ids = words(text.text).input_ids
            tokens = words.convert_ids_to_tokens(ids)
            assert len(ids) <= tokenizer.POSITIONS
            assert all(tokens[at].removesuffix("</w>") in nouns for at, _ in text.marks)


def test_every_word_of_the_world_is_one_token() -> None:
    from showtell.scenes.language import words

    tool = tokenizer.make_tokenizer()
    lines = tokenizer.corpus(300)[:-8]
    assert all(len(tool(line).input_ids) == len(words(line)) + 2 for line in lines)


def test_the_tokenizer_spells_what_it_does_not_know(tmp_path) -> None:
    from transformers import CLIPTokenizer

    tokenizer.save_tokenizer(tmp_path)
    tool = CLIPTokenizer.from_pretrained(tmp_path)
    text = "zebra-crossing, naïve 猫!"
    assert tool.decode(tool(text).input_ids, skip_special_tokens=True).strip().replace(" ", "") == text.replace(" ", "")
    assert tool.eos_token_id == tool.pad_token_id != tool.bos_token_id
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    assert vocabulary == tool.get_vocab()


def test_steps_draw_from_streams_of_their_own() -> None:
    from showtell.training.loop import generator

    draws = {float(torch.rand(1, generator=generator(seed, step))) for seed in range(3) for step in range(50)}
    assert len(draws) == 150


def test_only_the_instruct_network_is_trained_on_single_instructions(tmp_path, monkeypatch) -> None:
    import showtell
    from showtell import scenes
    from showtell.loading import starter_card, starters_dir
    from showtell.training.settings import PRESETS

    installed, settings = starters_dir(), starter_card("starter")["defaults"]
    folder = train_starter(out=tmp_path / "single", preset_name="smoke", only="instruct")
    names = ["clip/model", *(f"{part}/diffusion_pytorch_model" for part in ("vae", "unet-base", "unet-instruct"))]
    same = [(folder / f"{n}.safetensors").read_bytes() == (installed / f"{n}.safetensors").read_bytes() for n in names]
    assert same == [True, True, True, False]
    assert PRESETS["cpu-single"].edit_counts == (1.0,)
    assert {len(corpus.draw_train_plan(seed, (1.0,)).edits) for seed in range(50)} == {1}
    monkeypatch.setenv("SHOWTELL_STARTERS", str(folder))
    editor = showtell.load("starter")
    assert editor.card["defaults"] == settings and editor.card["figures"] == {}
    assert editor.edit(scenes.sample(1).before, "make it sepia", seed=0, num_inference_steps=2).image.size == (64, 64)


def test_only_the_base_network_is_trained_and_grows_out_of_the_instruct_network(tmp_path) -> None:
    from diffusers import UNet2DConditionModel

    from showtell.loading import starters_dir

    installed = starters_dir()
    folder = train_starter(out=tmp_path / "base", preset_name="smoke", only="base")
    names = ["clip/model", *(f"{part}/diffusion_pytorch_model" for part in ("vae", "unet-instruct", "unet-base"))]
    same = [(folder / f"{n}.safetensors").read_bytes() == (installed / f"{n}.safetensors").read_bytes() for n in names]
    assert same == [True, True, True, False]
    instruct, base = (UNet2DConditionModel.from_pretrained(folder / part) for part in ("unet-instruct", "unet-base"))
    slim = denoiser.narrow(instruct)
    x, text, t = torch.randn(2, 4, 16, 16), torch.randn(2, 77, 128), torch.tensor([10, 900])
    wide = instruct(torch.cat((x, torch.zeros_like(x)), 1), t, text).sample
    assert torch.allclose(slim(x, t, text).sample, wide, atol=1e-5)
    # a few steps from there; another network altogether would be far away
    gap = (base.conv_out.weight - slim.conv_out.weight).norm() / slim.conv_out.weight.norm()
    assert 0 < float(gap) < 0.2
