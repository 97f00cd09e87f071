"""The rows that an editor is trained on: what is usable of a data set, what is held out, and which frame each row goes to."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell import data, instruction
from showtell.data import openers, tars
from showtell.data.reading import unbracketed
from showtell.data.rows import Problem, Row
from showtell.errors import ImageError, UsageError
from showtell.scenes.render import SIZE
from showtell.training.instruct import buckets
from showtell.training.instruct.settings import Config

if TYPE_CHECKING:
    from PIL import Image

Tick = Callable[[int, int], None]
_SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""
_SKEW = 0.02
"""How much the aspect ratios of a pair's two pictures may differ before they are no pair of the same view."""
_THREADS = 8
_HEAD = 2**16
"""Bytes of a file in a tar that its size is looked for in."""
_OPENS_FILE = getattr(openers.picture(Path()), "func", None)
"""What the rows of folders are opened with, told a path alone."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A row that can be trained on: its words as the text encoder's 77 ids, the frame's index, and its shard."""

    id: str
    words: str
    ids: tuple[int, ...]
    before: Callable[[], Image.Image]
    after: Callable[[], Image.Image]
    size: tuple[int, int]
    frame: int
    shard: int = 0


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What a data set gives: rows to train on, rows that are held out, frames, problems, and how many words were cut."""

    train: tuple[Example, ...]
    held_out: tuple[Row, ...]
    frames: tuple[tuple[int, int], ...]
    problems: tuple[Problem, ...]
    cut: int = 0

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of what is trained on: ids, words, sizes and shards, in their order; 16 hexadecimal digits."""
        digest = hashlib.sha256(json.dumps([list(self.frames)]).encode())
        for one in self.train:
            digest.update(json.dumps([one.id, one.words, one.ids, one.size, one.frame, one.shard]).encode())
        return digest.hexdigest()[:16]

    @property
    def buckets(self) -> dict[str, int]:
        """How many rows each frame has, such as "64x64", the most first."""
        counts = Counter(one.frame for one in self.train).most_common()
        return {f"{self.frames[i][0]}x{self.frames[i][1]}": count for i, count in counts}


def read(config: Config) -> data.Dataset:
    """The data set of a configuration, as it was published. Raises whatever its loader raises."""
    told = config.data
    return data.load(told.name, told.path, limit=told.limit, **told.options)


def gather(
    config: Config,
    pipe: Any,
    found: data.Dataset,
    *,
    resolution: int,
    multiple: int,
    tick: Tick = lambda done, total: None,
) -> Examples:
    """The rows of a configuration's data set, ``found``. Pictures are looked at by their headers alone.

    Raises ``UsageError`` where nothing is left to train on, or for words over the text encoder's length under ``too_long:
    error``, and whatever the data set's loader raises.
    """
    told = config.data
    problems = list(found.problems)
    rows = [row for row in found.rows if _usable(row, problems)]
    if told.held_out_path is not None:
        options = told.held_out_options or told.options
        held_out = tuple(data.load(told.name, told.held_out_path, **options).rows)
    elif told.held_out_options:
        held_out = tuple(data.load(told.name, told.path, **told.held_out_options).rows)
    else:
        held_out = tuple(row for row in rows if is_held_out(row, told.held_out))
        away = {row.id for row in held_out}
        rows = [row for row in rows if row.id not in away]
    frames = buckets.frames(resolution, multiple, several=told.buckets)
    sizes = _sizes(rows, problems, frames[0], needed=told.buckets or told.check_pictures, tick=tick)
    texts = _Texts(pipe, told.too_long)
    train = [one for row in rows if row.id in sizes and (one := _example(row, sizes[row.id], frames, texts, problems))]
    if not train:
        first = f" (first of {len(problems)} problems: {problems[0].id}: {problems[0].what})" if problems else ""
        away = f"; {len(held_out)} are held out (data.held_out)" if held_out else ""
        raise UsageError(f"{told.path or told.name}: no row is left to train on{away}{first}")
    return Examples(train=tuple(train), held_out=held_out, frames=frames, problems=tuple(problems), cut=texts.cut)


def _usable(row: Row, problems: list[Problem]) -> bool:
    missing = ("the picture after", "missing file") if row.after is None else ("the instruction", "missing words")
    if row.after is not None and words_of(row):
        return True
    problems.append(Problem(id=row.id, what=f"{missing[0]} is missing", kind=missing[1]))
    return False


def words_of(row: Row) -> str:
    """A row's words as they are told to the model: its instructions joined by commas, without the brackets of keywords."""
    return ", ".join(text for one in row.instructions if (text := unbracketed(one)))


def is_held_out(row: Row, share: float) -> bool:
    """Whether a row is in the held-out share, by a hash. Rows of the same captions and words go the same way, so that no other
    candidate of a held-out pair is trained on; where there are no captions the id decides.
    """
    told = [row.source_caption, words_of(row), row.target_caption]
    key = "\n".join(told) if row.source_caption and row.target_caption else row.id
    return int.from_bytes(hashlib.sha256(f"held out:{key}".encode()).digest()[:8], "big") < share * 2**64


class _Texts:
    """Words as ids, each text once."""

    def __init__(self, pipe: Any, too_long: str) -> None:
        self.pipe, self.too_long, self.cut = pipe, too_long, 0
        self.known: dict[str, tuple[tuple[int, ...], str]] = {}

    def ids(self, text: str) -> tuple[tuple[int, ...], str]:
        """The 77 ids, and what was cut off the words' end."""
        if text not in self.known:
            words, rest = instruction.cut(self.pipe, text)
            self.known[text] = tuple(instruction.lay_out(self.pipe, [words])[0]), rest
        return self.known[text]


def _example(
    row: Row, size: tuple[int, int], frames: Sequence[tuple[int, int]], texts: _Texts, problems: list[Problem]
) -> Example | None:
    words = words_of(row)
    ids, rest = texts.ids(words)
    if rest:
        room = instruction.room(texts.pipe) - 2
        what = f"its words do not fit into {room} tokens; this would be cut off: {rest[:60]!r}"
        if texts.too_long == "error":
            raise UsageError(f"row {row.id}: {what}; shorten them, or say data.too_long: drop or cut")
        if texts.too_long == "drop":
            problems.append(Problem(id=row.id, what=what, kind="too long"))
            return None
        texts.cut += 1
    assert row.after is not None
    shard = getattr(row, "shard", None) or 0
    frame = buckets.nearest(size, frames)
    return Example(
        id=row.id, words=words, ids=ids, before=row.before, after=row.after, size=size, frame=frame, shard=shard
    )


def _sizes(
    rows: Sequence[Row], problems: list[Problem], square: tuple[int, int], *, needed: bool, tick: Tick
) -> dict[str, tuple[int, int]]:
    """The size of each row's pictures; rows whose pictures cannot be read, or are of two shapes, become problems."""
    if not needed:
        return {row.id: square for row in rows}
    found: dict[str, tuple[int, int]] = {}
    for done, (row, size) in enumerate(zip(rows, _measured(rows), strict=True), start=1):
        if isinstance(size, str):
            problems.append(Problem(id=row.id, what=size, kind="picture"))
        else:
            found[row.id] = size
        tick(done, len(rows))
    return found


def _measured(rows: Sequence[Row]) -> Iterator[tuple[int, int] | str]:
    with ThreadPoolExecutor(_THREADS) as threads:
        for start in range(0, len(rows), 1024):  # not all at once: a data set may have millions
            yield from threads.map(_size_of_pair, rows[start : start + 1024])


def _size_of_pair(row: Row) -> tuple[int, int] | str:
    assert row.after is not None
    if row.truth is not None:  # a scene, which is drawn when it is opened
        return SIZE, SIZE
    try:
        before, after = size_of(row.before), size_of(row.after)
    except UsageError as error:
        return str(error)
    ratio = before[0] * after[1] / (before[1] * after[0])
    if not 1 - _SKEW <= ratio <= 1 + _SKEW:
        return f"before is {before[0]}x{before[1]} and after {after[0]}x{after[1]}: not of one shape"
    return before


def size_of(opens: Callable[[], Image.Image]) -> tuple[int, int]:
    """(width, height) of what an opener opens: by the file's header where it is a file, else by opening it.

    Raises ``ImageError``.
    """
    source = _file_of(opens)
    if source is not None and (size := _header(source)) is not None:
        return size
    return opens().size  # exact, and it says what is wrong


def _file_of(opens: Any) -> Any:
    if isinstance(opens, tars.Slice):
        with suppress(UsageError):
            return io.BytesIO(dataclasses.replace(opens, size=min(opens.size, _HEAD)).read(_HEAD))
        return None
    if isinstance(opens, functools.partial) and len(opens.args) == 1 and isinstance(opens.args[0], Path):
        return opens.args[0] if opens.func is _OPENS_FILE else None
    return None


def _header(source: Any) -> tuple[int, int] | None:
    from PIL import Image

    try:
        with Image.open(source) as opened:
            # asked for it, a PNG without this chunk is decoded
            plain = opened.format == "PNG" and "exif" not in opened.info
            size, turned = opened.size, None if plain else opened.getexif().get(0x0112)
    except Exception:  # noqa: BLE001 - whatever is wrong with it is told by opening it
        return None
    return (size[1], size[0]) if turned in _SIDEWAYS else size


def opened(example: Example, side: str) -> Image.Image:
    """A picture of a row. Raises ``ImageError``, one line that names the row."""
    try:
        return getattr(example, side)()
    except UsageError as error:
        raise ImageError(f"row {example.id}, the picture {side}: {error}; mend it or take the row out") from error
