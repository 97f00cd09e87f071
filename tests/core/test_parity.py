"""Against stock diffusers: every step's latents, with the same weights, seed, scheduler and steps."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import torch

import showtell
from showtell import loading
from tests.helpers import tiny

SCHEDULERS = [
    "EulerAncestralDiscreteScheduler",
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "HeunDiscreteScheduler",
    "PNDMScheduler",
    "DDPMScheduler",
]


def stock(pipe, picture, prompt, *, seed, **options):
    """Every step's latents and the picture of the stock pipeline."""
    seen = []

    def look(pipe, step, timestep, kwargs):
        seen.append(kwargs["latents"].clone())
        return kwargs

    generator = torch.Generator("cpu").manual_seed(seed)
    # The stock pipeline takes a batch as a tensor only.
    image = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255).permute(2, 0, 1)[None]
    result = pipe(prompt, image=image, generator=generator, callback_on_step_end=look, output_type="pil", **options)
    return seen, result.images[0]


def ours(pipe, picture, prompt, *, seed, **options):
    """The same of showtell."""
    seen = []
    edit = showtell.Editor(pipe).edit(
        picture, prompt, seed=seed, callback=lambda i, n, latents: seen.append(latents.clone()), **options
    )
    return seen, edit.image


def assert_same(pipe, picture, prompt, **options):
    expected, image = stock(pipe, picture, prompt, **options)
    found, edited = ours(pipe, picture, prompt, **options)
    assert len(found) == len(expected)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.dtype == torch.float32
        assert torch.allclose(a, b, atol=1e-4, rtol=0), (i, (a - b).abs().max())
    assert np.abs(np.asarray(edited, dtype=int) - np.asarray(image, dtype=int)).max() <= 1


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_step_equals_stock_instruct_pix2pix(name, prediction_type, picture):
    pipe = tiny.pipeline("instruct", prediction_type=prediction_type)
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    assert_same(pipe, picture(), "make the circle red", seed=3, num_inference_steps=6)


def test_every_step_equals_stock_on_a_wide_picture_with_a_negative_prompt(instruct_pipe, picture):
    options = {"num_inference_steps": 5, "guidance_scale": 4.0, "image_guidance_scale": 1.2, "negative_prompt": "blue"}
    assert_same(instruct_pipe, picture(32, 16), "add a star", seed=11, **options)


def test_a_long_instruction_is_cut_where_stock_cuts_it(instruct_pipe, picture):
    with pytest.warns(showtell.errors.ShowtellWarning, match="cut off"):
        assert_same(instruct_pipe, picture(), "make the bluest starfish " * 30, seed=0, num_inference_steps=2)


def test_the_schedulers_of_the_pipeline_are_left_alone(instruct_pipe, picture):
    before = dict(instruct_pipe.scheduler.config)
    scheduler = instruct_pipe.scheduler
    showtell.Editor(instruct_pipe).edit(picture(), "make it red", seed=0, num_inference_steps=3, scheduler="dpm++")
    assert instruct_pipe.scheduler is scheduler
    assert dict(scheduler.config) == before
    assert scheduler.num_inference_steps is None


@pytest.mark.skipif(
    not (loading.starters_dir() / "unet-instruct").is_dir(), reason="the starters are not in the package"
)
@pytest.mark.parametrize("name", SCHEDULERS[:3])
def test_every_step_equals_stock_on_the_starter(name, picture):
    editor = showtell.load("starter", device="cpu")
    side = showtell.models.resolution(editor.pipe)
    editor.pipe.scheduler = getattr(diffusers, name).from_config(editor.pipe.scheduler.config)
    options = {"guidance_scale": 3.0, "image_guidance_scale": 1.5, "num_inference_steps": 4}
    assert_same(editor.pipe, picture(side, side), "make the circle red", seed=1, **options)


def test_the_loop_serves_base_models_too(picture):
    from showtell import conditioning, guidance, instruction, networks, sampling, schedule, schedulers, starts

    pipe = tiny.pipeline("base")
    expected = []
    pipe(
        "a red circle", height=32, width=32, num_inference_steps=5, guidance_scale=5.0, output_type="latent",
        generator=torch.Generator("cpu").manual_seed(2),
        callback_on_step_end=lambda p, i, t, kw: expected.append(kw["latents"].clone()) or kw,
    )  # fmt: skip
    generators = [starts.generator(2)]
    steps = schedule.SchedulerStep(
        schedulers.fresh_scheduler(pipe.scheduler, {}), num_inference_steps=5, device="cpu", generators=generators
    )
    told = conditioning.PromptConditioning(
        prompt_embeds=instruction.assemble(pipe, [instruction.Words(text="a red circle")])[0][None],
        negative_prompt_embeds=instruction.assemble(pipe, [instruction.Words(text="")])[0][None],
    )
    denoise = sampling.GuidedDenoiser(
        network=networks.network(pipe),
        conditioning=told,
        guidance=guidance.ClassifierFree(guidance_scale=5.0),
        scale_input=steps.scale_input,
    )
    found = []
    noise = starts.noise((4, 8, 8), generators, device="cpu")
    sampling.sample(
        denoise, noise * steps.init_noise_sigma, steps.schedule, steps.step, observe=lambda i, x: found.append(x)
    )
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-4, rtol=0)
