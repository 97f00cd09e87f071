"""Learned instructions as values: what Visual Instruction Inversion finds, its algebra, and its place beside words.

``look`` stands for the whole embedding E (77, d) of an edit. With the embedding of the empty instruction as origin,
looks form a vector space: ``look * s`` is empty + s (E - empty), and ``a * s + b * t`` is empty + s (A - empty) +
t (B - empty). ``look + "words"`` and ``"words" + look`` are sequences of tokens instead, for one instruction that shows and
tells.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import numbers
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import instruction, models
from .errors import MethodError, ModelError, TextError
from .recipe import MOST_STRENGTH, PartRecord

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from PIL import Image

    from .starts import RecordedNoise
    from .types import PromptEmbeds, Span

#: A name as it can stand in words: ``<name>``.
NAME = re.compile(r"[^\s<>\[\]:]{1,100}")


@dataclass(frozen=True, kw_only=True)
class LearnedFor:
    """The model that an instruction was learned with: its name, and fingerprints of its text encoder and of the whole."""

    id: str
    text_encoder: str
    weights: str


@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedInstruction:
    """An edit, learned from before/after pairs (VISII, section 3).

    ``embeds`` (77, d) float32: all tokens, start, end and padding included, as they are when the instruction stands
    alone; ``span``, from 1 on, the positions that were learned; ``empty_embeds`` (77, d) the empty instruction's; ``ids`` the
    77 ids of the initial text, which keep the learned tokens' room when words stand beside them. ``model`` what it was learned
    with; ``how`` how, as JSON; ``noise`` the noises of the learning, if they were kept; ``thumbnails`` small (before, after)
    pictures; ``parts`` the files that it was made of; ``terms`` the looks and strengths of a mixture. Raises
    ``ModelError`` for shapes that do not belong together.
    """

    name: str = "learned"
    embeds: torch.Tensor
    empty_embeds: torch.Tensor
    ids: tuple[int, ...]
    span: Span
    model: LearnedFor
    how: dict[str, Any] = field(default_factory=dict)
    noise: RecordedNoise | None = None
    thumbnails: tuple[tuple[Image.Image, Image.Image], ...] = ()
    parts: tuple[PartRecord, ...] = ()
    terms: tuple[tuple[LearnedInstruction, float], ...] = ()

    def __post_init__(self) -> None:
        start, end = self.span
        length = len(self.ids)
        if self.embeds.ndim != 2 or self.embeds.shape[0] != length or self.empty_embeds.shape != self.embeds.shape:
            shapes = f"{tuple(self.embeds.shape)} and {tuple(self.empty_embeds.shape)}"
            raise ModelError(f"learned instruction {self.name!r}: embeddings of {shapes} for {length} tokens")
        if not 1 == start < end < length:
            raise ModelError(
                f"learned instruction {self.name!r}: the span {start}:{end} does not begin at 1, after the start token, or is "
                "not within the tokens"
            )
        if not NAME.fullmatch(self.name):
            raise TextError(f"{self.name!r:.60} cannot name a learned instruction: use letters, digits, - and _")

    def __repr__(self) -> str:
        tokens = self.span[1] - self.span[0]
        return f"LearnedInstruction({self.name!r}, {tokens} tokens, learned with {self.model.id:.100})"

    @property
    def tokens(self) -> torch.Tensor:
        """The learned tokens alone, (n, d)."""
        return self.embeds[self.span[0] : self.span[1]]

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The ids that keep their room, n of them."""
        return self.ids[self.span[0] : self.span[1]]

    @functools.cached_property
    def sha256(self) -> str:
        """A hash of what decides its edits: span, ids, its embedding and the empty instruction's, and recorded noise."""
        digest = hashlib.sha256(f"{self.span}{self.ids}".encode())
        tensors = [self.embeds, self.empty_embeds]
        if self.noise is not None:
            digest.update(f"{self.noise.values.dtype}{tuple(self.noise.values.shape)}".encode())
            tensors += [self.noise.timesteps, self.noise.values]
        for tensor in tensors:
            digest.update(tensor.contiguous().numpy())
        return digest.hexdigest()

    @property
    def made_of(self) -> tuple[PartRecord, ...]:
        """The learned instructions in it with their weights; itself, if it is not a mixture."""
        return self.parts or (PartRecord(path=None, sha256=self.sha256, weight=1.0),)

    def renamed(self, name: str) -> LearnedInstruction:
        """The same under another name."""
        return dataclasses.replace(self, name=name)

    def check(self, pipe: Any) -> None:
        """Raise ``ModelError`` unless it was learned with this pipeline's text encoder, in whatever precision.

        Where the fingerprint differs, the encoder is asked for the empty instruction: the same weights in half
        precision agree within a few per cent, others do not.
        """
        if _fits(self, pipe):
            if models.weights_hash(pipe, parts=("text_encoder",)) == self.model.text_encoder:
                return
            own = models.encode_ids(pipe, _empty_ids(pipe, len(self.ids)))[0].cpu()
            if _distance(own, self.empty_embeds) < 0.05:
                return
        raise ModelError(
            f"learned instruction {self.name!r} was learned with another text encoder ({self.model.id:.100}), so this model "
            "does not understand it: learn it again with this model"
        )

    def prompt_embeds(self, pipe: Any) -> PromptEmbeds:
        """(1, 77, d) on the pipeline's device and in its dtype, for stock diffusers: ``pipe(prompt_embeds=...)``.

        Raises ``ModelError`` if it was learned with another text encoder.
        """
        self.check(pipe)
        return self.embeds[None].to(models.device_of(pipe), models.dtype_of(pipe.unet))

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write it as ``.safetensors``, whole or not at all. Raises ``OutputError``."""
        from .learned_file import save

        return save(self, path, force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LearnedInstruction:
        """Read it from a file; its name is the file's. Raises ``FileFormatError`` for what is not such a file."""
        from .learned_file import load

        return load(path)

    def __mul__(self, strength: Any) -> LearnedInstruction:
        if not isinstance(strength, numbers.Real):
            return NotImplemented
        return _scaled(self, float(strength))

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> LearnedInstruction:
        if not isinstance(divisor, numbers.Real):
            return NotImplemented
        return self * (1 / divisor if divisor else math.inf)  # out of range, which the error says

    def __add__(self, other: Any) -> Any:
        if isinstance(other, LearnedInstruction):
            return _sum(self, other)
        return Hybrid(parts=(self,)) + other

    def __radd__(self, other: Any) -> Any:
        return other + Hybrid(parts=(self,)) if isinstance(other, Hybrid) else Hybrid(parts=(self,)).__radd__(other)


@dataclass(frozen=True, kw_only=True, eq=False)
class Hybrid:
    """Learned instructions and words in one sequence, in the order in which they were added."""

    parts: tuple[str | LearnedInstruction, ...]

    def __add__(self, other: Any) -> Hybrid:
        more = _parts(other)
        return NotImplemented if more is None else Hybrid(parts=(*self.parts, *more))

    def __radd__(self, other: Any) -> Hybrid:
        more = _parts(other)
        return NotImplemented if more is None else Hybrid(parts=(*more, *self.parts))


def _parts(value: Any) -> tuple[str | LearnedInstruction, ...] | None:
    if isinstance(value, Hybrid):
        return value.parts
    return (value,) if isinstance(value, (str, LearnedInstruction)) else None


def _scaled(look: LearnedInstruction, strength: float) -> LearnedInstruction:
    if strength == 1:
        return look
    return _mixed(look, [(term, weight * strength) for term, weight in _terms(look)])


def _sum(a: LearnedInstruction, b: LearnedInstruction) -> LearnedInstruction:
    if a.embeds.shape != b.embeds.shape or _distance(a.empty_embeds, b.empty_embeds) > 0.05:
        raise ModelError(f"{a.name!r} and {b.name!r} were learned with different text encoders and cannot be mixed")
    if a.span != b.span:
        lengths = [look.span[1] - look.span[0] for look in (a, b)]
        raise ModelError(
            f"{a.name!r} has {lengths[0]} learned tokens and {b.name!r} has {lengths[1]}: only looks of the same span can be "
            'mixed; to put them one after the other, write a + "" + b'
        )
    name = f"{a.name}-{b.name}"[:100]
    mixture = _mixed(a, [*_terms(a), *_terms(b)])
    return dataclasses.replace(mixture, name=name, how={"mixed": [a.name, b.name]}, noise=None)


def _terms(look: LearnedInstruction) -> tuple[tuple[LearnedInstruction, float], ...]:
    return look.terms or ((look, 1.0),)


def _mixed(look: LearnedInstruction, terms: list[tuple[LearnedInstruction, float]]) -> LearnedInstruction:
    """``look`` with the embedding empty + sum of s (E - empty).

    It is always made from the terms, in their order: however a mixture was written, a replay comes to the same bits.
    """
    embeds = look.empty_embeds
    for term, strength in terms:
        if not math.isfinite(strength) or abs(strength) > MOST_STRENGTH:
            raise MethodError(f"strength {strength:g} is out of range: it must be between -10 and 10")
        embeds = embeds + strength * (term.embeds - term.empty_embeds)
    if len(terms) == 1 and terms[0][1] == 1:
        embeds = terms[0][0].embeds
    parts = [dataclasses.replace(part, weight=weight) for term, weight in terms for part in term.made_of]
    return dataclasses.replace(look, embeds=embeds, parts=tuple(parts), terms=tuple(terms))


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """|a - b| / |b|."""
    return float((a.float() - b.float()).norm() / b.float().norm().clamp(min=1e-12))


def _fits(look: LearnedInstruction, pipe: Any) -> bool:
    """Whether it has the length and width of the text encoder's output, and ids that the text encoder knows."""
    encoder = pipe.text_encoder
    known = encoder.get_input_embeddings().num_embeddings
    shape = (instruction.room(pipe), encoder.config.hidden_size)
    return tuple(look.embeds.shape) == shape and min(look.ids) >= 0 and max(look.ids) < known


def _empty_ids(pipe: Any, length: int) -> torch.Tensor:
    import torch

    tokenizer = pipe.tokenizer
    padding = [tokenizer.pad_token_id] * (length - 2)
    return torch.tensor([[tokenizer.bos_token_id, tokenizer.eos_token_id, *padding]])
