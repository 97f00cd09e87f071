"""What every data set becomes: rows, each one picture to be edited and what is known of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..errors import FileFormatError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from ..scenes import Case

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 80


@dataclass(frozen=True, kw_only=True)
class Row:
    """One picture to be edited.

    ``id`` is unique in its data set and safe as a file's name (:func:`safe_id`). ``before``, ``after`` and ``mask`` are functions
    that open a picture (RGB) or a mask ((H, W) bool, true where the edit belongs, of the picture's own size) when it is wanted,
    and raise ``ImageError`` where that fails; ``after`` is the true or published result. ``pair`` opens a before and an after
    that *show* the edit, for methods that learn it, and ``more_pairs`` further ones of the same edit. ``instructions`` say what
    to change, one string each, with the keyword in ``[brackets]`` where the data set names it; ``source_caption`` and
    ``target_caption`` what the picture shows and what the result is to show. ``group`` is what figures are broken down by (a
    category, a class); ``truth`` the scene, where the picture was drawn by showtell. ``shard`` is the number of the file, or
    of the part of one, that the row lies in: rows of one are quick to read together. What a data set does not have is empty or
    None.
    """

    id: str
    before: Callable[[], Image.Image]
    instructions: tuple[str, ...] = ()
    source_caption: str = ""
    target_caption: str = ""
    after: Callable[[], Image.Image] | None = None
    mask: Callable[[], np.ndarray] | None = None
    pair: Callable[[], tuple[Image.Image, Image.Image]] | None = None
    more_pairs: tuple[Callable[[], tuple[Image.Image, Image.Image]], ...] = ()
    group: str = ""
    truth: Case | None = None
    shard: int = 0

    def described(self) -> dict[str, Any]:
        """The row in words, as JSON can hold it."""
        return {
            "id": self.id,
            "instructions": list(self.instructions),
            "source_caption": self.source_caption,
            "target_caption": self.target_caption,
            "group": self.group,
            "after": self.after is not None,
            "mask": self.mask is not None,
            "pairs": len(self.more_pairs) + (self.pair is not None),
        }


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A row that cannot be used: its ``id`` (or the file's name), and ``what`` is wrong, one line. ``kind`` is what problems are
    counted by: "missing file", "missing words", "mask", "picture", "path", "twice" or "damaged".
    """

    id: str
    what: str
    kind: str = "damaged"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Rows of one source, and what could not be read of it.

    ``name`` is the loader's, ``source`` the path or "" for scenes. ``settings`` are the loader's options, as JSON can hold them.
    ``reals`` opens, for each group, real pictures of what the group's results are to show: a class's own pictures, which
    class-conditional Fréchet distances compare with; empty where the data set has none.
    """

    name: str
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...] = ()
    source: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    reals: Mapping[str, tuple[Callable[[], Image.Image], ...]] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """A hash of what every row says in words and of the loader's options: another listing, order, caption or way to read a
        mask gives another one.
        """
        told = json.dumps(
            [dict(self.settings), [row.described() for row in self.rows]], ensure_ascii=False, sort_keys=True
        )
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def first(self, count: int | None) -> Dataset:
        """The same set with only its first ``count`` rows; all of them for None."""
        return self if count is None else replace(self, rows=self.rows[:count])


def dataset(name: str, rows: Iterable[Row], problems: Sequence[Problem] = (), *, source: str = "") -> Dataset:
    """A data set whose ids are each there once.

    Raises ``FileFormatError`` for an id that is there twice, or for no row at all.
    """
    kept = tuple(rows)
    seen: set[str] = set()
    for row in kept:
        if row.id in seen:
            raise FileFormatError(f"{source or name}: two rows have the id {row.id!r}: give each its own")
        seen.add(row.id)
    if not kept:
        first = f" (first of {len(problems)} problems: {problems[0].id}: {problems[0].what})" if problems else ""
        raise FileFormatError(f"{source or name}: holds no row of a {name} data set that can be used{first}")
    return Dataset(name=name, rows=kept, problems=tuple(problems), source=source)


def safe_id(text: str) -> str:
    """A name from anywhere as one that is safe as a file's: letters, digits, ``._-``, at most 80. What had to be changed ends
    in a hash of the original, so that two names never become one.
    """
    plain = _UNSAFE.sub("-", text).strip(".-")[:_LONGEST]
    if plain == text and plain:
        return plain
    return f"{plain[: _LONGEST - 9]}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}".strip("-")
