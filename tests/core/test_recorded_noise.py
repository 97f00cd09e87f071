"""Recorded noise: the noises that a look was learned with take the place of drawn ones, at the timesteps they belong to."""

from __future__ import annotations

import dataclasses

import diffusers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import showtell
from showtell import fitting, instruction, models, schedule, schedulers
from showtell.errors import MethodError, ShowtellWarning
from showtell.starts import RecordedNoise
from tests.helpers import tiny
from tests.helpers.looks import QUICK, made, recorded

ALL = list(range(1000))


def look_for(pipe, name="night", *, seed=0, timesteps=ALL, shape=(4, 8, 8)):
    """A look with noises of these timesteps."""
    return dataclasses.replace(made(pipe, name, seed=seed), noise=recorded(timesteps, shape=shape, seed=seed + 100))


# --- the noises ---------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 999), min_size=1, max_size=60), st.lists(st.floats(0, 999), max_size=40))
def test_each_step_takes_the_nearest_noise_that_is_left(known, arrivals):
    known = sorted(known)
    values = torch.tensor(known, dtype=torch.float32).view(-1, 1, 1, 1)
    noise = RecordedNoise(timesteps=torch.tensor(known), values=values)
    assert float(noise.start()) == max(known)
    taken = [int(v) for v in noise.along(arrivals)]
    free = [t for t in known if t != max(known)]
    for t, arrival in zip(taken, arrivals, strict=True):
        if not free:
            assert t in known  # all have been used: the nearest, again
            continue
        assert t in free and abs(t - round(arrival)) == min(abs(f - round(arrival)) for f in free)
        free.remove(t)


@pytest.mark.parametrize("steps", [1, 2, 20, 50, 100])
def test_with_all_timesteps_recorded_a_run_takes_those_that_it_arrives_at_rounded(steps):
    scheduler = schedulers.fresh_scheduler("euler-ancestral", tiny.scheduler().config)
    scheduler.set_timesteps(steps)
    arrivals = [float(t) for t in scheduler.timesteps[1:]]
    noise = recorded(ALL)
    taken = noise.along(arrivals)
    for arrival, found in zip(arrivals, taken, strict=True):
        assert torch.equal(found, noise.values[round(arrival)].float()) and found.dtype == torch.float32
    assert len({found.flatten()[0].item() for found in taken}) == len(taken)
    assert torch.equal(noise.start(), noise.values[999].float())


def test_the_order_in_which_noises_are_kept_does_not_matter():
    noise = recorded([7, 900, 300])
    turned = RecordedNoise(timesteps=noise.timesteps.flip(0), values=noise.values.flip(0))
    assert torch.equal(noise.start(), turned.start()) and torch.equal(noise.start(), noise.values[1].float())
    for a, b in zip(noise.along([290.4, 3.0]), turned.along([290.4, 3.0]), strict=True):
        assert torch.equal(a, b)


def test_a_learning_keeps_the_noises_of_the_timesteps_it_visited(editor, picture, tmp_path):
    from PIL import ImageOps

    from showtell.inversion.draws import Draws

    pair = (picture(), ImageOps.invert(picture()))
    look = editor.learn([pair], record_noise=True, seed=4, **QUICK)
    draws = Draws.of(steps=QUICK["steps"], timesteps_per_step=QUICK["timesteps_per_step"], pairs=1, total=1000, seed=4)
    assert look.noise.timesteps.tolist() == sorted(set(draws.timesteps.flatten().tolist()))
    # They are rounded to float16 before they are learned with: the file holds what the loss saw.
    assert torch.equal(look.noise.values, draws.noise((4, 8, 8))[look.noise.timesteps])
    edit = editor.edit(pair[0], look, noise="recorded", num_inference_steps=3)
    saved = showtell.LearnedInstruction.load(look.save(tmp_path / "look.safetensors"))
    assert torch.equal(editor.edit(pair[0], saved, noise="recorded", num_inference_steps=3).latents, edit.latents)
    assert editor.learn([pair], seed=4, **QUICK).noise is None


# --- the step -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"timestep_spacing": "trailing"}, {"rescale_betas_zero_snr": True}])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 4, 25])
def test_every_step_equals_diffusers_with_the_same_noise(prediction_type, steps, changes):
    base = tiny.scheduler(prediction_type=prediction_type).config
    stock = diffusers.EulerAncestralDiscreteScheduler.from_config(base, **changes)
    stock.set_timesteps(steps)
    run = schedule.SchedulerStep(
        diffusers.EulerAncestralDiscreteScheduler.from_config(base, **changes), num_inference_steps=steps, device="cpu",
        generators=[torch.Generator()],
    )  # fmt: skip
    shape, generator = (2, 4, 8, 8), torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator) * stock.init_noise_sigma
    noises, theirs = [], x
    outputs = [torch.randn(shape, generator=generator) for _ in range(steps)]
    expected = []
    for seed, (t, output) in enumerate(zip(stock.timesteps, outputs, strict=True)):
        noises.append(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))
        stock.scale_model_input(theirs, t)
        theirs = stock.step(output, t, theirs, generator=torch.Generator().manual_seed(seed)).prev_sample
        expected.append(theirs)
    run.replay(noises[:-1])
    for i, (t, t_next) in enumerate(run.schedule):
        scale = max(1.0, float(x.abs().max()))  # the first of a schedule that ends in pure noise is in the thousands
        x = run.step(x, outputs[i], t, t_next)
        assert torch.allclose(x / scale, expected[i] / scale, atol=1e-5, rtol=0), i
        x = expected[i]


def test_a_run_equals_a_manual_loop_that_is_fed_those_noises(picture):
    pipe = tiny.pipeline("instruct", prediction_type="v_prediction")
    look, steps, s_T, s_I = look_for(pipe), 6, 3.0, 1.5
    edit = showtell.Editor(pipe).edit(
        picture(), look, noise="recorded", seed=9, num_inference_steps=steps, guidance_scale=s_T,
        image_guidance_scale=s_I, scheduler="euler-ancestral",
    )  # fmt: skip
    assert edit.recipe.noise == "recorded" and edit.notes == []

    scheduler = diffusers.EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(steps)
    sigmas, timesteps = scheduler.sigmas, scheduler.timesteps
    c_I = models.encode_image(pipe, fitting.to_pixels([picture()]))
    nothing = torch.zeros_like(c_I)
    empty, _ = instruction.assemble(pipe, [instruction.Words(text="")])
    # The published code forgets init_noise_sigma.
    x = look.noise.values[999].float()[None] * scheduler.init_noise_sigma
    with torch.no_grad():
        for i, t in enumerate(timesteps):
            sigma, sigma_next = sigmas[i], sigmas[i + 1]
            scaled = x / (sigma**2 + 1) ** 0.5

            def predicted(embeds, picture, t=t, scaled=scaled):
                return pipe.unet(torch.cat([scaled, picture], 1), t, encoder_hidden_states=embeds[None]).sample

            full, image, none = predicted(look.embeds, c_I), predicted(empty, c_I), predicted(empty, nothing)
            v = none + s_I * (image - none) + s_T * (full - image)
            x_0 = scaled / (sigma**2 + 1) ** 0.5 - v * sigma / (sigma**2 + 1) ** 0.5
            up = (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2) ** 0.5
            down = (sigma_next**2 - up**2) ** 0.5
            x = x + (x - x_0) / sigma * (down - sigma)
            if i + 1 < steps:
                x = x + up * look.noise.values[round(float(timesteps[i + 1]))].float()
    assert torch.allclose(edit.latents, x[0], atol=1e-4, rtol=0)


# --- editing with them --------------------------------------------------------------------------------------------

EVERY = [name for name in dir(diffusers) if name.endswith("Scheduler") and not name.startswith("Flax")]


def edited(editor, picture, look, scheduler, seed):
    """Latents with recorded noise, or why there are none."""
    try:
        return editor.edit(
            picture(), look, noise="recorded", seed=seed, scheduler=scheduler, num_inference_steps=4
        ).latents
    except MethodError as error:
        return str(error)


@pytest.mark.parametrize("name", EVERY)
def test_with_recorded_noise_no_scheduler_draws_any(name, picture):
    """Every scheduler of diffusers either gives the same for any seed, or is refused by name."""
    editor = showtell.Editor(tiny.pipeline("instruct"))
    look = look_for(editor.pipe)
    first, second = (edited(editor, picture, look, name, seed) for seed in (0, 1))
    if isinstance(first, str):
        assert first == second and "\n" not in first and "scheduler" in first.lower()
    else:
        assert torch.equal(first, second)


@pytest.mark.parametrize("name", ["ddim", "euler", "dpm++", "unipc", "heun"])
def test_deterministic_schedulers_take_only_the_start(editor, picture, name):
    look = look_for(editor.pipe)
    only = look_for(editor.pipe, timesteps=[999])
    only = dataclasses.replace(only, noise=RecordedNoise(timesteps=torch.tensor([999]), values=look.noise.values[999:]))
    full, start = (
        editor.edit(picture(), each, noise="recorded", seed=0, scheduler=name, num_inference_steps=4)
        for each in (look, only)
    )
    assert torch.equal(full.latents, start.latents)
    random = editor.edit(picture(), look, seed=0, scheduler=name, num_inference_steps=4)
    assert not torch.allclose(random.latents, full.latents, atol=1e-3)


@pytest.mark.parametrize("scheduler", ["ddpm", "lcm", "TCD", "KDPM2AncestralDiscrete", "SASolver", "DDPMParallel"])
def test_schedulers_whose_noise_cannot_be_replaced(editor, picture, scheduler):
    with pytest.raises(MethodError, match="recorded noise cannot be used with .*: choose euler-ancestral") as caught:
        editor.edit(picture(), look_for(editor.pipe), noise="recorded", scheduler=scheduler, num_inference_steps=4)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


def test_sde_solvers_are_refused_by_their_configuration(editor, picture):
    sde = diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++")
    with pytest.raises(MethodError, match="recorded noise cannot be used"):
        editor.edit(picture(), look_for(editor.pipe), noise="recorded", scheduler=sde, num_inference_steps=4)


def test_another_shape_of_picture_falls_back_to_random_noise_and_says_so(editor, picture):
    look = look_for(editor.pipe)
    with pytest.warns(
        ShowtellWarning, match=r"recorded noise is for latents of \(4, 8, 8\), this picture has \(4, 4, 8\)"
    ):
        edit = editor.edit(picture(64, 32), look, noise="recorded", seed=2, num_inference_steps=3)
    assert edit.recipe.noise == "random"
    plain = editor.edit(picture(64, 32), look, seed=2, num_inference_steps=3)
    assert torch.equal(edit.latents, plain.latents)


def test_a_look_without_noises_cannot_be_asked_for_them(editor, picture):
    look, kept = made(editor.pipe), look_for(editor.pipe, "kept", seed=1)
    for told in (look, "red", look + "red", 0.5 * look_for(editor.pipe) + 0.5 * kept):
        with pytest.raises(MethodError, match="needs a learned instruction with its noises .*--record-noise") as caught:
            editor.edit(picture(), told, noise="recorded", num_inference_steps=2)
        assert "\n" not in str(caught.value)
    with pytest.raises(MethodError, match="noise='mine' is not known: choose one of random, recorded"):
        editor.edit(picture(), look, noise="mine")


def test_strength_words_and_other_looks_keep_the_noises(editor, picture):
    look, other = look_for(editor.pipe), made(editor.pipe, "other", seed=1)
    options = {"noise": "recorded", "num_inference_steps": 3, "guidance_scale": 1.0, "image_guidance_scale": 1.0}
    for told in (look * 0.5, look + "red", "red" + look, other + "" + look):
        one, two = (editor.edit(picture(), told, seed=seed, **options) for seed in (0, 1))
        assert torch.equal(one.latents, two.latents) and one.recipe.noise == "recorded"


def test_a_batch_equals_the_single_edits(editor, picture):
    pipe = editor.pipe
    looks = [look_for(pipe, seed=i) for i in range(3)]
    pictures = [picture(), picture(seed=1), picture(64, 32), picture(seed=2)]
    told = [looks[0], looks[1] + "red", looks[2], looks[2]]
    for scheduler in ("euler-ancestral", "ddim"):
        options = {"noise": "recorded", "num_inference_steps": 4, "scheduler": scheduler}
        with pytest.warns(ShowtellWarning, match="noise is random"):
            together = editor.edit(pictures, told, seed=[0, 1, 2, 3], **options)
        assert [edit.recipe.noise for edit in together] == ["recorded", "recorded", "random", "recorded"]
        for i in (0, 1, 3):
            alone = editor.edit(pictures[i], told[i], seed=i, **options)
            assert torch.allclose(together[i].latents, alone.latents, atol=1e-4, rtol=0)
        random = editor.edit(pictures[2], told[2], seed=2, num_inference_steps=4, scheduler=scheduler)
        assert torch.allclose(together[2].latents, random.latents, atol=1e-4, rtol=0)


def test_a_mask_keeps_the_rest_under_recorded_noise(editor, picture):
    import numpy as np

    mask = np.zeros((32, 32), dtype=bool)
    mask[8:24, 8:24] = True
    edit = editor.edit(picture(), look_for(editor.pipe), noise="recorded", mask=mask, num_inference_steps=4)
    before, after = np.asarray(picture()), np.asarray(edit.image)
    assert np.array_equal(after[~mask], before[~mask]) and not np.array_equal(after[mask], before[mask])


def test_recorded_noise_is_replayed(editor, picture, tmp_path):
    picture().save(tmp_path / "in.png")
    saved = look_for(editor.pipe).save(tmp_path / "night.safetensors")
    edit = editor.edit(tmp_path / "in.png", "red <night>", learned=saved, noise="recorded", num_inference_steps=4)
    again = showtell.replay(edit.save(tmp_path / "out.png"), editor=editor)
    assert torch.equal(again.latents, edit.latents) and again.recipe.noise == "recorded"


def test_recorded_noise_through_a_controlnet(picture):
    editor = showtell.Editor(tiny.pipeline("control"))
    look = look_for(editor.pipe)
    one, two = (editor.edit(picture(), look, noise="recorded", seed=s, num_inference_steps=3) for s in (0, 1))
    assert torch.equal(one.latents, two.latents)
