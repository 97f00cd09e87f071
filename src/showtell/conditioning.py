"""What the UNet is told at each step, branch by branch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .guidance import BASE_BRANCHES, INSTRUCT_BRANCHES

if TYPE_CHECKING:
    import torch

    from .types import ImageLatents, PromptEmbeds


class Conditioning(Protocol):
    """What the UNet is told."""

    def told(self, branch: str, step: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """For a branch at a step: prompt embeddings (B, 77, d) and the channels beside the latents, (B, 4, h,
        w) or None.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class InstructConditioning:
    """An instruct model's: text, its absence (the embedding of "" or of a negative prompt), and the picture."""

    prompt_embeds: PromptEmbeds
    negative_prompt_embeds: PromptEmbeds
    image_latents: ImageLatents

    def told(self, branch: str, step: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        if branch not in INSTRUCT_BRANCHES:
            raise KeyError(branch)
        embeds = self.prompt_embeds if branch in ("full", "text") else self.negative_prompt_embeds
        picture = (
            self.image_latents
            if branch in ("full", "image")
            else self.image_latents.new_zeros(self.image_latents.shape)
        )
        return embeds, picture


@dataclass(frozen=True, kw_only=True)
class PromptConditioning:
    """A base model's: the prompt, and its absence."""

    prompt_embeds: PromptEmbeds
    negative_prompt_embeds: PromptEmbeds

    def told(self, branch: str, step: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        if branch not in BASE_BRANCHES:
            raise KeyError(branch)
        return (self.prompt_embeds if branch == "cond" else self.negative_prompt_embeds), None
