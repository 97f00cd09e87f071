"""What is constant is computed once, gives the same numbers, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import copy
import gc

import pytest
import torch

import showtell
from showtell import caching, models, runs
from showtell.caching import Kept, constant_text
from tests.helpers import tiny

BASE = {"num_inference_steps": 5, "guidance_scale": 3.0}
CASES = {
    "three branches": ("instruct", {"guidance_scale": 5.0, "image_guidance_scale": 1.5}),
    "two branches": ("instruct", {"guidance_scale": 5.0, "image_guidance_scale": 1.0}),
    "one by one": ("instruct", {"guidance_scale": 5.0, "image_guidance_scale": 1.5, "sequential": True}),
    "in an interval": ("instruct", {"guidance_scale": 5.0, "guidance_interval": (0.2, 0.8)}),
    "foi": ("instruct", {"method": "foi", "num_inference_steps": 5}),
    "foi one by one": ("instruct", {"method": "foi", "num_inference_steps": 5, "sequential": True}),
    "control": ("control", {"guidance_scale": 5.0, "image_guidance_scale": 1.5}),
    "pti": ("base", {"method": "pti", "inner_steps": 2, **BASE}),
    "p2p": ("base", {"method": "p2p", "source": "a red circle", "inner_steps": 2, **BASE}),
    "ddim-edit": ("base", {"method": "ddim-edit", **BASE}),
}


def projections(network):
    """The layers that may remember."""
    return [getattr(m, name) for m in network.modules() for name in ("to_k", "to_v") if hasattr(m, name)]


def untouched(pipe):
    """Whether no layer has another forward than its class."""
    return all("forward" not in module.__dict__ for module in pipe.unet.modules())


@pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")
@pytest.mark.parametrize("case", CASES)
def test_latents_are_the_same_with_and_without(case, picture, monkeypatch):
    kind, options = CASES[case]
    options = {"num_inference_steps": 4, **options}
    pipe = tiny.pipeline(kind)
    words = ["make the [circle] red", "add a blue [star]"] if options.get("method") == "foi" else "a blue star"
    editor = showtell.Editor(pipe)
    found = editor.edit(picture(), words, seed=3, **options)
    assert untouched(pipe)
    monkeypatch.setattr(runs, "constant_text", lambda *networks: contextlib.nullcontext())
    expected = editor.edit(picture(), words, seed=3, **options)
    assert torch.allclose(found.latents, expected.latents, atol=1e-6, rtol=0)


@pytest.mark.parametrize("sequential", [False, True])
def test_a_text_is_projected_once_a_run(instruct_pipe, picture, sequential):
    editor = showtell.Editor(instruct_pipe)
    seen = []
    forward = torch.nn.functional.linear
    layer = next(m for m in instruct_pipe.unet.modules() if getattr(m, "is_cross_attention", False)).to_k

    def counting(told, weight, bias=None):
        if weight is layer.weight:
            seen.append(len(told))
        return forward(told, weight, bias)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "linear", counting)
        editor.edit(picture(), "make it red", seed=0, num_inference_steps=5, sequential=sequential)
    # One by one, the two branches without words are told one tensor.
    assert sum(seen) == (2 if sequential else 3)


def test_nothing_is_left_behind_after_an_error(instruct_pipe):
    state = list(instruct_pipe.unet.state_dict())
    with pytest.raises(RuntimeError, match="stop"), constant_text(instruct_pipe.unet, None):
        assert not untouched(instruct_pipe)
        assert list(instruct_pipe.unet.state_dict()) == state
        raise RuntimeError("stop")
    assert untouched(instruct_pipe)


def test_a_copy_is_a_network_of_its_own(instruct_pipe):
    """As Imagic fine-tunes one, in another dtype."""
    draw = torch.Generator().manual_seed(0)
    x, text = torch.randn(1, 8, 8, 8, generator=draw), torch.randn(1, 77, tiny.WIDTH, generator=draw)
    with constant_text(instruct_pipe.unet):
        instruct_pipe.unet(x, 5, text)
        copied = copy.deepcopy(instruct_pipe.unet).to(torch.float64)
        result = copied(x.double(), 5, text.double()).sample
    result.sum().backward()
    assert all(layer.weight.grad is not None for layer in projections(copied))
    assert all(layer.weight.grad is None for layer in projections(instruct_pipe.unet))
    assert untouched(instruct_pipe)


def test_gradients_to_the_text_are_never_kept(instruct_pipe):
    unet = instruct_pipe.unet.requires_grad_(False)
    x, told = torch.randn(1, 8, 8, 8), torch.randn(1, 77, tiny.WIDTH, requires_grad=True)

    def gradient():
        told.grad = None
        unet(x, torch.tensor(3), encoder_hidden_states=told).sample.square().mean().backward()
        return told.grad.clone()

    expected = gradient()
    with constant_text(unet):
        with torch.no_grad():
            unet(x, torch.tensor(3), encoder_hidden_states=told)
        assert torch.equal(gradient(), expected)
        assert torch.equal(gradient(), expected)


def test_text_and_weights_that_change_in_place_are_told_anew(instruct_pipe):
    unet = instruct_pipe.unet
    x, told = torch.randn(1, 8, 8, 8), torch.randn(1, 77, tiny.WIDTH)

    def output():
        with torch.no_grad():
            return unet(x, torch.tensor(3), encoder_hidden_states=told).sample

    for change in (lambda: told.mul_(2), lambda: projections(unet)[-1].weight.mul_(3)):
        with constant_text(unet):
            output()
            with torch.no_grad():
                change()
            found = output()
        assert torch.equal(found, output())


def test_layers_that_are_not_plain_are_left_alone(instruct_pipe):
    cross = [m for m in instruct_pipe.unet.modules() if getattr(m, "is_cross_attention", False)]
    hooked, own = cross[0].to_k, cross[1].to_v

    class Adapted(torch.nn.Linear):
        pass

    own.__class__ = Adapted
    hooked.forward = stands = hooked.forward  # as offloading hooks do
    with constant_text(instruct_pipe.unet):
        assert hooked.__dict__["forward"] is stands
        assert "forward" not in own.__dict__
        assert "forward" in cross[1].to_k.__dict__
    assert hooked.__dict__["forward"] is stands


def test_compiled_networks_are_left_alone(instruct_pipe):
    unet = instruct_pipe.unet
    assert not caching.is_compiled(unet)
    with constant_text(torch.compile(unet)):
        assert untouched(instruct_pipe)
    unet.compile_repeated_blocks()
    assert caching.is_compiled(unet)
    with constant_text(unet):
        assert untouched(instruct_pipe)


def test_runs_inside_runs_share_what_is_kept(instruct_pipe):
    with constant_text(instruct_pipe.unet):
        outer = projections(instruct_pipe.unet)[-1].__dict__.get("forward")
        with constant_text(instruct_pipe.unet):
            pass
        assert projections(instruct_pipe.unet)[-1].__dict__.get("forward") is outer
    assert untouched(instruct_pipe)


def test_kept_values_go_with_their_tensors():
    kept, made = Kept(), []
    a, b = torch.zeros(2), torch.ones(2)

    def make():
        made.append(len(made))
        return made[-1]

    assert [kept.of((a, None, b), make) for _ in range(3)] == [0, 0, 0]
    assert kept.of((b, None, a), make) == 1
    a.add_(1)
    assert kept.of((a, None, b), make) == 2
    with torch.inference_mode():
        c = torch.zeros(2)
    assert [kept.of((c,), make) for _ in range(2)] == [3, 3]
    del a, c
    gc.collect()
    assert len(kept) == 0


def test_a_fingerprint_does_not_care_how_weights_lie(instruct_pipe):
    before = models.weights_hash(instruct_pipe)
    twin = copy.deepcopy(instruct_pipe.unet)
    models.lay_out(instruct_pipe)
    assert not instruct_pipe.unet.conv_in.weight.is_contiguous()
    assert models.weights_hash(instruct_pipe) == before
    instruct_pipe.unet = torch.compile(twin)
    assert models.weights_hash(instruct_pipe) == before
    with torch.no_grad():
        twin.conv_out.weight[0, 0, 0, 0] += 1
    assert models.weights_hash(instruct_pipe) != before


def test_what_lies_channels_last_can_be_saved_and_edits_the_same(instruct_pipe, picture, tmp_path):
    editor = showtell.Editor(instruct_pipe)
    expected = editor.edit(picture(), "make it red", seed=0, num_inference_steps=3)
    models.lay_out(instruct_pipe)
    found = editor.edit(picture(), "make it red", seed=0, num_inference_steps=3)
    assert torch.allclose(found.latents, expected.latents, atol=1e-4, rtol=0)
    instruct_pipe.save_pretrained(tmp_path / "model")
    again = showtell.load(tmp_path / "model", device="cpu")
    assert not again.pipe.unet.conv_in.weight.is_contiguous()
    assert models.weights_hash(again.pipe) == models.weights_hash(instruct_pipe)
