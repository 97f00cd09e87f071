"""The recipe of an edit: everything that is needed to make the same pixels again, as JSON inside the PNG."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import platform
import re
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import records
from .errors import FileFormatError

if TYPE_CHECKING:
    from .images import Picture

#: Version of the format; files with a later one are refused.
FORMAT = 6
#: Keyword of the PNG's iTXt chunk.
CHUNK = "showtell"
_MAX_LENGTH = 4 * 1024 * 1024
#: Bound on the strength of a learned instruction, either way.
MOST_STRENGTH = 10.0
#: The greatest weight of an instruction.
MOST_WEIGHT = 10.0


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file or picture in memory: path as given (None in memory), SHA-256 of the file (None in memory) and
    of its pixels.
    """

    path: str | None = None
    sha256: str | None = None
    pixels_sha256: str


@dataclass(frozen=True, kw_only=True)
class PairRecord:
    """The pictures before and after an edit that was shown."""

    before: FileRecord
    after: FileRecord


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """The model: name, fingerprint of the weights, and where and in which dtype it ran."""

    id: str
    weights: str
    device: str
    dtype: str


@dataclass(frozen=True, kw_only=True)
class MethodRecord:
    """The method: its name, every hyper-parameter's value, and where each came from (given, card, paper, pipeline)."""

    name: str
    parameters: dict[str, Any]
    origin: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """A learned instruction and its weight: the file it came from (None in memory) and a hash of its content."""

    path: str | None = None
    sha256: str
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class LearnedRecord:
    """What stands for ``<name>`` in the instructions: the sum of its parts."""

    name: str
    parts: tuple[PartRecord, ...]


@dataclass(frozen=True, kw_only=True)
class InversionRecord:
    """An inversion that an edit went out from: what it takes to make it again, and a hash of what it found."""

    sha256: str
    path: str | None = None
    method: str
    settings: dict[str, Any]
    scheduler: dict[str, Any] = field(default_factory=dict)
    target: str | None = None
    source: str | None = None
    negative_prompt: str = ""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an edit was made. ``seed`` is None where a generator was given that had already been drawn from.

    ``threads`` (of torch) and ``batch``, the number of pictures edited together, matter to the last bit only; None in
    files that do not say. ``learned``: what stands for ``<name>`` in the instructions. ``noise``: ``random``, or
    ``recorded`` where the learned instruction's own was used. ``weights`` and ``masks``: of each instruction, under a method
    that keeps each in its own region (a mask is None where it was found). ``source``: what the picture shows, where a method
    was told. ``inversion``: the inversion that the edit went out from, None where it made its own. ``resolution``: the longer
    side at which the model was shown the picture, None where it is the model's own. ``vae_tiling``: whether large pictures
    went through the autoencoder in tiles.
    """

    format: int = FORMAT
    model: ModelRecord
    input: FileRecord
    instructions: tuple[str, ...]
    learned: tuple[LearnedRecord, ...] = ()
    noise: str = "random"
    source: str | None = None
    inversion: InversionRecord | None = None
    negative_prompt: str = ""
    method: MethodRecord
    scheduler: dict[str, Any]
    seed: int | None
    mask: FileRecord | None = None
    weights: tuple[float, ...] = ()
    masks: tuple[FileRecord | None, ...] = ()
    fit: str = "fit"
    resolution: int | None = None
    sequential: bool = False
    vae_tiling: bool = False
    size: tuple[int, int]
    model_size: tuple[int, int]
    threads: int | None = None
    batch: int | None = None
    versions: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain dictionaries, lists, strings and numbers."""
        return json.loads(self.to_json())

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)


def from_json(text: str, *, name: str) -> Recipe:
    """Validate a recipe. Raises ``FileFormatError``, naming ``name`` and the first field that is wrong."""
    found = records.parse(text, Recipe, name=name, what="its recipe", newest=FORMAT)
    for number, record in enumerate(found.learned):
        if not record.parts:
            raise FileFormatError(f"{name}: its recipe is damaged (learned.{number}.parts: there are none)")
        if not all(abs(part.weight) <= MOST_STRENGTH for part in record.parts):  # so NaN is refused, too
            raise FileFormatError(f"{name}: its recipe is damaged (learned.{number}.parts: a weight is out of range)")
    for part, rows in (("weights", found.weights), ("masks", found.masks)):
        if rows and len(rows) != len(found.instructions):
            raise FileFormatError(
                f"{name}: its recipe is damaged ({part}: {len(rows)} for {len(found.instructions)} instructions)"
            )
    if not all(0 <= weight <= MOST_WEIGHT for weight in found.weights):
        raise FileFormatError(f"{name}: its recipe is damaged (weights: one is out of range)")
    return found


def shown_pairs(made: Recipe, *, name: str) -> tuple[PairRecord, ...] | None:
    """The pairs that the method was shown; None if it was shown none. Raises ``FileFormatError``, naming ``name``."""
    from pydantic import TypeAdapter, ValidationError

    told = made.method.parameters.get("pairs")
    if told is None:
        return None
    try:
        pairs = TypeAdapter(tuple[PairRecord, ...]).validate_python(told)
    except ValidationError as error:
        raise FileFormatError(f"{name}: its recipe is damaged (method.parameters.pairs: no pairs of files)") from error
    if not pairs:
        raise FileFormatError(f"{name}: its recipe is damaged (method.parameters.pairs: there are none)")
    return pairs


def read(png: str | os.PathLike[str]) -> Recipe:
    """The recipe in an edited PNG.

    Raises ``FileFormatError`` if there is none, or it is damaged or newer; ``ImageError`` if there is no such
    picture.
    """
    found = peek(png)
    if found is None:
        kind = "carries no recipe" if _is_png(png) else "is not a PNG"
        raise FileFormatError(f"{png}: {kind}; only PNG files that showtell wrote carry a recipe")
    return found


def _is_png(path: str | os.PathLike[str]) -> bool:
    with open(path, "rb") as file:
        return file.read(8) == b"\x89PNG\r\n\x1a\n"


def peek(png: str | os.PathLike[str], *, name: str | None = None) -> Recipe | None:
    """The recipe in a picture, None where it carries none; errors call it ``name``. Raises as :func:`read` does otherwise."""
    from PIL import Image, PngImagePlugin

    from .images import open_picture

    path, name = Path(png), name or str(png)
    open_picture(path)
    with Image.open(path) as image:
        if not isinstance(image, PngImagePlugin.PngImageFile):
            return None
        image.load()
        text = image.text.get(CHUNK)
    if text is None:
        return None
    if len(text) > _MAX_LENGTH:
        raise FileFormatError(f"{name}: its recipe is damaged (too long)")
    return from_json(text, name=name)


def versions() -> dict[str, str]:
    """Versions that the pixels may depend on."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    from . import __version__

    found = {"python": platform.python_version(), "showtell": __version__}
    for package in ("torch", "diffusers", "transformers", "pillow", "numpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


def record_of(picture: Picture) -> FileRecord:
    """A picture as recipes name it."""
    path = None if picture.path is None else readable(picture.path)
    return FileRecord(path=path, sha256=picture.sha256, pixels_sha256=picture.pixels_sha256)


def readable(path: str) -> str:
    """A path as text that a file can hold: bytes that are in no encoding become replacement characters."""
    return re.sub(r"[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", path)


def differences(recorded: dict[str, str], present: dict[str, str]) -> list[str]:
    """What differs between two tables of versions, one sentence each."""
    return [
        f"{name}: the file was made with {version}, this is {present.get(name, 'missing')}"
        for name, version in recorded.items()
        if present.get(name) != version
    ]
