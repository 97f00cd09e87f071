"""Attention processors, put in for a while and always taken out again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class BranchContext:
    """What an attention control is told before each call of the UNet, so that it never has to count calls.

    ``step`` is the index of the loop's step, ``timestep`` its t, ``branches`` the names of the guidance branches
    in this call, in order, and ``batch`` the number of samples of each: the call's batch is their product, branch
    by branch.
    """

    step: int
    timestep: Any
    branches: tuple[str, ...]
    batch: int

    def rows(self, branch: str) -> slice:
        """The rows of this call's batch that belong to a branch."""
        start = self.branches.index(branch) * self.batch
        return slice(start, start + self.batch)


def is_cross(name: str) -> bool:
    """Whether a processor's name is that of a layer that attends to the text."""
    return name.endswith("attn2.processor")


@contextlib.contextmanager
def installed(
    unet: Any, make: Callable[[str, Any], Any], *, where: Callable[[str], bool] = is_cross
) -> Iterator[Mapping[str, Any]]:
    """Replace the processors of the layers selected by name with ``make(name, present one)``.

    Yields name -> new processor. On leaving, by whatever way, the UNet has the very processors it had before.
    """
    before = dict(unet.attn_processors)
    new = {name: make(name, processor) for name, processor in before.items() if where(name)}
    try:
        # set_attn_processor empties the dictionary that it is given.
        unet.set_attn_processor({**before, **new})
        yield new
    finally:
        unet.set_attn_processor(dict(before))
