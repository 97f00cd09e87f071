"""Students: what they are told by their teacher, what they leave, and how they are sampled."""

from __future__ import annotations

import json

import diffusers
import pytest
import torch

import showtell
from showtell import schedule
from showtell.errors import UsageError
from showtell.training.instruct import configuring, distilling, lora, network, presets, run
from showtell.training.instruct.settings import Config, Data, Distill, Lora
from tests.core import test_parity as parity
from tests.helpers import tiny
from tests.training.making import pairs, picture

KINDS = ("guidance", "consistency")
RANK = Lora(rank=2, alpha=2)


def given(seed: int = 0) -> dict[str, torch.Tensor]:
    """A batch of three, as the losses take it."""
    draw = torch.Generator().manual_seed(seed)
    z, image, noise = (torch.randn(3, 4, 8, 8, generator=draw) for _ in range(3))
    words = torch.randn(4, 77, tiny.WIDTH, generator=draw)
    return {
        "z": z, "image": image, "noise": noise, "context": words[:3], "empty": words[3], "u": torch.tensor([0.01, 0.4, 0.99]),
        "alphas": diffusers.DDIMScheduler(beta_schedule="scaled_linear").alphas_cumprod,
    }  # fmt: skip


def student(config: Config):
    """A random network that is about to learn, its teacher, and what calls it."""
    unet = tiny.pipeline("instruct").unet.requires_grad_(False)
    teacher = distilling.teacher(config, unet)
    if config.lora is None:
        unet.requires_grad_(True)
    else:
        lora.attach(unet, config.lora, 0)
    return unet, teacher, lambda *args, of=None, **named: (unet if of is None else of)(*args, **named)


def test_lcm_stops_at_timesteps_that_are_learned() -> None:
    t, s = distilling.levels(torch.linspace(0, 0.999, 400), Distill(), 1000)
    scheduler = diffusers.LCMScheduler()
    for steps in (1, 2, 4, 8):
        scheduler.set_timesteps(steps)
        assert set(scheduler.timesteps.tolist()) <= set(t.tolist())
    assert set(s.tolist()) == {-1, *t.tolist()} - {999} and bool((s < t).all())
    t, s = distilling.levels(torch.tensor([0.0, 0.5, 0.999]), Distill(jump=5), 1000)
    assert t.tolist() == [19, 519, 999] and s.tolist() == [-1, 419, 899]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_what_a_student_says_is_what_lcm_takes_it_for(kind: str) -> None:
    draw = torch.Generator().manual_seed(0)
    x, output = torch.randn(2, 1, 4, 8, 8, generator=draw)
    scheduler = diffusers.LCMScheduler(prediction_type=kind)
    scheduler.set_timesteps(4)
    for t in scheduler.timesteps:
        wanted = scheduler.step(output, t, x, generator=draw, return_dict=True).denoised
        level = scheduler.alphas_cumprod[t].view(1, 1, 1, 1)
        assert torch.allclose(distilling.consistent(output, x, t[None], level, kind), wanted, atol=1e-5)
    at_zero = distilling.consistent(output, x, torch.zeros(1), torch.tensor(0.9).view(1, 1, 1, 1), kind)
    assert torch.equal(at_zero, x)


def test_the_teachers_way_down_is_dpm_solver() -> None:
    told = given()
    mix = torch.randn(4, 4, generator=torch.Generator().manual_seed(1)) / 4

    def guided(x, t):
        return torch.tanh(torch.einsum("ij,bjhw->bihw", mix, x) + t.view(-1, 1, 1, 1) / 1000)

    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_schedule="scaled_linear", prediction_type="v_prediction", solver_order=2, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(timesteps=[999, 749, 499, 249])
    wanted = told["z"]
    for t in scheduler.timesteps:
        wanted = scheduler.step(guided(wanted, t.repeat(3)), t, wanted).prev_sample
    t, s = torch.full((3,), 999), torch.full((3,), -1)
    found = distilling._down(guided, told["z"], t, s, 4, told["alphas"], "v_prediction")
    assert torch.allclose(found, wanted, atol=1e-5)
    one = distilling._down(guided, told["z"], t, s + 500, 1, told["alphas"], "v_prediction")
    eps = schedule.to_epsilon(guided(told["z"], t), told["z"], told["alphas"][999], "v_prediction")
    assert torch.allclose(one, schedule.ddim(told["z"], eps, told["alphas"][999], told["alphas"][499]), atol=1e-5)
    near = distilling._down(guided, told["z"], torch.tensor([2, 0, 1]), s, 4, told["alphas"], "v_prediction")
    assert bool(near.isfinite().all())


@pytest.mark.parametrize("adapters", [RANK, None])
def test_without_guidance_a_teacher_says_what_its_student_says_before_any_step(adapters) -> None:
    config = Config(lora=adapters, distill=Distill(kind="guidance", guidance_scale=1.0, image_guidance_scale=1.0))
    _, teacher, calls = student(config)
    found = distilling.losses(calls, teacher, config.distill, **given(), prediction_type="epsilon")
    assert found.shape == (3,) and found.max() < 1e-10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapters", [RANK, None])
def test_only_the_student_learns_and_its_teacher_stays_what_it_was(adapters, kind: str) -> None:
    config = Config(lora=adapters, distill=Distill(kind=kind, guidance_scale=3.0, image_guidance_scale=1.5, jump=2))
    unet, teacher, calls = student(config)
    told = given()

    def guided() -> torch.Tensor:
        with torch.no_grad(), teacher.speaking() as frozen:
            t, _ = distilling.levels(told["u"], config.distill, 1000)
            names = ("image", "context", "empty")
            return distilling._guided(calls, frozen, teacher.rule, x=told["z"], t=t, **{n: told[n] for n in names})

    before = guided()
    distilling.losses(calls, teacher, config.distill, **told, prediction_type="epsilon").sum().backward()
    learned = {name for name, p in unet.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert learned and (adapters is None or all("lora_" in name for name in learned))
    with torch.no_grad():
        for _, p in unet.named_parameters():
            if p.requires_grad:
                p.add_(0.1)
    assert torch.equal(guided(), before)
    if adapters is not None:  # which are there again, also after an error
        with pytest.raises(RuntimeError), teacher.speaking():
            raise RuntimeError
        t = torch.tensor([5, 500, 900])
        x = torch.cat((told["z"], told["image"]), 1)
        assert not torch.equal(calls(x, t, told["context"])[0], before)


def test_a_network_that_knows_the_picture_is_consistent() -> None:
    """Where x_0 is the same at every noise level, DDIM from t to s is on the way, and nothing is left to learn."""
    told = given()

    def knows(x, t, context, of=None, return_dict=False):
        rows = len(x) // len(told["z"])
        level = told["alphas"][t].view(-1, 1, 1, 1)
        eps = (x[:, :4] - level**0.5 * told["z"].repeat(rows, 1, 1, 1)) / (1 - level) ** 0.5
        return (schedule.to_target(told["z"].repeat(rows, 1, 1, 1), eps, level, "v_prediction"),)

    config = Config(distill=Distill(guidance_scale=3.0, image_guidance_scale=1.5, jump=3))
    _, teacher, _ = student(config)
    for distance in ("mse", "huber"):
        distill = Distill(jump=3, distance=distance)
        found = distilling.losses(knows, teacher, distill, **told, prediction_type="v_prediction")
        # c_skip of the lowest timestep, 19, is 7e-6
        assert found.max() < 1e-4


def test_a_base_model_has_nothing_to_distil(starters) -> None:
    with pytest.raises(UsageError, match="starter-base: does not follow instructions yet"):
        network.load(Config(model="starter-base", distill=Distill()), device="cpu")


@pytest.mark.parametrize("name", list(presets.DISTILL))
def test_presets_are_whole(name: str) -> None:
    told = configuring.configure(presets.preset(name), {"data": {"path": "x"}})
    assert told.distill is not None and told.lora is not None


def test_adapters_fit_every_layer_of_a_full_size_network() -> None:
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(in_channels=8, cross_attention_dim=768)
    told = configuring.configure(presets.preset("lcm-lora")).lora
    assert told is not None
    lora._check_targets(unet, told)


@pytest.fixture(scope="module")
def trained(tiny_starters, tmp_path_factory):
    """A student of the random starter: two steps at a time, stopped and gone on with, and the folder of it without a stop."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SHOWTELL_STARTERS", str(tiny_starters))
    folder = tmp_path_factory.mktemp("student")
    data = pairs(folder / "pairs", 8)

    def configured(steps: int) -> Config:
        # s_T and s_I are the card's
        return configuring.configure({
            "model": "starter", "data": {"path": str(data), "held_out": 0.0}, "validate": {"every": None},
            "train": {"steps": steps, "batch_size": 2, "ema": 0.9}, "lora": {"rank": 2, "alpha": 2}, "distill": {"jump": 5},
        })  # fmt: skip

    whole = run.train(configured(3), folder / "whole", device="cpu").model
    run.train(configured(1), folder / "parts", device="cpu")
    parts = run.train(configured(3), folder / "parts", resume=True, device="cpu").model
    yield whole, parts
    patch.undo()


def test_a_student_that_was_stopped_is_the_same(trained) -> None:
    from safetensors.torch import load_file

    whole, parts = (load_file(folder / "pytorch_lora_weights.safetensors") for folder in trained)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())
    assert any(bool(tensor.any()) for name, tensor in whole.items() if "lora_B" in name)


def test_a_student_is_sampled_as_its_card_says_and_as_its_readme_says(trained) -> None:
    folder, _ = trained
    card = json.loads((folder / "showtell_card.json").read_text())
    assert card["defaults"]["ip2p"] == {
        "num_inference_steps": 4, "guidance_scale": 1.0, "image_guidance_scale": 1.0, "scheduler": "lcm",
    }  # fmt: skip
    assert card["command"] == "showtell train distill"
    readme = (folder / "README.md").read_text()
    assert "LCMScheduler.from_config" in readme and "one evaluation of the network a step" in readme
    editor = showtell.load(folder, device="cpu")
    rows = []
    hook = editor.pipe.unet.register_forward_hook(lambda module, args, output: rows.append(len(args[0])))
    edit = editor.edit(picture(1, (32, 32)), "make it red", seed=3)
    hook.remove()
    assert rows == [1, 1, 1, 1]
    assert edit.recipe.scheduler["_class_name"] == "LCMScheduler"
    editor.pipe.scheduler = diffusers.LCMScheduler.from_config({**editor.pipe.scheduler.config, "clip_sample": False})
    options = {"num_inference_steps": 4, "guidance_scale": 1.0, "image_guidance_scale": 1.0, "seed": 3}
    parity.assert_same(editor.pipe, picture(1, (32, 32)), "make it red", **options)


def test_the_whole_network_can_be_a_student(starters, tmp_path) -> None:
    data = pairs(tmp_path / "pairs", 4)
    config = Config(
        model="starter", data=Data(path=str(data), held_out=0.0), distill=Distill(kind="guidance", guidance_scale=2.0),
    )  # fmt: skip
    config = configuring.configure(
        config.as_dict(), {"train": {"steps": 1, "batch_size": 2}, "validate": {"every": None}}
    )
    folder = run.train(config, tmp_path / "run", device="cpu").model
    editor = showtell.load(folder, device="cpu")
    assert editor.card["defaults"]["ip2p"]["guidance_scale"] == 1.0
    assert "scheduler" not in editor.card["defaults"]["ip2p"]
