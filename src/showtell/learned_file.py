"""A learned instruction as a ``.safetensors`` file: written whole, checked when it is read."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import files, records
from .errors import FileFormatError, OutputError, ShowtellError
from .learned import LearnedFor, LearnedInstruction
from .recipe import PartRecord, readable, versions
from .starts import RecordedNoise

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

#: Version of the format; files with a later one are refused.
FORMAT = 1
SUFFIX = ".safetensors"
_KEY = "showtell"
_KIND = "learned instruction"
_MAX_BYTES = 512 * 2**20
_MAX_HEADER = 4 * 2**20
#: Longest side of a thumbnail, and how many pairs are shown.
THUMBNAIL, MOST_THUMBNAILS = 128, 4
_MOST_TOKENS = 1024
# Text encoders say numbers of up to some tens, and noise is standard normal: whatever is larger comes from no learning.
_LARGEST = {"prompt_embeds": 1e4, "empty_embeds": 1e4, "noise": 100.0}


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the file says beside its tensors."""

    kind: str
    format: int
    span: tuple[int, int]
    model: LearnedFor
    how: dict[str, Any] = field(default_factory=dict)
    parts: tuple[PartRecord, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)


def save(look: LearnedInstruction, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write ``look`` so that the file is either whole or as it was before.

    Raises ``OutputError``, also for a name that does not end in ``.safetensors``.
    """
    path = check_path(path, force=force)
    return files.write_atomic(path, to_bytes(look), force=force)


def check_path(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """The path, if a learned instruction can be written there. Raises ``OutputError``."""
    path = Path(path)
    if path.suffix.lower() != SUFFIX:
        raise OutputError(f"{path}: the name of a learned instruction must end in {SUFFIX}")
    return files.check_output(path, force=force)


def to_bytes(look: LearnedInstruction) -> bytes:
    """The file's content."""
    import torch
    from safetensors.torch import save as encode

    tensors = {
        "prompt_embeds": look.embeds.float().contiguous(),
        "empty_embeds": look.empty_embeds.float().contiguous(),
        "ids": torch.tensor(look.ids, dtype=torch.int64),
    }
    if look.noise is not None:
        tensors |= {"noise": look.noise.values.contiguous(), "noise_timesteps": look.noise.timesteps.contiguous()}
    for number, pair in enumerate(look.thumbnails):
        for side, picture in zip(("before", "after"), pair, strict=True):
            tensors[f"pair{number}.{side}"] = _picture_to_tensor(picture)
    header = Header(
        kind=_KIND, format=FORMAT, span=look.span, model=look.model, how=look.how, parts=look.parts, versions=versions()
    )
    return encode(tensors, metadata={_KEY: json.dumps(dataclasses.asdict(header), ensure_ascii=False)})


def load(path: str | os.PathLike[str]) -> LearnedInstruction:
    """Read a learned instruction; its name is the file's, without what cannot stand in words.

    Raises ``FileFormatError``, one line, if it is not there, is no such file, is truncated, from a newer version, or holds
    wrong shapes, or numbers that are not finite or absurdly large.
    """
    path = Path(path)
    header, tensors = _read(path)
    embeds, empty, ids = (_tensor(path, tensors, name) for name in ("prompt_embeds", "empty_embeds", "ids"))
    if embeds.ndim != 2 or embeds.shape != empty.shape or ids.shape != embeds.shape[:1] or embeds.numel() > 2**24:
        shapes = ", ".join(str(tuple(t.shape)) for t in (embeds, empty, ids))
        raise FileFormatError(f"{path}: is damaged (prompt_embeds, empty_embeds and ids have the shapes {shapes})")
    if len(ids) > _MOST_TOKENS:
        raise FileFormatError(f"{path}: is damaged ({len(ids)} tokens; no text encoder takes more than {_MOST_TOKENS})")
    try:
        look = LearnedInstruction(
            name=name_of(path), embeds=embeds, empty_embeds=empty, ids=tuple(ids.tolist()), span=header.span,
            model=header.model, how=header.how, noise=_noise(path, tensors), thumbnails=_thumbnails(path, tensors),
        )  # fmt: skip
    except FileFormatError:
        raise
    except ShowtellError as error:
        raise FileFormatError(f"{path}: is damaged ({error})") from error
    # A mixture that was saved is a file of its own from then on.
    part = PartRecord(path=readable(str(path)), sha256=look.sha256, weight=1.0)
    return dataclasses.replace(look, parts=(part,))


def name_of(path: str | os.PathLike[str]) -> str:
    """The name that a file has in words: its own, without what cannot stand between < and >."""
    return re.sub(r"[\s<>\[\]:]+", "-", readable(Path(path).stem))[:100].strip("-") or "learned"


def _read(path: Path) -> tuple[Header, dict[str, torch.Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        if not os.path.isfile(path):
            raise FileFormatError(f"{path!s:.200}: no such file")
        if os.path.getsize(path) > _MAX_BYTES:
            raise FileFormatError(f"{path}: is too large for a learned instruction")
        with safe_open(path, framework="pt") as file:
            header = _header(path, file.metadata() or {})
            return header, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileFormatError(
            f"{path}: cannot be read as a learned instruction: it is truncated or no safetensors file ({text:.200})"
        ) from error


def _header(path: Path, metadata: dict[str, str]) -> Header:
    text = metadata.get(_KEY, "")
    if not text or len(text) > _MAX_HEADER:
        raise FileFormatError(f"{path}: is not a learned instruction; such files are made by 'showtell learn'")
    return records.parse(text, Header, name=str(path), what="its header", newest=FORMAT, kind=_KIND)


def _tensor(path: Path, tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    import torch

    wanted = torch.int64 if name in ("ids", "noise_timesteps") else torch.float32
    if name not in tensors:
        raise FileFormatError(f"{path}: is damaged ({name} is missing)")
    tensor = tensors[name]
    if name == "noise" and tensor.dtype == torch.float16:
        wanted = torch.float16
    if tensor.dtype != wanted:
        raise FileFormatError(f"{path}: is damaged ({name} is {tensor.dtype}, not {wanted})")
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise FileFormatError(f"{path}: is damaged ({name} holds numbers that are not finite)")
    if name in _LARGEST and tensor.numel() and tensor.abs().max() > _LARGEST[name]:
        raise FileFormatError(f"{path}: is damaged ({name} holds numbers beyond {_LARGEST[name]:g})")
    return tensor


def _noise(path: Path, tensors: dict[str, torch.Tensor]) -> RecordedNoise | None:
    if "noise" not in tensors:
        return None
    values, timesteps = _tensor(path, tensors, "noise"), _tensor(path, tensors, "noise_timesteps")
    if values.ndim != 4 or timesteps.ndim != 1 or len(values) != len(timesteps) or len(values) == 0:
        raise FileFormatError(
            f"{path}: is damaged (noise {tuple(values.shape)} for {tuple(timesteps.shape)} timesteps)"
        )
    return RecordedNoise(timesteps=timesteps, values=values)


def _thumbnails(path: Path, tensors: dict[str, torch.Tensor]) -> tuple[tuple[Image.Image, Image.Image], ...]:
    from PIL import Image

    pairs = []
    for number in range(MOST_THUMBNAILS):
        names = [f"pair{number}.{side}" for side in ("before", "after")]
        if not all(name in tensors for name in names):
            break
        pictures = [tensors[name] for name in names]
        for name, tensor in zip(names, pictures, strict=True):
            right = tensor.ndim == 3 and tensor.shape[2] == 3 and 0 < min(tensor.shape) and max(tensor.shape) <= 512
            if not right or str(tensor.dtype) != "torch.uint8":
                raise FileFormatError(f"{path}: is damaged ({name} is no picture)")
        pairs.append((Image.fromarray(pictures[0].numpy()), Image.fromarray(pictures[1].numpy())))
    return tuple(pairs)


def _picture_to_tensor(picture: Image.Image) -> torch.Tensor:
    import numpy as np
    import torch

    array: np.ndarray = np.array(small(picture), dtype=np.uint8)
    return torch.from_numpy(array)


def small(picture: Image.Image) -> Image.Image:
    """A thumbnail: RGB, at most 128 pixels a side."""
    made = picture.convert("RGB")
    made.thumbnail((THUMBNAIL, THUMBNAIL))
    return made
