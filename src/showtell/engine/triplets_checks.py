"""Which triplets are dropped: those that change nothing, are too long, hold a blocked word, or were there before."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ..data.triplets import Triplet
from ..errors import UsageError

MOST_WORDS = 60
"""Words of a text at most where no tokenizer counts: about what 77 tokens hold."""
MOST_TOKENS = 77
UNCHANGED, EMPTY, LONG, BLOCKED, TWICE = "unchanged", "empty", "too long", "blocked word", "twice"


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What a triplet must hold to. ``tokens`` counts a text's tokens, start and end among them (None: words are counted);
    ``blocked`` are words or phrases that no text may have, in whatever case.
    """

    tokens: Callable[[str], int] | None = None
    blocked: Sequence[str] = ()
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        words = [r"\s+".join(map(re.escape, word.split())) for word in self.blocked if word.strip()]
        pattern = re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)", re.IGNORECASE) if words else None
        object.__setattr__(self, "_pattern", pattern)

    def refuses(self, text: str) -> str | None:
        """Why a single text cannot be used, or None."""
        if not text.strip():
            return EMPTY
        if self._pattern is not None and self._pattern.search(text):
            return BLOCKED
        long = self.tokens(text) > MOST_TOKENS if self.tokens else len(text.split()) > MOST_WORDS
        return LONG if long else None

    def fault(self, one: Triplet) -> str | None:
        """Why a triplet is dropped, or None. Whether it was there before is not looked at."""
        for text in (one.source_caption, one.instruction, one.target_caption):
            if why := self.refuses(text):
                return why
        return UNCHANGED if normal(one.source_caption) == normal(one.target_caption) else None


def normal(text: str) -> str:
    """A text as duplicates are looked for: words alone, in lower case, without punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def sift(triplets: Iterable[Triplet], checks: Checks) -> tuple[list[Triplet], Counter[str]]:
    """Those that are kept, in their order, and how many were dropped for what. Of several with the same caption and
    instruction the first is kept.
    """
    kept, dropped, seen = [], Counter[str](), set()
    for one in triplets:
        key = (normal(one.source_caption), normal(one.instruction))
        why = checks.fault(one) or (TWICE if key in seen else None)
        if why:
            dropped[why] += 1
        else:
            seen.add(key)
            kept.append(one)
    return kept, dropped


def tokenizer(name: str) -> Callable[[str], int]:
    """Counts tokens as the CLIP of a model does: a starter, a model's folder or a hub id. Raises ``ModelError``."""
    from ..loading import load_tokenizer

    words = load_tokenizer(name)
    return lambda text: len(words(text).input_ids)


def words_of(text: str, name: str) -> tuple[str, ...]:
    """A list of blocked words: one a line, ``#`` before what is a remark. Raises ``UsageError`` for an empty one."""
    found = tuple(line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    if not found:
        raise UsageError(f"{name}: holds no word; write one a line")
    return found
