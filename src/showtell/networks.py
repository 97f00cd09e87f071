"""One call for every kind of model: the latents, the step, the text, and whatever stands beside the latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from . import models
from .caching import Kept

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

    Gradients flow through it; who wants none says so with ``torch.no_grad``. What is told again and again, the very
    same tensors, is then joined and cast once. One is made for each run: it asks the networks' dtypes once.
    """

    unet: Any
    controlnet: Any = None
    _kept: Kept = field(default_factory=Kept, init=False, repr=False, compare=False)

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

        if self._recorded:  # before either network: what the ControlNet says is read by the UNet
            torch.compiler.cudagraph_mark_step_begin()
        told = {}
        if self.controlnet is not None:
            told = self._residuals(x, t, embeds, beside)
        elif any(block is not None for block in beside):
            blocks = [block for block in beside if block is not None]
            x = torch.cat([x, self._once(blocks, lambda: torch.cat(blocks))], dim=1)
        embeds = self._cast(embeds, self._dtype)
        output = self.unet(x.to(self._dtype), _at(t, x), encoder_hidden_states=embeds, **told, return_dict=False)
        # A CUDA graph writes its next result where this one is.
        return output[0].to(torch.float32, copy=self._recorded)

    @property
    def _recorded(self) -> bool:
        """Whether the network is compiled as a whole, perhaps as a CUDA graph."""
        return getattr(self.unet, "_compiled_call_impl", None) is not None or hasattr(self.unet, "_orig_mod")

    @cached_property
    def _dtype(self) -> torch.dtype:
        return models.dtype_of(self.unet)

    @cached_property
    def _control_dtype(self) -> torch.dtype:
        return models.dtype_of(self.controlnet)

    def _once(self, tensors: Sequence[torch.Tensor | None], make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """What is made of tensors, anew only for others; always while gradients flow, which need a graph of their own."""
        import torch

        return make() if torch.is_grad_enabled() else self._kept.of(tensors, make)

    def _cast(self, embeds: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return embeds if embeds.dtype == dtype else self._once([embeds], lambda: embeds.to(dtype))

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
        dtype = self._control_dtype
        down, middle = self.controlnet(
            seeing(x).to(dtype),
            _at(seeing(t) if each else t, x),
            encoder_hidden_states=self._once([embeds, *beside], lambda: seeing(embeds).to(dtype)),
            controlnet_cond=self._once(pictures, lambda: torch.cat(pictures).to(dtype)),
            return_dict=False,
        )
        spread = _spreader(beside, len(pictures), self._dtype)
        return {
            "down_block_additional_residuals": tuple(spread(residual) for residual in down),
            "mid_block_additional_residual": spread(middle),
        }


def _at(t: Any, x: torch.Tensor) -> Any:
    """A timestep where the latents are. A number is written there, since a copy would wait for all work before it."""
    import torch

    if not isinstance(t, torch.Tensor) or t.device == x.device:
        return t
    if t.ndim:
        return t.to(x.device, non_blocking=True)
    return torch.full((), t.item(), dtype=t.dtype, device=x.device)


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
