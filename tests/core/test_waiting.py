"""Nothing in a loop over steps waits for the device: loops run on the meta device, where there is nothing to be read."""

from __future__ import annotations

import diffusers
import pytest
import torch

from showtell import conditioning, ddim, guidance, learning, networks, sampling, schedule, schedulers, starts
from showtell.inversion import visii
from showtell.inversion.draws import Draws
from showtell.inversion.guarded import Guarded
from showtell.inversion.progress import Progress
from tests.core.test_visii import prepared
from tests.helpers import tiny

SCHEDULERS = [
    "EulerAncestralDiscreteScheduler",
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "DDPMScheduler",
    "LCMScheduler",
]


def run_of(name, *, device="cpu", steps=6, seed=0):
    return schedule.SchedulerStep(
        getattr(diffusers, name)(), num_inference_steps=steps, device=device, generators=[starts.generator(seed)]
    )


@pytest.mark.parametrize("name", SCHEDULERS)
def test_sampling_never_waits(name):
    unet = tiny.unet(8).to("meta")
    steps = run_of(name, device="meta")
    told, z = torch.empty(1, 77, tiny.WIDTH, device="meta"), torch.empty(1, 4, 8, 8, device="meta")
    denoise = sampling.GuidedDenoiser(
        network=networks.Network(unet=unet),
        conditioning=conditioning.InstructConditioning(
            prompt_embeds=told, negative_prompt_embeds=told.clone(), image_latents=z
        ),
        guidance=guidance.TwoCondition(),
        scale_input=steps.scale_input,
    )
    # With a mask, the latents outside it are noised anew after each step.
    rows = sampling.sample(
        denoise, z, steps.schedule, steps.step, blend=lambda x, i: x + steps.noised(z, z, steps.schedule[i][1])
    )
    assert rows.device.type == "meta"


def test_ddim_inversion_never_waits():
    scheduler = schedulers.fresh_scheduler("ddim", diffusers.DDIMScheduler(clip_sample=False).config)
    scheduler.set_timesteps(5)
    pair = ddim.Ddim.of(scheduler)
    z = torch.empty(1, 4, 8, 8, device="meta")
    for steps, step in ((pair.inverse_schedule, pair.step_back), (pair.schedule, pair.step)):
        assert sampling.sample(lambda x, t, i: x, z, steps, step).device.type == "meta"


def test_steps_of_a_learning_do_not_wait_and_a_look_does():
    parameter = torch.nn.Parameter(torch.empty(3, 4, device="meta"))
    optimiser = torch.optim.AdamW([parameter], lr=0.1)
    guard = Guarded(optimiser, parameter, clip=torch.tensor(1.0))
    for _ in range(3):
        guard.step(parameter.sum(), torch.empty_like(parameter))
    with pytest.raises((RuntimeError, NotImplementedError)):
        guard.look()


# --- what is done instead gives the same ---------------------------------------------------------------------------


def test_noise_that_is_drawn_ahead_is_the_schedulers_own():
    x, output = torch.randn(2, 1, 4, 8, 8).unbind(0)
    ends, states = [], []
    for ahead in (False, True):
        steps = run_of("EulerAncestralDiscreteScheduler", steps=30)
        steps._draws_ahead = ahead
        seen, now = [], x * steps.init_noise_sigma
        for t, t_next in steps.last(0.9):
            now = steps.step(steps.scale_input(now, t) * 0 + now, output * 0.1 + 0.01 * now, t, t_next)
            seen.append(now)
        ends.append(torch.stack(seen))
        states.append(steps._generators[0].get_state())
    assert torch.allclose(*ends, atol=1e-4, rtol=1e-5)
    assert torch.equal(*states)


@pytest.mark.parametrize("name", [*SCHEDULERS, "HeunDiscreteScheduler", "PNDMScheduler", "UniPCMultistepScheduler"])
def test_latents_are_noised_as_the_scheduler_does_it(name):
    steps = run_of(name)
    z, noise = torch.randn(2, 2, 4, 8, 8).unbind(0)
    for t, _ in steps.schedule:
        assert torch.equal(steps.noised(z, noise, t), steps.scheduler.add_noise(z, noise, t.reshape(1)))


@pytest.mark.parametrize("broken", [None, 1, 5])
def test_looking_seldom_changes_nothing(editor, picture, broken, monkeypatch):
    lesson = prepared(editor, (picture(), picture(seed=1)), steps=9, check_every=4)
    draws = Draws.of(steps=9, timesteps_per_step=2, pairs=1, total=1000, seed=0)
    real, found = visii.loss_at, []

    for every in (1, 3, 100):
        calls: list[int] = []

        def loss_at(*arguments, calls=calls):
            calls.append(1)
            return real(*arguments) * (float("nan") if len(calls) == broken else 1)

        monkeypatch.setattr(visii, "loss_at", loss_at)
        told: list[int] = []
        with learning._gradients(editor.pipe):
            done = visii.learn(
                lesson, draws, Progress.of(lesson.tokens), look_every=every,
                observe=lambda progress, loss, told=told: told.append(progress.step),
            )  # fmt: skip
        found.append(done)
        assert broken is not None or told == {1: [*range(1, 10)], 3: [3, 4, 6, 8, 9], 100: [4, 8, 9]}[every]
    for done in found:
        assert done.broke_at == (None if broken is None else broken - 1) and done.step == found[0].step
        assert done.checks == found[0].checks and torch.equal(done.best, found[0].best)
        assert torch.equal(done.tokens, found[0].tokens)
        for name in ("exp_avg", "exp_avg_sq"):
            first, own = (each._optimiser.state[each.parameter][name] for each in (found[0], done))
            assert torch.equal(first, own) and own.isfinite().all()
