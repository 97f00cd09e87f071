"""Validation judges a network and leaves its training as it was."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from showtell import data, loading, validating
from showtell.data.rows import Row
from showtell.errors import ImageError
from showtell.training.instruct import run
from showtell.training.instruct.configuring import configure
from showtell.training.instruct.settings import Config, Validate
from tests.training import making

CONFIG = Config(
    model="starter",
    validate=Validate(rows=2, metrics_rows=3, num_inference_steps=2, guidance_scale=3.0, image_guidance_scale=1.5),
)


@pytest.fixture(scope="module")
def pipe(tiny_starters, tmp_path_factory):
    import os

    before = os.environ.get("SHOWTELL_STARTERS")
    os.environ["SHOWTELL_STARTERS"] = str(tiny_starters)
    yield loading.load_pipeline("starter", device="cpu").pipe
    if before is None:
        del os.environ["SHOWTELL_STARTERS"]
    else:
        os.environ["SHOWTELL_STARTERS"] = before


def scenes(count: int = 3) -> list[Row]:
    return list(data.load("scenes", None, limit=count).rows)


def broken() -> Image.Image:
    raise ImageError("after.png: is no picture")


def test_figures_are_of_fixed_draws_and_the_sheet_shows_the_first_rows(pipe) -> None:
    validate = validating.validator(CONFIG, scenes())
    first, sheet = validate(pipe, 10)
    again, _ = validate(pipe, 20)
    assert first == again
    assert first["rows"] == 3 and first["failed"] == 0
    assert 0 < first["held_out_loss"] < 100 and 0 < first["l1_to_after"] < 1
    assert -1 <= first["clip_image"] <= 1 and -1 <= first["clip_directional"] <= 1
    assert 0 <= first["right"] <= first["right_inside"] <= 1
    assert sheet is not None and sheet.width > 3 * 192 and 3 * 192 > sheet.height - 200 > 2 * 192
    other, _ = validating.validator(dataclasses.replace(CONFIG, seed=1), scenes())(pipe, 10)
    assert other["held_out_loss"] != first["held_out_loss"]


def test_the_figures_follow_the_network(pipe) -> None:
    validate = validating.validator(CONFIG, scenes())
    before, _ = validate(pipe, 1)
    kept = pipe.unet.conv_out.bias.detach().clone()
    with torch.no_grad():
        pipe.unet.conv_out.bias += 1
    after, _ = validate(pipe, 2)
    with torch.no_grad():
        pipe.unet.conv_out.bias.copy_(kept)
    assert after["held_out_loss"] > before["held_out_loss"] + 0.1
    assert after["l1_to_after"] != before["l1_to_after"]


def test_a_row_that_cannot_be_read_is_its_own_affair(pipe) -> None:
    rows = scenes()
    rows[0] = dataclasses.replace(rows[0], after=broken)
    long = dataclasses.replace(rows[1], instructions=("make it " + "very " * 100 + "red",))
    figures, sheet = validating.validator(CONFIG, [rows[0], long, rows[2]])(pipe, 1)
    assert figures["rows"] + figures["failed"] == 3 and figures["failed"] >= 1
    assert sheet is not None
    assert validating.validator(CONFIG, [])(pipe, 1) == ({}, None)
    assert validating.validator(CONFIG, [dataclasses.replace(rows[2], after=None)])(pipe, 1) == ({}, None)


def test_rows_that_are_no_scenes_have_no_success_and_unknown_worlds_no_clip(pipe) -> None:
    rows = [dataclasses.replace(row, truth=None) for row in scenes()]
    figures, _ = validating.validator(dataclasses.replace(CONFIG, model="some/model"), rows)(pipe, 1)
    assert set(figures) == {"held_out_loss", "rows", "failed", "l1_to_after"}


def test_mode_gradients_and_generators_are_as_they_were(pipe) -> None:
    pipe.unet.train().requires_grad_(True)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    validating.validator(CONFIG, scenes(2))(pipe, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert pipe.unet.training and all(p.requires_grad and p.grad is None for p in pipe.unet.parameters())


def test_a_training_with_validation_learns_the_same_to_the_bit(starters, tmp_path) -> None:
    pairs = making.pairs(tmp_path / "pairs", 6)
    found = []
    for name, every in (("with", 1), ("without", None)):
        options = {"path": str(pairs), "data": {"held_out": 0.4}, "train": {"steps": 3, "batch_size": 2}}
        told = making.told(pairs, **{k: v for k, v in options.items() if k != "path"})
        validate = {"every": every, "rows": 1, "metrics_rows": 2, "num_inference_steps": 1}
        result = run.train(
            configure({**told, "validate": validate}), tmp_path / name, device="cpu", validate=validating.validator
        )
        found.append(load_file(result.model / "unet" / "diffusion_pytorch_model.safetensors"))
    assert (tmp_path / "with" / "validation.jsonl").read_text().count("held_out_loss") == 3
    assert not (tmp_path / "without" / "samples").exists() and len(list((tmp_path / "with" / "samples").iterdir())) == 3
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], tensor) for name, tensor in found[1].items())
