"""Compilation: the same results, what cannot be compiled steps around it, and what goes wrong is one line."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import pytest
import torch

import showtell
from showtell import caching, compiling, models
from showtell.errors import MethodError, ModelError
from tests.helpers import tiny

PAIR = {"steps": 2, "check_every": 1, "check_timesteps": 2, "clip_weight": 0.0, "caption_steps": 2}
WHAT = ["blocks", "whole"]


@pytest.fixture(autouse=True)
def forgotten():
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("what", ["blocks", pytest.param("whole", marks=pytest.mark.slow)])
def test_what_is_compiled_edits_the_same(what, picture):
    editor = showtell.Editor(tiny.pipeline("instruct"))
    weights = models.weights_hash(editor.pipe)
    options = {"seed": 1, "num_inference_steps": 3}
    expected = editor.edit(picture(), "make it red", **options)
    seconds = editor.compile(what, backend="eager", num_inference_steps=2)
    assert seconds > 0 and caching.is_compiled(editor.pipe.unet)
    found = editor.edit(picture(), "make it red", **options)
    assert torch.allclose(found.latents, expected.latents, atol=1e-4, rtol=0)
    assert found.recipe.model.weights == weights == models.weights_hash(editor.pipe)
    assert editor.compile("none") == 0.0
    assert not caching.is_compiled(editor.pipe.unet)


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")
def test_what_needs_the_layers_runs_uncompiled(what, picture):
    editor = showtell.Editor(tiny.pipeline("instruct"))
    told = (["make the [circle] red", "add a [star]"],)
    options = {"method": "foi", "seed": 1, "num_inference_steps": 3, "tau": 0.5}
    edited, learned = editor.edit(picture(), *told, **options), editor.learn([(picture(), picture(seed=1))], **PAIR)
    # A backend that refuses shows that nothing is compiled.
    compiling.compile_networks(editor.pipe, what, name="tiny", backend=_refuses)
    assert torch.equal(editor.edit(picture(), *told, **options).latents, edited.latents)
    assert torch.equal(editor.learn([(picture(), picture(seed=1))], **PAIR).embeds, learned.embeds)
    assert caching.is_compiled(editor.pipe.unet)


def _refuses(graph, inputs):
    raise AssertionError("compiled")


def test_a_compiled_network_is_copied_and_saved_as_itself(instruct_pipe, tmp_path):
    weights, names = models.weights_hash(instruct_pipe), list(instruct_pipe.unet.state_dict())
    compiling.compile_networks(instruct_pipe, "whole", name="tiny", backend="eager")
    assert models.kind(instruct_pipe) == "instruct" and list(instruct_pipe.unet.state_dict()) == names
    assert not caching.is_compiled(copy.deepcopy(instruct_pipe.unet))
    instruct_pipe.save_pretrained(tmp_path / "model")
    assert models.weights_hash(showtell.load(tmp_path / "model", device="cpu").pipe) == weights


def test_a_controlnet_is_compiled_too():
    pipe = tiny.pipeline("control")
    compiling.compile_networks(pipe, "blocks", name="tiny", backend="eager")
    assert caching.is_compiled(pipe.unet) and caching.is_compiled(pipe.controlnet)
    compiling.undo(pipe)
    assert not caching.is_compiled(pipe.controlnet)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"what": "some"}, "blocks, whole, none"),
        ({"mode": "fast"}, "reduce-overhead"),
        ({"mode": "reduce-overhead"}, "what='whole'"),
    ],
)
def test_what_cannot_be_asked(editor, options, told):
    with pytest.raises(MethodError, match=told):
        editor.compile(**options)
    assert not caching.is_compiled(editor.pipe.unet)


def test_what_is_compiled_by_others_is_left_to_them(editor):
    editor.pipe.unet = torch.compile(editor.pipe.unet, backend="eager")
    with pytest.raises(ModelError, match="compiled already"):
        editor.compile()


def test_what_is_offloaded_is_not_compiled(editor):
    editor.pipe.unet.conv_in._hf_hook = object()
    with pytest.raises(ModelError, match="offloaded"):
        editor.compile()


@pytest.mark.slow
def test_a_compiler_that_is_missing_is_one_line(tmp_path):
    code = (
        "import showtell; from tests.helpers import tiny\n"
        "from showtell import caching\n"
        "editor = showtell.Editor(tiny.pipeline('instruct'))\n"
        "try: editor.compile()\n"
        "except showtell.errors.ModelError as error: print(error, caching.is_compiled(editor.pipe.unet))\n"
    )
    environment = {
        **os.environ, "CXX": str(tmp_path / "nothing"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "cannot be compiled here" in done.stdout, done.stderr[-2000:]
    assert "C++ compiler" in done.stdout and done.stdout.strip().endswith("False")
    assert len(done.stdout.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("what", WHAT)
def test_compiled_code_edits_the_same(what, picture):
    editor = showtell.Editor(tiny.pipeline("instruct"))
    options = {"seed": 1, "num_inference_steps": 3}
    expected = editor.edit(picture(), "make it red", **options)
    assert editor.compile(what) > 0
    found = editor.edit(picture(), "make it red", **options)
    assert torch.allclose(found.latents, expected.latents, atol=1e-4, rtol=0)
