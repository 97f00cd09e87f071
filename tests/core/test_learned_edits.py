"""Edits with learned instructions, and the same edits again from their recipes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import showtell
from showtell.errors import FileFormatError, ModelError, TextError
from showtell.learned import LearnedInstruction
from tests.helpers.looks import made

STEPS = {"num_inference_steps": 4}


@pytest.mark.parametrize("scheduler", ["EulerAncestralDiscreteScheduler", "DDIMScheduler", "UniPCMultistepScheduler"])
def test_alone_it_equals_stock_diffusers_with_its_prompt_embeds(picture, scheduler):
    import diffusers
    import numpy as np

    from tests.helpers import tiny

    pipe = tiny.pipeline("instruct")
    pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
    look = made(pipe)
    image = torch.from_numpy(np.asarray(picture(), dtype=np.float32) / 255).permute(2, 0, 1)[None]
    stock = pipe(
        prompt_embeds=look.prompt_embeds(pipe), image=image, output_type="latent",
        generator=torch.Generator("cpu").manual_seed(3), **STEPS,
    ).images  # fmt: skip
    editor = showtell.Editor(pipe)
    edit = editor.edit(picture(), look, seed=3, **STEPS)
    assert torch.allclose(edit.latents, stock[0], atol=1e-4, rtol=0)
    told = editor.edit(picture(), "nothing", seed=3, **STEPS)
    assert not torch.allclose(told.latents, edit.latents, atol=1e-2)


def test_strength_zero_is_the_empty_instruction(editor, picture):
    look = made(editor.pipe)
    zero = editor.edit(picture(), look * 0, seed=0, **STEPS)
    other = editor.edit(picture(), made(editor.pipe, "other", seed=5) * 0, seed=0, **STEPS)
    assert torch.allclose(zero.latents, other.latents, atol=1e-5)
    half = editor.edit(picture(), "<night:0.5>", learned=look, seed=0, **STEPS)
    assert torch.equal(half.latents, editor.edit(picture(), look * 0.5, seed=0, **STEPS).latents)
    assert not torch.allclose(half.latents, zero.latents, atol=1e-3)


def test_a_batch_of_looks_and_words_equals_the_single_edits(editor, picture):
    look, other = made(editor.pipe), made(editor.pipe, "other", seed=1)
    pictures = [picture(), picture(64, 30), picture(seed=1), picture(seed=2), picture(seed=3)]
    told = [look, other, look + "red", "make it blue", [other, "add a star"]]
    together = editor.edit(pictures, told, seed=[0, 1, 2, 3, 4], **STEPS)
    for i, edit in enumerate(together):
        alone = editor.edit(pictures[i], told[i], seed=i, **STEPS)
        assert torch.allclose(edit.latents, alone.latents, atol=1e-4, rtol=0)
    assert together[4].recipe.instructions == ("<other>", "add a star")
    joined = editor.edit(pictures[4], "<other>, add a star", learned=other, seed=4, **STEPS)
    assert torch.allclose(together[4].latents, joined.latents, atol=1e-4, rtol=0)


def test_one_look_serves_a_list_of_pictures(editor, picture):
    look = made(editor.pipe)
    pictures = [picture(), picture(seed=1)]
    for told, learned in ((look, None), (look + "red", None), (None, look), (["<night>"] * 2, look)):
        edits = editor.edit(pictures, told, learned=learned, seed=[0, 1], **STEPS)
        alone = editor.edit(pictures[1], told[1] if isinstance(told, list) else told, learned=learned, seed=1, **STEPS)
        assert torch.allclose(edits[1].latents, alone.latents, atol=1e-4, rtol=0)


def test_a_look_of_another_model_fails_for_its_own_picture(editor, picture):
    look = made(editor.pipe)
    foreign = dataclasses.replace(
        look, empty_embeds=look.empty_embeds + 1, model=dataclasses.replace(look.model, text_encoder="other")
    )
    results = editor.edit([picture(), picture()], [look, foreign], seed=0, **STEPS)
    assert isinstance(results[0], showtell.Edit) and isinstance(results[1], ModelError)


@pytest.mark.parametrize("size", [1e30, float("nan")])
def test_a_result_that_is_not_finite_is_an_error_of_its_own_picture(editor, picture, size):
    look = made(editor.pipe)
    wild = dataclasses.replace(made(editor.pipe, "wild"), embeds=look.embeds * size)
    results = editor.edit([picture(), picture(seed=1), picture(seed=2)], [look, wild, look], seed=0, **STEPS)
    assert [type(result) for result in results] == [showtell.Edit, showtell.errors.ShowtellError, showtell.Edit]
    assert "not finite" in str(results[1]) and "extreme strength" in str(results[1]) and "\n" not in str(results[1])
    for i in (0, 2):
        alone = editor.edit(picture(seed=i), look, seed=0, **STEPS)
        assert torch.allclose(results[i].latents, alone.latents, atol=1e-4, rtol=0)
    with pytest.raises(showtell.errors.ShowtellError, match="not finite"):
        editor.edit(picture(), wild, seed=0, **STEPS)


def test_pixels_that_overflow_are_an_error_and_no_black_picture(editor, picture):
    """The autoencoder of Stable Diffusion 1.x does this in float16."""
    look = made(editor.pipe)
    with torch.no_grad():
        editor.pipe.vae.decoder.conv_out.bias.fill_(float("inf"))
    with pytest.raises(showtell.errors.ShowtellError, match="not finite.*float16"):
        editor.edit(picture(), look, seed=0, **STEPS)


# --- making an edit again -----------------------------------------------------------------------------------------


def same(edit, again):
    assert edit.image.tobytes() == again.image.tobytes()
    assert any("the pixels are the same" in note for note in again.notes)
    assert not any("not the learned instruction" in note for note in again.notes)


@pytest.fixture
def replayed(editor, picture, tmp_path):
    """``replayed(instruction, ...)``: an edit, saved, and made again."""
    picture(40, 24).save(tmp_path / "in.png")

    def edit_and_replay(told=None, *, again=None, learned=None, **options):
        edit = editor.edit(tmp_path / "in.png", told, learned=learned, seed=5, **STEPS, **options)
        out = edit.save(tmp_path / "out.png", force=True)
        return edit, showtell.replay(out, editor=editor, learned=again)

    return edit_and_replay


def test_an_edit_with_files_is_replayed(editor, replayed, tmp_path):
    night = made(editor.pipe).save(tmp_path / "night.safetensors")
    other = made(editor.pipe, seed=1).save(tmp_path / "other.safetensors")
    for told, learned in (
        (None, night), ("red <night>", str(night)), ("<night> red <other:0.3>", [night, other]),
        ("<a> red", {"a": night}), (["<night>", "add a star"], night),
    ):  # fmt: skip
        edit, again = replayed(told, learned=learned)
        same(edit, again)


def test_a_look_that_no_word_calls_is_an_error(editor, picture):
    looks = [made(editor.pipe, "night"), made(editor.pipe, "other", seed=1)]
    for told in ("red", "<night> red", ["<night>", "red"], looks[0] + "red"):
        with pytest.raises(TextError, match="do not call <"):
            editor.edit(picture(), told, learned=looks)
    assert len(editor.edit([picture()] * 2, ["<night>", "<other>"], learned=looks, num_inference_steps=1)) == 2


def test_mixtures_of_files_are_replayed_to_the_bit(editor, replayed, tmp_path):
    a = LearnedInstruction.load(made(editor.pipe).save(tmp_path / "a.safetensors"))
    b = LearnedInstruction.load(made(editor.pipe, seed=1).save(tmp_path / "b.safetensors"))
    for mixture in (a * 0.7, a * 0.3 * 0.7, 0.3 * a + 0.7 * b, (a + b) / 2, (a / 3 + b) * 0.6 + a, a * 3 / 3):
        edit, again = replayed(mixture)
        same(edit, again)
        assert torch.equal(edit.latents, again.latents)
    edit, again = replayed((0.3 * a + 0.7 * b) + "red" + a * -0.5)
    same(edit, again)
    assert [record.name for record in edit.recipe.learned] == ["a-b", "a"]
    assert [(part.path, part.weight) for part in edit.recipe.learned[0].parts] == [
        (str(tmp_path / "a.safetensors"), 0.3), (str(tmp_path / "b.safetensors"), 0.7),
    ]  # fmt: skip


def test_files_that_moved_are_found_beside_the_png_or_where_one_says(editor, replayed, tmp_path):
    folder = tmp_path / "looks"
    folder.mkdir()
    night = made(editor.pipe).save(folder / "night.safetensors")
    edit, _ = replayed("red <night>", learned=night)
    night.rename(tmp_path / "night.safetensors")
    same(edit, showtell.replay(tmp_path / "out.png", editor=editor))
    (tmp_path / "night.safetensors").rename(folder / "renamed.safetensors")
    with pytest.raises(
        FileFormatError, match=r"out.png: its learned instruction \(.*night.*give its file with --learned"
    ):
        showtell.replay(tmp_path / "out.png", editor=editor)
    same(edit, showtell.replay(tmp_path / "out.png", editor=editor, learned=folder / "renamed.safetensors"))


def test_a_file_that_changed_is_said(editor, replayed, tmp_path):
    night = made(editor.pipe).save(tmp_path / "night.safetensors")
    edit, _ = replayed("<night>", learned=night)
    good = night.read_bytes()
    made(editor.pipe, seed=1).save(night, force=True)
    again = showtell.replay(tmp_path / "out.png", editor=editor)
    assert any("night: is not the learned instruction that was used" in note for note in again.notes)
    assert any("pixels differ" in note for note in again.notes)
    (tmp_path / "kept.safetensors").write_bytes(good)
    same(edit, showtell.replay(tmp_path / "out.png", editor=editor, learned=tmp_path / "kept.safetensors"))


def test_a_look_in_memory_must_be_given(editor, replayed, tmp_path):
    look, other = made(editor.pipe), made(editor.pipe, "other", seed=1)
    with pytest.raises(FileFormatError, match=r"\(in memory\) is not there: give its file"):
        replayed(look + "red")
    saved = look.save(tmp_path / "anything.safetensors")
    edit, again = replayed(look + "red" + other, again=[other, saved])
    same(edit, again)


def test_what_was_given_stands_for_what_is_missing_and_for_nothing_else(editor, replayed, tmp_path):
    look, other, third = (made(editor.pipe, name, seed=i) for i, name in enumerate(["a", "b", "c"]))
    _, again = replayed(look + "" + other, again=[look, third])
    assert any("c: is not the learned instruction that was used" in note for note in again.notes)
    saved = look.save(tmp_path / "a.safetensors")
    edit, again = replayed(None, learned=saved, again=third)
    same(edit, again)
    assert "c: was given, and the recipe has no use for it" in again.notes
