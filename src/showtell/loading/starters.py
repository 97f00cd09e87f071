"""The starters: their pipelines, and the folders that other libraries load them from."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from .. import files
from ..errors import ModelError, OutputError
from .cards import ADAPTERS, CARD, starter_card, starters_dir
from .quiet import one_line, silent


def export(name: str, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write a starter as a folder that stock diffusers (or, for ``starter-clip``, transformers) loads.

    The weights are written in float32, so that every library loads all parts in one dtype; the card goes beside them as
    ``showtell_card.json``. The folder appears whole or not at all. Raises ``ModelError`` or ``OutputError``.
    """
    from safetensors import SafetensorError

    card = starter_card(name)
    folder = Path(folder)
    try:
        _write_starter(name, folder, card, force=force)
    except SafetensorError as error:  # how safetensors reports a full disk
        raise OutputError(f"{folder}: cannot be written ({error})", exit_code=1) from error
    return folder


def _write_starter(name: str, folder: Path, card: dict[str, Any], *, force: bool) -> None:
    with files.folder_atomic(folder, marker=CARD, force=force) as temporary, silent():
        if name == "starter-clip":
            with one_line(name):
                clip = own_clip(starters_dir())
            clip.save_pretrained(temporary)
            own_tokenizer(starters_dir()).save_pretrained(temporary)
            shutil.copyfile(
                starters_dir() / "clip" / "preprocessor_config.json", temporary / "preprocessor_config.json"
            )
        else:
            starter_pipeline(name, None).save_pretrained(temporary, safe_serialization=True)
        (temporary / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def starter_pipeline(name: str, dtype: Any) -> Any:
    """A starter as a diffusers pipeline, float32 for None. Raises ``ModelError``."""
    import diffusers
    import torch

    if name == "starter-clip":
        raise ModelError("starter-clip is a CLIP model and cannot edit: use starter or starter-base")
    if name == "starter-fast":
        return _fast(dtype)
    root = starters_dir()
    if not os.path.isdir(root):
        raise ModelError(
            f"{name}: the starter models are not in {root}: "
            "reinstall showtell, or make them with 'showtell train starter'"
        )
    dtype = dtype or torch.float32
    with one_line(name):
        config = json.loads((root / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
        scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
        unet = "unet-instruct" if name == "starter" else "unet-base"
        parts = {
            "vae": diffusers.AutoencoderKL.from_pretrained(root / "vae", dtype=dtype, use_safetensors=True),
            "unet": diffusers.UNet2DConditionModel.from_pretrained(root / unet, dtype=dtype, use_safetensors=True),
            "text_encoder": own_clip(root).text_model.to(dtype),
            "tokenizer": own_tokenizer(root),
            "scheduler": scheduler,
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }
        instruct = name == "starter"
        cls = diffusers.StableDiffusionInstructPix2PixPipeline if instruct else diffusers.StableDiffusionPipeline
        return cls(**parts)


def _fast(dtype: Any) -> Any:
    """The starter with the adapters of its student, and the scheduler that a student is sampled with."""
    from diffusers import LCMScheduler

    folder = starters_dir() / "unet-fast"
    if not (folder / ADAPTERS).is_file():
        raise ModelError(
            f"starter-fast: its adapters are not in {folder}: reinstall showtell, or make them with 'showtell train distill "
            "--preset starter-fast' and edit with the folder that it writes"
        )
    pipe = adapted(starter_pipeline("starter", dtype), folder)
    pipe.scheduler = LCMScheduler.from_config({**pipe.scheduler.config, "clip_sample": False})
    return pipe


def adapted(pipe: Any, folder: Path) -> Any:
    """A pipeline with the adapters of a folder put into the UNet's weights. Raises ``ModelError`` where they do not fit."""
    with one_line(str(folder)):
        pipe.load_lora_weights(str(folder), weight_name=ADAPTERS, local_files_only=True, use_safetensors=True)
        if not getattr(pipe.unet, "peft_config", None):  # the libraries pass over adapters that fit nowhere
            raise ModelError(f"{folder}: its adapters belong to another network")
        pipe.fuse_lora(components=["unet"])
        pipe.unload_lora_weights()
    return pipe


def own_clip(root: Path) -> Any:
    """The CLIP of a folder of starters."""
    return both_towers(root / "clip")


def both_towers(name: str | Path) -> Any:
    """A CLIP in float32, all of whose tensors are in its files: the library fills what is missing with random numbers."""
    import torch
    from transformers import CLIPModel

    model, report = CLIPModel.from_pretrained(name, dtype=torch.float32, use_safetensors=True, output_loading_info=True)
    if missing := sorted(report["missing_keys"]):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(
            f"{name}: lacks weights of a CLIP with both towers ({missing[0]}{more} is missing): give a whole CLIP, not a "
            "text encoder"
        )
    return model.eval()


def own_tokenizer(root: Path) -> Any:
    """The tokenizer of a folder of starters."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(root / "tokenizer")
