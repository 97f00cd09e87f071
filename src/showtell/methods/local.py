"""Local blending and re-weighting for the methods that sample from an inverted picture (Prompt-to-Prompt's, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import models
from ..alignment import words_that_matter
from ..attention import BranchContext
from ..ddim import Ddim
from ..errors import MethodError, TextError
from ..guidance import check_scale
from ..keywords import Keyword
from ..layout import Layout, Piece, lay_out
from ..local_blend import LocalBlend
from ..prompt_to_prompt import PromptControl
from ..sampling import keep
from .base import Context, Region
from .checks import check_choice

if TYPE_CHECKING:
    import torch

    from ..types import Latents

BLENDS = ("attention", "none")
#: The most that a word's attention may be multiplied by.
MOST_REWEIGHT = 20.0


@dataclass(kw_only=True, eq=False)
class Local:
    """What a run does with attention: nothing, or watch it for a blend, or re-weight words."""

    context: Context
    control: PromptControl | None
    blends: bool
    threshold: float
    start: int
    side: tuple[int, int]
    _blend: LocalBlend | None = None
    _chosen: list[Keyword | None] = field(default_factory=list)

    @classmethod
    def of(cls, method: Any, context: Context, pair: Ddim) -> Local:
        """Of a settled method with ``blend``, ``blend_threshold``, ``blend_start`` and ``reweight``.

        Raises ``TextError`` for words that the target does not have or that have no room, and for a target without a word;
        ``MethodError`` where no words are heard, so that none can be looked for.
        """
        _, *side = models.latent_shape(context.pipe, context.pixels)
        blends, control = method.blend == "attention", None
        if blends and method.guidance_scale == 0:
            raise MethodError(
                "guidance_scale=0 hears no words, so blend='attention' finds none: raise it, or use blend='none'"
            )
        for b in range(len(context.pixels) if blends else 0):
            check_words(context.layout(b))
        if blends or method.reweight:
            control = PromptControl(
                context.pipe.unet,
                (side[0], side[1]),
                watch=blends,
                reweight=reweighted(context, method.reweight),
                method=method.name,
            )
        return cls(
            context=context,
            control=control,
            blends=blends,
            threshold=method.blend_threshold,
            start=share_of(method.blend_start, len(pair)),
            side=(side[0], side[1]),
        )

    def installed(self) -> AbstractContextManager[Any]:
        """To be entered around the run."""
        return nullcontext() if self.control is None else self.control.installed()

    @property
    def attend(self) -> Callable[[BranchContext], None] | None:
        """The control of the run's attention, if there is one."""
        return self.control

    def blend(self, outside: Callable[[int], Latents]) -> Callable[[Latents, int], Latents]:
        """Outside what the words that matter look at, the latents become ``outside(i)``."""
        if not self.blends or self.control is None:
            return keep
        self._blend = LocalBlend(
            self.control,
            self._words,
            latent_side=self.side,
            outside=outside,
            threshold=self.threshold,
            start=self.start,
        )
        return self._blend

    @property
    def regions(self) -> Callable[[], Sequence[Sequence[Region]]] | None:
        """Where each picture was edited, known after the run; None where nothing limits it."""
        if not self.blends:
            return None

        def found() -> Sequence[Sequence[Region]]:
            mask = None if self._blend is None else self._blend.mask
            if mask is None:
                return [[] for _ in self.context.pixels]
            return [[Region(part=0, mask=one, keyword=word)] for one, word in zip(mask, self._chosen, strict=True)]

        return found

    def _words(self, maps: torch.Tensor) -> list[list[list[int]]]:
        """The words that matter of each picture, as positions; a note tells which were chosen."""
        rows = []
        for b in range(len(self.context.pixels)):
            target, source = self.context.layout(b), self.context.sources[b] if self.context.sources else None
            known = None if source is None else lay_out(self.context.pipe, [source])
            words = words_that_matter(target, maps[b], known)
            told_which(words, b, self.context.note)
            rows.append([list(word.positions) for word in words])
            self._chosen.append(keyword(words))
        return rows


def check_words(layout: Layout) -> None:
    """Raise ``TextError`` for a target in which there is no word to look for."""
    if not any(any(c.isalnum() for c in piece.text) for piece in layout.pieces):
        told = " ".join(piece.text for piece in layout.pieces)
        raise TextError(
            f"{told!r:.40} has no word whose place could be found: say what the result shows, or use blend='none'"
        )


def share_of(share: float, steps: int) -> int:
    """The steps that a share in [0, 1] of them covers, rounded down, as Prompt-to-Prompt's code does."""
    return int(share * steps + 1e-6)


def told_which(words: Sequence[Piece], b: int, note: Callable[[int, str], None]) -> None:
    """Tell of picture b which words were chosen, unless the user marked them."""
    if not any(word.keyword for word in words):
        told = ", ".join(f"[{word.text}]" for word in words)
        note(b, f"the edit was kept to where {told} looks; mark another word with brackets")


def keyword(words: Sequence[Piece]) -> Keyword | None:
    """The words that a region was found by, as one; None where there are none."""
    if not words:
        return None
    return Keyword(
        text=", ".join(word.text for word in words),
        positions=tuple(p for word in words for p in word.positions),
        chosen=not any(word.keyword for word in words),
    )


def check_local(method: Any) -> None:
    """Raise ``MethodError`` for what blending and re-weighting cannot be told."""
    check_choice("blend", method.blend, BLENDS)
    for name in ("blend_threshold", "blend_start"):
        if getattr(method, name) is not None:
            check_scale(name, getattr(method, name), least=0.0, most=1.0)
    if method.reweight is None:
        return
    if not isinstance(method.reweight, Mapping) or not all(isinstance(word, str) for word in method.reweight):
        raise MethodError('reweight is words and what their attention is multiplied by, such as {"red": 2.0}')
    for word, scale in method.reweight.items():
        check_scale(f"reweight of {word!r}", scale, least=-MOST_REWEIGHT, most=MOST_REWEIGHT)


def reweighted(context: Context, reweight: Mapping[str, float] | None) -> torch.Tensor | None:
    """What each column of a target's attention is multiplied by, (B, 77); None for nothing.

    Raises ``TextError`` for a word that a target does not have.
    """
    import torch

    if not reweight:
        return None
    layouts = [context.layout(b) for b in range(len(context.pixels))]
    return torch.stack([columns(layout, reweight) for layout in layouts]).to(context.prompt_embeds.device)


def columns(layout: Layout, reweight: Mapping[str, float]) -> torch.Tensor:
    """Of one target, (77,). Raises ``TextError`` for a word that it does not have."""
    import torch

    found = torch.ones(layout.length)
    for word, scale in reweight.items():
        pieces = [piece for piece in layout.pieces if piece.text.lower() == word.lower()]
        if not pieces:
            there = ", ".join(repr(piece.text) for piece in layout.pieces)
            raise TextError(f"reweight: {word!r} is not a word of the target, which has {there}")
        for piece in pieces:
            found[list(piece.positions)] = float(scale)
    return found
