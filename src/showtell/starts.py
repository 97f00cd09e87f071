"""Where a run starts: generators and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .types import Latents


def generator(seed: int) -> torch.Generator:
    """The CPU generator of one sample."""
    import torch

    return torch.Generator("cpu").manual_seed(seed)


def noise(shape: Sequence[int], generators: Sequence[Any], *, device: Any) -> Latents:
    """Standard normal noise (B, C, h, w), float32: one draw of ``shape`` = (C, h, w) from each sample's generator."""
    import torch

    draws = [torch.randn((1, *shape), generator=g, device=g.device, dtype=torch.float32) for g in generators]
    return torch.cat([draw.to(device) for draw in draws])


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedNoise:
    """The noises that an instruction was learned with (VISII, section 5, "Noises").

    ``timesteps`` (n,) int64, ``values`` (n, C, h, w) float16 or float32, standard normal.
    """

    timesteps: torch.Tensor
    values: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, h, w): the latents that it fits."""
        return tuple(self.values.shape[1:])

    def start(self) -> torch.Tensor:
        """(C, h, w) float32: the noise of the highest timestep; times ``init_noise_sigma`` it is the start latent."""
        return self.values[int(self.timesteps.argmax())].float()

    def along(self, arrivals: Sequence[float]) -> list[torch.Tensor]:
        """One noise (C, h, w) float32 for each timestep that a sampler arrives at.

        Each is that of the recorded timestep nearest to the rounded one that has not been used yet; the start has used
        the highest. So none is used twice, while there are any left.
        """
        free = self.timesteps.tolist()
        where = {t: i for i, t in enumerate(free)}
        free.remove(max(free))
        found = []
        for t in arrivals:
            nearest = min(free or where, key=lambda known: abs(known - round(float(t))))
            if free:
                free.remove(nearest)
            found.append(self.values[where[nearest]].float())
        return found
