"""What a figure was measured on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any


def described() -> dict[str, Any]:
    """``machine`` in words, the ``threads`` of torch, and the ``versions`` of the libraries."""
    import torch

    from showtell.recipe import versions

    return {
        "machine": f"{_processor()} ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
