"""The trained editor as a folder that diffusers and showtell load."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .settings import Config


def save_model(
    pipe: Any,
    unet_state: Mapping[str, torch.Tensor],
    folder: str | os.PathLike[str],
    config: Config,
    figures: Mapping[str, Any],
    *,
    widened: bool = False,
    force: bool = False,
) -> Path:
    """Write the model, whole or not at all. ``unet_state``: the learned tensors of ``pipe.unet`` (the averaged ones), by the
    names of its parameters; the pipeline itself is left as it is. ``widened``: the training started from a 4-channel model.
    """
    raise NotImplementedError
