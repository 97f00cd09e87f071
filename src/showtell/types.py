"""Shape aliases. Annotations only: nothing here runs, and nothing heavy is imported."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, Union

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

#: (B, 4, h, w) scaled latents of the autoencoder.
Latents: TypeAlias = "torch.Tensor"
#: (B, 4, h, w) unscaled mode of the encoded input picture; zeros for "no picture".
ImageLatents: TypeAlias = "torch.Tensor"
#: (B, 77, d) last hidden state of the text encoder.
PromptEmbeds: TypeAlias = "torch.Tensor"
#: (B, 3, H, W) float picture in [-1, 1].
Pixels: TypeAlias = "torch.Tensor"
#: (B, 1, h, w) float mask in [0, 1]; 1 is where the edit happens.
LatentMask: TypeAlias = "torch.Tensor"

#: Whatever a picture may be given as: a path, encoded bytes, a PIL picture, an (H, W[, C])
#: array (uint8, uint16 or float in [0, 1]) or a (C, H, W) tensor in [0, 1].
ImageLike: TypeAlias = Union[str, "os.PathLike[str]", bytes, "Image.Image", "np.ndarray", "torch.Tensor"]

#: A half-open range of token positions, start to end.
Span: TypeAlias = tuple[int, int]

#: Called after each step with the step's index (from 0), the number of steps and the latents.
StepCallback: TypeAlias = Callable[[int, int, Any], None]
