"""Attention processors, put in for a while and always taken out again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import MethodError

if TYPE_CHECKING:
    import torch


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


class CrossMaps:
    """The cross-attention maps of the calls made while :func:`captured` was entered, one a layer: (B, 77, h, w)."""

    def __init__(self, side: tuple[int, int]) -> None:
        self.side = side
        self.layers: list[torch.Tensor] = []

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
        height, width = self.maps.side
        if encoder_hidden_states is not None and hidden_states.shape[1] == height * width:
            query, key = attn.to_q(hidden_states), attn.to_k(encoder_hidden_states)
            scores = attn.get_attention_scores(attn.head_to_batch_dim(query), attn.head_to_batch_dim(key))
            mean = scores.unflatten(0, (-1, attn.heads)).float().mean(1)
            self.maps.layers.append(mean.transpose(1, 2).unflatten(-1, (height, width)))
        return self.inner(attn, hidden_states, encoder_hidden_states=encoder_hidden_states, **kwargs)


@contextlib.contextmanager
def captured(unet: Any, latent_side: tuple[int, int]) -> Iterator[CrossMaps]:
    """Collect the cross-attention maps of the layers that count as 16x16, for latents of ``latent_side`` (h, w).

    Those are the layers at the latents' side divided by sample_size / 16: a quarter of the latents for Stable
    Diffusion, the latents themselves for the starters.
    """
    size = unet.config.sample_size
    factor = max(1, (size if isinstance(size, int) else max(size)) // 16)
    maps = CrossMaps((latent_side[0] // factor, latent_side[1] // factor))
    with installed(unet, lambda name, inner: _Capturing(inner, maps)):
        yield maps


def focus_mask(attention_map: torch.Tensor, *, gamma: int, tau: float) -> torch.Tensor:
    """A keyword's map (h, w) to a mask (h, w), bool, as Focus on Your Instruction does (its section 4.1).

    3x3 Gaussian of sigma 0.5, ``gamma`` times square and min-max normalise, then ``>= tau``. With gamma = 0 the map is
    normalised once.
    """
    import torch

    side = torch.exp(-torch.tensor([1.0, 0.0, 1.0]) / (2 * 0.5**2))
    kernel = torch.outer(side, side)[None, None] / side.sum() ** 2
    padded = torch.nn.functional.pad(attention_map[None, None].float(), (1, 1, 1, 1), mode="replicate")
    smooth = torch.nn.functional.conv2d(padded, kernel.to(padded))[0, 0]
    smooth = _min_max(smooth)
    for _ in range(gamma):
        smooth = _min_max(smooth.square())
    return smooth >= tau


def _min_max(values: torch.Tensor) -> torch.Tensor:
    low, high = values.amin(), values.amax()
    return (values - low) / (high - low).clamp(min=1e-12)
