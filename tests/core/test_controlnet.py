"""Instruction editing through a ControlNet: the same guidance rule, the picture as pixels."""

from __future__ import annotations

import dataclasses

import diffusers
import pytest
import torch

import showtell
from showtell import conditioning, guidance, methods, models, networks, recipe
from showtell.errors import ModelError
from showtell.sampling import GuidedDenoiser
from tests.core.test_parity import assert_same
from tests.helpers import tiny

OPTIONS = {"num_inference_steps": 4, "image_guidance_scale": 1.0, "guidance_scale": 7.5}


@pytest.fixture
def control_pipe():
    return tiny.pipeline("control")


@pytest.fixture
def editor(control_pipe):
    return showtell.Editor(control_pipe)


class Stock:
    """The stock pipeline, called without the keyword that it does not have."""

    def __init__(self, pipe):
        self.pipe = pipe

    def __getattr__(self, name):
        return getattr(self.pipe, name)

    def __call__(self, *args, image_guidance_scale=None, **options):
        return self.pipe(*args, **options)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["EulerAncestralDiscreteScheduler", "DDIMScheduler", "UniPCMultistepScheduler"])
def test_every_step_equals_the_stock_pipeline(name, prediction_type, picture):
    pipe = tiny.pipeline("control", prediction_type=prediction_type)
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    assert_same(Stock(pipe), picture(32, 32), "make the circle red", seed=3, **OPTIONS)


def test_a_wide_picture_without_guidance_and_with_a_negative_prompt(control_pipe, picture):
    assert_same(Stock(control_pipe), picture(32, 16), "add a star", seed=1, **OPTIONS, negative_prompt="blue")
    assert_same(Stock(control_pipe), picture(32, 16), "add a star", seed=1, **{**OPTIONS, "guidance_scale": 1.0})


def test_the_picture_matters(editor, picture):
    one = editor.edit(picture(), "red", seed=0, **OPTIONS)
    other = editor.edit(picture(seed=9).rotate(90), "red", seed=0, **OPTIONS)
    assert (one.latents - other.latents).abs().max() > 0.05


@pytest.mark.parametrize("s_I", [1.0, 1.5])
def test_a_batch_equals_single_edits_and_branches_one_by_one(editor, picture, s_I):
    options = {**OPTIONS, "image_guidance_scale": s_I}
    pictures, words = [picture(), picture(seed=1)], ["make it red", "add a star"]
    together = editor.edit(pictures, words, seed=[0, 1], **options)
    for i, edit in enumerate(together):
        alone = editor.edit(pictures[i], words[i], seed=i, **options)
        apart = editor.edit(pictures[i], words[i], seed=i, sequential=True, **options)
        assert torch.allclose(edit.latents, alone.latents, atol=1e-4, rtol=0)
        assert torch.allclose(alone.latents, apart.latents, atol=1e-4, rtol=0)


def inputs(rows: int, *, gradient: bool = False):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 4, 8, 8, generator=generator)
    embeds = torch.randn(rows, 77, tiny.WIDTH, generator=generator).requires_grad_(gradient)
    return x, embeds, torch.rand(rows, 3, 32, 32, generator=generator)


def test_rows_without_a_picture_get_nothing_from_the_controlnet(control_pipe):
    net = networks.network(control_pipe)
    x, embeds, pictures = inputs(3)
    t = torch.tensor(400)
    seeing, blind, last = net(x, t, embeds, [pictures[:1], None, pictures[2:]]).split(1)
    plain = control_pipe.unet(x[1:2], t, encoder_hidden_states=embeds[1:2]).sample
    assert torch.allclose(blind, plain, atol=1e-5)
    assert torch.equal(net(x[1:2], t, embeds[1:2], [None]), plain)
    assert torch.allclose(seeing, net(x[:1], t, embeds[:1], [pictures[:1]]), atol=1e-5)
    assert torch.allclose(last, net(x[2:], t, embeds[2:], [pictures[2:]]), atol=1e-5)
    assert not torch.allclose(net(x[1:2], t, embeds[1:2], [pictures[1:2]]), plain, atol=1e-2)


@pytest.mark.parametrize("kind", ["control", "instruct", "base"])
def test_each_row_may_have_its_own_timestep(kind):
    net = networks.network(tiny.pipeline(kind))
    x, embeds, pictures = inputs(3)
    beside = {"control": pictures, "instruct": x.flip(0), "base": None}[kind]
    t = torch.tensor([10, 400, 900])
    together = net(x, t, embeds, [beside])
    for i in range(3):
        own = None if beside is None else beside[i : i + 1]
        assert torch.allclose(together[i : i + 1], net(x[i : i + 1], t[i], embeds[i : i + 1], [own]), atol=1e-5)


def test_gradients_flow_through_the_controlnet_too(control_pipe):
    net = networks.network(control_pipe)
    x, embeds, pictures = inputs(2, gradient=True)
    net(x, torch.tensor([3, 700]), embeds, [pictures[:1], None]).square().mean().backward()
    assert embeds.grad is not None and (embeds.grad.abs().amax((1, 2)) > 0).all()
    whole = embeds.grad[:1].clone()
    # The gradient with the ControlNet's part cut off is another one.
    net.controlnet.forward = torch.no_grad()(net.controlnet.forward)
    embeds.grad = None
    net(x, torch.tensor([3, 700]), embeds, [pictures[:1], None]).square().mean().backward()
    assert not torch.allclose(embeds.grad[:1], whole, rtol=1e-3, atol=0)


def test_networks_in_half_precision_take_and_give_float32(control_pipe):
    x, embeds, pictures = inputs(2)
    t = torch.tensor(300)
    full = networks.network(control_pipe)(x, t, embeds, [pictures[:1], None])
    half = networks.network(control_pipe.to(torch.bfloat16))(x, t, embeds, [pictures[:1], None])
    assert half.dtype == torch.float32 and torch.allclose(half, full, atol=0.1)


def test_the_branches_are_told_the_picture_or_nothing():
    told = conditioning.ControlConditioning(
        prompt_embeds=torch.ones(1, 77, 4), negative_prompt_embeds=torch.zeros(1, 77, 4), pixels=torch.rand(1, 3, 8, 8)
    )
    seen = {branch: told.told(branch, 0) for branch in guidance.INSTRUCT_BRANCHES}
    assert {branch: bool(embeds.any()) for branch, (embeds, _) in seen.items()} == {
        "full": True, "image": False, "text": True, "none": False
    }  # fmt: skip
    assert {branch: picture is not None for branch, (_, picture) in seen.items()} == {
        "full": True, "image": True, "text": False, "none": False
    }  # fmt: skip
    with pytest.raises(KeyError):
        told.told("cond", 0)


def test_the_none_branch_takes_part_where_the_picture_is_guided(control_pipe):
    x, embeds, pictures = inputs(1)
    told = conditioning.ControlConditioning(prompt_embeds=embeds, negative_prompt_embeds=embeds * 0.5, pixels=pictures)
    rule = guidance.TwoCondition(guidance_scale=7.5, image_guidance_scale=1.5)
    net = networks.network(control_pipe)
    denoise = GuidedDenoiser(network=net, conditioning=told, guidance=rule, scale_input=lambda x, t: x)
    t = torch.tensor(400)
    with torch.no_grad():
        eps = {
            "full": net(x, t, embeds, [pictures]),
            "image": net(x, t, embeds * 0.5, [pictures]),
            "none": control_pipe.unet(x, t, encoder_hidden_states=embeds * 0.5).sample,
        }
    assert torch.allclose(denoise(x, t, 0), rule.combine(eps), atol=1e-4)


def test_the_recipe_says_what_was_used(editor, picture, tmp_path):
    edit = editor.edit(picture(), "red", seed=0, num_inference_steps=1)
    assert edit.recipe.method.parameters["image_guidance_scale"] == 1.0
    assert edit.recipe.method.origin["image_guidance_scale"] == "paper"
    edit = editor.edit(picture(), "red", seed=0, num_inference_steps=1, image_guidance_scale=1.2)
    assert edit.recipe.method.parameters["image_guidance_scale"] == 1.2
    assert methods.settle(methods.InstructPix2Pix(), given={}, card={})[0].image_guidance_scale == 1.5


def test_a_folder_is_loaded_and_a_recipe_replayed(control_pipe, picture, tmp_path):
    folder = tmp_path / "control"
    control_pipe.save_pretrained(folder)
    editor = showtell.load(folder, device="cpu")
    assert editor.kind == "control"
    source = tmp_path / "in.png"
    picture().save(source)
    edit = editor.edit(source, "make it red", seed=4, num_inference_steps=2)
    edit.save(tmp_path / "out.png")
    assert recipe.read(tmp_path / "out.png").model.weights == models.weights_hash(control_pipe)
    again = showtell.replay(tmp_path / "out.png")
    assert again.image.tobytes() == edit.image.tobytes()


def test_the_fingerprint_covers_the_controlnet(control_pipe):
    before = models.weights_hash(control_pipe)
    assert models.part_names(control_pipe) == ("unet", "text_encoder", "vae", "controlnet")
    with torch.no_grad():
        control_pipe.controlnet.controlnet_mid_block.bias.add_(1e-3)
    assert models.weights_hash(control_pipe) != before


def test_an_incomplete_controlnet_is_refused(control_pipe, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "control"
    control_pipe.save_pretrained(folder)
    weights = folder / "controlnet" / "diffusion_pytorch_model.safetensors"
    save_file({k: v for k, v in load_file(weights).items() if "mid_block" not in k}, weights)
    with pytest.raises(ModelError, match="controlnet: its weights are incomplete"):
        showtell.load(folder, device="cpu")


def test_controlnets_that_do_not_fit(control_pipe):
    control_pipe.controlnet.register_to_config(cross_attention_dim=99)
    with pytest.raises(ModelError, match="ControlNet takes text of width 99"):
        models.kind(control_pipe)
    control_pipe.controlnet = torch.nn.Linear(1, 1)
    with pytest.raises(ModelError, match="its ControlNet is a Linear"):
        models.kind(control_pipe)


def test_several_controlnets_are_refused(control_pipe, tmp_path):
    two = dict(control_pipe.components)
    two["controlnet"] = [control_pipe.controlnet, tiny.controlnet(control_pipe.unet)]
    pipe = diffusers.StableDiffusionControlNetPipeline(**two, requires_safety_checker=False)
    with pytest.raises(ModelError, match="several ControlNets"):
        showtell.Editor(pipe)


def test_a_controlnet_beside_an_instruct_unet_is_refused(control_pipe):
    control_pipe.unet = tiny.unet(8)
    with pytest.raises(ModelError, match="beside a ControlNet it must take 4"):
        models.kind(control_pipe)


def test_methods_say_what_they_take(control_pipe, picture):
    for method in methods.METHODS.values():
        assert set(method.kinds) <= {"instruct", "control", "base", "inpaint"}
        assert method.words in ("required", "optional")
        names = {f.name for f in dataclasses.fields(method)}
        assert set(methods.base.paper(method, "control")) == names
    with pytest.raises(ModelError, match=r"'instructdiffusion' needs an instruct model .*with a ControlNet"):
        showtell.Editor(control_pipe).edit(picture(), "red", method="instructdiffusion")
