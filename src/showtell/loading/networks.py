"""Networks that are no pipelines: CLIPs, vision transformers, language models, tensors."""

from __future__ import annotations

import os
from typing import Any

from ..errors import ModelError
from .cards import STARTERS, starters_dir
from .names import pick_device, pick_dtype, shortened
from .quiet import one_line
from .starters import both_towers, own_clip, own_tokenizer


def load_clip(
    name_or_path: str | os.PathLike[str] = "starter-clip", *, processor: str | None = None
) -> tuple[Any, Any, Any]:
    """A CLIP model (float32, eval), its tokenizer and its image processor: ``starter-clip``, a folder or a hub id. The latter
    two come from ``processor``, where that is given.

    Raises ``ModelError``, one line, for whatever cannot be loaded, also for weights that lack one of the two towers.
    """
    from transformers import CLIPImageProcessorPil, CLIPTokenizer

    name = os.fspath(name_or_path)
    with one_line(name):
        if name == "starter-clip":
            root = starters_dir()
            return own_clip(root), own_tokenizer(root), CLIPImageProcessorPil.from_pretrained(root / "clip")
        if name in STARTERS:
            raise ModelError(f"{name}: is no CLIP: take starter-clip")
        beside = processor or name
        return both_towers(name), CLIPTokenizer.from_pretrained(beside), CLIPImageProcessorPil.from_pretrained(beside)


def load_vision(name_or_path: str | os.PathLike[str]) -> tuple[Any, Any]:
    """A vision transformer with a class token (float32, eval) and its image processor: a folder or a hub id.

    Raises ``ModelError``, one line, for whatever cannot be loaded, lacks weights or has no class token.
    """
    import torch
    from transformers import AutoImageProcessor, AutoModel

    name = os.fspath(name_or_path)
    with one_line(name):
        processor = AutoImageProcessor.from_pretrained(name)
        model, report = AutoModel.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    # Neither the pooler behind the class token nor the token of masked training is asked.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler.") and "mask_token" not in key)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(f"{name}: its weights are incomplete ({missing[0]}{more} is missing)")
    if not any(key.endswith("cls_token") for key, _ in model.named_parameters()):
        raise ModelError(f"{name}: is a {type(model).__name__} without a class token: give a DINOv2, a DINO or a ViT")
    return model.eval(), processor


def load_tokenizer(name_or_path: str | os.PathLike[str]) -> Any:
    """The tokenizer of a CLIP: a starter's, or that of a hub id or a folder, also of a whole pipeline.

    Raises ``ModelError``, one line, for whatever cannot be loaded.
    """
    from transformers import CLIPTokenizer

    name = os.fspath(name_or_path)
    with one_line(name):
        if name in STARTERS:
            return own_tokenizer(starters_dir())
        inside = os.path.join(name, "tokenizer")
        return CLIPTokenizer.from_pretrained(inside if os.path.isdir(inside) else name)


def load_language(name_or_path: str | os.PathLike[str], *, device: str = "auto", dtype: Any = None) -> tuple[Any, Any]:
    """A causal language model (eval) and its tokenizer, which pads on the left: a folder or a hub id. Code that comes with a
    model is never run.

    ``dtype`` is by default float32 on a CPU and the model's own elsewhere. Raises ``ModelError``, one line, for whatever cannot
    be loaded, or lacks weights.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name, target = os.fspath(name_or_path), pick_device(device)
    wanted = pick_dtype(dtype) or (pick_dtype("float32") if target == "cpu" else "auto")
    with one_line(name):
        words = AutoTokenizer.from_pretrained(name, trust_remote_code=False, padding_side="left")
        model, report = AutoModelForCausalLM.from_pretrained(
            name, dtype=wanted, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        if missing := sorted(report["missing_keys"]):
            raise ModelError(f"{name}: its weights are incomplete ({missing[0]} is missing)")
        if words.pad_token_id is None:
            words.pad_token = words.eos_token or words.convert_ids_to_tokens(0)
        return model.eval().to(target), words


def load_tensors(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tensors of a ``.safetensors`` file, by name. Raises ``ModelError``, one line, for what is missing or is none."""
    from safetensors.torch import load_file

    name = os.fspath(path)
    if not os.path.isfile(name):
        raise ModelError(f"{shortened(name)}: no such file: give a .safetensors file with the weights")
    if not name.endswith(".safetensors"):
        raise ModelError(f"{name}: only .safetensors files are loaded; pickles (.ckpt, .pt, .pth, .bin) can run code")
    with one_line(name):
        return load_file(name)
