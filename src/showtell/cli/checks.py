"""The checks of `showtell doctor`. Each finds one thing and never raises."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, util

from showtell.errors import ShowtellError

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "tokenizers", "numpy", "pillow")


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was looked at, whether it is sound, and what was found, with the mend where it is not."""

    name: str
    ok: bool
    detail: str


def run(*, seed: int, device: str, dtype: str | None) -> list[Check]:
    """All checks, the cheap ones first; those that need torch are left out where it cannot be imported."""
    found = [_showtell(), _python(), *_packages(), _torchvision(), _disk()]
    if all(check.ok for check in found):
        found += [_devices(device), _starters(), _trial(seed=seed, device=device, dtype=dtype)]
    return found


def _showtell() -> Check:
    from showtell import __version__

    return Check(name="showtell", ok=True, detail=__version__)


def _python() -> Check:
    version = platform.python_version()
    ok = sys.version_info >= (3, 10)
    return Check(
        name="python", ok=ok, detail=f"{version} on {platform.platform()}" if ok else f"{version}: 3.10 is needed"
    )


def _packages() -> Iterator[Check]:
    for package in PACKAGES:
        try:
            yield Check(name=package, ok=True, detail=metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Check(name=package, ok=False, detail="is not installed: install showtell again")


def _torchvision() -> Check:
    """torchvision is not needed; where it does not match torch, importing it fails and takes transformers with it."""
    if util.find_spec("torchvision") is None:
        return Check(name="torchvision", ok=True, detail="absent, as it should be")
    try:
        import torchvision  # ty: ignore[import-not-found]
    except Exception as error:  # noqa: BLE001 - a broken build raises whatever it likes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Check(name="torchvision", ok=False, detail=f"is broken ({reason}): run 'pip uninstall torchvision'")
    return Check(name="torchvision", ok=True, detail=f"{torchvision.__version__}, not needed, and matches torch")


def _disk() -> Check:
    free = shutil.disk_usage(os.getcwd()).free / 2**30
    ok = free > 0.1
    return Check(name="disk", ok=ok, detail=f"{free:.1f} GiB free here" + ("" if ok else ": free some space"))


def _devices(wanted: str) -> Check:
    def found() -> str:
        import torch

        from showtell.loading import pick_device

        names = [f"cpu ({torch.get_num_threads()} threads, {_memory()})"]
        for i in range(torch.cuda.device_count()):
            free, total = (n / 2**30 for n in torch.cuda.mem_get_info(i))
            names.append(f"cuda:{i} {torch.cuda.get_device_name(i)} ({free:.0f} of {total:.0f} GiB free)")
        if torch.backends.mps.is_available():
            names.append("mps")
        return f"{', '.join(names)}; {wanted} means {pick_device(wanted)}"

    return _try("devices", found)


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB memory"
    except (AttributeError, ValueError, OSError):
        return "memory unknown"


def _starters() -> Check:
    """Every weight file opens, and every number in it is finite."""

    def found() -> str:
        import torch
        from safetensors import safe_open

        from showtell import loading

        for name in loading.STARTERS:
            loading.starter_card(name)
        weights = sorted(loading.starters_dir().rglob("*.safetensors"))
        size = sum(path.stat().st_size for path in weights)
        for path in weights:
            with safe_open(path, framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 - a safetensors handle, not a dict
                    if not torch.isfinite(tensors.get_tensor(key)).all():
                        raise ShowtellError(f"{path}: {key} is not finite: install showtell again")
        return f"{len(weights)} weight files, {size / 1e6:.1f} MB, all intact"

    return _try("starters", found)


def _trial(*, seed: int, device: str, dtype: str | None) -> Check:
    def found() -> str:
        import time

        import showtell

        case = showtell.scenes.sample(seed)
        editor = showtell.load("starter", device=device, dtype=dtype)
        started = time.perf_counter()
        edit = editor.edit(case.before, case.instructions[0], seed=seed, num_inference_steps=4)
        seconds = time.perf_counter() - started
        return f"4 steps in {seconds:.1f} s on {edit.recipe.model.device} in {edit.recipe.model.dtype}"

    return _try("trial edit", found)


def _try(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, ok=True, detail=look())
    except Exception as error:  # noqa: BLE001 - whatever is broken is what doctor is here to say
        text = " ".join(str(error).split()) or type(error).__name__
        return Check(name=name, ok=False, detail=text)
