"""Models: the starters, folders, single files; what cannot be loaded, in one line."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest
import torch

import showtell
from showtell import loading, models
from showtell.errors import ModelError, OutputError, UsageError


def one_line(call, *words):
    """The message of the ``ModelError`` that ``call`` raises: one line with these words."""
    with pytest.raises(ModelError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
    assert caught.value.exit_code == 2
    return message


def test_the_starters_load_in_float32_with_their_cards(starters):
    editor = showtell.load("starter", device="cpu")
    assert editor.kind == "instruct" and editor.model_id == "starter"
    assert editor.pipe.unet.dtype == editor.pipe.vae.dtype == editor.pipe.text_encoder.dtype == torch.float32
    assert editor.card["defaults"]["ip2p"]["guidance_scale"] == 3.0
    assert showtell.load("starter-base", device="cpu").kind == "base"
    model, tokenizer, processor = loading.load_clip()
    assert model.text_model.state_dict().keys() == editor.pipe.text_encoder.state_dict().keys()
    assert tokenizer("red").input_ids and processor.size


def test_loading_prints_nothing(starters, capfd):
    showtell.load("starter", device="cpu")
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""


def test_hyper_parameters_come_from_the_caller_the_card_or_the_paper(starters, picture):
    editor = showtell.load("starter", device="cpu")
    method = editor.edit(picture(), "red", num_inference_steps=2).recipe.method
    assert method.parameters == {
        "guidance_scale": 3.0, "image_guidance_scale": 1.5, "num_inference_steps": 2,
        "guidance_interval": (0.0, 1.0), "cache_interval": 1, "cache_depth": 1,
    }  # fmt: skip
    assert method.origin == {
        "guidance_scale": "card", "image_guidance_scale": "card", "num_inference_steps": "given", "scheduler": "paper",
        "guidance_interval": "paper", "cache_interval": "paper", "cache_depth": "paper",
    }  # fmt: skip
    bare = showtell.Editor(editor.pipe).edit(picture(), "red", num_inference_steps=1).recipe.method
    assert bare.parameters["guidance_scale"] == 7.5
    assert bare.origin["guidance_scale"] == "paper" and bare.origin["scheduler"] == "pipeline"
    value = showtell.methods.InstructPix2Pix(guidance_scale=2.0)
    given = editor.edit(picture(), "red", method=value, num_inference_steps=1).recipe.method
    assert given.parameters["guidance_scale"] == 2.0 and given.origin["guidance_scale"] == "given"


def test_euler_ancestral_unless_the_user_configured_another(starters, picture):
    from diffusers import DPMSolverMultistepScheduler

    editor = showtell.load("starter", device="cpu")
    assert editor.edit(picture(), "red").recipe.scheduler["_class_name"] == "EulerAncestralDiscreteScheduler"
    editor.pipe.scheduler = DPMSolverMultistepScheduler.from_config(editor.pipe.scheduler.config)
    edit = editor.edit(picture(), "red")
    assert edit.recipe.scheduler["_class_name"] == "DPMSolverMultistepScheduler"
    assert edit.recipe.method.origin["scheduler"] == "pipeline"


@pytest.mark.parametrize("name", ["starter", "starter-base"])
def test_stock_diffusers_loads_what_export_writes(starters, tmp_path, name):
    import diffusers

    folder = showtell.export(name, tmp_path / "out")
    instruct = name == "starter"
    cls = diffusers.StableDiffusionInstructPix2PixPipeline if instruct else diffusers.StableDiffusionPipeline
    stock = cls.from_pretrained(folder, safety_checker=None)
    ours = showtell.load(name, device="cpu").pipe
    for part in ("unet", "vae", "text_encoder"):
        theirs = getattr(stock, part).state_dict()
        assert all(torch.equal(theirs[key], value) for key, value in getattr(ours, part).state_dict().items())
    again = showtell.load(folder, device="cpu")
    assert again.card == loading.starter_card(name) and models.weights_hash(again.pipe) == models.weights_hash(ours)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_stock_transformers_loads_the_exported_clip(starters, tmp_path):
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    folder = showtell.export("starter-clip", tmp_path / "clip")
    model, report = CLIPModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()) and CLIPTokenizer.from_pretrained(folder)("red").input_ids
    assert CLIPImageProcessorPil.from_pretrained(folder).size
    assert len(loading.load_clip(folder)) == 3


def test_a_clip_without_one_of_its_towers_is_refused(starters, tiny_instruct_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    # What is missing would be filled with random numbers, and every figure would be noise.
    one_line(lambda: loading.load_clip(tiny_instruct_folder / "text_encoder"), "text_encoder", "both towers", "missing")
    folder = showtell.export("starter-clip", tmp_path / "clip")
    weights = folder / "model.safetensors"
    whole = load_file(weights)
    save_file({key: value for key, value in whole.items() if not key.startswith("vision_model.")}, weights)
    one_line(lambda: loading.load_clip(folder), str(folder), "vision_model.", "more is missing")
    save_file({key: value for key, value in whole.items() if key != "text_projection.weight"}, weights)
    one_line(lambda: loading.load_clip(folder), "(text_projection.weight is missing)")
    save_file(whole, weights)
    assert len(loading.load_clip(folder)) == 3


def test_export_overwrites_only_with_force(starters, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    showtell.export("starter-clip", folder)  # an empty folder is no loss
    with pytest.raises(OutputError, match="not empty"):
        showtell.export("starter-clip", folder)
    (folder / "old").touch()
    showtell.export("starter-clip", folder, force=True)
    assert not (folder / "old").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious").touch()
    with pytest.raises(OutputError, match="was not written by showtell"):
        showtell.export("starter-clip", tmp_path / "home", force=True)
    assert (tmp_path / "home" / "precious").exists()
    with pytest.raises(ModelError, match="starter-base"):
        showtell.export("nonsense", tmp_path / "x")
    with pytest.raises(OutputError, match="does not exist"):
        showtell.export("starter-clip", tmp_path / "a" / "b")


def test_a_full_disk_leaves_nothing_behind(starters, tmp_path, monkeypatch):
    from safetensors import SafetensorError
    from transformers import CLIPModel

    folder = showtell.export("starter-clip", tmp_path / "out")

    def full(*args, **kwargs):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(CLIPModel, "save_pretrained", full)
    with pytest.raises(OutputError, match="No space left") as caught:
        showtell.export("starter-clip", folder, force=True)
    assert caught.value.exit_code == 1
    assert (folder / "model.safetensors").exists() and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_unknown_models(tmp_path, monkeypatch, starters):
    one_line(lambda: showtell.load("nonsense"), "nonsense", "starter")
    one_line(lambda: showtell.load("./missing/folder/here"), "missing")
    one_line(lambda: showtell.load("some-owner/some-model"), "some-owner/some-model", "cannot be loaded")
    one_line(lambda: showtell.load("starter-clip"), "cannot edit")
    (tmp_path / "empty").mkdir()
    one_line(lambda: showtell.load(tmp_path / "empty"), "model_index.json")
    monkeypatch.setenv("SHOWTELL_STARTERS", str(tmp_path / "gone"))
    one_line(lambda: showtell.load("starter"), "gone")
    with pytest.raises(UsageError, match="device 'tpu'"):
        showtell.load("starter", device="tpu")
    with pytest.raises(UsageError, match="dtype 'int4'"):
        showtell.load("starter", dtype="int4")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("fault", ["pickle", "truncated", "shape", "incomplete", "renamed", "missing"])
def test_broken_weights(tiny_instruct_folder, tmp_path, part, fault):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_instruct_folder, folder)
    [weights] = (folder / part).glob("*.safetensors")
    tensors = load_file(weights)
    first = max(tensors, key=lambda name: tensors[name].numel())
    if fault == "pickle":
        weights.write_bytes(pickle.dumps({"weight": [1.0]}))
    elif fault == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif fault == "shape":
        save_file({**tensors, first: torch.zeros(3, 5)}, weights, metadata={"format": "pt"})
    elif fault == "incomplete":
        save_file({name: value for name, value in tensors.items() if name != first}, weights, metadata={"format": "pt"})
    elif fault == "renamed":  # as many tensors as there should be
        tensors["another"] = tensors.pop(first)
        save_file(tensors, weights, metadata={"format": "pt"})
    else:
        weights.unlink()
        torch.save(tensors, weights.with_suffix(".bin"))
    one_line(lambda: showtell.load(folder, device="cpu"), str(folder))


def test_old_names_of_tensors_are_no_fault(tiny_instruct_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_instruct_folder, folder)
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    [weights] = (folder / "vae").glob("*.safetensors")
    tensors = load_file(weights)
    for new, name in old.items():
        tensors = {key.replace(new, name): value for key, value in tensors.items()}
    assert any(".proj_attn." in key for key in tensors)
    save_file(tensors, weights, metadata={"format": "pt"})
    [weights] = (folder / "text_encoder").glob("*.safetensors")
    tensors = {f"text_model.{key}": value for key, value in load_file(weights).items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, weights, metadata={"format": "pt"})
    assert models.weights_hash(showtell.load(folder, device="cpu").pipe) == models.weights_hash(
        showtell.load(tiny_instruct_folder, device="cpu").pipe
    )


def test_weights_left_on_the_meta_device_are_refused(tiny_instruct_folder, monkeypatch, instruct_pipe):
    instruct_pipe.unet.conv_in.to("meta")
    monkeypatch.setattr(loading.pipelines, "_from_folder", lambda path, dtype: instruct_pipe)
    one_line(lambda: showtell.load(tiny_instruct_folder, device="cpu"), "unet.conv_in", "is missing")


def test_single_files(tmp_path):
    from safetensors.torch import save_file

    pickled = tmp_path / "model.safetensors"
    pickled.write_bytes(pickle.dumps({"a": 1}))
    one_line(lambda: showtell.load(pickled), "model.safetensors", "cannot be loaded")
    (tmp_path / "model.ckpt").write_bytes(pickle.dumps({"a": 1}))
    one_line(lambda: showtell.load(tmp_path / "model.ckpt"), "only .safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "lora.safetensors")
    one_line(lambda: showtell.load(tmp_path / "lora.safetensors"), "not a whole Stable Diffusion checkpoint")
    first = "model.diffusion_model.input_blocks.0.0.weight"
    save_file({first: torch.zeros(8, 5, 3, 3)}, tmp_path / "depth.safetensors")
    one_line(lambda: showtell.load(tmp_path / "depth.safetensors"), "5 channels")


@pytest.mark.parametrize(
    ("channels", "kind", "name"),
    [
        (4, "base", "StableDiffusionPipeline"),
        (8, "instruct", "StableDiffusionInstructPix2PixPipeline"),
        (9, "inpaint", "StableDiffusionInpaintPipeline"),
    ],
)
def test_a_single_file_goes_to_diffusers_as_the_kind_that_it_is(tmp_path, monkeypatch, channels, kind, name):
    import diffusers
    from safetensors.torch import save_file

    from tests.helpers import tiny

    file = tmp_path / "whole.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, channels, 3, 3)}, file)
    monkeypatch.setattr(
        getattr(diffusers, name), "from_single_file", classmethod(lambda cls, path, **options: tiny.pipeline(kind))
    )
    assert showtell.load(file, device="cpu").kind == kind


def test_the_wrong_kind_says_which_is_needed(tiny_base_folder, picture):
    editor = showtell.load(tiny_base_folder, device="cpu")
    one_line(lambda: editor.edit(picture(), "red"), "'ip2p' needs an instruct model", "is a base model", "starter")


def test_pipelines_that_do_not_fit(instruct_pipe):
    one_line(lambda: showtell.Editor(object()), "not a Stable Diffusion pipeline")
    instruct_pipe.unet.register_to_config(in_channels=5)
    one_line(lambda: showtell.Editor(instruct_pipe), "5 channels")
    instruct_pipe.unet.register_to_config(in_channels=8, cross_attention_dim=99)
    one_line(lambda: showtell.Editor(instruct_pipe), "do not belong together")


def test_a_broken_card_is_said(tiny_instruct_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_instruct_folder, folder)
    (folder / loading.CARD).write_text("{not json")
    one_line(lambda: showtell.load(folder, device="cpu"), "card")
    for defaults in (3, [], {"ip2p": 3}):
        (folder / loading.CARD).write_text(json.dumps({"defaults": defaults}))
        one_line(lambda: showtell.load(folder, device="cpu"), "card")


def test_a_missing_card_of_the_users_own_starters_is_an_empty_one(tiny_starters, tmp_path, monkeypatch):
    shutil.copytree(tiny_starters, tmp_path / "mine")
    shutil.rmtree(tmp_path / "mine" / "cards")
    monkeypatch.setenv("SHOWTELL_STARTERS", str(tmp_path / "mine"))
    assert showtell.load("starter", device="cpu").card == {"name": "starter", "defaults": {}}
    monkeypatch.setenv("SHOWTELL_STARTERS", str(tmp_path / "gone"))
    one_line(lambda: loading.starter_card("starter"), "card")


def test_the_fingerprint_sees_a_changed_weight(instruct_pipe):
    before = models.weights_hash(instruct_pipe)
    with torch.no_grad():
        instruct_pipe.unet.conv_in.bias.add_(1e-3)
    assert models.weights_hash(instruct_pipe) != before


def test_sizes_of_the_model(instruct_pipe):
    assert (
        models.latent_factor(instruct_pipe),
        models.resolution(instruct_pipe),
        models.size_multiple(instruct_pipe),
    ) == (4, 32, 8)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_networks_keep_float32_latents(tiny_instruct_folder, picture, dtype):
    editor = showtell.load(tiny_instruct_folder, device="cpu", dtype=dtype)
    editor.pipe.vae.register_to_config(force_upcast=True)
    edit = editor.edit(picture(), "red", seed=0, num_inference_steps=2)
    assert edit.latents.dtype == torch.float32 and edit.recipe.model.dtype == dtype
    assert editor.pipe.vae.dtype == getattr(torch, dtype)


def test_the_safety_checker_of_the_pipeline_is_heard(instruct_pipe, picture, monkeypatch):
    instruct_pipe.safety_checker = object()
    monkeypatch.setattr(instruct_pipe, "run_safety_checker", lambda pixels, device, dtype: (pixels, [True]))
    edit = showtell.Editor(instruct_pipe).edit(picture(), "red", seed=0, num_inference_steps=1)
    assert edit.image.getextrema() == ((0, 0),) * 3 and "safety checker" in edit.notes[0]
