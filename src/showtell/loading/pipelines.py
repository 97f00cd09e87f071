"""Pipelines: starters, folders, single files and hub ids, each whole or refused."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import models
from ..errors import ModelError
from . import frugal
from .cards import ADAPTERS, CARD, STARTERS, read_card, starter_card
from .names import HUB_ID, pick_device, pick_dtype, shortened
from .quiet import one_line
from .starters import adapted, starter_pipeline

# The files that the libraries read: not the variants beside them (fp16, non_ema).
_WEIGHTS = re.compile(r"(diffusion_pytorch_model|model)(-\d+-of-\d+)?\.safetensors")
_RENAMED = {
    ".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0.",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A pipeline, the name it was loaded under, and its model card ({} if it has none)."""

    pipe: Any
    model_id: str
    card: dict[str, Any] = field(default_factory=dict)


def load_pipeline(
    name_or_path: str | os.PathLike[str],
    *,
    device: str = "auto",
    dtype: Any = None,
    offload: str = "none",
    vae_tiling: bool = False,
    attention_slicing: bool = False,
) -> Loaded:
    """Load ``starter``, ``starter-base``, a folder, a single ``.safetensors`` file or a hub id.

    ``device`` is ``auto`` (CUDA, else MPS, else CPU) or any torch device; ``dtype`` a torch dtype or its name, by
    default float32 for the starters and on a CPU, else float16. ``offload``, ``vae_tiling`` and ``attention_slicing``: see
    ``showtell.load``. Raises ``ModelError``, one line, for whatever cannot be loaded, ``UsageError`` for an offloading that
    cannot be.
    """
    name = os.fspath(name_or_path)
    target = pick_device(device)
    frugal.check(offload, target)
    wanted = pick_dtype(dtype)
    if name in STARTERS:
        pipe, card = starter_pipeline(name, wanted), starter_card(name)
    else:
        if wanted is None:
            wanted = pick_dtype("float32" if target == "cpu" else "float16")
        path = Path(name)
        if os.path.isdir(path):  # unlike the methods of Path, it takes a name of any length
            pipe, card = _from_folder(path, wanted), read_card(path / CARD)
        elif os.path.isfile(path):
            pipe, card = _from_file(path, wanted), {}
        else:
            pipe, card = _from_hub(name, wanted), {}
    models.kind(pipe)
    pipe.set_progress_bar_config(disable=True)
    _check_filled(pipe, name)
    with one_line(name):
        pipe = frugal.settle(pipe, target, offload=offload, vae_tiling=vae_tiling, attention_slicing=attention_slicing)
    return Loaded(pipe=pipe, model_id=name, card=card)


def _from_folder(path: Path, dtype: Any) -> Any:
    """A folder's pipeline. Adapters that its card speaks of are put into the weights; where the folder has nothing else,
    those are its base's.
    """
    adapters = read_card(path / CARD).get("lora")
    if not adapters:
        return _whole_folder(path, dtype)
    base = adapters.get("base") if isinstance(adapters, dict) else ""
    if base is None:
        pipe = _whole_folder(path, dtype)
    elif isinstance(base, str) and base in STARTERS:
        pipe = starter_pipeline(base, dtype)
    elif isinstance(base, str) and HUB_ID.fullmatch(base):
        pipe = _from_hub(base, dtype)
    else:
        raise ModelError(f"{path / CARD}: names no base that its adapters could belong to (a starter, or a hub id)")
    if not (path / ADAPTERS).is_file():
        raise ModelError(f"{path}: has no {ADAPTERS}, which its card speaks of")
    return adapted(pipe, path)


def _whole_folder(path: Path, dtype: Any) -> Any:
    if not (path / "model_index.json").is_file():
        raise ModelError(f"{path}: is not a diffusers model folder (it has no model_index.json)")
    with one_line(str(path)):
        pipe = _pretrained(str(path), dtype, local_files_only=True)
    for part in models.part_names(pipe):
        # Several ControlNets lie in folders of their own names; ``models.kind`` refuses them.
        if hasattr(getattr(pipe, part, None), "config"):
            _check_complete(getattr(pipe, part), path / part)
    return pipe


def _from_hub(name: str, dtype: Any) -> Any:
    if not HUB_ID.fullmatch(name):
        raise ModelError(
            f"{shortened(name)}: no such model: give {' or '.join(STARTERS[:2])}, a folder, a .safetensors file, "
            "or a hub id such as timbrooks/instruct-pix2pix"
        )
    with one_line(name):
        return _pretrained(name, dtype)


def _pretrained(name: str, dtype: Any, **kwargs: Any) -> Any:
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(name, dtype=dtype, use_safetensors=True, **kwargs)


def _check_complete(model: Any, folder: Path) -> None:
    """The libraries fill tensors that a file lacks with random numbers; refuse that."""
    from safetensors import safe_open

    found: set[str] = set()
    for file in folder.glob("*.safetensors"):
        if _WEIGHTS.fullmatch(file.name):
            with safe_open(file, framework="pt") as weights:
                found.update(_modern(key) for key in weights.keys())  # noqa: SIM118  (a safetensors handle)
    tensors = {_modern(key): tensor for key, tensor in model.state_dict().items()}
    # A tensor that has two names is stored under one of them.
    stored = {tensors[key].data_ptr() for key in found & tensors.keys()}
    missing = {key for key in tensors.keys() - found if tensors[key].data_ptr() not in stored}
    # Position ids are computed; only older versions stored them.
    missing = {key for key in missing if not key.endswith("position_ids")}
    if found and missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(f"{folder}: its weights are incomplete ({min(missing)}{more} is missing)")


def _modern(key: str) -> str:
    """A tensor's name as all versions of the libraries would have it: attention layers and CLIP's text tower were renamed."""
    for old, new in _RENAMED.items():
        key = key.replace(old, new)
    return key.removeprefix("text_model.")


def _check_filled(pipe: Any, name: str) -> None:
    """Tensors that are still on the meta device were in no file."""
    for part in models.part_names(pipe):
        for key, tensor in getattr(pipe, part).state_dict().items():
            if tensor.is_meta:
                raise ModelError(f"{name}: its weights are incomplete ({part}.{key} is missing)")


def _from_file(path: Path, dtype: Any) -> Any:
    import diffusers
    from safetensors import safe_open

    if path.suffix != ".safetensors":
        raise ModelError(f"{path}: only .safetensors files are loaded; pickles (.ckpt, .pt, .bin) can run code")
    first = "model.diffusion_model.input_blocks.0.0.weight"
    with one_line(str(path)), safe_open(path, framework="pt") as weights:
        if first not in weights.keys():  # noqa: SIM118  (a safetensors handle, not a dict)
            raise ModelError(f"{path}: is not a whole Stable Diffusion checkpoint (it has no {first})")
        channels = weights.get_slice(first).get_shape()[1]
    pipelines = {
        4: diffusers.StableDiffusionPipeline,
        8: diffusers.StableDiffusionInstructPix2PixPipeline,
        9: diffusers.StableDiffusionInpaintPipeline,
    }
    if channels not in pipelines:
        raise ModelError(
            f"{path}: its UNet takes {channels} channels; showtell edits with 8 (instruct), 4 (base) or 9 (inpainting)"
        )
    with one_line(str(path)):
        return pipelines[channels].from_single_file(str(path), dtype=dtype)
