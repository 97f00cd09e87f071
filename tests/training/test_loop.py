"""The training loop: what a kill may cost is time, never the result."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from showtell.errors import FileFormatError, ShowtellError
from showtell.training import loop
from showtell.training.settings import PRESETS, Fit, preset

FIT = Fit(steps=12, batch=4, lr=1e-2, warmup=3, ema=0.9)


class Killed(Exception):
    pass


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 1))


def losses(model: nn.Module, *, die_at: int | None = None, nan_at: int | None = None) -> loop.LossAt:
    def loss_at(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        if step == die_at:
            raise Killed
        x = torch.randn(FIT.batch, 3, generator=loop.generator(7, step))
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        return loss * (torch.nan if step == nan_at else 1), {"figure": float(step)}

    return loss_at


@pytest.fixture
def every_step_saved(monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)


@pytest.mark.parametrize("die_at", [1, 5, 11])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path, every_step_saved, die_at: int) -> None:
    whole = network()
    expected = loop.fit("whole", whole, losses(whole), FIT, tmp_path / "whole")
    first = network()
    with pytest.raises(Killed):
        loop.fit("cut", first, losses(first, die_at=die_at), FIT, tmp_path / "cut")
    second = network()
    resumed = loop.fit("cut", second, losses(second), FIT, tmp_path / "cut")
    assert all(torch.equal(expected[k], resumed[k]) for k in expected)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_a_finished_run_is_not_run_again(tmp_path) -> None:
    model = network()
    loop.fit("a", model, losses(model), FIT, tmp_path)
    again = network()
    loop.fit("a", again, losses(again, die_at=0), FIT, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_checkpoint_of_another_network_is_refused(tmp_path) -> None:
    model = network()
    loop.fit("a", model, losses(model), FIT, tmp_path)
    other = nn.Linear(3, 1)
    with pytest.raises(FileFormatError, match="another configuration"):
        loop.fit("a", other, losses(other), FIT, tmp_path)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path, every_step_saved) -> None:
    model = network()
    with pytest.raises(ShowtellError, match="not finite at step 6"):
        loop.fit("a", model, losses(model, nan_at=6), FIT, tmp_path)
    fresh = network()
    loop.fit("a", fresh, losses(fresh), FIT, tmp_path)
    assert all(torch.isfinite(p).all() for p in fresh.parameters())


def test_a_gradient_that_is_not_finite_stops_before_it_spoils_the_weights(tmp_path, every_step_saved) -> None:
    model = network()

    def loss_at(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        loss = losses(model)(step)[0]
        if step == 4:  # a finite loss whose gradient is not: the square root of nothing
            loss = loss + (model[0].weight.sum() * 0).abs().sqrt()
        return loss, {}

    with pytest.raises(ShowtellError, match="the gradient is not finite at step 4"):
        loop.fit("a", model, loss_at, FIT, tmp_path)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_the_log_is_cut_back_to_the_checkpoint_and_its_seconds_count_on(tmp_path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [json.dumps({"step": s, "seconds": float(s), "loss": 1.0}) + "\n" for s in (20, 40, 60)]
    log.write_text("".join(lines) + '{"step": 80, "sec')
    resumed = loop._Log(log, 45)
    resumed.add(60, {"loss": 1.0})
    found = loop.read_log(log)
    assert [line["step"] for line in found] == [20, 40, 60]
    assert 40 <= found[-1]["seconds"] < 50


def test_the_rate_warms_up_stays_and_falls_to_nothing() -> None:
    fit = Fit(steps=1000, batch=1, lr=1.0, warmup=100, fall=0.3)
    rates = [fit.rate(s) for s in range(1000)]
    assert rates[0] == pytest.approx(0.01) and rates[99:700] == [1.0] * 601
    assert rates[850] == pytest.approx(0.5) and 0 < rates[999] < 0.01
    assert all(b <= a for a, b in zip(rates[100:], rates[101:], strict=False))


def test_presets_are_known_by_name() -> None:
    assert {preset(n).name for n in PRESETS} == set(PRESETS)
    with pytest.raises(ShowtellError, match="unknown preset 'huge'"):
        preset("huge")
