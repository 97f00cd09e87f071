"""Looking on at a run: a callback, a progress bar, a way to stop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .errors import Cancelled

if TYPE_CHECKING:
    from .inversion.tuning import Tuned
    from .types import StepCallback


class Watch:
    """What looks on while the loop runs: a callback, a progress bar, a way to stop."""

    def __init__(
        self,
        *,
        callback: StepCallback | None = None,
        progress: bool = False,
        cancel: Any = None,
        on_phase: Callable[[str, int, int], None] | None = None,
        tuned: Tuned | None = None,
    ) -> None:
        self.callback, self.progress, self.on_phase, self.tuned = callback, progress, on_phase, tuned
        self.cancelled = cancel.is_set if hasattr(cancel, "is_set") else cancel

    @contextlib.contextmanager
    def run(self, total: int) -> Iterator[Callable[[int, Any], None]]:
        """An observer for a run of ``total`` steps."""
        from tqdm import tqdm

        with tqdm(total=total, disable=not self.progress, desc="editing", leave=False) as bar:

            def observe(i: int, latents: Any) -> None:
                bar.update()
                if self.callback is not None:
                    self.callback(i, total, latents)
                self._ask(f"stopped after step {i + 1} of {total}")

            yield observe

    @contextlib.contextmanager
    def phase(self, name: str, total: int) -> Iterator[Callable[[int, Any], None]]:
        """An observer for a long part of the planning."""
        from tqdm import tqdm

        with tqdm(total=total, disable=not self.progress, desc=name, leave=False) as bar:

            def observe(i: int, latents: Any) -> None:
                bar.update()
                if self.on_phase is not None:
                    self.on_phase(name, i + 1, total)
                self._ask(f"stopped while {name}, after step {i + 1} of {total}")

            yield observe

    def _ask(self, where: str) -> None:
        if self.cancelled is not None and self.cancelled():
            raise Cancelled(where)
