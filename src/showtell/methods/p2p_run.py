"""One run of Prompt-to-Prompt: B sources and B targets side by side, real pictures or imagined ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .. import alignment, models
from ..layout import Layout, Piece
from ..local_blend import PairedBlend
from ..prompt_to_prompt import Exchange, PromptControl
from ..sampling import keep
from .base import Region
from .local import columns, keyword, share_of, told_which

if TYPE_CHECKING:
    import torch

    from ..types import Latents


class SideBySide:
    """What a run of 2B rows does, the sources first: :attr:`control` is to be installed around it and is its ``attend``,
    :attr:`blend` the loop's, and :meth:`regions` are known after it.

    ``method`` is a settled ``PromptToPrompt``; ``sources`` and ``targets`` the B layouts; ``steps`` those that are run;
    ``self_replace_steps`` takes the place of the method's, pair by pair. Raises ``MethodError`` for prompts of different
    numbers of words in mode ``replace``, ``TextError`` for a word to re-weight that a target does not have.
    """

    def __init__(
        self,
        method: Any,
        pipe: Any,
        sources: Sequence[Layout],
        targets: Sequence[Layout],
        *,
        latent_side: tuple[int, int],
        steps: int,
        self_replace_steps: Sequence[float] | None = None,
        note: Callable[[int, str], None] = lambda b, text: None,
    ) -> None:
        self.sources, self.targets, self.note = sources, targets, note
        self.control = PromptControl(
            pipe.unet,
            latent_side,
            watch=method.blend == "attention",
            reweight=_weights(targets, method.reweight),
            exchange=_exchange(method, sources, targets, steps, self_replace_steps, models.device_of(pipe)),
            method="p2p",
        )
        self._words: list[list[Piece]] = []
        self.blend: Callable[[Latents, int], Latents] = keep
        if method.blend == "attention":
            self.blend = PairedBlend(
                self.control,
                self._positions,
                latent_side=latent_side,
                threshold=method.blend_threshold,
                start=share_of(method.blend_start, steps),
            )

    def regions(self) -> list[list[Region]]:
        """Where each target could differ from its source; nothing where all of it could."""
        mask = getattr(self.blend, "mask", None)
        if mask is None:
            return [[] for _ in self.targets]
        return [
            [Region(part=0, mask=one, keyword=keyword(words))] for one, words in zip(mask, self._words, strict=True)
        ]

    def _positions(self, maps: torch.Tensor) -> list[list[range]]:
        """The words that matter of every row, sources first; a note tells which were chosen."""
        rows: list[list[list[range]]] = [[], []]
        for b, (source, target) in enumerate(zip(self.sources, self.targets, strict=True)):
            pair = alignment.words_of_both(source, target, maps[b], maps[len(self.sources) + b])
            for row, words in zip(rows, pair, strict=True):
                row.append([word.positions for word in words])
            words = _apart([*pair[1], *pair[0]])
            self._words.append(words)
            told_which(words, b, self.note)
        return rows[0] + rows[1]


def _exchange(
    method: Any,
    sources: Sequence[Layout],
    targets: Sequence[Layout],
    steps: int,
    self_replace_steps: Sequence[float] | None,
    device: Any,
) -> Exchange:
    import torch

    pairs = [_aligned(method.mode, source, target) for source, target in zip(sources, targets, strict=True)]
    shares = [method.self_replace_steps] * len(pairs) if self_replace_steps is None else self_replace_steps
    return Exchange(
        columns=torch.stack([matrix for matrix, _ in pairs]).to(device),
        shared=torch.stack([shared for _, shared in pairs]).to(device),
        cross_until=share_of(method.cross_replace_steps, steps),
        self_until=[share_of(share, steps) for share in shares],
    )


def _aligned(mode: str, source: Layout, target: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    if mode == "auto":
        mode = "replace" if alignment.words(source) == alignment.words(target) else "refine"
    return (alignment.replaced if mode == "replace" else alignment.refined)(source, target)


def _weights(targets: Sequence[Layout], reweight: Any) -> torch.Tensor | None:
    """What each column is multiplied by, (2B, 77): those of the sources by 1; None for nothing."""
    import torch

    if not reweight:
        return None
    own = torch.stack([columns(target, reweight) for target in targets])
    return torch.cat([torch.ones_like(own), own])


def _apart(words: Sequence[Piece]) -> list[Piece]:
    """Each word once, as it comes first; those in brackets come before the others."""
    found: dict[str, Piece] = {}
    for word in sorted(words, key=lambda word: not word.keyword):
        found.setdefault(word.text.lower(), word)
    return list(found.values())
