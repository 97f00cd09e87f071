"""Rows as the files that others read: WebDataset's tar, and parquet as Hugging Face's ``datasets`` writes it."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import files
from ..errors import UsageError
from .parts import Part, told_in_full

ENDINGS = {"webdataset": ".tar", "datasets": ".parquet"}
PICTURES = (".png", ".jpg", ".webp")
_WORDS = ("instruction", "source_caption", "target_caption")


def pack(path: Path, parts: Sequence[Part], layout: str) -> None:
    """Write one shard, whole or not at all. The same rows give the same bytes. Raises ``OutputError``, ``UsageError``."""
    with files.beside(path) as target:
        (_tar if layout == "webdataset" else _parquet)(target, parts)


def check_layout(layout: str) -> None:
    """Raise ``UsageError`` for a layout that is not known, or whose library is not there."""
    if layout not in ENDINGS:
        raise UsageError(f"format {layout!r} is not known: choose one of {', '.join(ENDINGS)}")
    if layout == "datasets":
        try:
            import datasets  # noqa: F401
        except ImportError as error:
            raise UsageError(
                'format datasets needs the library of that name: pip install "showtell[train]", or take webdataset'
            ) from error


def _tar(path: Path, parts: Sequence[Part]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for part in parts:
            for name, source in part.files.items():
                _add(tar, f"{part.id}.{name}", source.read_bytes())
            _add(tar, f"{part.id}.json", told_in_full(dict(part.record)))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # owner and time stay at zero: equal rows make equal files
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _parquet(path: Path, parts: Sequence[Part]) -> None:
    import datasets

    columns = list(dict.fromkeys(name for part in parts for name in part.files if name.endswith(PICTURES)))
    names = {name: name.rsplit(".", 1)[0] for name in columns}
    text = datasets.Value("string")
    features = {"id": text, **{names[one]: datasets.Image() for one in columns}}
    features |= dict.fromkeys(_WORDS, text) | {"json": text}
    rows = [_row(part, names) for part in parts]
    with _quiet(datasets):
        datasets.Dataset.from_list(rows, features=datasets.Features(features)).to_parquet(str(path))


def _row(part: Part, names: dict[str, str]) -> dict[str, Any]:
    pictures = {
        name: {"bytes": part.files[field].read_bytes(), "path": None} if field in part.files else None
        for field, name in names.items()
    }
    words = {word: str(part.record.get(word) or "") for word in _WORDS}
    return {"id": part.id, **pictures, **words, "json": json.dumps(dict(part.record), ensure_ascii=False)}


@contextlib.contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    shown = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
