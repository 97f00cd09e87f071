"""What the UNet is told at each step, branch by branch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from . import models
from .guidance import BASE_BRANCHES, INSTRUCT_BRANCHES

if TYPE_CHECKING:
    import torch

    from .types import ImageLatents, Pixels, PromptEmbeds


class Conditioning(Protocol):
    """What the UNet is told."""

    def told(self, branch: str, step: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """For a branch at a step: prompt embeddings (B, 77, d), and what stands beside the latents or None (see
        ``networks.Network``).
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
        return embeds, self.image_latents if branch in ("full", "image") else self._no_picture

    @cached_property
    def _no_picture(self) -> torch.Tensor:
        return self.image_latents.new_zeros(self.image_latents.shape)


@dataclass(frozen=True, kw_only=True)
class ControlConditioning:
    """Of a base model with a ControlNet: text, its absence, and the picture, ``pixels`` (B, 3, H, W) in [0, 1].

    Without the picture the ControlNet is not asked. Guided with s_I = 1, both branches see the picture, as in stock
    pipelines.
    """

    prompt_embeds: PromptEmbeds
    negative_prompt_embeds: PromptEmbeds
    pixels: torch.Tensor

    def told(self, branch: str, step: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        if branch not in INSTRUCT_BRANCHES:
            raise KeyError(branch)
        embeds = self.prompt_embeds if branch in ("full", "text") else self.negative_prompt_embeds
        return embeds, self.pixels if branch in ("full", "image") else None


@dataclass(frozen=True, kw_only=True)
class PromptConditioning:
    """A base or inpainting model's: the prompt, and its absence.

    ``beside`` (B, 5, h, w), for an inpainting model, is a mask and the masked picture's latents; both branches see it.
    """

    prompt_embeds: PromptEmbeds
    negative_prompt_embeds: PromptEmbeds
    beside: torch.Tensor | None = None

    def told(self, branch: str, step: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        if branch not in BASE_BRANCHES:
            raise KeyError(branch)
        return (self.prompt_embeds if branch == "cond" else self.negative_prompt_embeds), self.beside


@dataclass(frozen=True, kw_only=True)
class SteppedConditioning:
    """A base model's, with embeddings that change from step to step: (K, B, 77, d) of the words, of their absence, or both;
    (B, 77, d) stays the same.
    """

    prompt_embeds: torch.Tensor
    negative_prompt_embeds: torch.Tensor

    def told(self, branch: str, step: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        if branch not in BASE_BRANCHES:
            raise KeyError(branch)
        embeds = self.prompt_embeds if branch == "cond" else self.negative_prompt_embeds
        return (embeds[step] if embeds.ndim == 4 else embeds), None


def instructed(
    pipe: Any,
    prompt_embeds: PromptEmbeds,
    negative_prompt_embeds: PromptEmbeds,
    *,
    pixels: Pixels,
    image_latents: ImageLatents,
) -> Conditioning:
    """What tells a model of instructions the words and the picture: as pixels through a ControlNet, else as latents.

    ``pixels`` (B, 3, H, W) in [-1, 1] and ``image_latents`` (B, 4, h, w) are the same picture.
    """
    if models.kind(pipe) == "control":
        return ControlConditioning(
            prompt_embeds=prompt_embeds, negative_prompt_embeds=negative_prompt_embeds, pixels=pixels / 2 + 0.5
        )
    return InstructConditioning(
        prompt_embeds=prompt_embeds, negative_prompt_embeds=negative_prompt_embeds, image_latents=image_latents
    )
