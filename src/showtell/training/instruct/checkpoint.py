"""Checkpoints without pickle: a folder with weights, averaged weights, the optimiser's state and ``state.json``.

A checkpoint is written beside its place and moved there, so that it is whole or not there; the one before it stays until then.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from showtell import files
from showtell.errors import FileFormatError, OutputError, UsageError
from showtell.training.instruct.configuring import told_apart
from showtell.training.instruct.network import Average

FORMAT = 1
STATE = "state.json"
_NAME = re.compile(r"step-(\d{6,})")
_PARTS = ("weights", "average", "optimiser")


@dataclass(kw_only=True)
class State:
    """What a run has come to: ``step`` steps are done, ``seconds`` have been spent on them. ``scaler`` is fp16's."""

    learned: dict[str, nn.Parameter]
    average: Average
    optimiser: torch.optim.Optimizer
    scaler: Any = None
    step: int = 0
    seconds: float = 0.0


def folder_of(out: Path) -> Path:
    """Where a run's checkpoints lie."""
    return out / "checkpoints"


def save(state: State, out: Path, told: Mapping[str, Any], *, keep: int) -> Path:
    """Write a checkpoint of this step and leave the newest ``keep``. ``told``: the ``config``, ``model`` and ``data`` it is of.

    Raises ``OutputError`` where the disk is full; what was there before is untouched then.
    """
    folder = files.make_folder(folder_of(out)) / f"step-{state.step:06d}"
    slots, scalars = _slots(state)
    parts = {
        "weights": {name: p.detach() for name, p in state.learned.items()},
        "average": state.average.tensors,
        "optimiser": slots,
    }
    try:
        with files.folder_atomic(folder, marker=STATE, force=True) as new:
            for name, tensors in parts.items():
                plain = {key: tensor.cpu().contiguous().clone() for key, tensor in tensors.items()}
                save_file(plain, new / f"{name}.safetensors")
            sizes = {name: (new / f"{name}.safetensors").stat().st_size for name in _PARTS}
            state_of = {"format": FORMAT, "step": state.step, "seconds": round(state.seconds, 1), "optimiser": scalars}
            scaler = state.scaler.state_dict() if state.scaler is not None else None
            text = json.dumps({**state_of, "scaler": scaler, "bytes": sizes, **told}, indent=1, ensure_ascii=False)
            (new / STATE).write_text(text + "\n", encoding="utf-8")
            for path in (*new.iterdir(), new):
                _sync(path)
    except SafetensorError as error:  # how safetensors reports a full disk
        kept = newest(out)
        last = f"the last one is {kept}" if kept else "there is none before it"
        raise OutputError(
            f"{folder}: the checkpoint cannot be written ({error}); {last}: free some space and go on with --resume",
            exit_code=1,
        ) from error
    _sync(folder.parent)  # before the older ones go
    for old in whole(out)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _sync(path: Path) -> None:
    """What was written reaches the disk, so that a power cut leaves it whole."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _slots(state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What the optimiser keeps of each parameter: tensors, and numbers."""
    names = list(state.learned)
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for i, slots in state.optimiser.state_dict()["state"].items():
        for key, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"{key}.{names[i]}"] = value
            else:
                scalars[f"{key}.{names[i]}"] = value
    return tensors, scalars


def whole(out: Path) -> list[Path]:
    """The checkpoints whose files are all there, oldest first."""
    here = folder_of(out)
    found = sorted(path for path in here.glob("step-*") if _NAME.fullmatch(path.name)) if here.is_dir() else []
    return sorted((path for path in found if _is_whole(path)), key=lambda path: int(path.name[5:]))


def _is_whole(path: Path) -> bool:
    try:
        sizes = json.loads((path / STATE).read_text(encoding="utf-8"))["bytes"]
        return all((path / f"{name}.safetensors").stat().st_size == sizes[name] for name in _PARTS)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def newest(out: Path) -> Path | None:
    """The newest whole checkpoint."""
    return (whole(out) or [None])[-1]


def lost(out: Path) -> bool:
    """Whether a run has come to something of which no checkpoint is left that could be gone on from."""
    return newest(out) is None and (any(folder_of(out).glob("step-*")) or (out / "model").exists())


def tidy(out: Path) -> None:
    """Remove what a killed run left half-written."""
    for left in folder_of(out).glob(".showtell.*.part"):
        shutil.rmtree(left, ignore_errors=True)


def load(state: State, folder: Path, told: Mapping[str, Any]) -> None:
    """Fill a state from a checkpoint.

    Raises ``UsageError`` where it belongs to another configuration, model or data set, and names what differs;
    ``FileFormatError`` where it is damaged.
    """
    try:
        found = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise FileFormatError(
                f"{folder}: a checkpoint of format {found['format']}, this is for {FORMAT}: update showtell"
            )
        check(found, told, str(folder))
        device = str(next(iter(state.learned.values())).device)
        _fill(state, {name: _tensors(folder / f"{name}.safetensors", device) for name in _PARTS}, found)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise FileFormatError(
            f"{folder}: is no checkpoint that can be read ({error}); remove it to take an older one"
        ) from error


def check(found: Mapping[str, Any], told: Mapping[str, Any], name: str) -> None:
    """Raise ``UsageError`` unless a checkpoint was made with this configuration, model and data set."""
    if what := told_apart(found["config"], told["config"]):
        raise UsageError(f"{name}: was made with another configuration: {what}; put that back, or name another folder")
    for key, what in (("model", "the model has other weights"), ("data", "the rows to train on are others")):
        if found[key] != told[key]:
            raise UsageError(f"{name}: {what} than when the run began; put that back, or name another folder")


def _tensors(path: Path, device: str) -> dict[str, Tensor]:
    with safe_open(path, "pt", device=device) as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (a file is not a dict)


@torch.no_grad()
def _fill(state: State, parts: Mapping[str, Mapping[str, Tensor]], found: Mapping[str, Any]) -> None:
    for name, parameter in state.learned.items():
        parameter.copy_(parts["weights"][name])
    for name, tensor in state.average.tensors.items():
        tensor.copy_(parts["average"][name])
    slots: dict[int, dict[str, Any]] = {i: {} for i in range(len(state.learned))}
    place = {name: i for i, name in enumerate(state.learned)}
    for key, value in {**parts["optimiser"], **found["optimiser"]}.items():
        slot, _, name = key.partition(".")
        slots[place[name]][slot] = value
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": {i: s for i, s in slots.items() if s}, "param_groups": groups})
    if state.scaler is not None and found.get("scaler"):
        state.scaler.load_state_dict(found["scaler"])
    state.step, state.seconds = int(found["step"]), float(found["seconds"])
