"""The training loop that all stages share: resumable after a kill at any moment, EMA, checkpoints without pickle.

Every random draw of a stage is keyed by the seed and the step, so a resumed run sees the batches that the uninterrupted
one would have seen.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from showtell.errors import FileFormatError, ShowtellError
from showtell.files import write_atomic
from showtell.training.settings import Fit

CHECKPOINT_SECONDS = 90.0

LossAt = Callable[[int], tuple[Tensor, dict[str, float]]]
Report = Callable[[str, int, int, dict[str, float]], None]
"""Told the stage, the step, the number of steps and the smoothed figures."""


def quiet(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
    """A report that says nothing."""


@dataclass
class State:
    """What a checkpoint holds."""

    model: nn.Module
    optimiser: torch.optim.AdamW
    ema: dict[str, Tensor]
    step: int = 0


def generator(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The random stream of one step."""
    return torch.Generator(device).manual_seed((seed * 1_000_003 + step) & 0x7FFFFFFFFFFFFFFF)


def _moments(state: State) -> dict[str, Tensor]:
    names = [n for n, p in state.model.named_parameters() if p.requires_grad]
    saved = state.optimiser.state_dict()["state"]
    return {f"{key}.{names[i]}": value for i, slots in saved.items() for key, value in slots.items()}


def save(state: State, path: Path) -> None:
    """Write a checkpoint atomically: a kill leaves either the old one or the new one."""
    tensors = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in state.ema.items()} | {f"adam.{k}": v for k, v in _moments(state).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, part, {"step": str(state.step)})
    part.replace(path)


def load(state: State, path: Path) -> None:
    """Fill a state from a checkpoint. Raises FileFormatError when it belongs to another configuration."""
    device = next(state.model.parameters()).device
    with safe_open(path, "pt", device=str(device)) as file:
        step = int(file.metadata()["step"])
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (a file is not a dict)
    part = {p: {k[len(p) :]: v for k, v in tensors.items() if k.startswith(p)} for p in ("model.", "ema.", "adam.")}
    try:
        state.model.load_state_dict(part["model."])
    except RuntimeError as error:
        raise FileFormatError(f"{path}: a checkpoint of another configuration; train into an empty folder") from error
    state.ema = part["ema."]
    names = [n for n, p in state.model.named_parameters() if p.requires_grad]
    slots = {i: {k: part["adam."][f"{k}.{n}"] for k in ("step", "exp_avg", "exp_avg_sq")} for i, n in enumerate(names)}
    state.optimiser.load_state_dict({"state": slots, "param_groups": state.optimiser.state_dict()["param_groups"]})
    state.step = step


def fit(
    name: str, model: nn.Module, loss_at: LossAt, settings: Fit, folder: Path, *, report: Report = quiet
) -> dict[str, Tensor]:
    """Optimise `model` on `loss_at(step)` and return the EMA of its parameters.

    folder: where `last.safetensors` (the checkpoint) and `log.jsonl` (the loss curve) are kept; a checkpoint found there is
    resumed. Raises ShowtellError when the loss or its gradient is not finite, leaving the last good checkpoint.
    """
    learned = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        learned, lr=settings.lr, betas=(0.9, 0.99), weight_decay=settings.weight_decay, fused=True
    )
    state = State(model, optimiser, {k: v.detach().clone() for k, v in model.state_dict().items()})
    checkpoint, saved = folder / "last.safetensors", time.monotonic()
    if checkpoint.exists():
        load(state, checkpoint)
    log = _Log(folder / "log.jsonl", state.step)
    while state.step < settings.steps:
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(state.step)
        loss, figures = loss_at(state.step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(learned, settings.clip_norm)
        for what, value in (("loss", loss), ("gradient", norm)):
            if not torch.isfinite(value):
                kept = f"the last good state is {checkpoint}" if checkpoint.exists() else "nothing was saved yet"
                raise ShowtellError(f"{name}: the {what} is not finite at step {state.step}; {kept}")
        optimiser.step()
        _update_ema(state, settings.ema)
        state.step += 1
        smooth = log.add(state.step, {"loss": float(loss.detach())} | figures)
        report(name, state.step, settings.steps, smooth)
        if time.monotonic() - saved > CHECKPOINT_SECONDS or state.step == settings.steps:
            save(state, checkpoint)
            saved = time.monotonic()
    return state.ema


def half_precision(device: str, *, wanted: bool) -> Any:
    """bfloat16 autocast, where it is ``wanted`` and the device computes in it: a processor that only emulates it is many times
    slower than in float32.
    """
    known = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    return torch.autocast(device, torch.bfloat16, enabled=wanted and (device != "cpu" or known()))


def decay_at(step: int, most: float) -> float:
    """The decay of an EMA after ``step`` updates: it warms up to ``most`` (methods.md §7)."""
    return min(most, (1 + step) / (10 + step))


@torch.no_grad()
def _update_ema(state: State, most: float) -> None:
    decay = decay_at(state.step, most)
    now = state.model.state_dict()
    whole = [name for name, value in now.items() if not value.is_floating_point()]
    for name in whole:
        state.ema[name].copy_(now.pop(name))
    torch._foreach_lerp_([state.ema[name] for name in now], list(now.values()), 1 - decay)


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of a loss curve; half a line, which a kill can leave at the end, is no line."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}\n")]


def cut_log(path: Path, step: int) -> list[dict[str, float]]:
    """Leave out of a loss curve what comes after a step: the lines that stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [line for line in read_log(path) if line["step"] <= step]
    write_atomic(path, "".join(f"{json.dumps(line)}\n" for line in kept).encode(), force=True)
    return kept


class _Log:
    """A loss curve as JSON lines, every 20 steps, smoothed over about 50; seconds count on over resumed runs."""

    def __init__(self, path: Path, step: int) -> None:
        kept = cut_log(path, step)
        before = kept[-1]["seconds"] if kept else 0.0
        self.path, self.started, self.smooth = path, time.monotonic() - before, dict[str, float]()

    def add(self, step: int, figures: dict[str, float]) -> dict[str, float]:
        for key, value in figures.items():
            self.smooth[key] = value if key not in self.smooth else 0.98 * self.smooth[key] + 0.02 * value
        if step % 20 == 0:
            seconds = round(time.monotonic() - self.started, 1)
            line = {"step": step, "seconds": seconds} | {k: round(v, 5) for k, v in self.smooth.items()}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        return self.smooth
