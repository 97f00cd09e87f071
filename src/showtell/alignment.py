"""Which token of a target prompt is which token of its source, and which words the difference lies in."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from . import keywords
from .errors import MethodError
from .layout import Layout, Piece

if TYPE_CHECKING:
    import torch


def matched(source: Sequence[Hashable], target: Sequence[Hashable]) -> list[tuple[int, int]]:
    """A longest common subsequence as pairs of indices, in order; of several the one that begins first."""
    n, m = len(source), len(target)
    longest = [[0] * (m + 1) for _ in range(n + 1)]
    for i in reversed(range(n)):
        for j in reversed(range(m)):
            one_left_out = max(longest[i + 1][j], longest[i][j + 1])
            longest[i][j] = 1 + longest[i + 1][j + 1] if source[i] == target[j] else one_left_out
    pairs, i, j = [], 0, 0
    while i < n and j < m:
        if source[i] == target[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def words(layout: Layout) -> int:
    """How many words and marks of punctuation a prompt has."""
    return len(layout.pieces)


def replaced(source: Layout, target: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompt-to-Prompt's *replace*: word n of the target takes the attention of word n of the source.

    The columns (77, 77) and what is shared (77,) of ``prompt_to_prompt.Exchange``. Words of as many tokens are taken token
    by token; else each token of the target's has an even share of the sum of the source's. Raises ``MethodError`` for
    prompts of different numbers of words.
    """
    if words(source) != words(target):
        raise MethodError(
            f"mode 'replace' needs as many words in the target as in the source: {words(target)} are not {words(source)} "
            "(marks of punctuation count); mode 'refine' takes prompts of different lengths"
        )
    pairs: dict[int, list[tuple[int, float]]] = {}
    for own, other in zip(target.pieces, source.pieces, strict=True):
        even = len(own.positions) == len(other.positions)
        for n, position in enumerate(own.positions):
            share = [(other.positions[n], 1.0)] if even else [(p, 1 / len(own.positions)) for p in other.positions]
            pairs[position] = share
    return _columns(source, target, pairs)


def refined(source: Layout, target: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompt-to-Prompt's *refine*: the tokens that both prompts have, in order, take the source's attention; new ones keep
    their own. As :func:`replaced`, for prompts of any length.
    """
    ours, theirs = _tokens(target), _tokens(source)
    pairs = {ours[j][0]: [(theirs[i][0], 1.0)] for i, j in matched([t[1] for t in theirs], [t[1] for t in ours])}
    return _columns(source, target, pairs)


def _tokens(layout: Layout) -> list[tuple[int, Hashable]]:
    """The position of each word's token, and what makes it the same as another."""
    return [
        (position, (layout.ids[position], piece.text if piece.learned else None))
        for piece in layout.pieces
        for position in piece.positions
    ]


def _columns(
    source: Layout, target: Layout, pairs: dict[int, list[tuple[int, float]]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Start, end and padding are paired, too: padding where it stands, as far as both prompts have it there."""
    import torch

    own_end, other_end = (layout.pieces[-1].tokens[1] for layout in (target, source))
    pairs = {0: [(0, 1.0)], **pairs, own_end: [(other_end, 1.0)]}
    pairs |= {p: [(p, 1.0)] for p in range(max(own_end, other_end) + 1, target.length)}
    columns, shared = torch.zeros(source.length, target.length), torch.zeros(target.length)
    for j, shares in pairs.items():
        shared[j] = 1
        for i, share in shares:
            columns[i, j] = share
    return columns, shared


def words_that_matter(layout: Layout, maps: torch.Tensor, source: Layout | None = None) -> list[Piece]:
    """The words of a prompt that say where its edit is; ``maps`` (77, h, w) of one picture.

    Those in brackets; else, where the source prompt is known, those that it does not have, a describing word giving way to
    the noun that it describes; else the content word with the most concentrated map.
    """
    if marked := [piece for piece in layout.pieces if piece.keyword]:
        return marked
    if source is not None and (found := _nouns(layout, new_words(layout, source))):
        return found
    found = keywords.candidates(layout.pieces)
    return [max(found, key=lambda piece: keywords.concentration(maps[list(piece.positions)].mean(0)))]


def words_of_both(source: Layout, target: Layout, source_maps: torch.Tensor, maps: torch.Tensor) -> list[list[Piece]]:
    """The words that matter in a source prompt and in its target; ``source_maps`` and ``maps`` (77, h, w).

    Brackets in either hold for both: the other's words are those that stand in their place. Without brackets they are those
    in which the prompts differ; one that has only lost words has none.
    """
    if not any(piece.keyword for layout in (source, target) for piece in layout.pieces):
        found = [_nouns(source, new_words(source, target)), _nouns(target, new_words(target, source))]
        if any(found):
            return [found[0] or counterparts(found[1], target, source), found[1]]
    if any(piece.keyword for piece in target.pieces) or not any(piece.keyword for piece in source.pieces):
        own = words_that_matter(target, maps)
        marked = [piece for piece in source.pieces if piece.keyword]
        return [marked or counterparts(own, target, source), own]
    own = words_that_matter(source, source_maps)
    return [own, counterparts(own, source, target)]


def new_words(layout: Layout, other: Layout) -> list[Piece]:
    """The words of a prompt that another does not have in their place."""
    held = {j for _, j in _matched_pieces(other, layout)}
    return [piece for j, piece in enumerate(layout.pieces) if j not in held]


def counterparts(pieces: Sequence[Piece], layout: Layout, other: Layout) -> list[Piece]:
    """The words of ``other`` that stand where these of ``layout`` do: the same ones, else those between the same
    neighbours.
    """
    anchors = [(-1, -1), *_matched_pieces(other, layout), (len(other.pieces), len(layout.pieces))]
    found: list[Piece] = []
    for (i, j), (i_next, j_next) in zip(anchors, anchors[1:], strict=False):
        if j >= 0 and layout.pieces[j] in pieces:
            found.append(other.pieces[i])
        if any(piece in pieces for piece in layout.pieces[j + 1 : j_next]):
            found += [piece for piece in other.pieces[i + 1 : i_next] if _speaks(piece)]
    return found


def _matched_pieces(source: Layout, target: Layout) -> list[tuple[int, int]]:
    return matched(*([piece.text.lower() for piece in layout.pieces] for layout in (source, target)))


def _speaks(piece: Piece) -> bool:
    """Whether it is a word that says something of a picture."""
    silent = keywords.FUNCTION_WORDS | keywords.EDITING_WORDS
    return piece.learned or (any(c.isalnum() for c in piece.text) and piece.text.lower() not in silent)


def _nouns(layout: Layout, pieces: Sequence[Piece]) -> list[Piece]:
    """These words, without those that say nothing of a picture, and with nouns for those that describe one."""
    found: list[Piece] = []
    for piece in pieces:
        noun = _described(layout, piece) if _speaks(piece) else None
        if noun is not None and noun not in found:
            found.append(noun)
    return found


def _described(layout: Layout, piece: Piece) -> Piece:
    """The noun that a describing word stands before, or itself."""
    for following in layout.pieces[layout.pieces.index(piece) :]:
        if not _speaks(following):
            break
        if following.text.lower() not in keywords.DESCRIBING_WORDS:
            return following
    return piece
