"""What a training leaves: adapters that stock diffusers loads, folders that diffusers and showtell load, and their cards."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open

import showtell
from showtell import loading
from showtell.errors import ModelError, OutputError, UsageError
from showtell.training.instruct import lora, saving
from showtell.training.instruct.settings import Config, Data, Lora, Validate
from tests.helpers import tiny

FIGURES = {"loss": 0.123456, "rows": 8, "right": {"share": 0.5, "count": 8}}
SMALL = Lora(rank=3, alpha=7)


def learned(unet, *, by: float) -> dict[str, torch.Tensor]:
    """What a training would have made of the parameters that learn."""
    draw = torch.Generator().manual_seed(1)
    return {
        name: parameter.detach() + by * torch.randn(parameter.shape, generator=draw)
        for name, parameter in unet.named_parameters()
        if parameter.requires_grad
    }


def predicted(unet) -> torch.Tensor:
    draw = torch.Generator().manual_seed(2)
    x, c = torch.randn(2, 8, 8, 8, generator=draw), torch.randn(2, 77, tiny.WIDTH, generator=draw)
    with torch.no_grad():
        return unet.eval()(x, torch.tensor([20, 700]), c).sample


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A pipeline, its learned tensors, and the folder that they were saved to."""
    pipe = tiny.pipeline("instruct")
    state = learned(pipe.unet, by=0.1)
    folder = tmp_path_factory.mktemp("whole") / "watercolours" / "model"
    folder.parent.mkdir()
    config = Config(
        model="some/model", data=Data(path="/home/someone/pairs"),
        validate=Validate(num_inference_steps=2, guidance_scale=3.0, image_guidance_scale=1.25),
    )  # fmt: skip
    before = {name: tensor.clone() for name, tensor in pipe.unet.state_dict().items()}
    saving.save_model(pipe, state, folder, config, FIGURES)
    assert all(torch.equal(tensor, before[name]) for name, tensor in pipe.unet.state_dict().items())
    return pipe, state, folder


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A widened pipeline with learned adapters, and the folder that they were saved to."""
    pipe = tiny.pipeline("instruct")
    lora.attach(pipe.unet, SMALL, 0, widened=True)
    folder = tmp_path_factory.mktemp("lora") / "adapted"
    state = learned(pipe.unet, by=0.3)
    saving.save_model(pipe, state, folder, Config(model="some/base", lora=SMALL), FIGURES, widened=True)
    pipe.unet.load_state_dict(state, strict=False)
    return pipe, folder


def test_the_folder_has_the_learned_weights_and_edits(whole) -> None:
    pipe, state, folder = whole
    editor = showtell.load(folder, device="cpu")
    assert editor.kind == "instruct"
    held = editor.pipe.unet.state_dict()
    assert held.keys() == pipe.unet.state_dict().keys()
    assert all(torch.equal(held[name], tensor) for name, tensor in state.items())
    assert torch.equal(editor.pipe.vae.encoder.conv_in.weight, pipe.vae.encoder.conv_in.weight)
    edit = editor.edit(Image.new("RGB", (32, 32), "gray"), "make it red", seed=0)
    assert edit.image.size == (32, 32)
    told = edit.recipe.to_dict()["method"]["parameters"]
    assert (told["num_inference_steps"], told["guidance_scale"], told["image_guidance_scale"]) == (2, 3.0, 1.25)


def test_the_command_line_edits_with_the_folder(whole, tmp_path) -> None:
    from showtell.cli import main

    Image.new("RGB", (32, 32), "gray").save(tmp_path / "in.png")
    out = tmp_path / "out.png"
    assert main(["edit", str(tmp_path / "in.png"), "make it red", "-o", str(out), "--model", str(whole[2])]) == 0
    assert Image.open(out).size == (32, 32)


def test_the_card_says_how_it_was_made_and_nothing_of_this_machine(whole) -> None:
    folder = whole[2]
    text = (folder / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---")[1])
    assert head["base_model"] == "some/model" and head["pipeline_tag"] == "image-to-image" and "license" not in head
    assert "# watercolours" in text and "| right, share | 0.5 |" in text and "| loss | 0.1235 |" in text
    assert "guidance_scale=3.0, image_guidance_scale=1.25" in text
    card = json.loads((folder / loading.CARD).read_text())
    assert card["figures"] == FIGURES and card["training"]["configuration"]["data"]["path"] == "pairs"
    assert not any("someone" in path.read_text() for path in (folder / "README.md", folder / loading.CARD))
    assert not any("_name_or_path" in path.read_text() for path in folder.rglob("*config.json"))


def test_nothing_is_replaced_without_force_and_only_what_is_ours_with_it(whole, tmp_path) -> None:
    pipe, state, folder = whole
    with pytest.raises(OutputError, match="--force"):
        saving.save_model(pipe, state, folder, Config(model="some/model"), {})
    saving.save_model(pipe, state, folder.with_name("again"), Config(model="some/model"), {})
    saving.save_model(pipe, state, folder.with_name("again"), Config(model="some/model"), {}, force=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    with pytest.raises(OutputError, match="not written by showtell"):
        saving.save_model(pipe, state, tmp_path / "mine", Config(model="some/model"), {}, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_failure_while_it_is_written_leaves_nothing(whole, tmp_path) -> None:
    pipe, state, _ = whole
    wrong = dict(state) | {"conv_in.weight": torch.zeros(8, 4, 3, 3)}  # of another network
    with pytest.raises(RuntimeError, match="conv_in"):
        saving.save_model(pipe, wrong, tmp_path / "model", Config(model="some/model"), {})
    assert list(tmp_path.iterdir()) == []


def test_stock_diffusers_predicts_the_same_with_the_saved_adapters(adapted) -> None:
    from diffusers import StableDiffusionInstructPix2PixPipeline

    pipe, folder = adapted
    with loading.silent():
        stock = StableDiffusionInstructPix2PixPipeline.from_pretrained(folder, safety_checker=None)
        start = predicted(stock.unet)
        stock.load_lora_weights(folder)
    ours = predicted(pipe.unet)
    assert (predicted(stock.unet) - ours).abs().max() <= 1e-6
    assert (start - ours).abs().max() > 1e-2  # the adapters are in their own file alone


def test_showtell_puts_the_adapters_into_the_weights(adapted) -> None:
    pipe, folder = adapted
    editor = showtell.load(folder, device="cpu")
    assert not any("lora" in name for name in editor.pipe.unet.state_dict())
    assert (predicted(editor.pipe.unet) - predicted(pipe.unet)).abs().max() <= 1e-5


def test_adapters_of_a_starter_are_saved_alone_and_find_it_again(starters, tmp_path) -> None:
    pipe = loading.load_pipeline("starter", device="cpu").pipe
    lora.attach(pipe.unet, SMALL, 0)
    state = learned(pipe.unet, by=0.3)
    folder = saving.save_model(pipe, state, tmp_path / "out", Config(model="starter", lora=SMALL), {})
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", loading.ADAPTERS, loading.CARD]
    pipe.unet.load_state_dict(state, strict=False)
    editor = showtell.load(folder, device="cpu")
    # loaded weights lie in another order, for which there are other kernels
    assert (predicted(editor.pipe.unet) - predicted(pipe.unet)).abs().max() <= 1e-4
    assert editor.card["defaults"]["ip2p"]["num_inference_steps"] == 4  # as the start's card has it


def test_adapters_that_lost_their_base_or_themselves_are_one_line(adapted, tmp_path) -> None:
    card = json.loads((adapted[1] / loading.CARD).read_text())
    for base, culprit in (("../elsewhere", "names no base"), (None, "model_index.json")):
        card["lora"]["base"] = base
        (tmp_path / loading.CARD).write_text(json.dumps(card))
        with pytest.raises(ModelError, match=culprit):
            showtell.load(tmp_path, device="cpu")


def test_only_the_adapters_learn_and_they_start_as_the_network_was(instruct_pipe) -> None:
    before = predicted(instruct_pipe.unet)
    lora.attach(instruct_pipe.unet, SMALL, 5)
    learns = {name: p for name, p in instruct_pipe.unet.named_parameters() if p.requires_grad}
    assert learns and all(".lora_" in name and p.dtype == torch.float32 for name, p in learns.items())
    assert len(learns) == 2 * 4 * 2 * sum(
        "transformer_blocks.0.norm1.weight" in n for n in instruct_pipe.unet.state_dict()
    )
    assert (predicted(instruct_pipe.unet) - before).abs().max() < 1e-6


def test_adapters_are_drawn_from_the_seed_and_nothing_else() -> None:
    drawn = []
    for seed in (5, 5, 6):
        unet, state = tiny.pipeline("instruct").unet, torch.get_rng_state()
        torch.rand(len(drawn))
        before = torch.get_rng_state()
        lora.attach(unet, SMALL, seed)
        assert torch.equal(torch.get_rng_state(), before)
        drawn.append(torch.cat([t.flatten() for t in lora.layers(unet).values()]))
        torch.set_rng_state(state)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_targets_that_are_not_there_are_named(instruct_pipe) -> None:
    with pytest.raises(UsageError, match="no layer 'to_x'"):
        lora.attach(instruct_pipe.unet, Lora(targets=("to_q", "to_x")), 0)
    with pytest.raises(UsageError, match="'norm1' is neither"):
        lora.attach(instruct_pipe.unet, Lora(targets=("norm1",)), 0)
    lora.attach(instruct_pipe.unet, SMALL, 0)
    with pytest.raises(UsageError, match="adapters already"):
        lora.attach(instruct_pipe.unet, SMALL, 0)


def test_the_adapters_file_tells_rank_and_alpha(adapted) -> None:
    with safe_open(adapted[1] / loading.ADAPTERS, "pt") as file:
        told = json.loads(file.metadata()["lora_adapter_metadata"])
        assert (told["unet.r"], told["unet.lora_alpha"]) == (3, 7)
        assert all(file.get_tensor(name).dtype == torch.float32 for name in file.keys())  # noqa: SIM118
