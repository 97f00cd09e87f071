"""The editor's manners: unknown names, ranges, progress, stopping, leaving the pipeline as it was."""

from __future__ import annotations

import threading

import pytest
import torch

import showtell
from showtell.errors import Cancelled, MethodError, ShowtellError

ONE = {"seed": 0, "num_inference_steps": 1}


def test_unknown_names_list_the_known(editor, picture):
    with pytest.raises(MethodError, match="ip2p, instructdiffusion"):
        editor.edit(picture(), "red", method="magic")
    with pytest.raises(MethodError, match="InstructPix2Pix"):
        editor.edit(picture(), "red", method=showtell.methods.InstructPix2Pix)
    with pytest.raises(MethodError, match="'strenght' is not a hyper-parameter of method 'ip2p'.*guidance_scale"):
        editor.edit(picture(), "red", strenght=1)
    with pytest.raises(MethodError, match="euler-ancestral"):
        editor.edit(picture(), "red", scheduler="magic")


@pytest.mark.parametrize(
    "options",
    [
        {"num_inference_steps": 0}, {"num_inference_steps": -1}, {"num_inference_steps": 1001},
        {"num_inference_steps": 2.5}, {"num_inference_steps": True}, {"seed": -1}, {"seed": 2**63}, {"seed": 1.5},
        {"seed": "a"}, {"seed": True},
        {"batch_size": 0}, {"generator": 3}, {"seed": [0, 1]}, {"generator": [torch.Generator()] * 2},
    ],
)  # fmt: skip
def test_values_out_of_range(editor, picture, options):
    with pytest.raises(MethodError) as caught:
        editor.edit(picture(), "red", **options)
    assert (
        "\n" not in str(caught.value) and next(iter(options)) in str(caught.value) or "generator" in str(caught.value)
    )


def test_the_same_seed_gives_the_same_pixels(editor, picture):
    a, b = (editor.edit(picture(), "red", seed=4, num_inference_steps=3) for _ in range(2))
    assert torch.equal(a.latents, b.latents) and a.image.tobytes() == b.image.tobytes()


def test_callbacks_and_progress(editor, picture, capfd):
    seen = []
    editor.edit(
        picture(), "red", seed=0, num_inference_steps=3, progress=True,
        callback=lambda i, n, latents: seen.append((i, n, tuple(latents.shape))),
    )  # fmt: skip
    assert seen == [(0, 3, (1, 4, 8, 8)), (1, 3, (1, 4, 8, 8)), (2, 3, (1, 4, 8, 8))]
    assert "0/3" in capfd.readouterr().err
    editor.edit(picture(), "red", **ONE)
    assert capfd.readouterr().err == ""


def test_cancelling_stops_within_a_step(editor, picture):
    event, seen = threading.Event(), []

    def look(i, n, latents):
        seen.append(i)
        if i == 1:
            event.set()

    with pytest.raises(Cancelled, match="step 2 of 9") as caught:
        editor.edit([picture()] * 2, ["red"] * 2, seed=0, num_inference_steps=9, callback=look, cancel=event)
    assert seen == [0, 1] and caught.value.exit_code == 130
    with pytest.raises(Cancelled):
        editor.edit(picture(), "red", cancel=lambda: True, **ONE)


def test_an_interruption_leaves_the_pipeline_as_it_was(editor, picture):
    processors = dict(editor.pipe.unet.attn_processors)
    weights = showtell.models.weights_hash(editor.pipe)

    def interrupt(i, n, latents):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        editor.edit(picture(), "red", callback=interrupt, **ONE)
    assert all(editor.pipe.unet.attn_processors[name] is processor for name, processor in processors.items())
    assert showtell.models.weights_hash(editor.pipe) == weights
    assert editor.edit(picture(), "red", **ONE).image.size == (32, 32)


def test_lack_of_memory_is_one_line_and_local(editor, picture, monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate ...")

    monkeypatch.setattr(editor.pipe.unet, "forward", full)
    with pytest.raises(ShowtellError, match="out of memory: use sequential=True") as caught:
        editor.edit(picture(), "red", **ONE)
    assert caught.value.exit_code == 1
    results = editor.edit([picture()] * 2, ["red"] * 2, **ONE)
    assert all(isinstance(result, ShowtellError) for result in results)


def test_a_pipeline_with_a_lora_keeps_it(instruct_pipe, picture):
    from peft import LoraConfig

    editor = showtell.Editor(instruct_pipe)
    before = editor.edit(picture(), "red", **ONE)
    instruct_pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False))
    after = editor.edit(picture(), "red", **ONE)
    assert not torch.equal(before.latents, after.latents)
    assert before.recipe.model.weights != after.recipe.model.weights


def test_instructdiffusion_is_a_method(editor, picture):
    edit = editor.edit(picture(), "red", method=showtell.methods.InstructDiffusion(), **ONE)
    assert edit.recipe.method.name == "instructdiffusion"
    assert edit.recipe.method.parameters["guidance_scale"] == 5.0
    assert edit.recipe.method.parameters["image_guidance_scale"] == 1.25


def test_import_is_light():
    import subprocess
    import sys

    code = "import sys, showtell; print([m for m in ('torch', 'diffusers', 'PIL', 'numpy') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
