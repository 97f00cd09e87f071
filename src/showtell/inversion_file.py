"""An inversion as a ``.safetensors`` file: written whole, checked when it is read."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import files, fitting, records
from .errors import FileFormatError, OutputError
from .images import MAX_PIXELS, Picture
from .inversion.inverted import Inverted
from .inversions import Inversion, check_method
from .recipe import FileRecord, ModelRecord, record_of, versions

if TYPE_CHECKING:
    import torch
    from PIL import Image

#: Version of the format; files with a later one are refused.
FORMAT = 1
SUFFIX = ".safetensors"
_KEY = "showtell"
_KIND = "inversion"
_MAX_BYTES = 2**31
_MAX_HEADER = 2**20
# Latents and embeddings are of the order of ones; what is far beyond comes from no inversion.
_LARGEST = 1e5


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the file says beside its tensors."""

    kind: str
    format: int
    method: str
    settings: dict[str, Any]
    target: str | None
    source: str | None
    model: ModelRecord
    input: FileRecord
    fit: str
    frame: tuple[int, int]
    psnr: float | None
    of: str | None
    negative_prompt: str = ""
    scheduler: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=dict)


def check_path(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """The path, if an inversion can be written there. Raises ``OutputError``."""
    path = Path(path)
    if path.suffix.lower() != SUFFIX:
        raise OutputError(f"{path}: the name of an inversion must end in {SUFFIX}")
    return files.check_output(path, force=force)


def save(inversion: Inversion, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write an inversion so that the file is either whole or as it was before. Raises ``OutputError``."""
    path = check_path(path, force=force)
    return files.write_atomic(path, to_bytes(inversion), force=force)


def to_bytes(inversion: Inversion) -> bytes:
    """The file's content."""
    import torch
    from safetensors.torch import save as encode

    data = inversion.data
    tensors = {
        name: value.float().contiguous()
        for name, value in (
            ("trajectory", data.trajectory), ("tuned", data.tuned), ("reconstruction", data.reconstruction),
            ("losses", data.losses),
        )
        if value is not None
    }  # fmt: skip
    tensors["picture"], tensors["image"] = _to_tensor(inversion.picture.rgb), _to_tensor(inversion.image.convert("RGB"))
    if inversion.picture.icc_profile is not None:
        tensors["icc_profile"] = torch.frombuffer(bytearray(inversion.picture.icc_profile), dtype=torch.uint8)
    if inversion.picture.alpha is not None:
        tensors["alpha"] = _to_tensor(inversion.picture.alpha)
    header = Header(
        kind=_KIND, format=FORMAT, method=inversion.method, settings=inversion.settings, target=inversion.target,
        source=inversion.source, negative_prompt=inversion.negative_prompt, model=inversion.model,
        input=record_of(inversion.picture), fit=inversion.fit, frame=inversion.frame, of=data.of, seed=inversion.seed,
        scheduler=inversion.scheduler,
        psnr=inversion.psnr if math.isfinite(inversion.psnr) else None, versions=versions(),
    )  # fmt: skip
    return encode(tensors, metadata={_KEY: json.dumps(dataclasses.asdict(header), ensure_ascii=False)})


def load(path: str | os.PathLike[str]) -> Inversion:
    """Read an inversion.

    Raises ``FileFormatError``, one line, if it is not there, is no such file, is truncated, from a newer version, or holds
    wrong shapes, or numbers that are not finite or absurdly large.
    """
    path = Path(path)
    header, tensors = _read(path)
    check_method(header.method, str(path))
    if header.fit not in fitting.FITS:
        raise FileFormatError(f"{path}: is damaged (fit {header.fit!r:.40} is not known)")
    data = _data(path, header, tensors)
    picture = Picture(
        rgb=_picture(path, tensors, "picture", "RGB"),
        alpha=_picture(path, tensors, "alpha", "L") if "alpha" in tensors else None,
        icc_profile=_profile(path, tensors),
        path=header.input.path,
        sha256=header.input.sha256,
    )
    if picture.alpha is not None and picture.alpha.size != picture.rgb.size:
        raise FileFormatError(f"{path}: is damaged (alpha is of another size than its picture)")
    if picture.pixels_sha256 != header.input.pixels_sha256:
        raise FileFormatError(f"{path}: is damaged (its picture is not the one that it names)")
    return Inversion(
        image=_picture(path, tensors, "image", "RGB"), psnr=math.inf if header.psnr is None else header.psnr,
        method=header.method, settings=header.settings, target=header.target, source=header.source, model=header.model,
        picture=picture, fit=header.fit, frame=header.frame, data=data, seed=header.seed, path=str(path),
        scheduler=header.scheduler,
        negative_prompt=header.negative_prompt,
    )  # fmt: skip


def _read(path: Path) -> tuple[Header, dict[str, torch.Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        if not os.path.isfile(path):
            raise FileFormatError(f"{path!s:.200}: no such file")
        if os.path.getsize(path) > _MAX_BYTES:
            raise FileFormatError(f"{path}: is too large for an inversion")
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY, "")
            if not text or len(text) > _MAX_HEADER:
                raise FileFormatError(f"{path}: is not an inversion; such files are made by 'showtell invert'")
            header = records.parse(text, Header, name=str(path), what="its header", newest=FORMAT, kind=_KIND)
            return header, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileFormatError(
            f"{path}: cannot be read as an inversion: it is truncated or no safetensors file ({text:.200})"
        ) from error


def _data(path: Path, header: Header, tensors: dict[str, torch.Tensor]) -> Inverted:
    trajectory = _tensor(path, tensors, "trajectory")
    if trajectory.ndim != 5 or trajectory.shape[1] != 1 or len(trajectory) < 2:
        raise FileFormatError(f"{path}: is damaged (trajectory has the shape {tuple(trajectory.shape)})")
    if header.of is None:
        return Inverted(trajectory=trajectory)
    tuned, run, losses = (_tensor(path, tensors, name) for name in ("tuned", "reconstruction", "losses"))
    steps = len(trajectory) - 1
    fits = tuned.ndim == 4 and tuned.shape[:2] == (steps, 1) and run.shape == trajectory.shape
    if not fits or losses.shape != (steps, 1) or header.of not in ("cond", "uncond"):
        shapes = ", ".join(str(tuple(t.shape)) for t in (tuned, run, losses))
        raise FileFormatError(f"{path}: is damaged (tuned, reconstruction and losses have the shapes {shapes})")
    return Inverted(trajectory=trajectory, of=header.of, tuned=tuned, reconstruction=run, losses=losses)


def _tensor(path: Path, tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    import torch

    if name not in tensors:
        raise FileFormatError(f"{path}: is damaged ({name} is missing)")
    tensor = tensors[name]
    if (
        tensor.dtype != torch.float32
        or not tensor.numel()
        or not torch.isfinite(tensor).all()
        or tensor.abs().max() > _LARGEST
    ):
        raise FileFormatError(f"{path}: is damaged ({name} holds numbers that no inversion leaves)")
    return tensor


def _profile(path: Path, tensors: dict[str, torch.Tensor]) -> bytes | None:
    tensor = tensors.get("icc_profile")
    if tensor is None:
        return None
    if str(tensor.dtype) != "torch.uint8" or tensor.ndim != 1 or len(tensor) > _MAX_HEADER:
        raise FileFormatError(f"{path}: is damaged (icc_profile is no colour profile)")
    return tensor.numpy().tobytes()


def _picture(path: Path, tensors: dict[str, torch.Tensor], name: str, mode: str) -> Image.Image:
    from PIL import Image

    tensor = tensors.get(name)
    wanted = (3, 3) if mode == "RGB" else (2, None)
    if (
        tensor is None
        or str(tensor.dtype) != "torch.uint8"
        or tensor.ndim != wanted[0]
        or (mode == "RGB" and tensor.shape[-1] != 3)
        or not 0 < tensor.shape[0] * tensor.shape[1] <= MAX_PIXELS
    ):
        raise FileFormatError(f"{path}: is damaged ({name} is no picture)")
    return Image.fromarray(tensor.numpy())


def _to_tensor(picture: Image.Image) -> torch.Tensor:
    import numpy as np
    import torch

    return torch.from_numpy(np.array(picture, dtype=np.uint8))
