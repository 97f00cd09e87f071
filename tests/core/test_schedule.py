"""DDIM both ways against diffusers, prediction types, schedulers by any name."""

from __future__ import annotations

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell import schedule, schedulers
from showtell.errors import MethodError, ModelError
from tests.helpers import tiny

levels = st.floats(0.005, 0.999)


@settings(deadline=None)
@given(levels, levels, st.integers(0, 100))
def test_ddim_there_and_back(a, b, seed):
    generator = torch.Generator().manual_seed(seed)
    x, eps = torch.randn(2, 4, 4, 4, generator=generator, dtype=torch.float64).split(1)
    here, there = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    assert torch.allclose(schedule.ddim(schedule.ddim(x, eps, here, there), eps, there, here), x, atol=1e-9)


@settings(deadline=None)
@given(levels, st.integers(0, 100))
def test_prediction_types_agree(a, seed):
    generator = torch.Generator().manual_seed(seed)
    z, eps = torch.randn(2, 4, 4, 4, generator=generator, dtype=torch.float64).split(1)
    level = torch.tensor(a, dtype=torch.float64)
    x = level**0.5 * z + (1 - level) ** 0.5 * eps
    v = level**0.5 * eps - (1 - level) ** 0.5 * z
    for output, kind in ((eps, "epsilon"), (v, "v_prediction"), (z, "sample")):
        assert torch.allclose(schedule.to_epsilon(output, x, level, kind), eps, atol=1e-9)
    assert torch.allclose(schedule.to_sample(eps, x, level), z, atol=1e-8)


def test_an_unknown_prediction_type_is_refused():
    with pytest.raises(ModelError, match="flow"):
        schedule.to_epsilon(torch.ones(1), torch.ones(1), torch.tensor(0.5), "flow")


@pytest.mark.parametrize("kind", schedule.PREDICTION_TYPES)
def test_one_step_equals_diffusers_both_ways(kind):
    torch.manual_seed(0)
    x, output = torch.randn(2, 2, 4, 8, 8)
    down = tiny.scheduler(prediction_type=kind)
    down.set_timesteps(50)
    levels, t, t_next = down.alphas_cumprod, 501, 481
    eps = schedule.to_epsilon(output, x, levels[t], kind)
    ours = schedule.ddim(x, eps, levels[t], levels[t_next])
    assert torch.allclose(ours, down.step(output, t, x).prev_sample, atol=1e-5)
    # diffusers' inverse moves from t - 20 to t with the prediction made for t.
    up = diffusers.DDIMInverseScheduler.from_config(down.config)
    up.set_timesteps(50)
    eps = schedule.to_epsilon(output, x, levels[t_next], kind)
    ours = schedule.ddim(x, eps, levels[t_next], levels[t])
    assert torch.allclose(ours, up.step(output, t, x).prev_sample, atol=1e-5)


def test_pairs_end_at_the_clean_latents():
    assert schedule.pairs([3, 2, 1]) == [(3, 2), (2, 1), (1, None)]


@pytest.mark.parametrize(
    "name", [*schedulers.names(), "DDIMScheduler", "EulerAncestralDiscrete", "k-dpm-2-discrete", "DPM++"]
)
def test_schedulers_by_name(name):
    config = tiny.scheduler(prediction_type="v_prediction").config
    built = schedulers.fresh_scheduler(name, config)
    assert built.config.beta_end == 0.012
    again = schedulers.fresh_scheduler(schedulers.recorded(built), {})
    assert type(again) is type(built) and again is not built
    assert schedulers.recorded(again) == schedulers.recorded(built)


def test_schedulers_by_class_and_instance():
    config = tiny.scheduler().config
    assert isinstance(schedulers.fresh_scheduler(diffusers.DDIMScheduler, config), diffusers.DDIMScheduler)
    mine = diffusers.DPMSolverMultistepScheduler(solver_order=3)
    mine.set_timesteps(4)
    built = schedulers.fresh_scheduler(mine, config)
    assert built is not mine and built.config.solver_order == 3 and built.num_inference_steps is None


@pytest.mark.parametrize(
    "spec",
    ["nonsense", 3, dict, {"_class_name": "UNet2DModel"}, "FlowMatchEulerDiscreteScheduler", "KarrasVe", "RePaint"],
)
def test_what_is_no_scheduler_is_refused(spec):
    with pytest.raises(MethodError, match="euler-ancestral"):
        schedulers.fresh_scheduler(spec, tiny.scheduler().config)


@pytest.mark.parametrize(
    ("name", "steps"), [("pndm", 1), ("lcm", 60), ("TCD", 60), ("CMStochasticIterative", 60), ("DDPMWuerstchen", 2)]
)
def test_a_scheduler_that_cannot_take_the_steps_says_so(editor, picture, name, steps):
    with pytest.raises(MethodError, match="choose another number of steps or scheduler") as caught:
        editor.edit(picture(), "red", scheduler=name, num_inference_steps=steps)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize("timesteps", [0, -1, 10**9, "many", None, 1.5])
def test_the_number_of_training_timesteps_is_bounded(timesteps):
    config = {**tiny.scheduler().config, "num_train_timesteps": timesteps, "_class_name": "DDIMScheduler"}
    with pytest.raises(MethodError, match="num_train_timesteps"):
        schedulers.fresh_scheduler(config, {})


@pytest.mark.parametrize("name", ["ddim", "ddpm", "DDIMParallelScheduler"])
def test_a_scheduler_for_latents_does_not_clip_unless_it_is_told_to(name):
    from showtell.schedulers import fresh_scheduler

    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    assert fresh_scheduler(name, config).config.clip_sample is False
    assert fresh_scheduler(name, {**config, "clip_sample": True}).config.clip_sample is True


@pytest.mark.parametrize("name", ["ddim", "ddpm", "pndm", "euler", "euler-ancestral", "heun", "dpm++", "unipc", "lcm"])
def test_the_noise_level_is_read_off_any_scheduler(name):
    built = schedulers.fresh_scheduler(name, {**tiny.scheduler().config, "timestep_spacing": "leading"})
    steps = schedule.SchedulerStep(built, num_inference_steps=10, device="cpu", generators=[torch.Generator()])
    for t, _ in steps.schedule[:-1:4]:
        assert float(steps.level(t)) == pytest.approx(float(built.alphas_cumprod[int(t)]), abs=1e-5)
