"""Focus on Your Instruction (Guo and Lin 2024): masks out of attention maps, and cross-condition attention modulation.

Pure functions in the paper's symbols, two rules by which attention is modulated, and the control that puts them into a
UNet. Which step does what is the method's choice: :class:`~showtell.methods.foi.FocusOnInstruction`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from . import attention
from .attention import BranchContext, CrossMaps, scores
from .blending import Mask
from .errors import MethodError

if TYPE_CHECKING:
    import torch


def smoothed(attention_map: torch.Tensor) -> torch.Tensor:
    """A map (h, w) under a 3x3 Gaussian of sigma 0.5, as Attend-and-Excite does; float32."""
    import torch

    side = torch.exp(-torch.tensor([1.0, 0.0, 1.0]) / (2 * 0.5**2))
    kernel = torch.outer(side, side)[None, None] / side.sum() ** 2
    padded = torch.nn.functional.pad(attention_map[None, None].float(), (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.conv2d(padded, kernel.to(padded))[0, 0]


def focus_mask(attention_map: torch.Tensor, *, gamma: int, tau: float) -> torch.Tensor:
    """A keyword's map (h, w) to a mask (h, w), bool, as in the paper's section 4.1.

    Gaussian, then ``gamma`` times square and min-max normalise (equation 2), then ``>= tau``. With gamma = 0 the map is
    normalised once. A map that is the same everywhere gives an empty mask.
    """
    sharp = smoothed(attention_map)
    sharp = sharp / sharp.amax().clamp(min=1e-30)  # which changes nothing, but keeps the squares of small numbers apart
    if gamma == 0:
        sharp = _min_max(sharp)
    for _ in range(gamma):
        sharp = _min_max(sharp.square())
    return sharp >= tau


def grown(mask: torch.Tensor, cells: int) -> torch.Tensor:
    """A mask (h, w), bool, widened by so many cells on every side, diagonally too."""
    import torch.nn.functional as F

    wide = F.max_pool2d(mask[None, None].float(), 2 * cells + 1, stride=1, padding=cells)
    return wide[0, 0] > 0


def _min_max(values: torch.Tensor) -> torch.Tensor:
    """To [0, 1]; what differs by rounding alone is 0 everywhere."""
    low, high = values.amin(), values.amax()
    return (values - low) / (high - low) if high - low > 1e-5 * high else values * 0


def xi(t: float, scale: float = 0.05) -> float:
    """The weight xi(t) = ``scale`` t^4 (equation 7), t in [0, 1]: 1 is noise, 0 the clean picture."""
    return scale * t**4


def modulated(X: torch.Tensor, Y: torch.Tensor, M: torch.Tensor, boost: torch.Tensor) -> torch.Tensor:
    """The scores of equation 3: (X + dX) M + Y (1 - M), with dX = boost (max over keys of X - X) (equation 6).

    ``X`` and ``Y`` (B, heads, n, 77), the scores of the ``full`` and the ``image`` branch, both divided by sqrt(d) or both
    not; ``M`` (B, 1, n, 77) in [0, 1]; ``boost`` (B, 1, 1, 77), alpha times xi(t). Where M is 1 and boost 0 it is X.
    """
    import torch

    return torch.lerp(Y, _raised(X, boost), M.to(Y.dtype))


def _raised(X: torch.Tensor, boost: torch.Tensor) -> torch.Tensor:
    """X + dX (equation 6), in one pass: from each score the share ``boost`` of the way to the greatest of its query."""
    import torch

    return torch.lerp(X, X.amax(-1, keepdim=True), boost.to(X.dtype))


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What a rule is told of one cross-attention layer: its ``name`` and module, the ``side`` (h, w) of its queries, and
    queries, keys and values of the ``full`` branch, (B, heads, n, c) and (B, heads, 77, c); of the ``image`` branch its
    queries and keys, and the result of its attention (B, heads, n, c).
    """

    name: str
    attn: Any
    side: tuple[int, int]
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    image: tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Rule(Protocol):
    """What the attention of the ``full`` branch becomes."""

    def attend(self, layer: Layer) -> torch.Tensor:
        """The result of its attention, (B, heads, n, c)."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """The paper's rule (section 4.2): one sequence, whose tokens are confined to the masks of their columns.

    ``masks`` (B, 77, h, w); ``boost`` (B, 77), alpha, times xi(t) once it is :meth:`boosted`.
    """

    masks: torch.Tensor
    boost: torch.Tensor
    sized: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)

    def boosted(self, xi: float) -> Columns:
        """The rule of a step, its boost times ``xi``."""
        return replace(self, boost=self.boost * xi)

    def attend(self, layer: Layer) -> torch.Tensor:
        image_q, image_k, _ = layer.image
        X, Y = scores(layer.attn, layer.q, layer.k), scores(layer.attn, image_q, image_k)
        M = _sized(self.masks, layer.side, self.sized).flatten(2).transpose(1, 2)[:, None]
        return modulated(X, Y, M, self.boost[:, None, None, :]).softmax(-1).to(layer.v.dtype) @ layer.v


@dataclass(frozen=True, kw_only=True, eq=False)
class Regional:
    """A rule beyond the paper: in its region each sub-instruction is heard alone, encoded by itself, start, end and padding
    included. Regions that overlap share evenly. Where no region is, the ``image`` branch's attention stands unchanged, or,
    with ``everywhere`` (B, k), those shares of what the sub-instructions say.

    ``embeds`` (B, k, 77, d), ``masks`` (B, k, h, w), ``boost`` (B, k, 77) as in :class:`Columns`.
    """

    embeds: torch.Tensor
    masks: torch.Tensor
    boost: torch.Tensor
    everywhere: torch.Tensor | None = None
    sized: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)
    # The keys and values of each layer, (B, k, heads, 77, c): the same at every step.
    told: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def boosted(self, xi: float) -> Regional:
        """The rule of a step, its boost times ``xi``."""
        return replace(self, boost=self.boost * xi)

    def attend(self, layer: Layer) -> torch.Tensor:
        k, v = self._told(layer)
        X = scores(layer.attn, layer.q[:, None], k)
        boost = self.boost[:, :, None, None, :]
        heard = _raised(X, boost).softmax(-1).to(v.dtype) @ v
        masks = _sized(self.masks, layer.side, self.sized).flatten(2)
        share = masks / masks.sum(1, keepdim=True).clamp(min=1)
        left = 1 - share.sum(1, keepdim=True)
        if self.everywhere is not None:
            share, left = share + left * self.everywhere[:, :, None], left * 0
        elsewhere = left[:, :, :, None].to(v.dtype) * layer.image[2]
        return (share[:, :, None, :, None].to(v.dtype) * heard).sum(1) + elsewhere

    def _told(self, layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
        if layer.name not in self.told:
            embeds = self.embeds.to(layer.k.dtype)
            k, v = (project(embeds).unflatten(-1, (layer.attn.heads, -1)).transpose(2, 3)
                    for project in (layer.attn.to_k, layer.attn.to_v))  # fmt: skip
            self.told[layer.name] = k, v
        return self.told[layer.name]


class CrossCondition:
    """The control of a UNet's cross-attention: it watches the ``full`` branch, or modulates it by the ``image`` branch.

    Enter :meth:`installed` around a run, and call the control with each ``BranchContext`` (it is an ``attend``). Before a
    call the method sets ``watching``, so that :attr:`maps` collects the maps of the rows of ``full``, or ``rule``. With
    neither, every layer runs its own processor.
    """

    def __init__(self, unet: Any, latent_side: tuple[int, int]) -> None:
        self.unet, self.latent_side = unet, latent_side
        self.maps = CrossMaps(attention.map_side(unet, latent_side))
        self.watching = False
        self.rule: Rule | None = None
        self._branches: BranchContext | None = None
        # Of the image branch, which may run before the full one: layer -> queries, keys and result.
        self._image: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    def __call__(self, branches: BranchContext) -> None:
        self._branches = branches

    def installed(self) -> AbstractContextManager[Any]:
        """Put the control into the UNet's cross-attention; on leaving, by whatever way, its processors are back.

        Raises ``MethodError`` if the layers run a processor that is not plain attention.
        """
        return attention.installed(self.unet, self._processor)

    def _processor(self, name: str, inner: Any) -> Callable[..., torch.Tensor]:
        attention.check_plain(inner, method="foi")

        def process(
            attn: Any, hidden_states: Any, encoder_hidden_states: Any = None, *args: Any, **kwargs: Any
        ) -> torch.Tensor:
            branches = self._branches
            if branches is None or encoder_hidden_states is None:
                return inner(attn, hidden_states, encoder_hidden_states, *args, **kwargs)
            if self.rule is not None:
                return self._modulated(name, attn, hidden_states, encoder_hidden_states, branches, self.rule)
            if self.watching and "full" in branches.branches:
                rows = branches.rows("full")
                self.maps.note(attn, hidden_states[rows], encoder_hidden_states[rows])
            return inner(attn, hidden_states, encoder_hidden_states, *args, **kwargs)

        return attention.Processor(process)

    def _modulated(
        self, name: str, attn: Any, hidden: torch.Tensor, told: torch.Tensor, branches: BranchContext, rule: Rule
    ) -> torch.Tensor:
        """Attention as the layer does it, but for the rows of ``full``."""
        import torch
        import torch.nn.functional as F

        def part(*names: str) -> slice:
            held = [branches.rows(each) for each in names if each in branches.branches]
            return slice(held[0].start, held[-1].stop) if held else slice(0, 0)

        q, k, v = attention.divided(attn, hidden, told)
        full, rest = part("full"), part("image", "text", "none")
        results = []
        if rest.stop:
            plain = F.scaled_dot_product_attention(q[rest], k[rest], v[rest], scale=attn.scale)
            results.append(plain)
            if "image" in branches.branches:
                image = branches.rows("image")
                own = slice(image.start - rest.start, image.stop - rest.start)
                self._image[name] = q[image], k[image], plain[own]
        if full.stop:
            side = layer_side(self.latent_side, q.shape[2])
            layer = Layer(name=name, attn=attn, side=side, q=q[full], k=k[full], v=v[full], image=self._image.pop(name))
            results.insert(0, rule.attend(layer))
        return attention.closed(attn, torch.cat(results))


def _sized(masks: torch.Tensor, side: tuple[int, int], kept: dict[tuple[int, int], torch.Tensor]) -> torch.Tensor:
    """Masks (B, m, h, w) at a layer's side."""
    if side not in kept:
        kept[side] = Mask(values=masks.float()).resized(*side).values
    return kept[side]


def layer_side(latent_side: tuple[int, int], queries: int) -> tuple[int, int]:
    """The side (h, w) of a layer of so many queries: the latents' side, halved until it fits. Raises ``MethodError``."""
    height, width = latent_side
    while height * width > queries and (height, width) != (1, 1):
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    if height * width != queries:
        raise MethodError(f"a cross-attention layer of {queries} queries does not fit latents of {latent_side}")
    return height, width
