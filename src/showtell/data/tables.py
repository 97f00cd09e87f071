"""Parquet tables with pictures in them, as data sets are published on hubs: words are read at once, pictures row by row."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileFormatError, ImageError, ModelError
from ..images import Picture, open_picture

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A picture in a table: ``column`` of row ``row`` in the row group ``group`` of ``file``. Called, it opens as RGB."""

    file: Path
    group: int
    row: int
    column: str

    def __call__(self) -> Image.Image:
        """The picture, RGB. Raises ``ImageError``."""
        return self.open().rgb

    def open(self) -> Picture:
        """The picture with whatever it has beside RGB. Raises ``ImageError`` for a cell that is empty, damaged or no picture."""
        try:
            return open_picture(self.read())
        except ImageError as error:
            raise ImageError(str(error).replace("the picture", str(self), 1)) from error

    def read(self) -> bytes:
        """The picture's file. Raises ``ImageError`` for a cell that is empty or damaged."""
        try:
            value = _column(str(self.file), self.group, self.column)[self.row].as_py()
        except (OSError, ValueError, LookupError, RuntimeError) as error:  # pyarrow's own are among them
            raise ImageError(f"{self}: cannot be read ({' '.join(str(error).split())})") from error
        if isinstance(value, Mapping):
            value = value.get("bytes")
        if not isinstance(value, bytes) or not value:
            raise ImageError(f"{self}: holds no picture")
        return value

    def __str__(self) -> str:
        return f"{self.file.name}, row group {self.group}, row {self.row}, {self.column}"


@lru_cache(maxsize=3)
def _column(file: str, group: int, column: str) -> Any:
    """One column of one row group: rows that follow each other find it here. Only a few are held: pictures are large."""
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(file).read_row_group(group, columns=[column]).column(0)


def files(path: Path) -> list[Path]:
    """The tables at a path: itself, or the ``.parquet`` files in a folder and in its ``data`` folder, by name."""
    if path.is_file():
        return [path]
    found = sorted(path.glob("*.parquet")) + sorted((path / "data").glob("*.parquet"))
    if not found:
        raise FileFormatError(f"{path}: holds no .parquet file")
    return found


def rows(
    found: Sequence[Path], *, needs: Sequence[str], pictures: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Cell]]]:
    """Of every row: where it is, in words; its columns other than pictures; its pictures.

    Raises ``FileFormatError`` for a file that is no table or lacks a column of ``needs``; columns of ``pictures`` that are
    not needed may be missing. Needs pyarrow.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ModelError("parquet tables need pyarrow: pip install 'showtell[metrics]'") from error
    for file in found:
        try:
            table = pyarrow.parquet.ParquetFile(file)
            names = table.schema_arrow.names
            if missing := [name for name in needs if name not in names]:
                raise FileFormatError(f"{os.fspath(file)}: has no column {missing[0]!r}, but {', '.join(names):.200}")
            plain = [name for name in names if name not in pictures]
            for group in range(table.num_row_groups):
                records = table.read_row_group(group, columns=plain).to_pylist()
                for row in range(table.metadata.row_group(group).num_rows):
                    cells = {c: Cell(file=file, group=group, row=row, column=c) for c in pictures if c in names}
                    yield f"{file.name}:{group}:{row}", records[row] if plain else {}, cells
        except (pyarrow.ArrowException, OSError) as error:
            raise FileFormatError(
                f"{os.fspath(file)}: is not a parquet table that can be read ({' '.join(str(error).split())})"
            ) from error
