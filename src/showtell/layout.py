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
    """A sequence of ``length`` tokens, piece by piece, for ``parts`` sub-instructions. Start, end and padding are in no
    piece.
    """

    pieces: tuple[Piece, ...]
    parts: int
    length: int

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
    room = instructions.room(pipe)
    pieces: list[Piece] = []
    ids: list[int] = []
    for number, part in enumerate(parts):
        if number:
            _add(pipe, pieces, ids, separator.strip(), part=None)
        for span, look in _pieces(part):
            text = part.text[slice(*span)]
            marked = any(start < span[1] and span[0] < end for start, end in part.keywords)
            _add(pipe, pieces, ids, text, part=number, keyword=marked, look=look)
        if len(ids) > room - 2:
            raise TextError(
                f"instruction {number + 1}, {_short(part.text)}, does not fit: {len(ids)} tokens with it, and there is room "
                f"for {room - 2}: leave some words or instructions out"
            )
    told, _ = instructions.lay_out(pipe, instructions.segments(whole))
    if told[1 : 1 + len(ids)] != ids:
        raise TextError(
            f"{_short(whole.text)}: this tokenizer does not keep these words apart; put brackets around whole words, and "
            "spaces between words"
        )
    return Layout(pieces=tuple(pieces), parts=len(parts), length=room)


def _add(pipe: Any, pieces: list[Piece], ids: list[int], text: str, *, look: Any = None, **told: Any) -> None:
    own = list(look.token_ids) if look is not None else instructions.tokenize(pipe, text)
    at = 1 + len(ids)
    ids += own
    pieces.append(Piece(text=text, tokens=(at, at + len(own)), learned=look is not None, **told))


def _pieces(part: Instruction) -> list[tuple[Span, Any]]:
    """Where the words and the learned instructions of a sub-instruction stand, in order. Keywords are divided where
    their brackets were.
    """
    looks = dict(part.looks)
    edges = {0, len(part.text), *(edge for span in (*part.keywords, *looks) for edge in span)}
    found: list[tuple[Span, Any]] = []
    cuts = sorted(edges)
    for start, end in zip(cuts, cuts[1:], strict=False):
        if (start, end) in looks:
            found.append(((start, end), looks[start, end]))
        elif not any(span[0] <= start and end <= span[1] for span in looks):
            found += [((start + m.start(), start + m.end()), None) for m in _WORD.finditer(part.text[start:end])]
    return found


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
