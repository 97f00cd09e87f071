"""PEZ: a caption of real words, found by gradient descent (Wen et al. 2023, "Hard Prompts Made Easy", algorithm 1).

n continuous embeddings P are projected to the vocabulary's nearest ones, P' = Proj(P) by cosine; the gradient of the loss
L(P') = 1 - cos(CLIP(P'), CLIP(picture)) is taken at P' and applied to P. A caption is only useful as text, and tokens that
are spelled out may be read back as others, so what is measured and kept is never P' but its *text*: decoded, tokenised
again, and encoded. Texts that come back as at most n tokens go before all others; where none does, the most similar of
the longer ones is taken, and ``Caption.fits`` is False.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import images
from ..errors import MethodError, ModelError
from ..metrics.clip import Clip, clip_i

if TYPE_CHECKING:
    import torch

    from ..types import ImageLike

MOST_TOKENS = 75
"""What CLIP has room for between start and end of text."""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A caption that was found.

    ``ids`` are the tokens of ``text`` as a text encoder reads it, without start and end (at most 75); ``similarity`` the
    cosine of its CLIP feature and the picture's, in [-1, 1]; ``steps`` how many were taken; ``fits`` whether the text has
    no more tokens than were asked for.
    """

    text: str
    ids: tuple[int, ...]
    similarity: float
    steps: int
    fits: bool = True


def caption(
    image: ImageLike,
    *,
    clip: Clip,
    num_tokens: int = 10,
    steps: int = 3000,
    learning_rate: float = 0.1,
    weight_decay: float = 0.1,
    patience: int | None = None,
    seed: int = 0,
    callback: Callable[[int, int, float], None] | None = None,
) -> Caption:
    """The best text of ``num_tokens`` tokens (1 to 75) for a picture, after ``steps`` steps of AdamW.

    The paper's learning rate and weight decay are the defaults; ``patience`` stops early, after so many steps in which no
    better text was found. ``callback(i, steps, best)`` is called after each step with the best similarity so far (NaN
    before there is any) and may raise to stop. The same seed gives the same caption. Raises ``MethodError`` for a value
    out of range, ``ImageError`` for a picture that cannot be read, ``ModelError`` for a CLIP that gives no finite numbers.
    """
    import torch

    check(num_tokens=num_tokens, steps=steps, learning_rate=learning_rate, weight_decay=weight_decay, patience=patience)
    if num_tokens > clip.room - 2:
        raise MethodError(f"num_tokens={num_tokens} is too many: {clip.name} has room for {clip.room - 2}")
    target = clip.image_features([images.open_picture(image).rgb])
    words = _Vocabulary.of(clip)
    judge = _Judge(clip=clip, target=target, most=num_tokens)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(words.ids), (num_tokens,), generator=generator)
    continuous = torch.nn.Parameter(words.embeds[drawn.to(clip.device)].clone())
    optimiser = torch.optim.AdamW([continuous], lr=learning_rate, weight_decay=weight_decay)
    for i in range(steps):
        ids, projected = words.nearest(continuous.detach())
        with torch.enable_grad():
            similarity = clip_i(clip.embedded_text_features(projected.requires_grad_()[None]), target)[0]
            [continuous.grad] = torch.autograd.grad(1 - similarity, [projected])
        judge.hear(ids, i)
        optimiser.step()
        if callback is not None:
            callback(i, steps, judge.best.similarity if judge.best else math.nan)
        if patience is not None and i - judge.improved >= patience:
            break
    return judge.verdict(i + 1)


def check(
    *,
    num_tokens: int,
    steps: int,
    learning_rate: float = 0.1,
    weight_decay: float = 0.1,
    patience: int | None = None,
) -> None:
    """Raise ``MethodError``, naming the culprit, for hyper-parameters that are out of range. Needs no model."""
    _whole("num_tokens", num_tokens, most=MOST_TOKENS)
    _whole("steps", steps)
    if patience is not None:
        _whole("patience", patience)
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise MethodError(f"learning_rate={learning_rate} is out of range: it must be a number above 0")
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise MethodError(f"weight_decay={weight_decay} is out of range: it must be a number of at least 0")


def _whole(name: str, value: Any, *, most: int | None = None) -> None:
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < 1 or (most is not None and value > most):
        limits = f"from 1 to {most}" if most is not None else "of at least 1"
        raise MethodError(f"{name}={value} is out of range: it must be a whole number {limits}")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Vocabulary:
    """The V tokens that a caption may be made of: ``ids`` (V,), their ``embeds`` (V, d), and those of unit length."""

    ids: torch.Tensor
    embeds: torch.Tensor
    units: torch.Tensor

    @classmethod
    def of(cls, clip: Clip) -> _Vocabulary:
        import torch
        import torch.nn.functional as F

        table = clip.model.text_model.embeddings.token_embedding.weight.detach().float()
        usable = [i for i in spellable(clip.tokenizer) if i < len(table)]
        if not usable:
            raise ModelError(f"{clip.name}: no token of its vocabulary can be spelled out; take another CLIP")
        ids = torch.tensor(usable, device=table.device)
        return cls(ids=ids, embeds=table[ids], units=F.normalize(table[ids], dim=-1))

    def nearest(self, embeds: torch.Tensor) -> tuple[tuple[int, ...], torch.Tensor]:
        """Ids and embeddings (n, d) of the tokens that are nearest by cosine to ``embeds`` (n, d)."""
        chosen = (embeds @ self.units.T).argmax(-1)
        return tuple(self.ids[chosen].tolist()), self.embeds[chosen]


def spellable(tokenizer: Any) -> list[int]:
    """Ids whose text comes back as the same text: no special tokens, single bytes of a letter, controls or blanks, and
    nothing that the tokenizer would write otherwise, such as capitals.
    """
    ids = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
    texts = [text.strip() for text in tokenizer.batch_decode([[i] for i in ids])]
    plain = [
        (i, text) for i, text in zip(ids, texts, strict=True) if text.isprintable() and text and "\ufffd" not in text
    ]
    if not plain:
        return []
    again = tokenizer([text for _, text in plain], add_special_tokens=False, verbose=False).input_ids
    special = set(tokenizer.all_special_ids)
    return [
        i
        for (i, text), own, back in zip(plain, again, tokenizer.batch_decode(again), strict=True)
        if back.strip() == text and not special & set(own)
    ]


@dataclass(kw_only=True, eq=False)
class _Judge:
    """Ranks texts by what the tokenizer and the text encoder make of them, and keeps the best."""

    clip: Clip
    target: torch.Tensor
    most: int
    best: Caption | None = None
    improved: int = 0
    known: set[tuple[int, ...]] = field(default_factory=set)

    def hear(self, ids: Sequence[int], i: int) -> None:
        """Consider the text that ``ids`` spell, at step ``i``."""
        ids = tuple(ids)
        if ids in self.known:
            return
        self.known.add(ids)
        words = self.clip.tokenizer
        text = words.decode(list(ids)).strip()
        read = tuple(words(text, add_special_tokens=False, verbose=False).input_ids)
        if not read or set(read) & set(words.all_special_ids):
            return
        similarity = float(clip_i(self.clip.text_features([text]), self.target)[0])
        fits = len(read) <= self.most
        if not math.isfinite(similarity) or (
            self.best is not None and (fits, similarity) <= (self.best.fits, self.best.similarity)
        ):
            return
        read = read[: self.clip.room - 2]
        self.best, self.improved = Caption(text=text, ids=read, similarity=similarity, steps=i + 1, fits=fits), i

    def verdict(self, steps: int) -> Caption:
        """The best caption. Raises ``ModelError`` if no text had a finite similarity."""
        import dataclasses

        if self.best is None:
            raise ModelError(f"{self.clip.name}: gives no finite similarity for any text; are its weights broken?")
        return dataclasses.replace(self.best, steps=steps)
