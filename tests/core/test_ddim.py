"""The DDIM pair: against stock schedulers, and against a denoiser whose answer is known."""

from __future__ import annotations

import math

import diffusers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from showtell import sampling
from showtell.ddim import Ddim, kept_steps
from showtell.errors import MethodError
from showtell.inversion import ddim_inversion

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


def scheduler(steps, cls=diffusers.DDIMScheduler, **changes):
    made = cls(**BETAS, **{"steps_offset": 1, "set_alpha_to_one": False, **changes})
    made.set_timesteps(steps)
    return made


@pytest.mark.parametrize(
    "changes", [{}, {"set_alpha_to_one": True}, {"steps_offset": 0}, {"timestep_spacing": "trailing"}]
)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_a_step_is_that_of_stock_schedulers_both_ways(prediction_type, changes):
    stock = scheduler(10, prediction_type=prediction_type, **changes)
    if prediction_type == "sample" and changes.get("set_alpha_to_one"):
        with pytest.raises(MethodError, match="set_alpha_to_one=False"):
            Ddim.of(stock)
        return
    pair = Ddim.of(stock)
    back = diffusers.DDIMInverseScheduler(**{**BETAS, "steps_offset": 1, "set_alpha_to_one": False, **changes},
                                          prediction_type=prediction_type)  # fmt: skip
    back.set_timesteps(10)
    x, output = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    for t in stock.timesteps:
        assert torch.allclose(pair.step(x, output, t), stock.step(output, t, x).prev_sample, atol=2e-5, rtol=1e-5)
    assert [int(t) for t, _ in pair.inverse_schedule] == back.timesteps.tolist()
    for t in back.timesteps:
        assert torch.allclose(pair.step_back(x, output, t), back.step(output, t, x).prev_sample, atol=2e-5, rtol=1e-5)


def test_a_step_and_the_step_back_with_one_prediction_undo_each_other():
    pair = Ddim.of(scheduler(20))
    x, eps = torch.randn(1, 4, 8, 8, dtype=torch.float64), torch.randn(1, 4, 8, 8, dtype=torch.float64)
    for t in pair.timesteps:
        assert torch.allclose(pair.step_back(pair.step(x, eps, t), eps, t), x, atol=1e-6)


def analytic(pair, spread):
    """What the best network says of latents that are normal with this standard deviation."""
    levels = {int(t): level.double() for t, level in zip(pair.timesteps, pair.levels, strict=True)}

    def denoise(x, t, i):
        level = levels[int(t)]
        return (1 - level) ** 0.5 * x / (level * spread**2 + 1 - level)

    return denoise


def there_and_back(steps, ratio=0.8, spread=0.5):
    pair = Ddim.of(scheduler(steps), encoding_ratio=ratio)
    denoise = analytic(pair, spread)
    z = torch.linspace(-1, 1, 64, dtype=torch.float64).reshape(1, 4, 4, 4)
    passed = ddim_inversion.trajectory(denoise, z, pair)
    assert passed.shape == (len(pair) + 1, 1, 4, 4, 4) and torch.equal(passed[0], z)
    return float((sampling.sample(denoise, passed[-1], pair.schedule, pair.step) - z).abs().max())


def test_there_and_back_on_a_known_denoiser_errs_by_the_first_power_of_the_step():
    """The prediction is taken at the latents that a step leaves, so the method is of the first order."""
    errors = [there_and_back(steps) for steps in (25, 50, 100, 200)]
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert all(0.8 < order < 1.3 for order in orders), (errors, orders)
    assert errors[-1] < 0.02


@given(st.integers(1, 60), st.floats(0.02, 1.0))
def test_the_steps_that_are_run_are_the_last_of_the_schedule(steps, ratio):
    kept = int(steps * ratio + 1e-6)
    if kept < 1:
        with pytest.raises(MethodError, match="is none: raise encoding_ratio"):
            kept_steps(steps, ratio)
        return
    stock = scheduler(steps)
    pair = Ddim.of(stock, encoding_ratio=ratio)
    assert len(pair) == len(pair.schedule) == len(pair.inverse_schedule) == kept
    assert [int(t) for t in pair.timesteps] == stock.timesteps[-kept:].tolist()
    assert pair.schedule[-1][1] is None


@pytest.mark.parametrize("ratio", [0, -0.5, 1.01, math.nan, math.inf, True, "0.8"])
def test_a_ratio_outside_0_to_1_is_refused(ratio):
    with pytest.raises(MethodError, match="encoding_ratio=.* is out of range"):
        Ddim.of(scheduler(10), encoding_ratio=ratio)


def test_schedulers_that_cannot_be_inverted_are_refused():
    other = diffusers.DDPMScheduler(**BETAS)
    other.set_timesteps(10)
    with pytest.raises(MethodError, match="DDPMScheduler cannot be inverted: leave scheduler out"):
        Ddim.of(other)
    with pytest.raises(MethodError, match="thresholding=False"):
        Ddim.of(scheduler(10, thresholding=True))


def test_a_scheduler_that_clips_is_refused():
    stock = diffusers.DDIMScheduler(**{**BETAS, "clip_sample": True})
    stock.set_timesteps(10)
    with pytest.raises(MethodError, match="clip_sample=False"):
        Ddim.of(stock)


def test_pure_noise_has_no_way_back():
    stock = scheduler(10, timestep_spacing="trailing", rescale_betas_zero_snr=True)
    with pytest.raises(MethodError, match="pure noise"):
        Ddim.of(stock)
    assert len(Ddim.of(stock, encoding_ratio=0.9)) == 9
