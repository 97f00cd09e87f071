"""What models, devices and number formats are called."""

from __future__ import annotations

import os
import re
from typing import Any

from ..errors import UsageError
from .cards import STARTERS

HUB_ID = re.compile(r"(?!\.)[\w.-]+/[\w.-]+")


def pick_device(device: str) -> str:
    """A torch device's name for ``auto``, ``cpu``, ``cuda[:n]`` or ``mps``.

    Raises ``UsageError`` if it is not there.
    """
    import torch

    mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    base = str(device).split(":")[0]
    if base not in ("cpu", "cuda", "mps"):
        raise UsageError(f"device {device!r} is not known: choose auto, cpu, cuda or mps")
    if (base == "cuda" and not torch.cuda.is_available()) or (base == "mps" and not mps):
        raise UsageError(f"device {device!r} is not available on this machine: use --device auto or cpu")
    return str(device)


def pick_dtype(dtype: Any) -> Any:
    """A torch dtype for ``float32``, ``float16``/``fp16``, ``bfloat16``/``bf16`` or a dtype; None stays None."""
    import torch

    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    known = {
        "float32": torch.float32, "fp32": torch.float32,
        "float16": torch.float16, "fp16": torch.float16,
        "bfloat16": torch.bfloat16, "bf16": torch.bfloat16,
    }  # fmt: skip
    if dtype not in known:
        raise UsageError(f"dtype {dtype!r} is not known: choose float32, float16 or bfloat16")
    return known[dtype]


def has_public_name(name: str) -> bool:
    """Whether a model's name means the same to others: a starter's, or a hub id that is no folder or file here."""
    return name in STARTERS or (HUB_ID.fullmatch(name) is not None and not os.path.exists(name))


def anywhere(name: str) -> str:
    """The name of a model as a process finds it that stands elsewhere: that of a folder or a file becomes the whole path."""
    return os.path.abspath(name) if name not in STARTERS and os.path.exists(name) else name


def shortened(name: str) -> str:
    """A name for a message: at most a hundred characters."""
    return name if len(name) <= 100 else f"{name[:97]}..."
