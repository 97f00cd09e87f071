"""What a seed decides in a learning: timesteps, pairs and noises. The same seed draws the same, resumed or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """``timesteps`` (steps, k): random orders of all ``total`` training timesteps one after another, so that none comes
    up again before all have; ``pairs`` (steps,) the pair of each step, at random.
    """

    timesteps: torch.Tensor
    pairs: torch.Tensor
    seed: int
    total: int

    @classmethod
    def of(cls, *, steps: int, timesteps_per_step: int, pairs: int, total: int, seed: int) -> Draws:
        """The draws of a run of ``steps`` steps over ``pairs`` pairs."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        needed = steps * timesteps_per_step
        orders = [torch.randperm(total, generator=generator) for _ in range(-(-needed // total))]
        timesteps = torch.cat(orders)[:needed].view(steps, timesteps_per_step)
        return cls(
            timesteps=timesteps, pairs=torch.randint(pairs, (steps,), generator=generator), seed=seed, total=total
        )

    def noise(self, shape: Sequence[int]) -> torch.Tensor:
        """The noise of every timestep for latents of ``shape`` (C, h, w): (T, C, h, w), rounded to the float16 in which it
        is recorded.
        """
        import torch

        generator = torch.Generator().manual_seed(self.seed ^ 0x5EED)
        return torch.randn((self.total, *shape), generator=generator).half()

    def check(self, pair: int, shape: Sequence[int], count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The timesteps (count,), the middles of equal parts of the schedule, and noises (count, C, h, w) of a pair's
        check.
        """
        import torch

        count = min(count, self.total)
        timesteps = ((torch.arange(count) + 0.5) * self.total / count).long()
        generator = torch.Generator().manual_seed(self.seed ^ (0xC4EC + pair))
        return timesteps, torch.randn((count, *shape), generator=generator)
