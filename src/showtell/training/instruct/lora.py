"""Low-rank adapters (LoRA): only they learn, and they are saved as diffusers' ``load_lora_weights`` takes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .settings import Lora


def attach(unet: Any, lora: Lora, seed: int, *, widened: bool = False) -> None:
    """Put adapters on the UNet, in place, drawn from ``seed`` alone; only they require gradients, and ``conv_in`` where it
    was ``widened`` from four channels. Raises ``UsageError`` for targets that the UNet does not have.
    """
    raise NotImplementedError


def save(unet: Any, folder: Path, pipe: Any) -> None:
    """Write the adapters as ``folder/pytorch_lora_weights.safetensors``."""
    raise NotImplementedError
