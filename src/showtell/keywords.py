"""The keyword of a sub-instruction: the word whose attention map says where to edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import TextError
from .focus import smoothed
from .layout import Layout, Piece

if TYPE_CHECKING:
    import torch


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Words that name no place in a picture: articles, pronouns, prepositions, auxiliaries and the like.
FUNCTION_WORDS = _words(
    """
    a an the this that these those it its he she they him her them his their theirs my your our i you we us me
    one ones of to in into on onto at by for from with without as like than and or but not no nor so if then
    else too also very more less most least much many some any all every each both either neither other another
    same such only just even still is are was were be been being am do does did done doing have has had having
    will would can could shall should may might must let there here where when while who whom whose which what
    how why up down out off over under again please instead rid away everything something anything nothing
    """
)
#: Verbs and nouns of editing, which say what to do and not where.
EDITING_WORDS = _words(
    """
    make makes making turn turns change changes changing convert transform add adds adding put place insert draw
    paint color colour remove removes delete erase take get give show set bring move shift swap replace replaces
    keep use apply enlarge shrink grow reduce bigger larger smaller tiny edit picture photo image scene
    """
)
#: Words that describe a thing or a place; their maps spread (the paper's Figure 3), so a noun is taken before them.
DESCRIBING_WORDS = _words(
    """
    red green blue yellow purple orange pink gray grey black white brown cyan magenta golden silver dark bright
    light pale colorful colourful big small large little huge tall short long old new young left right top
    bottom center centre middle corner side upper lower front back
    """
)


@dataclass(frozen=True, kw_only=True)
class Keyword:
    """What stands for a sub-instruction: its pieces' ``text`` and token ``positions``; ``chosen`` whether it was chosen
    automatically.
    """

    text: str
    positions: tuple[int, ...]
    chosen: bool = False


def candidates(pieces: Sequence[Piece]) -> list[Piece]:
    """The content words that do not merely describe; where there are none, those that do; else every word."""
    found = [piece for piece in pieces if _spoken(piece)]
    for words in (FUNCTION_WORDS, EDITING_WORDS, DESCRIBING_WORDS):
        found = [piece for piece in found if piece.text.lower() not in words] or found
    return found


def _spoken(piece: Piece) -> bool:
    """Whether it is a word, and not a mark of punctuation."""
    return piece.learned or any(c.isalnum() for c in piece.text)


def known(layout: Layout, part: int) -> Keyword | None:
    """The keyword of a sub-instruction where no map is needed to know it: what was bracketed; else its learned
    instructions; else its only content word. None where there is a choice.

    Raises ``TextError`` for a sub-instruction without a word.
    """
    pieces = layout.of(part)
    marked = [piece for piece in pieces if piece.keyword] or [piece for piece in pieces if piece.learned]
    if marked:
        return _keyword([piece for piece in marked if _spoken(piece)] or marked, chosen=False)
    found = candidates(pieces)
    if not found:
        text = " ".join(piece.text for piece in pieces)
        raise TextError(f"{text!r} has no word that could be its keyword: write one, and mark it like [this]")
    return _keyword(found, chosen=True) if len(found) == 1 else None


def chosen(layout: Layout, part: int, maps: torch.Tensor) -> Keyword:
    """The content word of a sub-instruction whose map is the most concentrated. ``maps`` (77, h, w) of one picture."""
    found = candidates(layout.of(part))
    best = max(found, key=lambda piece: concentration(maps[list(piece.positions)].mean(0)))
    return _keyword([best], chosen=True)


def concentration(attention_map: torch.Tensor) -> float:
    """How far a map (h, w) is from even: the Kullback-Leibler divergence of its shares from equal ones, in nats, from 0
    (even) to log(h w) (one cell).
    """
    share = smoothed(attention_map).clamp(min=0).flatten()
    share = share / share.sum().clamp(min=1e-12)
    return float((share * (share * share.numel()).clamp(min=1e-12).log()).sum())


def _keyword(pieces: Sequence[Piece], *, chosen: bool) -> Keyword:
    return Keyword(
        text=" ".join(piece.text for piece in pieces),
        positions=tuple(position for piece in pieces for position in piece.positions),
        chosen=chosen,
    )
