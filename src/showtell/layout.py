"""Which token of a sequence is which word of which sub-instruction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import instruction as instructions
from .errors import TextError
from .instruction import Instruction
from .types import Span

#: A word that textual inversion may have given to the tokenizer, a plain word, or a run of punctuation.
_WORD = re.compile(r"<[^\s<>]+>|\w+(?:[-'\N{RIGHT SINGLE QUOTATION MARK}]\w+)*|[^\w\s]+")
# What stands between two spaces. Tokenizers divide there, and inside by rules of their own: "red.," is red and .,
_CHUNK = re.compile(r"\S+")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A word, a mark of punctuation or a learned instruction: ``text`` as it was written, ``tokens`` its positions in the
    sequence, ``part`` the sub-instruction that it belongs to (None for what joins two), ``keyword`` whether it was
    bracketed, ``learned`` whether it stands for a learned instruction.
    """

    text: str
    tokens: Span
    part: int | None
    keyword: bool = False
    learned: bool = False

    @property
    def positions(self) -> range:
        """The positions of its tokens."""
        return range(*self.tokens)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A sequence of ``length`` tokens, ``ids``, piece by piece, for ``parts`` sub-instructions. Start, end and padding are in
    no piece.
    """

    pieces: tuple[Piece, ...]
    parts: int
    length: int
    ids: tuple[int, ...]

    def of(self, part: int) -> list[Piece]:
        """The pieces of a sub-instruction."""
        return [piece for piece in self.pieces if piece.part == part]

    def owners(self) -> list[int | None]:
        """For each position the sub-instruction that its token belongs to; None for start, end, padding and joints."""
        found: list[int | None] = [None] * self.length
        for piece in self.pieces:
            for position in piece.positions:
                found[position] = piece.part
        return found


def lay_out(pipe: Any, parts: Sequence[Instruction], *, separator: str = ", ") -> Layout:
    """The layout of ``instruction.join(parts)`` in the sequence that ``instruction.assemble`` makes of it.

    Raises ``TextError`` if it is longer than the text encoder's sequence, naming the sub-instruction that does not fit,
    or if brackets divide what the tokenizer keeps whole.
    """
    whole = instructions.join(parts, separator=separator)
    owner = _owner(parts, separator)
    room = instructions.room(pipe)
    pieces: list[Piece] = []
    ids: list[int] = []
    for (start, end), look in _divided(pipe, whole):
        text = whole.text[start:end]
        own = list(look.token_ids) if look is not None else instructions.tokenize(pipe, text)
        at = 1 + len(ids)
        ids += own
        # A full stop and the comma after it may be one piece: it is the sub-instruction's.
        part = next((number for number in owner[start:end] if number is not None), None)
        marked = any(low < end and start < high for low, high in whole.keywords)
        pieces.append(Piece(text=text, tokens=(at, at + len(own)), part=part, keyword=marked, learned=look is not None))
    _check_room(parts, pieces, room)
    told, _ = instructions.lay_out(pipe, instructions.segments(whole))
    if told[1 : 1 + len(ids)] != ids:
        raise _divides(whole.text)
    return Layout(pieces=tuple(pieces), parts=len(parts), length=room, ids=tuple(told))


def _owner(parts: Sequence[Instruction], separator: str) -> list[int | None]:
    """The sub-instruction of each character of the joined text; None in what joins two."""
    owner: list[int | None] = []
    for number, part in enumerate(parts):
        owner += [None] * len(separator) if owner else []
        owner += [number] * len(part.text)
    return owner


def _divided(pipe: Any, whole: Instruction) -> list[tuple[Span, Any]]:
    """Where the words, the marks of punctuation and the learned instructions of a text stand, in order."""
    found: list[tuple[Span, Any]] = []
    at = 0
    for (start, end), look in [*whole.looks, ((len(whole.text),) * 2, None)]:
        for chunk in _CHUNK.finditer(whole.text[at:start]):
            span = (at + chunk.start(), at + chunk.end())
            found += [(word, None) for word in _words(pipe, whole, span)]
        if look is not None:
            found.append(((start, end), look))
        at = end
    return found


def _words(pipe: Any, whole: Instruction, chunk: Span) -> list[Span]:
    """The words of a chunk, cut at the brackets of keywords; the chunk itself where the tokenizer divides it otherwise."""
    text = whole.text[slice(*chunk)]
    words = [(chunk[0] + m.start(), chunk[0] + m.end()) for m in _WORD.finditer(text)]
    edges = {edge for span in whole.keywords for edge in span}
    ids = instructions.tokenize(pipe, text)
    for spans in ([cut for word in words for cut in _cut(word, edges)], words, [chunk]):
        if [i for span in spans for i in instructions.tokenize(pipe, whole.text[slice(*span)])] == ids:
            return spans
        if any(chunk[0] < edge < chunk[1] and whole.text[edge - 1 : edge + 1].isalnum() for edge in edges):
            raise _divides(whole.text)  # a bracket inside a word
    return [chunk]


def _cut(word: Span, edges: set[int]) -> list[Span]:
    bounds = [word[0], *sorted(edge for edge in edges if word[0] < edge < word[1]), word[1]]
    return list(zip(bounds, bounds[1:], strict=False))


def _check_room(parts: Sequence[Instruction], pieces: Sequence[Piece], room: int) -> None:
    for piece in pieces:
        number = piece.part
        if number is not None and piece.tokens[1] > room - 1:
            needed = max(own.tokens[1] for own in pieces if own.part == number) - 1
            raise TextError(
                f"instruction {number + 1}, {_short(parts[number].text)}, does not fit: {needed} tokens with it, and there "
                f"is room for {room - 2}: leave some words or instructions out"
            )


def _divides(text: str) -> TextError:
    return TextError(
        f"{_short(text)}: this tokenizer does not keep these words apart; put brackets around whole words, and "
        "spaces between words"
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
