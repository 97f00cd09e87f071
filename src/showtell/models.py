"""The one place that knows a pipeline's inside: kinds, sizes, encoding, decoding, fingerprints.

Loading is in ``loading``; nothing here creates a model. Networks run in whatever dtype they are held in; latents and
embeddings come back as float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from . import fingerprint, tiling
from .errors import ModelError, ShowtellError

if TYPE_CHECKING:
    import torch

    from .types import ImageLatents, Latents, Pixels, PromptEmbeds

# Pixels that the autoencoder is given at once.
_AT_ONCE = 2**19
_KIND_NAMES = {
    "instruct": "an instruct model (8-channel UNet)",
    "control": "a base model with a ControlNet for instruction editing",
    "base": "a base model (4-channel UNet)",
    "inpaint": "an inpainting model (9-channel UNet)",
}


def kind(pipe: Any) -> str:
    """What a pipeline's network takes beside noisy latents and text.

    ``"instruct"``: a picture's latents; ``"base"``: nothing; ``"control"``: a picture, through a ControlNet;
    ``"inpaint"``: a mask and the masked picture's latents. Raises ``ModelError`` for a pipeline that is none of these.
    """
    missing = [
        part for part in ("unet", "vae", "tokenizer", "text_encoder", "scheduler") if getattr(pipe, part, None) is None
    ]
    if missing:
        raise ModelError(f"{name_of(pipe)}: is not a Stable Diffusion pipeline (it has no {', '.join(missing)})")
    if getattr(pipe, "text_encoder_2", None) is not None or getattr(pipe.unet.config, "addition_embed_type", None):
        raise ModelError(f"{name_of(pipe)}: SDXL pipelines are not supported; use a Stable Diffusion 1.x or 2.x model")
    told, hears = getattr(pipe.text_encoder.config, "hidden_size", None), pipe.unet.config.cross_attention_dim
    if isinstance(told, int) and isinstance(hears, int) and told != hears:
        raise ModelError(
            f"{name_of(pipe)}: its text encoder's width is {told} and its UNet takes {hears}; "
            "they do not belong together"
        )
    if getattr(pipe, "controlnet", None) is not None:
        _check_controlnet(pipe)
        return "control"
    latent, channels = pipe.vae.config.latent_channels, pipe.unet.config.in_channels
    known = {2 * latent: "instruct", latent: "base", 2 * latent + 1: "inpaint"}
    if channels not in known:
        raise ModelError(
            f"{name_of(pipe)}: its UNet takes {channels} channels; "
            f"showtell edits with {2 * latent} (instruct), {latent} (base) or {2 * latent + 1} (inpainting)"
        )
    return known[channels]


def _check_controlnet(pipe: Any) -> None:
    """Raise ``ModelError`` unless the pipeline has one plain ControlNet that fits its base model."""
    from diffusers import ControlNetModel

    net = getattr(pipe.controlnet, "_orig_mod", pipe.controlnet)  # a compiled network wraps the plain one
    if hasattr(net, "nets") or isinstance(net, (list, tuple)):
        raise ModelError(f"{name_of(pipe)}: it has several ControlNets; give it one, trained for instruction editing")
    if not isinstance(net, ControlNetModel):
        raise ModelError(f"{name_of(pipe)}: its ControlNet is a {type(net).__name__}; showtell takes ControlNetModel")
    latent, channels = pipe.vae.config.latent_channels, pipe.unet.config.in_channels
    if channels != latent:
        raise ModelError(
            f"{name_of(pipe)}: its UNet takes {channels} channels; beside a ControlNet it must take {latent} (base)"
        )
    told, hears = net.config.cross_attention_dim, pipe.unet.config.cross_attention_dim
    if told != hears:
        raise ModelError(
            f"{name_of(pipe)}: its ControlNet takes text of width {told} and its UNet of {hears}; "
            "they do not belong together"
        )


def require_kind(pipe: Any, needed: Sequence[str], *, method: str, model_id: str) -> None:
    """Raise ``ModelError`` unless the pipeline is of one of the kinds that a method takes."""
    found = kind(pipe)
    if found not in needed:
        names = " or ".join(_KIND_NAMES[each] for each in needed)
        example = "starter" if "instruct" in needed else "starter-base"
        raise ModelError(f"method {method!r} needs {names}, such as {example!r}; {model_id} is {_KIND_NAMES[found]}")


def part_names(pipe: Any) -> tuple[str, ...]:
    """Names of the networks whose weights an edit depends on."""
    return ("unet", "text_encoder", "vae") + (("controlnet",) if getattr(pipe, "controlnet", None) is not None else ())


def name_of(pipe: Any) -> str:
    """The name that the pipeline was loaded under, or its class."""
    config = getattr(pipe, "config", {})
    return (config.get("_name_or_path") if hasattr(config, "get") else None) or type(pipe).__name__


def latent_factor(pipe: Any) -> int:
    """Pixels a side for one latent: 8 for Stable Diffusion."""
    return 2 ** (len(pipe.vae.config.block_out_channels) - 1)


def resolution(pipe: Any) -> int:
    """The side, in pixels, that the model was made for: 512 for Stable Diffusion 1.x."""
    size = pipe.unet.config.sample_size or 64
    return (size if isinstance(size, int) else max(size)) * latent_factor(pipe)


def size_multiple(pipe: Any) -> int:
    """Both sides must be a multiple of this many pixels: latent factor x 2^(UNet downsamplings), 64 for
    Stable Diffusion.
    """
    return latent_factor(pipe) * 2 ** (len(pipe.unet.config.block_out_channels) - 1)


def latent_shape(pipe: Any, pixels: Pixels) -> tuple[int, int, int]:
    """(4, h, w): the shape of one picture's latents, for ``pixels`` (B, 3, H, W)."""
    factor = latent_factor(pipe)
    return pipe.vae.config.latent_channels, pixels.shape[-2] // factor, pixels.shape[-1] // factor


# The pipeline that stays where it is for now, and where that is.
_PLACE: ContextVar[tuple[Any, Any] | None] = ContextVar("place", default=None)


@contextlib.contextmanager
def in_place(pipe: Any) -> Iterator[None]:
    """Inside, the pipeline does not move: where it runs is asked once, since that is a walk through all modules."""
    token = _PLACE.set((pipe, device_of(pipe)))
    try:
        yield
    finally:
        _PLACE.reset(token)


def device_of(pipe: Any) -> torch.device:
    """Where the networks run; with offloading, where they will be moved."""
    import torch

    held = _PLACE.get()
    if held is not None and held[0] is pipe:
        return held[1]
    return torch.device(getattr(pipe, "_execution_device", None) or pipe.device)


def lay_out(pipe: Any) -> None:
    """On a CPU, put the weights of convolutions into the order that it computes fastest in (channels last), in place.

    The numbers are the same, and sums are rounded in another order. GPUs are left alone: their group norms, run as they
    are, want the other order.
    """
    import torch

    if device_of(pipe).type == "cpu":
        put: Any = torch.nn.Module.to  # diffusers' own warns
        for part in part_names(pipe):
            put(getattr(pipe, part), memory_format=torch.channels_last)


def dtype_of(module: Any) -> torch.dtype:
    """The dtype that a network's inputs must have."""
    import torch

    dtype = getattr(module, "dtype", None)
    return dtype if isinstance(dtype, torch.dtype) and dtype.is_floating_point else torch.float32


def tiled(pipe: Any) -> bool:
    """Whether the autoencoder works in tiles."""
    return tiling.tiles(pipe.vae)


def at_once(height: int, width: int, pictures: int) -> int:
    """How many of ``pictures`` the autoencoder is given at once, so that it does not need more than the network that denoises
    them: half a million pixels, or one picture.
    """
    return max(1, min(pictures, _AT_ONCE // (height * width)))


def encode_ids(pipe: Any, ids: torch.Tensor) -> PromptEmbeds:
    """Token ids (B, 77) to the text encoder's last hidden state, (B, 77, d) float32."""
    import torch

    with torch.no_grad():
        return hidden_of(pipe, ids)


def hidden_of(pipe: Any, ids: torch.Tensor) -> PromptEmbeds:
    """As :func:`encode_ids`, with gradients where they are wanted."""
    encoder = pipe.text_encoder
    mask = None
    if getattr(encoder.config, "use_attention_mask", False):
        mask = (ids != pipe.tokenizer.pad_token_id).long().to(device_of(pipe))
    return encoder(ids.to(device_of(pipe)), attention_mask=mask)[0].float()


def encode_image(pipe: Any, pixels: Pixels) -> ImageLatents:
    """c_I: the *unscaled* mode of the encoded picture, (B, 4, h, w) float32. ``pixels`` in [-1, 1]."""
    import torch

    rows = 1 if tiled(pipe) else at_once(*pixels.shape[-2:], len(pixels))
    with torch.no_grad(), _safe_vae(pipe) as vae:
        parts = (part.to(device_of(pipe), dtype_of(vae)) for part in pixels.split(rows))
        return torch.cat([tiling.encode(vae, part).float() for part in parts])


def scaled(pipe: Any, image_latents: ImageLatents) -> Latents:
    """z: what is diffused, the encoded picture times ``vae.config.scaling_factor``."""
    return image_latents * pipe.vae.config.scaling_factor


def decode(pipe: Any, latents: Latents) -> Pixels:
    """Scaled latents to a float32 picture in [-1, 1] (the ends may be overshot a little)."""
    import torch

    height, width = (side * latent_factor(pipe) for side in latents.shape[-2:])
    rows = 1 if tiled(pipe) else at_once(height, width, len(latents))
    with torch.no_grad(), _safe_vae(pipe) as vae:
        parts = (part.to(dtype_of(vae)) / vae.config.scaling_factor for part in latents.split(rows))
        return torch.cat([tiling.decode(vae, part).float() for part in parts])


@contextlib.contextmanager
def _safe_vae(pipe: Any) -> Iterator[Any]:
    """The autoencoder in a dtype that it is safe in: float32 for a while, if it says that float16 overflows."""
    import torch

    vae = pipe.vae
    movable = not any(p.device.type == "meta" for p in vae.parameters())
    if dtype_of(vae) != torch.float16 or not getattr(vae.config, "force_upcast", False) or not movable:
        yield vae
        return
    vae.to(torch.float32)
    try:
        yield vae
    finally:
        vae.to(torch.float16)


@contextlib.contextmanager
def memory_errors(message: str) -> Iterator[None]:
    """Lack of memory, however torch says it, as a ``ShowtellError`` with this message."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ShowtellError(message) from error
    except RuntimeError as error:
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):
            raise ShowtellError(message) from error
        raise


def offloaded(pipe: Any) -> bool:
    """Whether weights rest on the meta device while they are not used, so that no fingerprint can be taken of them."""
    parts = (getattr(pipe, name, None) for name in part_names(pipe))
    return any(p.is_meta for part in parts if part is not None for p in part.parameters())


def release(pipe: Any) -> None:
    """Move offloaded networks back where they rest, as stock pipelines do after a run."""
    hooks = getattr(pipe, "maybe_free_model_hooks", None)
    if hooks is not None:
        hooks()


def flagged(pipe: Any, pixels: Pixels) -> Sequence[bool]:
    """What the pipeline's own safety checker, if it has one, says of each decoded picture."""
    if getattr(pipe, "safety_checker", None) is None:
        return [False] * len(pixels)
    _, found = pipe.run_safety_checker(pixels, device_of(pipe), dtype_of(pipe.unet))
    return list(found) if found is not None else [False] * len(pixels)


def weights_hash(pipe: Any, *, parts: Sequence[str] | None = None, samples: int = 64) -> str:
    """The fingerprint (``fingerprint.of``) of a pipeline's networks, or of the ``parts`` named: 16 hexadecimal digits."""
    names = part_names(pipe) if parts is None else parts
    return fingerprint.of({name: getattr(pipe, name) for name in names}, samples=samples)
