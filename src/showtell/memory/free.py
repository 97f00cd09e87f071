"""How much memory is free, and how sizes are told."""

from __future__ import annotations

import os
from pathlib import Path

from showtell.errors import ShowtellError

#: Percent of the bytes counted that should be free: what lives inside one operation, and an allocator's gaps, are not counted.
MARGIN = 110


def free_memory(device: str = "cpu") -> int:
    """Bytes that are free on a device: CUDA's own count, else what the operating system says is available, and no more than the
    container's limit leaves, shared by the processes that torchrun started on this machine.

    Raises ``ShowtellError`` where that cannot be told.
    """
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(torch.device(device))[0]
    try:
        import psutil
    except ImportError:
        free = _meminfo()
    else:
        free = int(psutil.virtual_memory().available)
    return min(free, _container()) // max(1, int(os.environ.get("LOCAL_WORLD_SIZE") or 1))


def _meminfo() -> int:
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError) as error:
        raise ShowtellError(f"this system does not say how much memory is free ({error}): install psutil") from error


def _container(root: Path = Path("/sys/fs/cgroup")) -> int:
    """What a container's limit leaves; files in memory can go. Without a limit, more than any machine has."""
    try:
        most, used = (int((root / f"memory.{name}").read_text()) for name in ("max", "current"))
        told = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
        return max(0, most - used + int(told.get("inactive_file", 0)))
    except (OSError, ValueError):  # "max", or none of this
        return 2**62


def gib(size: float) -> str:
    """Bytes for people: 1.25 GiB, or MiB below a tenth of one."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.1f} MiB"
