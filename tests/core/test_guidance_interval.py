"""Guidance in an interval of steps: what it leaves out, what it equals at its ends, and how it is told and recorded."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import showtell
from showtell import recipe
from showtell.errors import FileFormatError, MethodError
from showtell.guidance import ClassifierFree, InstructDiffusionGuidance, Interval, TwoCondition, at
from showtell.methods import InstructPix2Pix
from tests.helpers import tiny

SHARES = st.floats(0, 1)
STEPS = {"seed": 0, "num_inference_steps": 4}


@pytest.fixture(scope="module")
def editor():
    """An editor around a random instruct pipeline, which no test here changes."""
    return showtell.Editor(tiny.pipeline("instruct"))


@given(SHARES, SHARES, st.integers(1, 60))
def test_one_run_of_steps_is_guided(a, b, steps):
    low, high = sorted((a, b))
    rule = TwoCondition()
    part = Interval(rule=rule, interval=(low, high), steps=steps)
    guided = [at(part, i) == rule for i in range(steps)]
    first, end = round(low * steps), round(high * steps)
    assert guided == [first <= i < end for i in range(steps)]
    assert all(at(part, i).branches == ("full",) for i, inside in enumerate(guided) if not inside)
    # two intervals that meet leave nothing out and do nothing twice
    other = Interval(rule=rule, interval=(high, 1), steps=steps)
    before = Interval(rule=rule, interval=(0, low), steps=steps)
    assert all(sum(at(each, i) == rule for each in (before, part, other)) == 1 for i in range(steps))


def test_the_rule_inside_is_the_rule():
    eps = {name: torch.randn(2, 4, 8, 8) for name in ("full", "image", "text", "none")}
    for rule in (TwoCondition(), InstructDiffusionGuidance()):
        part = Interval(rule=rule, interval=(0, 0.5), steps=2)
        assert part.branches == rule.branches and torch.equal(part.combine(eps), rule.combine(eps))
        assert torch.equal(at(part, 1).combine(eps), eps["full"])
    assert at(ClassifierFree(), 3) == ClassifierFree()


def test_what_is_no_interval_is_refused(editor, picture):
    none: list[Any] = [
        (0.5,), (0.8, 0.2), (-0.1, 1), (0, 1.1), "0.2", "ab", "0,x", "0,1,1", "", (0, float("nan")), (True, 1), 0.5,
        [0, 1, 1], {}, ("0", "1"),
    ]  # fmt: skip
    for value in none:
        with pytest.raises(MethodError, match="^interval=.*two shares"):
            Interval(rule=TwoCondition(), interval=value, steps=4)
        with pytest.raises(MethodError, match="^guidance_interval=.*two shares") as caught:
            editor.edit(picture(), "red", guidance_interval=value, **STEPS)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["ip2p", "instructdiffusion"])
@pytest.mark.parametrize("sequential", [False, True])
def test_branches_outside_are_not_computed(editor, picture, method, sequential):
    rows: list[int] = []
    hook = editor.pipe.unet.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    edit = editor.edit(picture(), "red", method=method, guidance_interval=(0.25, 0.75), sequential=sequential, **STEPS)
    hook.remove()
    assert rows == ([1, *[1] * 6, 1] if sequential else [1, 3, 3, 1])
    other = editor.edit(picture(), "red", method=method, **STEPS)
    assert not torch.equal(edit.latents, other.latents)


@pytest.mark.parametrize("method", ["ip2p", "instructdiffusion"])
def test_the_ends_of_the_option(editor, picture, method):
    plain = editor.edit(picture(), "red", method=method, **STEPS)
    everywhere = editor.edit(picture(), "red", method=method, guidance_interval=[np.float32(0), 1], **STEPS)
    assert torch.equal(plain.latents, everywhere.latents)
    nowhere = editor.edit(picture(), "red", method=method, guidance_interval=(0.5, 0.5), **STEPS)
    unguided = editor.edit(picture(), "red", guidance_scale=1, image_guidance_scale=1, **STEPS)
    assert torch.equal(nowhere.latents, unguided.latents)


def test_a_batch_equals_single_edits(editor, picture):
    options = {"num_inference_steps": 4, "guidance_interval": (0.3, 0.8)}
    pictures = [picture(seed=1), picture(seed=2)]
    both = editor.edit(pictures, ["red", "a star"], seed=[1, 2], **options)
    for k, told in enumerate(["red", "a star"]):
        alone = editor.edit(pictures[k], told, seed=k + 1, **options)
        assert torch.allclose(alone.latents, both[k].latents, atol=1e-4, rtol=0)


def test_it_is_recorded_and_replayed(editor, picture, tmp_path):
    edit = editor.edit(picture(), "red", guidance_interval=(np.float64(0.25), 1), cache_interval=2, **STEPS)
    out = edit.save(tmp_path / "out.png")
    told = recipe.read(out).method
    assert told.parameters["guidance_interval"] == [0.25, 1.0] and told.parameters["cache_interval"] == 2
    assert told.origin["guidance_interval"] == told.origin["cache_interval"] == "given"
    again = showtell.replay(out, picture(), editor=editor)
    assert again.notes[0].startswith("the pixels are the same")


def with_recipe(path, data, image):
    chunks = PngInfo()
    chunks.add_itxt(recipe.CHUNK, json.dumps(data))
    image.save(path, pnginfo=chunks)
    return path


def test_older_recipes_are_replayed_and_newer_ones_are_whole(editor, picture, tmp_path):
    edit = editor.edit(picture(), "red", **STEPS)
    data = edit.recipe.to_dict()
    for name in ("guidance_interval", "cache_interval", "cache_depth"):
        del data["method"]["parameters"][name], data["method"]["origin"][name]
    with pytest.raises(FileFormatError, match=r"missing"):
        showtell.replay(with_recipe(tmp_path / "new.png", data, edit.image), picture(), editor=editor)
    old = with_recipe(tmp_path / "old.png", {**data, "format": 5}, edit.image)
    again = showtell.replay(old, picture(), editor=editor)
    assert "the pixels are the same" in again.notes[0]
    assert np.array_equal(np.asarray(again.image), np.asarray(Image.open(old)))


def test_the_card_may_say_it(editor, picture):
    card = {"defaults": {"ip2p": {"guidance_interval": [0, 0.5], "cache_interval": 2}}}
    told = showtell.Editor(editor.pipe, card=card).edit(picture(), "red", **STEPS).recipe.method
    assert told.parameters["guidance_interval"] == (0.0, 0.5) and told.origin["guidance_interval"] == "card"
    assert told.parameters["cache_interval"] == 2 and told.origin["cache_interval"] == "card"


@pytest.mark.parametrize("written", ["0.2,0.8", "[0.2,0.8]", "0.2, 0.8"])
def test_as_it_is_written_on_the_command_line(written):
    from showtell.cli import parts

    told = parts.settings([f"guidance_interval={written}"])
    assert InstructPix2Pix(**told).guidance_interval == (0.2, 0.8)
