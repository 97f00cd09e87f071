"""Instructions: reading brackets, joining segments into one sequence of 77 tokens, saying what did not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import models
from .errors import TextError
from .types import Span

if TYPE_CHECKING:
    import torch

    from .learned import LearnedInstruction
    from .types import PromptEmbeds

#: A learned instruction in words: ``<name>``, or ``<name:0.5>`` at half its strength.
_LOOK = re.compile(r"<([^\s<>\[\]:]+)(?::([^\s<>\[\]:]*))?>")


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """An instruction: ``text`` without brackets, ``keywords`` the (start, end) characters that were bracketed, and
    ``looks`` the (start, end) characters that stand for a learned instruction, with it.
    """

    text: str
    keywords: tuple[Span, ...] = ()
    looks: tuple[tuple[Span, LearnedInstruction], ...] = ()

    @property
    def keyword_texts(self) -> tuple[str, ...]:
        """The bracketed words."""
        return tuple(self.text[start:end] for start, end in self.keywords)


@dataclass(frozen=True, kw_only=True)
class Words:
    """A segment of words.

    ``ids``, where given, are its tokens: a text that was cut inside a word has no other spelling.
    """

    text: str
    ids: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A segment of tokens that live after the text encoder: ``embeds`` (n, d), and the n ids that keep their
    room in it.

    ``whole`` (77, d), where given, is the sequence that the segment makes when it stands alone: start, end and padding
    as they were when it was learned.
    """

    name: str
    embeds: torch.Tensor
    ids: tuple[int, ...]
    whole: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if self.embeds.ndim != 2 or len(self.ids) != len(self.embeds):
            raise TextError(f"segment {self.name!r}: {tuple(self.embeds.shape)} embeddings for {len(self.ids)} tokens")


Segment = Words | Tokens


def parse(text: str, looks: Mapping[str, LearnedInstruction] | None = None) -> Instruction:
    """Read an instruction with ``[brackets]`` around its keywords and ``<names>`` of learned instructions.

    A ``<name>`` that is not in ``looks`` stays as it is: a text encoder may know it as a word. Raises ``TextError`` if it
    is not text, is empty, its brackets are empty, nested or unbalanced, or a strength as in ``<name:0.5>`` is no number.
    """
    if not isinstance(text, str):
        raise TextError(f"an instruction must be text, not {type(text).__name__}")
    plain: list[str] = []
    keywords: list[Span] = []
    opened: int | None = None
    for character in text:
        if character == "[":
            if opened is not None:
                raise TextError(f"{_short(text)}: brackets inside brackets; mark each keyword with one pair")
            opened = len(plain)
        elif character == "]":
            if opened is None:
                raise TextError(f"{_short(text)}: ']' without '['; mark a keyword like [this]")
            if not "".join(plain[opened:]).strip():
                raise TextError(f"{_short(text)}: empty brackets; mark a keyword like [this]")
            keywords.append((opened, len(plain)))
            opened = None
        else:
            plain.append(character)
    if opened is not None:
        raise TextError(f"{_short(text)}: '[' without ']'; mark a keyword like [this]")
    if not "".join(plain).strip():
        raise TextError('the instruction is empty: say what to change, for example "make it a watercolor"')
    whole = "".join(plain)
    return Instruction(text=whole, keywords=tuple(keywords), looks=_looks_in(whole, looks or {}))


def _looks_in(text: str, looks: Mapping[str, LearnedInstruction]) -> tuple[tuple[Span, LearnedInstruction], ...]:
    found = []
    for match in _LOOK.finditer(text):
        name, strength = match.groups()
        if name not in looks:
            continue
        try:
            look = looks[name] * float(1 if strength is None else strength)
        except ValueError:
            raise TextError(
                f"{match.group()}: {strength!r} is not a strength; write <{name}> or <{name}:0.5>"
            ) from None
        found.append((match.span(), look))
    return tuple(found)


def names_in(text: str) -> list[str]:
    """The ``<names>`` in a text, without their strengths."""
    return [match.group(1) for match in _LOOK.finditer(text)]


def join(instructions: Sequence[Instruction], *, separator: str = ", ") -> Instruction:
    """Several instructions as one sentence, their keywords carried along."""
    text, keywords, looks = "", [], []
    for instruction in instructions:
        text += separator if text else ""
        keywords += [(start + len(text), end + len(text)) for start, end in instruction.keywords]
        looks += [((start + len(text), end + len(text)), look) for (start, end), look in instruction.looks]
        text += instruction.text
    return Instruction(text=text, keywords=tuple(keywords), looks=tuple(looks))


def segments(instruction: Instruction) -> list[Segment]:
    """Its words and learned instructions in their order."""
    found: list[Segment] = []
    at = 0
    for (start, end), look in instruction.looks:
        found += _words(instruction.text[at:start])
        found.append(Tokens(name=f"<{look.name}>", embeds=look.tokens, ids=look.token_ids, whole=look.embeds))
        at = end
    return found + _words(instruction.text[at:])


def _words(text: str) -> list[Segment]:
    return [Words(text=text.strip())] if text.strip() else []


def room(pipe: Any) -> int:
    """Length of the text encoder's sequence, start and end included: 77 for CLIP."""
    positions = getattr(pipe.text_encoder.config, "max_position_embeddings", 77)
    return min(int(pipe.tokenizer.model_max_length), int(positions))


def tokenize(pipe: Any, text: str) -> list[int]:
    """Ids of the words alone, without start and end. Textual-inversion words of the pipeline become their vectors."""
    convert = getattr(pipe, "maybe_convert_prompt", None)
    if convert is not None:
        text = convert(text, pipe.tokenizer)
    return list(pipe.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)


def cut(pipe: Any, text: str) -> tuple[Words, str]:
    """What the text encoder has room for, and what is cut off its end ("" if nothing).

    The cut is where stock pipelines make it, after 75 tokens, even inside a word.
    """
    ids, fits = tokenize(pipe, text), room(pipe) - 2
    if len(ids) <= fits:
        return Words(text=text), ""
    kept, tokenizer = tuple(ids[:fits]), pipe.tokenizer
    encoded = (
        tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        if tokenizer.is_fast
        else None
    )
    if encoded is None or list(encoded.input_ids) != ids:
        return Words(text=tokenizer.decode(kept).strip(), ids=kept), tokenizer.decode(ids[fits:]).strip()
    start = encoded.offset_mapping[fits][0]
    return Words(text=text[:start].rstrip(), ids=kept), text[start:].strip()


def assemble(pipe: Any, segments: Sequence[Segment]) -> tuple[PromptEmbeds, list[Span]]:
    """Join segments into one sequence: embeddings (77, d) float32, and each segment's span of token positions.

    Words are encoded together, with room left where learned tokens go; then those positions are filled in. A learned
    segment alone is its ``whole``. Raises ``TextError``, naming the segment, if they do not fit.
    """
    import torch

    ids, spans = lay_out(pipe, segments)
    first = segments[0] if len(segments) == 1 else None
    if isinstance(first, Tokens) and first.whole is not None:
        return first.whole.float().to(models.device_of(pipe)), spans
    embeds = models.encode_ids(pipe, torch.tensor([ids]))[0]
    for segment, (start, end) in zip(segments, spans, strict=True):
        if isinstance(segment, Tokens):
            embeds[start:end] = segment.embeds.to(embeds)
    return embeds, spans


def assemble_all(pipe: Any, sequences: Sequence[Sequence[Segment]]) -> PromptEmbeds:
    """:func:`assemble` for each of B sequences, (B, 77, d); the same words are encoded once."""
    import torch

    known: dict[Any, torch.Tensor] = {}
    rows = []
    for segments in sequences:
        words = all(isinstance(segment, Words) for segment in segments)
        key = tuple(segments) if words else len(rows)
        if key not in known:
            known[key] = assemble(pipe, segments)[0]
        rows.append(known[key])
    return torch.stack(rows)


def lay_out(pipe: Any, segments: Sequence[Segment]) -> tuple[list[int], list[Span]]:
    """The 77 ids of a sequence, and each segment's span in it. Raises ``TextError``, naming the segment, if they do not
    fit.
    """
    tokenizer, length = pipe.tokenizer, room(pipe)
    ids, spans = [tokenizer.bos_token_id], []
    for number, segment in enumerate(segments, start=1):
        own = tokenize(pipe, segment.text) if segment.ids is None else list(segment.ids)
        spans.append((len(ids), len(ids) + len(own)))
        ids += own
        if len(ids) > length - 1:
            name = _short(segment.text if isinstance(segment, Words) else segment.name)
            raise TextError(
                f"segment {number}, {name}, does not fit: "
                f"{len(ids) - 1} tokens with it, and there is room for {length - 2}"
            )
    ids += [tokenizer.eos_token_id]
    return ids + [tokenizer.pad_token_id] * (length - len(ids)), spans


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
