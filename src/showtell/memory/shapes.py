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
#: Networks that a pipeline may have besides.
_BESIDE = ("controlnet", "safety_checker")
#: Where a single file of Stable Diffusion keeps each part.
_PREFIXES = {"unet": "model.diffusion_model.", "vae": "first_stage_model.", "text_encoder": "cond_stage_model."}


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """``unet``, ``vae`` and, where there is one, ``controlnet``: the networks' configurations as they are stored; ``counts``: how
    many numbers each part has, as stored; ``largest``: those of the largest layer of any. ``text_width``: d of the embeddings.
    """

    unet: dict[str, Any]
    vae: dict[str, Any]
    counts: dict[str, int]
    largest: int
    text_width: int
    controlnet: dict[str, Any] | None = None

    @property
    def factor(self) -> int:
        """Pixels a side for one latent."""
        return 2 ** (len(self.vae["block_out_channels"]) - 1)

    @property
    def vae_channels(self) -> int:
        """Channels of the autoencoder's first level."""
        return self.vae["block_out_channels"][0]

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return self.vae.get("latent_channels", 4)

    @property
    def kind(self) -> str:
        """``instruct``, ``base``, ``inpaint`` or ``control``, as ``models.kind`` has it. Raises ``ModelError`` for another."""
        if self.controlnet is not None:
            return "control"
        latent, channels = self.latent_channels, self.unet["in_channels"]
        found = {latent: "base", 2 * latent: "instruct", 2 * latent + 1: "inpaint"}.get(channels)
        if found is None:
            raise ModelError(
                f"its UNet takes {channels} channels; showtell edits with {2 * latent}, {latent} or {2 * latent + 1}"
            )
        return found

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
        configs = {part: _config(name, part) for part in (*_PARTS, *_besides(name))}
        if configs["unet"].get("addition_embed_type"):
            raise ModelError(f"{name}: SDXL pipelines are not supported; use a Stable Diffusion 1.x or 2.x model")
        return of_configs(configs)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{name}: its configuration cannot be understood ({error})") from error


def _config(name: str, part: str) -> dict[str, Any]:
    if name == "starter-clip":
        raise ModelError("starter-clip is a CLIP model and cannot edit: use starter or starter-base")
    if name in loading.STARTERS:
        places = {
            "unet": "unet-base" if name == "starter-base" else "unet-instruct",
            "vae": "vae",
            "text_encoder": "clip",
        }
        return _read(loading.starters_dir() / places[part] / "config.json")
    if os.path.isdir(name):
        base = _base_of(name)
        return _config(base, part) if base else _read(Path(name) / part / "config.json")
    return _read(_fetched(name, f"{part}/config.json"))


def _besides(name: str) -> list[str]:
    """The networks that a pipeline has besides, as its index tells; a starter has none."""
    if name in loading.STARTERS:
        return []
    if os.path.isdir(name):
        base, path = _base_of(name), Path(name) / "model_index.json"
        if base:
            return _besides(base)
        index = _read(path) if path.is_file() else {}
    else:
        index = _read(_fetched(name, "model_index.json"))
    # A part that a pipeline could have and has not is [null, null].
    return [part for part in _BESIDE if (index.get(part) or [None])[0] is not None]


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


def of_configs(configs: dict[str, dict[str, Any]]) -> Shapes:
    import torch
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel

    builders = {
        "unet": UNet2DConditionModel.from_config, "vae": AutoencoderKL.from_config, "text_encoder": _text_encoder,
        "controlnet": ControlNetModel.from_config, "safety_checker": _safety_checker,
    }  # fmt: skip
    with loading.silent(), torch.device("meta"):
        made = {part: builders[part](config) for part, config in configs.items()}
    return Shapes(
        unet=dict(made["unet"].config),
        vae=dict(made["vae"].config),
        controlnet=dict(made["controlnet"].config) if "controlnet" in made else None,
        counts={part: sum(p.numel() for p in network.parameters()) for part, network in made.items()},
        largest=max(_largest(network) for network in made.values()),
        text_width=made["unet"].config.cross_attention_dim,
    )


def _largest(network: Any) -> int:
    return max(sum(p.numel() for p in module.parameters(recurse=False)) for module in network.modules())


def _text_encoder(config: dict[str, Any]) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    told = config.get("text_config", config)  # a whole CLIP, as the starters have it
    return CLIPTextModel(CLIPTextConfig(**{name: value for name, value in told.items() if name != "model_type"}))


def _safety_checker(config: dict[str, Any]) -> Any:
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    return StableDiffusionSafetyChecker(CLIPConfig(**{k: v for k, v in config.items() if k != "model_type"}))


def stable_diffusion(*, channels: int = 8, width: int = 768) -> dict[str, Any]:
    """The UNet's configuration of Stable Diffusion 1.x, or of 2.x, whose text is 1024 wide; with 8 ``channels`` it is that of
    InstructPix2Pix.
    """
    return {
        "sample_size": 64,
        "in_channels": channels,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "cross_attention_dim": width,
        "attention_head_dim": 8 if width == 768 else (5, 10, 20, 20),
        "use_linear_projection": width != 768,
    }


#: The autoencoder of Stable Diffusion 1.x and 2.x.
AUTOENCODER = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "sample_size": 512,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4, "force_upcast": True,
}  # fmt: skip


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
    unet = stable_diffusion(channels=shapes[first][1], width=width)
    largest = max(_numel(shape) for shape in shapes.values())
    return Shapes(unet=unet, vae=dict(AUTOENCODER), counts=counts, largest=largest, text_width=width)


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
