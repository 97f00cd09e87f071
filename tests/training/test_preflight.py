"""The memory that a training is said to need: against what autograd really keeps, and what is advised where it does not fit."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch

from showtell import loading
from showtell.errors import ModelError, UsageError
from showtell.memory import free as freeing
from showtell.memory import shapes
from showtell.training.instruct import activations, lora, preflight, saving
from showtell.training.instruct.settings import Config, Data, Lora, Train
from tests.helpers import tiny

SMALL = Lora(rank=3, alpha=7)


def really_kept(*, precision: str, adapters: Lora | None, rows: int) -> int:
    """Bytes of the distinct storages that a forward of the tiny instruct network really saves, without the weights."""
    unet = tiny.pipeline("instruct").unet.train()
    if adapters is not None:
        unet.requires_grad_(False)
        lora.attach(unet, adapters, 0)
    own = {p.untyped_storage().data_ptr() for p in unet.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"), hooks:
        unet(torch.randn(rows, 8, 8, 8), torch.zeros(rows, dtype=torch.long), torch.randn(rows, 77, tiny.WIDTH))
    return sum(storage.nbytes() for storage in kept.values())


@pytest.fixture(scope="module")
def shape(tiny_instruct_folder):
    return shapes.of(str(tiny_instruct_folder))


@pytest.mark.parametrize(("precision", "adapters"), [("no", None), ("bf16", None), ("bf16", SMALL)])
def test_activations_are_counted_as_autograd_keeps_them(shape, precision, adapters) -> None:
    counted = activations.count(shape, side=32, lora=adapters, precision=precision, checkpointing=False)
    for rows in (1, 5):
        real = really_kept(precision=precision, adapters=adapters, rows=rows)
        assert counted.fixed + rows * counted.per_row == pytest.approx(real, rel=0.05)


def test_checkpointing_keeps_less_and_cuda_more_in_half_precision(shape) -> None:
    told = {"side": 32, "lora": None, "precision": "bf16"}
    plain, less = (activations.count(shape, checkpointing=on, **told).per_row for on in (False, True))
    assert 0 < less < 0.8 * plain
    assert activations.count(shape, checkpointing=False, device="cuda", **told).per_row > 1.05 * plain
    larger = activations.count(shape, checkpointing=False, **(told | {"side": 64}))
    assert 3 * plain < larger.per_row < 16 * plain


def test_parts_are_those_of_the_loaded_networks(starters) -> None:
    pipe = loading.load_pipeline("starter", device="cpu").pipe
    fit = preflight.estimate(Config(model="starter", train=Train(batch_size=4)))
    numbers = {
        name: sum(p.numel() for p in getattr(pipe, name).parameters()) for name in ("unet", "vae", "text_encoder")
    }
    assert fit.parts["UNet"] == 4 * numbers["unet"] and fit.learned == fit.numbers == numbers["unet"]
    assert fit.parts["autoencoder"] == 4 * numbers["vae"] and fit.parts["text encoder"] == 4 * numbers["text_encoder"]
    assert fit.parts["gradients"] == fit.parts["averaged weights"] == 4 * numbers["unet"]
    assert fit.parts["optimiser"] == 8 * numbers["unet"]
    assert fit.total == sum(fit.parts.values()) + 4 * fit.per_row
    assert "should be free" in fit.table() and "activations of 4 rows of 32 x 32" in fit.table()
    assert json.loads(json.dumps(fit.as_dict()))["total"] == fit.total


def test_a_widened_start_counts_its_new_channels_and_adapters_only_themselves(starters) -> None:
    from showtell.training.denoiser import widen

    pipe = loading.load_pipeline("starter-base", device="cpu").pipe
    wide = widen(pipe.unet)
    fit = preflight.estimate(Config(model="starter-base"))
    assert fit.learned == fit.numbers == sum(p.numel() for p in wide.parameters())
    wide.requires_grad_(False)
    lora.attach(wide, SMALL, 0, widened=True)
    fit = preflight.estimate(Config(model="starter-base", lora=SMALL))
    assert fit.learned == sum(p.numel() for p in wide.parameters() if p.requires_grad)
    two = preflight.estimate(Config(model="starter-base", lora=SMALL, data=Data(resolution=37)), world_size=2)
    assert two.side == 32  # as the frames have it
    assert two.micro_batch == 16 and two.parts["exchange between processes"] == 4 * fit.learned


def test_the_mend_is_the_least_change_that_fits(starters) -> None:
    config = Config(model="starter", train=Train(batch_size=64))
    fit = preflight.estimate(config)
    fit.check(fit.needed)
    fixed = sum(fit.parts.values())
    room = preflight.MARGIN * (fixed + 10 * fit.per_row) // 100 + 1
    assert fit.largest_micro_batch(room) == 10
    with pytest.raises(UsageError, match="train.micro_batch=10"):
        fit.check(room)
    preflight.estimate(dataclasses.replace(config, train=Train(batch_size=64, micro_batch=10))).check(room)
    frugal = Train(batch_size=64, micro_batch=1, gradient_checkpointing=True)
    least = preflight.estimate(dataclasses.replace(config, lora=Lora(), train=frugal)).needed
    with pytest.raises(UsageError, match="gradient_checkpointing=true --set lora.rank=16 --set train.micro_batch=1"):
        fit.check(least)
    with pytest.raises(UsageError, match="smaller data.resolution"):
        fit.check(1000)


def test_models_of_every_kind_are_read_by_their_configurations(tiny_instruct_folder, tmp_path, shape) -> None:
    from safetensors.torch import save_file

    assert shape.counts["unet"] == sum(p.numel() for p in tiny.pipeline("instruct").unet.parameters())
    assert (shape.resolution, shape.factor, shape.widened) == (32, 4, False)
    key = "model.diffusion_model.input_blocks"
    tensors = {f"{key}.0.0.weight": torch.zeros(320, 4, 3, 3, dtype=torch.float16)}
    tensors[f"{key}.1.1.transformer_blocks.0.attn2.to_k.weight"] = torch.zeros(320, 768, dtype=torch.float16)
    save_file(tensors, tmp_path / "sd.safetensors")
    single = shapes.of(str(tmp_path / "sd.safetensors"))
    assert single.widened and single.unet["attention_head_dim"] == 8 and single.resolution == 512
    shutil.copytree(tiny_instruct_folder, tmp_path / "larger")
    config = json.loads((tmp_path / "larger" / "unet" / "config.json").read_text()) | {
        "addition_embed_type": "text_time"
    }
    (tmp_path / "larger" / "unet" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="SDXL"):
        shapes.of(str(tmp_path / "larger"))
    (tmp_path / "other.safetensors").write_bytes(b"not one")
    (tmp_path / "empty").mkdir()
    for name in ("other.safetensors", "empty", "nobody/nothing", "../odd"):
        with pytest.raises(ModelError):
            shapes.of(name if "/" in name else str(tmp_path / name))


def test_a_folder_of_adapters_is_as_large_as_its_base(starters, tmp_path) -> None:
    pipe = loading.load_pipeline("starter", device="cpu").pipe
    lora.attach(pipe.unet, SMALL, 0)
    folder = saving.save_model(pipe, {}, tmp_path / "out", Config(model="starter", lora=SMALL), {})
    assert shapes.of(str(folder)) == shapes.of("starter")


def test_free_memory_is_what_the_system_leaves(tmp_path, monkeypatch) -> None:
    free = freeing.free_memory()
    assert 2**20 < free < 2**50
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert 0.3 < freeing.free_memory() / free < 0.7
    assert freeing._container(tmp_path) > 2**50
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 250\n")
    assert freeing._container(tmp_path) == 550
    (tmp_path / "memory.max").write_text("max\n")
    assert freeing._container(tmp_path) > 2**50
