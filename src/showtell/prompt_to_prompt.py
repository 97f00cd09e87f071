"""Prompt-to-Prompt (Hertz et al. 2022): a base model's attention, watched, re-weighted, and taken from the row beside it.

Which token of a target is which of its source is ``alignment``'s to say, and which steps do what the method's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import attention
from .attention import BranchContext
from .errors import MethodError

if TYPE_CHECKING:
    import torch


class RunningMaps:
    """Cross-attention maps of one ``side`` (h, w), summed over layers and steps as they come."""

    def __init__(self, side: tuple[int, int]) -> None:
        self.side = side
        self._sum: torch.Tensor | None = None
        self._count = 0

    def note(self, shares: torch.Tensor) -> None:
        """Add a layer's attention (rows, heads, n, 77), float32, if the layer is of this side."""
        if shares.shape[2] != self.side[0] * self.side[1]:
            return
        maps = shares.mean(1).transpose(1, 2).unflatten(-1, self.side)
        self._sum = maps if self._sum is None else self._sum + maps
        self._count += 1

    def mean(self) -> torch.Tensor:
        """Averaged over heads, layers and the steps so far: (rows, 77, h, w) float32. Raises ``MethodError`` if no layer was
        captured.
        """
        if self._sum is None:
            raise MethodError(f"no cross-attention layer of {self.side[0]}x{self.side[1]} was captured in this UNet")
        return self._sum / self._count


@dataclass(frozen=True, kw_only=True, eq=False)
class Exchange:
    """What the targets of B pairs take from their sources: rows 0 to B - 1 of a run are the sources, the others the targets.

    Before step ``cross_until``, column j of a target's cross-attention is the sum over i of ``columns`` (B, 77, 77), source i
    to target j, times the source's column i, where ``shared`` (B, 77) is 1; where it is 0 the target keeps its own. Before
    step ``self_until[b]`` pair b shares the source's self-attention, in layers up to twice the maps' side.
    """

    columns: torch.Tensor
    shared: torch.Tensor
    cross_until: int
    self_until: Sequence[int]

    def crossed(self, shares: torch.Tensor) -> torch.Tensor:
        """Cross-attention (2B, heads, n, 77), with the targets' exchanged; not renormalised, as published."""
        import torch

        source, target = shares.chunk(2)
        columns, shared = self.columns.to(shares)[:, None], self.shared.to(shares)[:, None, None]
        return torch.cat([source, shared * (source @ columns) + (1 - shared) * target])

    def followed(self, heads: torch.Tensor, step: int) -> torch.Tensor:
        """Queries or keys of self-attention (2B, heads, n, c): the targets' are the sources' while they share."""
        import torch

        source, target = heads.chunk(2)
        shares = torch.tensor([step < until for until in self.self_until], device=heads.device)
        return torch.cat([source, torch.where(shares[:, None, None, None], source, target)])

    def follows(self, step: int) -> bool:
        """Whether any pair shares self-attention at a step."""
        return step < max(self.self_until, default=0)


class PromptControl:
    """The control of a base model's attention, in the rows of the ``cond`` branch; those of ``uncond`` run as they are.

    Enter :meth:`installed` around a run, and call the control with each ``BranchContext`` (it is an ``attend``). With
    ``watch``, :attr:`maps` collects the cross-attention of the layers that count as 16x16 (``attention.map_side``), before
    it is re-weighted. ``reweight`` (rows, 77) multiplies the columns of every cross-attention layer, after the softmax and
    without a new normalisation, as published. ``exchange`` is what targets take from the sources beside them. With none of
    these a layer runs its own processor. ``method`` is named where a pipeline does not fit.
    """

    def __init__(
        self,
        unet: Any,
        latent_side: tuple[int, int],
        *,
        watch: bool = True,
        reweight: torch.Tensor | None = None,
        exchange: Exchange | None = None,
        method: str = "p2p",
    ) -> None:
        self.unet, self.method = unet, method
        self.maps = RunningMaps(attention.map_side(unet, latent_side))
        self.watch, self.reweight, self.exchange = watch, reweight, exchange
        self._branches: BranchContext | None = None

    def __call__(self, branches: BranchContext) -> None:
        self._branches = branches

    def installed(self) -> AbstractContextManager[Any]:
        """Put the control into the UNet's attention; on leaving, by whatever way, its processors are back.

        Raises ``MethodError`` if the layers run a processor that is not plain attention.
        """
        idle = not self.watch and self.reweight is None and self.exchange is None
        return attention.installed(
            self.unet,
            self._processor,
            where=lambda name: not idle and (attention.is_cross(name) or self.exchange is not None),
        )

    def _processor(self, name: str, inner: Any) -> Callable[..., torch.Tensor]:
        attention.check_plain(inner, method=self.method)

        def process(
            attn: Any, hidden_states: Any, encoder_hidden_states: Any = None, *args: Any, **kwargs: Any
        ) -> torch.Tensor:
            branches = self._branches
            if branches is None or "cond" not in branches.branches:
                return inner(attn, hidden_states, encoder_hidden_states, *args, **kwargs)
            rows, heads = branches.rows("cond"), None
            if encoder_hidden_states is not None:
                heads = self._cross(attn, hidden_states[rows], encoder_hidden_states[rows], branches.step)
            else:
                heads = self._self(attn, hidden_states[rows], branches.step)
            if heads is None:
                return inner(attn, hidden_states, encoder_hidden_states, *args, **kwargs)

            def others(part: slice) -> torch.Tensor:
                told = None if encoder_hidden_states is None else encoder_hidden_states[part]
                return inner(attn, hidden_states[part], told, *args, **kwargs)

            return _spliced(attention.closed(attn, heads), rows, len(hidden_states), others)

        return attention.Processor(process)

    def _cross(self, attn: Any, hidden: torch.Tensor, told: torch.Tensor, step: int) -> torch.Tensor | None:
        """The heads (rows, heads, n, c) of a layer that attends to the text; None where it is to run as it is."""
        exchanging = self.exchange is not None and step < self.exchange.cross_until
        watching = self.watch and hidden.shape[1] == self.maps.side[0] * self.maps.side[1]
        if not (exchanging or watching or self.reweight is not None):
            return None
        q, k, v = attention.divided(attn, hidden, told)
        shares = attention.scores(attn, q, k).softmax(-1)
        if exchanging and self.exchange is not None:
            shares = self.exchange.crossed(shares)
        if watching:
            self.maps.note(shares)
        if self.reweight is not None:
            shares = shares * self.reweight.to(shares)[:, None, None, :]
        elif not exchanging:
            return None
        return shares.to(v.dtype) @ v

    def _self(self, attn: Any, hidden: torch.Tensor, step: int) -> torch.Tensor | None:
        """The same of a layer that attends to the picture itself."""
        import torch.nn.functional as F

        height, width = self.maps.side
        if self.exchange is None or not self.exchange.follows(step) or hidden.shape[1] > 4 * height * width:
            return None
        q, k, v = attention.divided(attn, hidden, hidden)
        q, k = (self.exchange.followed(heads, step) for heads in (q, k))
        return F.scaled_dot_product_attention(q, k, v, scale=attn.scale)


def _spliced(own: torch.Tensor, rows: slice, count: int, others: Callable[[slice], torch.Tensor]) -> torch.Tensor:
    """``own`` as the ``rows`` of ``count``, and what ``others`` says of those before and after them."""
    import torch

    parts = [slice(0, rows.start), slice(rows.stop, count)]
    before, after = ([others(part)] if part.stop > part.start else [] for part in parts)
    return torch.cat([*before, own, *after])
