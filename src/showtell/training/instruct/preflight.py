"""Whether a training fits into memory, before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .settings import Config


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Bytes that a training holds on one device. ``parts``: by name, in the order of the table, whatever the batch is;
    ``per_row``: activations of one row of a micro batch; ``micro_batch``: rows of one forward.
    """

    parts: Mapping[str, int]
    per_row: int
    micro_batch: int
    facts: Mapping[str, Any]

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        raise NotImplementedError

    def largest_micro_batch(self, free: int) -> int:
        """Rows of one forward that ``free`` bytes have room for; 0 where not even one fits."""
        raise NotImplementedError

    def table(self) -> str:
        """Plain text: a line a part, and the total."""
        raise NotImplementedError

    def check(self, free: int) -> None:
        """Raise ``UsageError``, one line with the mend, unless the training fits into ``free`` bytes."""
        raise NotImplementedError


def estimate(config: Config, *, world_size: int = 1) -> Fit:
    """What a configuration will hold on each of ``world_size`` devices. Loads no weights. Raises ``ModelError``."""
    raise NotImplementedError


def free_memory(device: str = "cpu") -> int:
    """Bytes that are free on a device: CUDA's own count, else what the operating system says is available."""
    raise NotImplementedError
