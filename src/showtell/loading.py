"""Loading models: the starters that the package carries, hub ids, folders, single files. Never a pickle."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import files, models
from .errors import ModelError, OutputError, ShowtellError, UsageError

STARTERS = ("starter", "starter-base", "starter-clip")
# What diffusers, transformers and huggingface_hub raise for files that are missing, broken or do not fit.
_LOAD_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError)
# The files that the libraries read: not the variants beside them (fp16, non_ema).
_WEIGHTS = re.compile(r"(diffusion_pytorch_model|model)(-\d+-of-\d+)?\.safetensors")
_HUB_ID = re.compile(r"(?!\.)[\w.-]+/[\w.-]+")
_RENAMED = {
    ".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0.",
}  # fmt: skip
#: The model card that ``export`` writes beside the weights, and that loading a folder reads.
CARD = "showtell_card.json"
#: Low-rank adapters, as ``load_lora_weights`` of stock pipelines finds them.
ADAPTERS = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A pipeline, the name it was loaded under, and its model card ({} if it has none)."""

    pipe: Any
    model_id: str
    card: dict[str, Any] = field(default_factory=dict)


def starters_dir() -> Path:
    """The folder of the starter models: ``$SHOWTELL_STARTERS``, else the package's own."""
    override = os.environ.get("SHOWTELL_STARTERS")
    return Path(override) if override else Path(__file__).parent / "starters"


def starter_card(name: str) -> dict[str, Any]:
    """The model card of a starter.

    In a folder of the user's own, a missing card counts as an empty one. Raises ``ModelError`` if the name is not a
    starter's, or the card is missing or broken.
    """
    if name not in STARTERS:
        raise ModelError(f"{name!r} is not a starter model: choose one of {', '.join(STARTERS)}")
    root = starters_dir()
    path = root / "cards" / f"{name}.json"
    if os.environ.get("SHOWTELL_STARTERS") and os.path.isdir(root) and not os.path.isfile(path):
        return {"name": name, "defaults": {}}  # a training that has not measured anything yet
    return _read_card(path, required=True)


def card_of(name_or_path: str | os.PathLike[str]) -> dict[str, Any]:
    """The model card of a starter or a folder, without loading the model; {} where it has none, as a file and a hub id do.

    Raises ``ModelError`` for one that is broken.
    """
    name = os.fspath(name_or_path)
    if name in STARTERS:
        return starter_card(name)
    return _read_card(Path(name) / CARD) if os.path.isdir(name) else {}


def anywhere(name: str) -> str:
    """The name of a model as a process finds it that stands elsewhere: that of a folder or a file becomes the whole path."""
    return os.path.abspath(name) if name not in STARTERS and os.path.exists(name) else name


def load_pipeline(name_or_path: str | os.PathLike[str], *, device: str = "auto", dtype: Any = None) -> Loaded:
    """Load ``starter``, ``starter-base``, a folder, a single ``.safetensors`` file or a hub id.

    ``device`` is ``auto`` (CUDA, else MPS, else CPU) or any torch device; ``dtype`` a torch dtype or its name, by
    default float32 for the starters and on a CPU, else float16. Raises ``ModelError``, one line, for whatever
    cannot be loaded.
    """
    name = os.fspath(name_or_path)
    target = pick_device(device)
    wanted = pick_dtype(dtype)
    if name in STARTERS:
        pipe, card = _starter_pipeline(name, wanted), starter_card(name)
    else:
        if wanted is None:
            wanted = pick_dtype("float32" if target == "cpu" else "float16")
        path = Path(name)
        if os.path.isdir(path):  # unlike the methods of Path, it takes a name of any length
            pipe, card = _from_folder(path, wanted), _read_card(path / CARD)
        elif os.path.isfile(path):
            pipe, card = _from_file(path, wanted), {}
        else:
            pipe, card = _from_hub(name, wanted), {}
    models.kind(pipe)
    pipe.set_progress_bar_config(disable=True)
    _check_filled(pipe, name)
    with _one_line(name):
        pipe = pipe.to(target)
    return Loaded(pipe=pipe, model_id=name, card=card)


def pick_device(device: str) -> str:
    """A torch device's name for ``auto``, ``cpu``, ``cuda[:n]`` or ``mps``.

    Raises ``UsageError`` if it is not there.
    """
    import torch

    mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    base = str(device).split(":")[0]
    if base not in ("cpu", "cuda", "mps"):
        raise UsageError(f"device {device!r} is not known: choose auto, cpu, cuda or mps")
    if (base == "cuda" and not torch.cuda.is_available()) or (base == "mps" and not mps):
        raise UsageError(f"device {device!r} is not available on this machine: use --device auto or cpu")
    return str(device)


def pick_dtype(dtype: Any) -> Any:
    """A torch dtype for ``float32``, ``float16``/``fp16``, ``bfloat16``/``bf16`` or a dtype; None stays None."""
    import torch

    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    known = {
        "float32": torch.float32, "fp32": torch.float32,
        "float16": torch.float16, "fp16": torch.float16,
        "bfloat16": torch.bfloat16, "bf16": torch.bfloat16,
    }  # fmt: skip
    if dtype not in known:
        raise UsageError(f"dtype {dtype!r} is not known: choose float32, float16 or bfloat16")
    return known[dtype]


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
            with _one_line(name):
                clip = _clip(starters_dir())
            clip.save_pretrained(temporary)
            _tokenizer(starters_dir()).save_pretrained(temporary)
            shutil.copyfile(
                starters_dir() / "clip" / "preprocessor_config.json", temporary / "preprocessor_config.json"
            )
        else:
            _starter_pipeline(name, None).save_pretrained(temporary, safe_serialization=True)
        (temporary / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_clip(
    name_or_path: str | os.PathLike[str] = "starter-clip", *, processor: str | None = None
) -> tuple[Any, Any, Any]:
    """A CLIP model (float32, eval), its tokenizer and its image processor: ``starter-clip``, a folder or a hub id. The latter
    two come from ``processor``, where that is given.

    Raises ``ModelError``, one line, for whatever cannot be loaded, also for weights that lack one of the two towers.
    """
    from transformers import CLIPImageProcessorPil, CLIPTokenizer

    name = os.fspath(name_or_path)
    with _one_line(name):
        if name == "starter-clip":
            root = starters_dir()
            return _clip(root), _tokenizer(root), CLIPImageProcessorPil.from_pretrained(root / "clip")
        beside = processor or name
        return _both_towers(name), CLIPTokenizer.from_pretrained(beside), CLIPImageProcessorPil.from_pretrained(beside)


def load_vision(name_or_path: str | os.PathLike[str]) -> tuple[Any, Any]:
    """A vision transformer with a class token (float32, eval) and its image processor: a folder or a hub id.

    Raises ``ModelError``, one line, for whatever cannot be loaded, lacks weights or has no class token.
    """
    import torch
    from transformers import AutoImageProcessor, AutoModel

    name = os.fspath(name_or_path)
    with _one_line(name):
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
    with _one_line(name):
        if name in STARTERS:
            return _tokenizer(starters_dir())
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
    with _one_line(name):
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
        raise ModelError(f"{_shortened(name)}: no such file: give a .safetensors file with the weights")
    if not name.endswith(".safetensors"):
        raise ModelError(f"{name}: only .safetensors files are loaded; pickles (.ckpt, .pt, .pth, .bin) can run code")
    with _one_line(name):
        return load_file(name)


def _starter_pipeline(name: str, dtype: Any) -> Any:
    import diffusers
    import torch

    if name == "starter-clip":
        raise ModelError("starter-clip is a CLIP model and cannot edit: use starter or starter-base")
    root = starters_dir()
    if not os.path.isdir(root):
        raise ModelError(
            f"{name}: the starter models are not in {root}: "
            "reinstall showtell, or make them with 'showtell train starter'"
        )
    dtype = dtype or torch.float32
    with _one_line(name):
        config = json.loads((root / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
        scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
        unet = "unet-instruct" if name == "starter" else "unet-base"
        parts = {
            "vae": diffusers.AutoencoderKL.from_pretrained(root / "vae", dtype=dtype, use_safetensors=True),
            "unet": diffusers.UNet2DConditionModel.from_pretrained(root / unet, dtype=dtype, use_safetensors=True),
            "text_encoder": _clip(root).text_model.to(dtype),
            "tokenizer": _tokenizer(root),
            "scheduler": scheduler,
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }
        instruct = name == "starter"
        cls = diffusers.StableDiffusionInstructPix2PixPipeline if instruct else diffusers.StableDiffusionPipeline
        return cls(**parts)


def _clip(root: Path) -> Any:
    return _both_towers(root / "clip")


def _both_towers(name: str | Path) -> Any:
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


def _tokenizer(root: Path) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(root / "tokenizer")


def has_public_name(name: str) -> bool:
    """Whether a model's name means the same to others: a starter's, or a hub id that is no folder or file here."""
    return name in STARTERS or (_HUB_ID.fullmatch(name) is not None and not os.path.exists(name))


def _from_folder(path: Path, dtype: Any) -> Any:
    """A folder's pipeline. Adapters that its card speaks of are put into the weights; where the folder has nothing else,
    those are its base's.
    """
    adapters = _read_card(path / CARD).get("lora")
    if not adapters:
        return _whole_folder(path, dtype)
    base = adapters.get("base") if isinstance(adapters, dict) else ""
    if base is None:
        pipe = _whole_folder(path, dtype)
    elif isinstance(base, str) and base in STARTERS:
        pipe = _starter_pipeline(base, dtype)
    elif isinstance(base, str) and _HUB_ID.fullmatch(base):
        pipe = _from_hub(base, dtype)
    else:
        raise ModelError(f"{path / CARD}: names no base that its adapters could belong to (a starter, or a hub id)")
    if not (path / ADAPTERS).is_file():
        raise ModelError(f"{path}: has no {ADAPTERS}, which its card speaks of")
    with _one_line(str(path)):
        pipe.load_lora_weights(str(path), weight_name=ADAPTERS, local_files_only=True, use_safetensors=True)
        if not getattr(pipe.unet, "peft_config", None):  # the libraries pass over adapters that fit nowhere
            raise ModelError(f"{path}: its adapters belong to another network")
        pipe.fuse_lora(components=["unet"])
        pipe.unload_lora_weights()
    return pipe


def _whole_folder(path: Path, dtype: Any) -> Any:
    if not (path / "model_index.json").is_file():
        raise ModelError(f"{path}: is not a diffusers model folder (it has no model_index.json)")
    with _one_line(str(path)):
        pipe = _pretrained(str(path), dtype, local_files_only=True)
    for part in models.part_names(pipe):
        # Several ControlNets lie in folders of their own names; ``models.kind`` refuses them.
        if hasattr(getattr(pipe, part, None), "config"):
            _check_complete(getattr(pipe, part), path / part)
    return pipe


def _from_hub(name: str, dtype: Any) -> Any:
    if not _HUB_ID.fullmatch(name):
        raise ModelError(
            f"{_shortened(name)}: no such model: give {' or '.join(STARTERS[:2])}, a folder, a .safetensors file, "
            "or a hub id such as timbrooks/instruct-pix2pix"
        )
    with _one_line(name):
        return _pretrained(name, dtype)


def _shortened(name: str) -> str:
    return name if len(name) <= 100 else f"{name[:97]}..."


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
    with _one_line(str(path)), safe_open(path, framework="pt") as weights:
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
    with _one_line(str(path)):
        return pipelines[channels].from_single_file(str(path), dtype=dtype)


@contextlib.contextmanager
def _one_line(name: str) -> Iterator[None]:
    """The libraries' bars and warnings are silenced; whatever they raise becomes one line that names the model."""
    import torch
    from safetensors import SafetensorError

    try:
        with silent():
            yield
    except torch.OutOfMemoryError as error:
        raise ShowtellError(f"{name}: the device has not enough memory for it: use float16, or the CPU") from error
    except (*_LOAD_ERRORS, SafetensorError) as error:
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"{name}: cannot be loaded ({text[:300]})") from error


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """No bars and no warnings from the libraries; what the user had set is set again afterwards."""
    from diffusers.utils import logging as diffusers_log
    from transformers.utils import logging as transformers_log

    logs = (diffusers_log, transformers_log)
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    for log in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, (verbosity, bar) in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
            if bar:
                log.enable_progress_bar()


def _read_card(path: Path, *, required: bool = False) -> dict[str, Any]:
    if not os.path.isfile(path) and not required:
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: the model card cannot be read ({error})") from error
    defaults = card.get("defaults", {}) if isinstance(card, dict) else None
    if not isinstance(defaults, dict) or not all(isinstance(tuned, dict) for tuned in defaults.values()):
        raise ModelError(f"{path}: is not a model card (its defaults must be a table for each method)")
    return card
