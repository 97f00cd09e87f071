"""The loss that diffusion models are trained with, for what is learned from single pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import schedulers
from ..errors import ModelError
from ..objectives import reconstruction
from ..schedule import to_target

if TYPE_CHECKING:
    import torch

    from ..networks import Network
    from ..types import Latents, PromptEmbeds


@dataclass(frozen=True, kw_only=True, eq=False)
class Noising:
    """How a model's training pictures were noised: ``alphas_cumprod`` (T,) float32, and what its network predicts."""

    alphas_cumprod: torch.Tensor
    prediction_type: str

    @classmethod
    def of(cls, pipe: Any, *, device: Any) -> Noising:
        """That of a pipeline. Raises ``ModelError`` for a scheduler that does not tell."""
        import torch

        scheduler = schedulers.fresh_scheduler(pipe.scheduler, pipe.scheduler.config)
        alphas = getattr(scheduler, "alphas_cumprod", None)
        if alphas is None:
            raise ModelError(
                f"scheduler {type(scheduler).__name__} has no alphas_cumprod to learn with: give pipe another"
            )
        return cls(
            alphas_cumprod=alphas.detach().clone().to(device, torch.float32),
            prediction_type=scheduler.config.prediction_type,
        )

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Timesteps (k,) at random, and noise of ``shape`` (k, C, h, w), drawn on the CPU."""
        import torch

        t = torch.randint(len(self), shape[:1], generator=generator)
        return t, torch.randn(shape, generator=generator)

    def loss(
        self, network: Network, z: Latents, embeds: PromptEmbeds, t: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        """The mean squared error at timesteps ``t`` (k,) with ``noise`` (k, C, h, w), of the network's own type; a scalar.

        ``z`` (1 or k, C, h, w) the clean latents; ``embeds`` (1 or k, 77, d). There is no guidance in it.
        """
        device = z.device
        t, noise = t.to(device), noise.to(device)
        alpha_bar = self.alphas_cumprod[t].view(-1, 1, 1, 1)
        x = alpha_bar**0.5 * z + (1 - alpha_bar) ** 0.5 * noise
        output = network(x, t, embeds.expand(len(t), -1, -1))
        return reconstruction(output, to_target(z, noise, alpha_bar, self.prediction_type))
