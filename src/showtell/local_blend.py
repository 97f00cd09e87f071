"""Local blending (Hertz et al. 2022): what an edit changes is kept to where the words that matter look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .blending import Mask

if TYPE_CHECKING:
    import torch

    from .prompt_to_prompt import PromptControl
    from .types import Latents

#: Of each row, its words, as the positions of their tokens.
Words = Sequence[Sequence[Sequence[int]]]


def word_mask(attention_map: torch.Tensor, *, threshold: float, side: tuple[int, int]) -> torch.Tensor:
    """A word's map (h, w) to a mask of ``side`` (h, w), float32, 0 or 1.

    3x3 max-pooled, brought to the side, divided by its maximum, above ``threshold``. At a threshold of 0 it is 1 everywhere
    and at 1 nowhere.
    """
    import torch.nn.functional as F

    pooled = F.max_pool2d(attention_map[None, None].float(), 3, stride=1, padding=1)
    sized = Mask(values=pooled).resized(*side).values[0, 0]
    return ((sized / sized.amax().clamp(min=1e-30) > threshold) | (threshold <= 0)).float()


class LocalBlend:
    """A blend for the loop: from step ``start`` on, outside a mask the latents are ``outside(i)`` (rows, C, h, w).

    The mask of a row is the union of those of its words (:func:`word_mask`), each from the map averaged over the word's
    tokens and over the steps so far, which ``control`` collects. ``positions`` are the words of each row of the run, or a
    function that chooses them, once, when blending starts, from the maps (rows, 77, h, w). A row without a word has an empty
    mask. Raises ``MethodError`` where the control captured nothing.

    :attr:`mask` is that of the last step, (rows, h, w) float32 at ``latent_side``, None before there is one.
    """

    def __init__(
        self,
        control: PromptControl,
        positions: Words | Callable[[torch.Tensor], Words],
        *,
        latent_side: tuple[int, int],
        outside: Callable[[int], Latents],
        threshold: float = 0.3,
        start: int = 0,
    ) -> None:
        self.control, self.latent_side = control, latent_side
        self.outside, self.threshold, self.start = outside, threshold, start
        self.mask: torch.Tensor | None = None
        self._choose = (lambda maps: positions) if isinstance(positions, Sequence) else positions
        self._words: Words | None = None

    def __call__(self, x: Latents, i: int) -> Latents:
        if i < self.start:
            return x
        self.mask = self._masks()
        return Mask(values=self.mask[:, None]).overlay(x, self.outside(i))

    def _masks(self) -> torch.Tensor:
        import torch

        maps = self.control.maps.mean()
        if self._words is None:
            self._words = self._choose(maps)
        masks = torch.zeros(len(maps), *self.latent_side, device=maps.device)
        for row, words in enumerate(self._words):
            for word in words:
                found = word_mask(maps[row, list(word)].mean(0), threshold=self.threshold, side=self.latent_side)
                masks[row] = torch.maximum(masks[row], found)
        return masks


class PairedBlend(LocalBlend):
    """That of Prompt-to-Prompt. The rows are B sources and their B targets: a target is its source outside the union of both
    rows' masks, and the sources stay as they are. :attr:`mask` is that union, (B, h, w).
    """

    def __init__(
        self,
        control: PromptControl,
        positions: Words | Callable[[torch.Tensor], Words],
        *,
        latent_side: tuple[int, int],
        threshold: float = 0.3,
        start: int = 0,
    ) -> None:
        super().__init__(
            control, positions, latent_side=latent_side, outside=_nothing, threshold=threshold, start=start
        )

    def __call__(self, x: Latents, i: int) -> Latents:
        import torch

        if i < self.start:
            return x
        masks = self._masks()
        self.mask = torch.maximum(*masks.chunk(2))
        source, target = x.chunk(2)
        return torch.cat([source, Mask(values=self.mask[:, None]).overlay(target, source)])


def _nothing(i: int) -> Latents:
    raise AssertionError("the latents outside are those of the row beside")
