"""One call for every kind of model: the latents, the step, the text, and whatever stands beside the latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import models

if TYPE_CHECKING:
    import torch

    from .types import Latents, PromptEmbeds


def network(pipe: Any) -> Network:
    """The denoising network of a pipeline, with its ControlNet where it has one. Raises ``ModelError`` as
    ``models.kind`` does.
    """
    return Network(unet=pipe.unet, controlnet=pipe.controlnet if models.kind(pipe) == "control" else None)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A UNet, alone or with a ControlNet, that takes and gives float32 and computes in its own dtype.

    Gradients flow through it; who wants none says so with ``torch.no_grad``.
    """

    unet: Any
    controlnet: Any = None

    def __call__(
        self, x: Latents, t: Any, embeds: PromptEmbeds, beside: Sequence[torch.Tensor | None] = (None,)
    ) -> Latents:
        """The prediction (N, 4, h, w) float32, in the model's own prediction type.

        ``x`` (N, 4, h, w), scaled for the step; ``t`` one timestep or N of them; ``embeds`` (N, 77, d).
        ``beside`` divides the N rows into that many blocks of equal size, in order. A block's entry is what its rows
        see beside the latents: channels (N / blocks, c, h, w) to be joined to them (a picture's latents, or a mask
        and the masked picture's), which then every block must have; with a ControlNet the picture (N / blocks, 3,
        H, W) in [0, 1]. None is no picture: such rows get no residual from the ControlNet.
        """
        import torch

        told = {}
        if self.controlnet is not None:
            told = self._residuals(x, t, embeds, beside)
        elif any(block is not None for block in beside):
            x = torch.cat([x, torch.cat([block for block in beside if block is not None])], dim=1)
        dtype = models.dtype_of(self.unet)
        output = self.unet(x.to(dtype), t, encoder_hidden_states=embeds.to(dtype), **told, return_dict=False)
        return output[0].float()

    def _residuals(self, x: Latents, t: Any, embeds: PromptEmbeds, beside: Sequence[Any]) -> dict[str, Any]:
        """What the ControlNet adds inside the UNet: computed for the rows that see a picture, zero for the others."""
        import torch

        pictures = [block for block in beside if block is not None]
        if not pictures:
            return {}

        def seeing(rows: torch.Tensor) -> torch.Tensor:
            blocks = zip(rows.chunk(len(beside)), beside, strict=True)
            return torch.cat([part for part, block in blocks if block is not None])

        each = getattr(t, "ndim", 0) == 1 and len(t) == len(x)
        dtype = models.dtype_of(self.controlnet)
        down, middle = self.controlnet(
            seeing(x).to(dtype),
            seeing(t) if each else t,
            encoder_hidden_states=seeing(embeds).to(dtype),
            controlnet_cond=torch.cat(pictures).to(dtype),
            return_dict=False,
        )
        spread = _spreader(beside, len(pictures), models.dtype_of(self.unet))
        return {
            "down_block_additional_residuals": tuple(spread(residual) for residual in down),
            "mid_block_additional_residual": spread(middle),
        }


def _spreader(beside: Sequence[Any], seeing: int, dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    """Brings a residual of the rows that see a picture to all rows, with zeros for the others."""
    import torch

    def spread(residual: torch.Tensor) -> torch.Tensor:
        residual = residual.to(dtype)
        if seeing == len(beside):
            return residual
        parts = residual.chunk(seeing)
        nothing, rest = torch.zeros_like(parts[0]), iter(parts)
        return torch.cat([nothing if block is None else next(rest) for block in beside])

    return spread
