"""Attention processors, put in for a while and always taken out again."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .caching import uncompiled
from .errors import MethodError

if TYPE_CHECKING:
    import torch

#: Processors that compute plain attention, which a control can stand for.
_PLAIN = {
    "AttnProcessor", "AttnProcessor2_0", "XFormersAttnProcessor", "SlicedAttnProcessor", "FusedAttnProcessor2_0",
    "LoRAAttnProcessor", "LoRAAttnProcessor2_0",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BranchContext:
    """What an attention control is told before each call of the UNet, so that it never has to count calls.

    ``step`` is the index of the loop's step, ``timestep`` its t, ``branches`` the names of the guidance branches
    in this call, in order, and ``batch`` the number of samples of each: the call's batch is their product, branch
    by branch. ``latents`` (batch, 4, h, w) are those of the step, scaled for the network.
    """

    step: int
    timestep: Any
    branches: tuple[str, ...]
    batch: int
    latents: Any = None

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

    Yields name -> new processor. On leaving, by whatever way, the UNet has the very processors it had before. What is
    compiled in place runs uncompiled meanwhile: it would be compiled anew for each run's own processors.
    """
    before = dict(unet.attn_processors)
    new = {name: make(name, processor) for name, processor in before.items() if where(name)}
    try:
        # set_attn_processor empties the dictionary that it is given.
        unet.set_attn_processor({**before, **new})
        with uncompiled(unet) if new else contextlib.nullcontext():
            yield new
    finally:
        unet.set_attn_processor(dict(before))


class Processor:
    """A function as a processor. (diffusers asks for the signature of ``__call__`` at each call of a layer, which takes a
    millisecond where that is no method.)
    """

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        self.function = function

    def __call__(
        self, attn: Any, hidden_states: Any, encoder_hidden_states: Any = None, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        return self.function(attn, hidden_states, encoder_hidden_states, *args, **kwargs)


def check_plain(processor: Any, *, method: str) -> None:
    """Raise ``MethodError`` if a processor is not plain attention, which alone a method can stand for."""
    if type(processor).__name__ not in _PLAIN:
        raise MethodError(
            f"method {method!r} changes attention, and this pipeline has changed it already ({type(processor).__name__}): "
            "unload that (an IP-Adapter?), or reset it with pipe.unet.set_default_attn_processor()"
        )


def divided(attn: Any, hidden: torch.Tensor, told: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries of ``hidden``, keys and values of ``told``, head by head: (B, heads, n, c) each."""
    q, k, v = (
        rows.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        for rows in (attn.to_q(hidden), attn.to_k(told), attn.to_v(told))
    )
    return q, k, v


def scores(attn: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Q K^T / sqrt(d), float32."""
    if attn.upcast_attention:
        q, k = q.float(), k.float()
    return ((q * attn.scale) @ k.transpose(-1, -2)).float()


def closed(attn: Any, heads: torch.Tensor) -> torch.Tensor:
    """What a layer gives back, (B, n, d), once its heads (B, heads, n, c) are known."""
    out = heads.transpose(1, 2).flatten(2)
    for projection in attn.to_out:  # a linear layer and a dropout
        out = projection(out)
    return out / attn.rescale_output_factor


def map_side(unet: Any, latent_side: tuple[int, int]) -> tuple[int, int]:
    """The side (h, w) of the layers that count as 16x16, for latents of ``latent_side`` (h, w).

    It is the latents' side divided by sample_size / 16, or the power of two below that, since layers halve: a quarter of
    the latents for Stable Diffusion (also where its sample_size is 96), the latents themselves for the starters.
    """
    size = unet.config.sample_size or 64
    factor = 2 ** int(math.log2(max(1, (size if isinstance(size, int) else max(size)) // 16)))
    return -(-latent_side[0] // factor), -(-latent_side[1] // factor)


class CrossMaps:
    """The cross-attention maps of the calls made while :func:`captured` was entered, one a layer: (B, 77, h, w)."""

    def __init__(self, side: tuple[int, int]) -> None:
        self.side = side
        self.layers: list[torch.Tensor] = []

    def note(self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor) -> None:
        """Keep a layer's map, averaged over heads, if the layer is of this side."""
        height, width = self.side
        if hidden_states.shape[1] != height * width:
            return
        query, key = attn.to_q(hidden_states), attn.to_k(encoder_hidden_states)
        scores = attn.get_attention_scores(attn.head_to_batch_dim(query), attn.head_to_batch_dim(key))
        mean = scores.unflatten(0, (-1, attn.heads)).float().mean(1)
        self.layers.append(mean.transpose(1, 2).unflatten(-1, (height, width)))

    def mean(self) -> torch.Tensor:
        """Averaged over layers: (B, 77, h, w), float32. Raises ``MethodError`` if no layer was captured."""
        import torch

        if not self.layers:
            raise MethodError(f"no cross-attention layer of {self.side[0]}x{self.side[1]} was captured in this UNet")
        return torch.stack(self.layers).mean(0)


class _Capturing:
    """A processor that notes the head-averaged map and lets the one it stands for compute the output."""

    def __init__(self, inner: Any, maps: CrossMaps) -> None:
        self.inner, self.maps = inner, maps

    def __call__(
        self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None, **kwargs: Any
    ) -> torch.Tensor:
        if encoder_hidden_states is not None:
            self.maps.note(attn, hidden_states, encoder_hidden_states)
        return self.inner(attn, hidden_states, encoder_hidden_states=encoder_hidden_states, **kwargs)


@contextlib.contextmanager
def captured(unet: Any, latent_side: tuple[int, int]) -> Iterator[CrossMaps]:
    """Collect the cross-attention maps of the layers that count as 16x16 (see :func:`map_side`)."""
    maps = CrossMaps(map_side(unet, latent_side))
    with installed(unet, lambda name, inner: _Capturing(inner, maps)):
        yield maps
