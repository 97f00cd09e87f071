"""A run that starts in the middle of a schedule: every scheduler takes a noised picture back to the picture."""

from __future__ import annotations

import diffusers
import pytest
import torch

from showtell import sampling, schedulers
from showtell.errors import MethodError
from showtell.schedule import SchedulerStep
from tests.helpers import tiny

NAMES = schedulers.names()


def begun(name, steps, **config):
    generator = torch.Generator().manual_seed(0)
    scheduler = schedulers.fresh_scheduler(name, {**tiny.scheduler().config, **config})
    run = SchedulerStep(scheduler, num_inference_steps=steps, device=torch.device("cpu"), generators=[generator])
    return run, *torch.randn(2, 1, 4, 8, 8, generator=generator)


@pytest.mark.parametrize(("name", "skip"), [*((name, False) for name in NAMES), ("pndm", True)])
@pytest.mark.parametrize(("count", "strength"), [(10, 0.8), (20, 0.5), (7, 0.3), (10, 0.1), (10, 1.0)])
def test_with_the_true_noise_it_ends_at_the_picture(name, skip, count, strength):
    steps, z, noise = begun(name, count, skip_prk_steps=skip)
    levels, told = steps.scheduler.alphas_cumprod, []

    def truth(x, t, i):
        level = levels[min(999, round(float(t)))]
        eps = (steps.scale_input(x, t) - level**0.5 * z) / (1 - level) ** 0.5
        told.append(eps)
        return eps

    part = steps.last(strength)
    end = sampling.sample(truth, steps.noised(z[None], noise[None], part[0][0]), part, steps.step)
    # The start has the noise level of the first step that is run (timesteps of some schedulers are not whole).
    assert torch.allclose(told[0][0], noise, atol=0.02)
    # Some schedules end at the level of timestep 0, others at none.
    left = levels[0] ** 0.5 * z + (1 - levels[0]) ** 0.5 * told[-1][0]
    assert min((end[0] - z).abs().max(), (end[0] - left).abs().max()) < 1e-3


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"pndm", "lcm"}))
@pytest.mark.parametrize(("count", "strength"), [(10, 0.8), (100, 0.8), (7, 0.5), (20, 0.35), (3, 0.34), (20, 1.0)])
def test_the_steps_that_are_run_are_those_of_stock_image_to_image(name, count, strength):
    steps, _, _ = begun(name, count)
    base = tiny.pipeline("base")
    stock = diffusers.StableDiffusionImg2ImgPipeline(**base.components, requires_safety_checker=False)
    stock.scheduler = begun(name, count)[0].scheduler
    expected, _ = stock.get_timesteps(count, strength, "cpu")
    part = steps.last(strength)
    assert [float(t) for t, _ in part] == [float(t) for t in expected]
    assert [t_next for _, t_next in part] == [*[t for t, _ in part[1:]], None]


def test_shares_that_no_float_holds_are_rounded_as_they_are_written():
    for percent in range(1, 101):
        assert len(begun("ddim", 100)[0].last(percent / 100)) == percent


@pytest.mark.parametrize("name", NAMES)
def test_a_share_of_no_step_is_refused(name):
    with pytest.raises(MethodError, match=r"strength=0.05 of 10 steps is none: raise strength"):
        begun(name, 10)[0].last(0.05)


@pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")
@pytest.mark.parametrize("name", NAMES)
def test_foi_runs_with_every_scheduler(editor, picture, name):
    shown = []
    options = {"scheduler": name, "num_inference_steps": 5, "strength": 0.8, "seed": 0}
    edit = editor.edit(
        picture(), ["make the [circle] red", "add a [star]"], method="foi",
        callback=lambda i, n, latents: shown.append((i, n)), **options,
    )  # fmt: skip
    assert edit.latents.isfinite().all() and len(edit.masks) == 2
    total = {"heun": 7, "pndm": 5}.get(name, 4)  # Heun's steps are two calls each, but the last; PNDM takes one twice
    assert shown == [(i, total) for i in range(total)]
