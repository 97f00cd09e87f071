"""Pairs in Hugging Face's ``datasets`` layout: folders of ``save_to_disk``, parquet files of the hub.

Arrow files are mapped, not loaded; of parquet files, words are read at once and pictures when they are wanted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileFormatError, ImageError, ModelError
from ..images import open_picture
from . import columns, splits, tables
from .reading import Found, Unusable
from .rows import Dataset, Row, safe_id

if TYPE_CHECKING:
    from PIL import Image

_BATCH = 1024


def load(
    path: str | os.PathLike[str],
    *,
    split: str | None = "train",
    id: str | None = None,  # noqa: A002 - the column's name
    before: str | None = None,
    after: str | None = None,
    instruction: str | None = None,
    source_caption: str | None = None,
    target_caption: str | None = None,
) -> Dataset:
    """Rows of a folder that ``datasets`` wrote (``save_to_disk``), or of parquet files as the hub has them, in their order.

    Columns are known by their usual names (``columns``), such as ``original_image``, ``edit_prompt``, ``edited_image``,
    ``original_prompt`` and ``edited_prompt``. ``before`` to ``target_caption`` name those that are called otherwise, ``id`` the
    one that names the rows; without it a row is called by its file and its place there. ``split`` is looked for in the names of
    files and folders, and means nothing where these name none; None takes all.
    """
    root = Path(path)
    files = [root] if root.is_file() else splits.below(root, ".arrow") or splits.below(root, ".parquet")
    files = [file for file in files if not file.name.startswith("cache-")]  # of datasets' own map and filter
    if not files or files[0].suffix not in (".arrow", ".parquet"):
        raise FileFormatError(f"{root}: holds no .arrow and no .parquet file: give a folder that datasets wrote")
    if split is not None and any(splits.of(file, root) for file in files):
        files = splits.chosen(files, root, split)
    names = columns.Names.of(before, after, instruction, source_caption, target_caption)
    found = Found("hf", path)
    number = 0
    for file in files:
        label = file.name if file == root else file.relative_to(root).as_posix()
        with found.row(label):
            number += add(found, file, names, number, ids=id, stem=label)
    return found.dataset()


def add(
    found: Found, file: Path, names: columns.Names, number: int, *, ids: str | None = None, stem: str | None = None
) -> int:
    """Add the rows of one table, whose parts have numbers from ``number`` on; how many parts there are.

    Raises ``FileFormatError`` for what is no table, or lacks the column of a picture.
    """
    with readable(file):
        table = Table.of(file)
        before, after = (
            _picture(table, known, role) for known, role in ((names.before, "before"), (names.after, "after"))
        )
        named = ids or ("id" if "id" in table.plain else None)
        if named is not None and named not in table.plain:
            raise FileFormatError(f"{file}: has no column {named!r} of names, but {', '.join(table.plain):.200}")
        words = {*names.instruction, *names.source, *names.target, *columns.GROUP, "json", named}
        part = 0
        wanted = [name for name in table.plain if name in words]
        for place, (part, row, record) in enumerate(table.rows(wanted)):
            label = str(record.get(named) or "") if named else ""
            label = label or f"{stem or file.name}-{place:07d}"
            with found.row(label):
                found.add(
                    _row(
                        label, record, table.cell(part, row, before), table.cell(part, row, after), names, number + part
                    )
                )
    return part + 1


def _picture(table: Table, known: tuple[str, ...], role: str) -> str:
    """The column of pictures that has one of the names."""
    found = columns.first(known, table.pictures)
    if found is None:
        there = ", ".join(table.pictures) or f"none among {', '.join(table.plain)}"
        raise FileFormatError(
            f"{table.file}: has no column of pictures for {role} ({there:.200}): name it with {role}=..."
        )
    return found


def _row(label: str, record: Mapping[str, Any], before: Any, after: Any, names: columns.Names, shard: int) -> Row:
    inner = record.get("json")
    if isinstance(inner, str) and inner:
        record = {**columns.parsed(inner, "json"), **{key: value for key, value in record.items() if value}}
    return Row(id=safe_id(label), before=before, after=after, shard=shard, **columns.told(record, names))


@contextlib.contextmanager
def readable(file: Path) -> Iterator[None]:
    """Whatever pyarrow raises in the block becomes ``FileFormatError`` with the file's name; without it, ``ModelError``."""
    try:
        import pyarrow
    except ImportError as error:
        raise ModelError(f"{file}: such tables need pyarrow: pip install 'showtell[train]'") from error
    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise FileFormatError(
            f"{file}: is not a table that can be read ({' '.join(str(error).split()):.200})"
        ) from error


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table's file, the names of its columns of ``pictures`` (bytes, or a struct with them), and of the ``plain`` others."""

    file: Path
    pictures: tuple[str, ...]
    plain: tuple[str, ...]

    @classmethod
    def of(cls, file: Path) -> Table:
        """By its schema alone."""
        import pyarrow
        import pyarrow.parquet

        arrow = file.suffix == ".arrow"
        schema = mapped(str(file)).schema if arrow else pyarrow.parquet.ParquetFile(file).schema_arrow
        pictures = tuple(one.name for one in schema if _holds_pictures(one.type))
        return cls(file=file, pictures=pictures, plain=tuple(name for name in schema.names if name not in pictures))

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """The part (a row group), the place in it, and these columns of each row."""
        import pyarrow.parquet

        if self.file.suffix == ".arrow":
            table, row = mapped(str(self.file)), 0
            for first in range(0, table.num_rows, _BATCH):
                for record in (
                    table.slice(first, _BATCH).select(wanted).to_pylist()
                    if wanted
                    else [{}] * min(_BATCH, table.num_rows - first)
                ):
                    yield 0, row, record
                    row += 1
            return
        table = pyarrow.parquet.ParquetFile(self.file)
        for part in range(table.num_row_groups):
            count = table.metadata.row_group(part).num_rows
            records = table.read_row_group(part, columns=list(wanted)).to_pylist() if wanted else [{}] * count
            for row, record in enumerate(records):
                yield part, row, record

    def cell(self, part: int, row: int, column: str) -> tables.Cell | Slot:
        """What opens a picture."""
        if self.file.suffix == ".arrow":
            return Slot(file=self.file, row=row, column=column)
        return tables.Cell(file=self.file, group=part, row=row, column=column)


def _holds_pictures(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return types.is_binary(kind) or types.is_large_binary(kind)


@lru_cache(maxsize=16)
def mapped(file: str) -> Any:
    """An arrow file as a table that lies on the disk: pages are read when they are looked at."""
    import pyarrow

    source = pyarrow.memory_map(file)
    try:
        return pyarrow.ipc.open_stream(source).read_all()
    except pyarrow.ArrowInvalid:
        return pyarrow.ipc.open_file(source).read_all()


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A picture in an arrow file. Called, it opens as RGB."""

    file: Path
    row: int
    column: str

    def __call__(self) -> Image.Image:
        """The picture, RGB. Raises ``ImageError`` for what is empty, damaged or no picture."""
        try:
            return open_picture(self.read()).rgb
        except Unusable as error:
            raise ImageError(str(error)) from error
        except ImageError as error:
            raise ImageError(str(error).replace("the picture", str(self), 1)) from error

    def read(self) -> bytes:
        """The file's bytes. Raises ``Unusable``."""
        try:
            value = mapped(str(self.file)).column(self.column)[self.row].as_py()
        except (OSError, ValueError, LookupError, RuntimeError) as error:  # pyarrow's own are among them
            raise Unusable("damaged", f"{self}: cannot be read ({' '.join(str(error).split())})") from error
        value = value.get("bytes") if isinstance(value, Mapping) else value
        if not isinstance(value, bytes) or not value:
            raise Unusable("missing file", f"{self}: holds no picture")
        return value

    def __str__(self) -> str:
        return f"{self.file.name}, row {self.row}, {self.column}"
