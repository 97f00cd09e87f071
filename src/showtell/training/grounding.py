"""The grounding loss: the cross-attention map of a word that names a thing shall cover that thing.

In a network this small such maps stay blind unless they are taught (TokenCompose, CVPR 2024, teaches a large one with a
share-only loss; that makes needles, so this loss asks for cover): for each marked word, KL(u ‖ a) between the even
distribution u over its region and its head-averaged map a, at the layers whose side is the latent's. Real models are not
trained so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import Attention


class Marks:
    """The marked words of one batch: for the m-th mark its row in the batch, its token, and its region (256,)."""

    def __init__(self, rows: Tensor, tokens: Tensor, regions: Tensor, weights: Tensor) -> None:
        self.rows, self.tokens, self.weights = rows, tokens, weights
        self.target = regions / regions.sum(-1, keepdim=True).clamp(min=1e-6)
        self.maps: list[Tensor] = []

    def loss(self) -> Tensor:
        """Mean over layers and marks of KL(u ‖ a); zero when the batch has no marks."""
        if not self.maps or not len(self.rows):
            return torch.zeros(())
        maps = torch.stack(self.maps).float()
        maps = (maps / maps.sum(-1, keepdim=True)).clamp(min=1e-8)
        entropy = torch.special.xlogy(self.target, self.target)
        divergence = (entropy - self.target * maps.log()).sum(-1).mean(0)
        return (divergence * self.weights).sum() / len(self.rows)


class TrainingAttention:
    """Attention written out: faster than the fused one in bf16 on a CPU, and its maps can be read.

    side: the number of queries of the layers whose cross-attention maps are collected.
    """

    def __init__(self, queries: int) -> None:
        self.queries = queries
        self.marks: Marks | None = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (
            f(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for f, x in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
        )
        weights = torch.softmax((q * attn.scale) @ k.transpose(-1, -2), dim=-1)
        if self.marks is not None and encoder_hidden_states is not None and q.shape[2] == self.queries:
            self.marks.maps.append(weights[self.marks.rows, :, :, self.marks.tokens].mean(1))
        return attn.to_out[0]((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))


def install(unet: UNet2DConditionModel) -> TrainingAttention:
    """Give a network under training this attention, and return it."""
    attention = TrainingAttention(unet.config.sample_size**2)
    unet.set_attn_processor(attention)
    return attention
