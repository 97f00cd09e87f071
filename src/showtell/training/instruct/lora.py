"""Low-rank adapters (LoRA): only they learn, and they are saved as diffusers' ``load_lora_weights`` takes them.

The layer W x becomes W x + (alpha / rank) B A x, with A (rank, in) drawn at random and B (out, rank) zero: so the start computes
what the network computed before.
"""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from showtell import loading
from showtell.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .settings import Lora

ADAPTER = "default"
#: The name that stock pipelines look for.
FILE = loading.ADAPTERS
_MARK = ".lora_"


def attach(unet: Any, lora: Lora, seed: int, *, widened: bool = False) -> None:
    """Put adapters on the UNet, in place, drawn from ``seed`` alone, in float32 whatever the network is held in.

    From then on only they require gradients, and ``conv_in`` too where it was ``widened`` from four channels: its new weights
    are zero, and no adapter could teach it to look. With ``lora.dropout`` the adapters draw from torch's global generator in
    each forward: seed that by step for a run that can be resumed. Raises ``UsageError`` for targets that the UNet does not
    have, or a UNet that has adapters already.
    """
    from peft import LoraConfig

    if getattr(unet, "peft_config", None):
        raise UsageError("the UNet has adapters already: fuse or unload them before training new ones")
    _check_targets(unet, lora)
    with torch.random.fork_rng():  # peft draws the adapters from the global generator; they are drawn anew below
        unet.add_adapter(LoraConfig(**settings(lora)), adapter_name=ADAPTER)
    for name, parameter in unet.named_parameters():
        learns = _MARK in name or (widened and name.startswith("conv_in."))
        parameter.requires_grad_(learns)
        if learns:
            parameter.data = parameter.data.float()
        if ".lora_A." in name:
            _draw(parameter, name, seed)


def settings(lora: Lora) -> dict[str, Any]:
    """The arguments of peft's ``LoraConfig``."""
    return {
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": list(lora.targets),
    }


def _check_targets(unet: Any, lora: Lora) -> None:
    for target in lora.targets:
        found = [layer for name, layer in unet.named_modules() if name == target or name.endswith(f".{target}")]
        if not found:
            raise UsageError(
                f"lora.targets: the UNet has no layer {target!r}: name some, such as to_q, to_k, to_v, to_out.0"
            )
        if not any(isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)) for layer in found):
            raise UsageError(f"lora.targets: {target!r} is neither a linear layer nor a convolution")


@torch.no_grad()
def _draw(parameter: torch.nn.Parameter, name: str, seed: int) -> None:
    """U(-1/sqrt(in), 1/sqrt(in)), as peft has it, but the same on every device and in every process."""
    key = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "big")
    bound = 1 / math.sqrt(math.prod(parameter.shape[1:]))
    drawn = torch.rand(parameter.shape, generator=torch.Generator().manual_seed(key))
    parameter.copy_((2 * drawn - 1) * bound)


def layers(unet: Any, state: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """The adapters' tensors by the names that files have: the UNet's own, or those of ``state`` by its parameters' names."""
    held = dict(unet.named_parameters()) | dict(state or {})
    return {
        name.replace(f".{ADAPTER}.", "."): tensor.detach().float().cpu().contiguous()
        for name, tensor in held.items()
        if _MARK in name
    }


def save(
    unet: Any, folder: str | os.PathLike[str], pipe: Any, *, state: Mapping[str, torch.Tensor] | None = None
) -> Path:
    """Write the adapters as ``folder/pytorch_lora_weights.safetensors``, by diffusers' own function, with their rank and alpha;
    ``state`` holds tensors (such as averaged ones) that take the place of the UNet's own.
    """
    told = unet.peft_config[ADAPTER].to_dict()
    type(pipe).save_lora_weights(
        os.fspath(folder),
        unet_lora_layers=layers(unet, state),
        unet_lora_adapter_metadata={name: _plain(value) for name, value in told.items()},
    )
    return Path(folder) / FILE


def _plain(value: Any) -> Any:
    """Sets in a fixed order, so that the same adapters make the same file."""
    return sorted(value) if isinstance(value, set) else value


def without(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A UNet's tensors by the names that they have without adapters; the adapters' own are left out."""
    return {name.replace(".base_layer.", "."): tensor for name, tensor in state.items() if _MARK not in name}
