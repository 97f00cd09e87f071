"""Before a training begins: what must be there, the folder of the run, the processes, and how it is stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from showtell import files, loading
from showtell.errors import OutputError, UsageError
from showtell.training.instruct import checkpoint, hub, network, trackers
from showtell.training.instruct.configuring import told_apart
from showtell.training.instruct.settings import Config

if TYPE_CHECKING:
    from accelerate import Accelerator

CONFIG = "config.json"


def check(config: Config) -> None:
    """Raise ``UsageError`` for what a run would only find missing later."""
    if config.data.path is None and config.data.name != "scenes":
        raise UsageError(
            "data.path is missing: name the folder or file of pairs (--path, or data.path in the configuration)"
        )
    network.check_optimiser(config.train)
    if config.save.trackers:
        trackers.check(config.save.trackers)
    if config.save.push_to_hub is not None:
        hub.check(config.save.push_to_hub)


def accelerator(device: str) -> Accelerator:
    """The processes of a run and their devices: one, or what ``torchrun`` started. Raises ``UsageError`` for a device that is not
    there."""
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.state import AcceleratorState, PartialState

    name = loading.pick_device(device)
    if AcceleratorState._shared_state and PartialState._shared_state.get("device") is not None:
        here = str(PartialState().device).split(":")[0]
        if here != name.split(":")[0] and PartialState().num_processes == 1:
            AcceleratorState._reset_state(reset_partial_state=True)  # an earlier run of this process was elsewhere
    # The others wait while the first one validates. Precision is the steps' own business.
    patient = InitProcessGroupKwargs(timeout=timedelta(hours=3))
    return Accelerator(cpu=name == "cpu", mixed_precision="no", kwargs_handlers=[patient])


def begin(config: Config, out: Path, *, resume: bool) -> None:
    """Check the folder of a run, and make it; what a killed run left half-written goes. A run without a checkpoint may be
    resumed with another configuration: it begins again. Raises ``OutputError`` and ``UsageError``."""
    told = out / CONFIG
    if out.is_dir() and any(out.iterdir()) and not resume:
        raise OutputError(
            f"{out}: holds a run already; go on with it by --resume, or name another folder with --out"
            if told.exists()
            else f"{out}: exists already and is not empty; name another folder with --out"
        )
    if resume and not told.exists():
        raise UsageError(f"{out}: holds no run to resume; leave --resume out to begin one")
    if resume and checkpoint.lost(out):
        raise UsageError(f"{out}: none of its checkpoints is whole, and nothing is begun over it; name another folder")
    begun = resume and checkpoint.newest(out) is not None
    if begun and (what := told_apart(read_config(out), config.as_dict())):
        raise UsageError(
            f"{out}: was begun with another configuration: {what}; put that back (it is in {told}), or name another folder"
        )
    files.make_folder(out)
    checkpoint.tidy(out)


def write_config(config: Config, out: Path) -> None:
    """Write a run's configuration into its folder, once its model and data are there. Raises ``OutputError``."""
    text = json.dumps(config.as_dict(), indent=1, ensure_ascii=False) + "\n"
    files.write_atomic(out / CONFIG, text.encode(), force=True)


def agree(accelerator: Accelerator, told: Mapping[str, Any], step: int) -> None:
    """Raise ``UsageError`` unless all processes train the same from the same checkpoint: machines may see other folders."""
    if accelerator.num_processes == 1:
        return
    digest = hashlib.sha256(json.dumps([told, step], sort_keys=True).encode()).digest()
    key = torch.tensor([int.from_bytes(digest[:4], "big") >> 2], device=accelerator.device)
    if len(set(accelerator.gather(key).tolist())) > 1:
        raise UsageError(
            "the processes differ in configuration, model, rows or checkpoint: start all with the same command, with --out "
            "a folder that all machines share"
        )


def read_config(out: Path) -> dict[str, Any]:
    """The configuration that a run was begun with. Raises ``UsageError``."""
    try:
        return json.loads((out / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{out / CONFIG}: cannot be read ({error}): begin the run again in another folder") from error


@dataclass
class Stop:
    """Whether a run was ``asked`` to stop after its step; only while it is ``armed`` is there a step to wait for."""

    armed: bool = False
    asked: bool = False


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Ctrl-C, or SIGTERM, by which clusters take a machine back, stops a run after its step; a second one, or one before the
    first step, at once."""
    stop = Stop()

    def note(number: int, _: object) -> None:
        if stop.asked or not stop.armed:
            raise KeyboardInterrupt
        stop.asked = True

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever called decides
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
