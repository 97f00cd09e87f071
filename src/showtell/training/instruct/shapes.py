"""What a model is made of, told by its configurations and the headers of its files: no weights are read."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from showtell import loading
from showtell.errors import ModelError

_PARTS = ("unet", "vae", "text_encoder")
#: Where a single file of Stable Diffusion keeps each part.
_PREFIXES = {"unet": "model.diffusion_model.", "vae": "first_stage_model.", "text_encoder": "cond_stage_model."}


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """``unet``: the network's configuration as it is stored; ``counts``: how many numbers each part has, as stored; ``factor``:
    pixels a side for one latent; ``vae_channels``: of the autoencoder's first level; ``text_width``: d of the embeddings.
    """

    unet: dict[str, Any]
    counts: dict[str, int]
    factor: int
    vae_channels: int
    text_width: int

    @property
    def resolution(self) -> int:
        """The side, in pixels, that the model was made for."""
        size = self.unet.get("sample_size") or 64
        return (size if isinstance(size, int) else max(size)) * self.factor

    @property
    def multiple(self) -> int:
        """Pixels that both sides are a multiple of."""
        return self.factor * 2 ** (len(self.unet["block_out_channels"]) - 1)

    @property
    def widened(self) -> bool:
        """Whether the training will widen the network, because it takes a picture's latents alone."""
        return self.unet["in_channels"] == self.unet["out_channels"]


def of(name: str) -> Shapes:
    """The shapes of a starter, a folder, a ``.safetensors`` file or a hub id, of which only configurations are fetched.

    Raises ``ModelError``, one line, for what cannot be read or is no Stable Diffusion.
    """
    try:
        if os.path.isfile(name):
            return _of_file(Path(name))
        configs = {part: _config(name, part) for part in _PARTS}
        if configs["unet"].get("addition_embed_type"):
            raise ModelError(f"{name}: SDXL pipelines are not supported; use a Stable Diffusion 1.x or 2.x model")
        return _of_configs(configs)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{name}: its configuration cannot be understood ({error})") from error


def _config(name: str, part: str) -> dict[str, Any]:
    if name in loading.STARTERS:
        places = {"unet": "unet-instruct" if name == "starter" else "unet-base", "vae": "vae", "text_encoder": "clip"}
        return _read(loading.starters_dir() / places[part] / "config.json")
    if os.path.isdir(name):
        base = _base_of(name)
        return _config(base, part) if base else _read(Path(name) / part / "config.json")
    return _read(_fetched(name, f"{part}/config.json"))


def _base_of(folder: str) -> str | None:
    """The starter or hub id that a folder of nothing but adapters belongs to."""
    adapters = loading.card_of(folder).get("lora")
    base = adapters.get("base") if isinstance(adapters, dict) else None
    return base if isinstance(base, str) and loading.has_public_name(base) else None


def _fetched(name: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    if not loading.has_public_name(name):
        raise ModelError(f"{name}: no such model: give a starter, a folder, a .safetensors file or a hub id")
    try:
        return Path(hf_hub_download(name, file))
    except Exception as error:  # noqa: BLE001  (the client raises a dozen kinds, also of its transport)
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"{name}: its {file} cannot be fetched ({text[:200]})") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: is not a configuration")
    return found


def _of_configs(configs: dict[str, dict[str, Any]]) -> Shapes:
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    vae = configs["vae"]
    with loading.silent(), torch.device("meta"):
        unet, autoencoder = UNet2DConditionModel.from_config(configs["unet"]), AutoencoderKL.from_config(vae)
        encoder = _text_encoder(configs["text_encoder"])
    made = {"unet": unet, "vae": autoencoder, "text_encoder": encoder}
    return Shapes(
        unet=dict(unet.config),
        counts={part: sum(p.numel() for p in made[part].parameters()) for part in _PARTS},
        factor=2 ** (len(autoencoder.config.block_out_channels) - 1),
        vae_channels=autoencoder.config.block_out_channels[0],
        text_width=unet.config.cross_attention_dim,
    )


def _text_encoder(config: dict[str, Any]) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    told = config.get("text_config", config)  # a whole CLIP, as the starters have it
    return CLIPTextModel(CLIPTextConfig(**{name: value for name, value in told.items() if name != "model_type"}))


def _of_file(path: Path) -> Shapes:
    """A Stable Diffusion 1.x or 2.x in one file: its header tells which."""
    shapes = _header(path)
    first = f"{_PREFIXES['unet']}input_blocks.0.0.weight"
    words = f"{_PREFIXES['unet']}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    if first not in shapes or words not in shapes:
        raise ModelError(f"{path}: is not a whole Stable Diffusion checkpoint (it has no {first})")
    width = shapes[words][1]
    counts = {
        part: sum(_numel(shape) for key, shape in shapes.items() if key.startswith(prefix))
        for part, prefix in _PREFIXES.items()
    }
    unet = {
        "sample_size": 64,
        "in_channels": shapes[first][1],
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "cross_attention_dim": width,
        "attention_head_dim": 8 if width == 768 else (5, 10, 20, 20),
        "use_linear_projection": width != 768,
    }
    return Shapes(unet=unet, counts=counts, factor=8, vae_channels=128, text_width=width)


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from error


def _numel(shape: tuple[int, ...]) -> int:
    product = 1
    for side in shape:
        product *= side
    return product
