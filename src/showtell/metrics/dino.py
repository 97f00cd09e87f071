"""What a DINO says of pictures: the similarity of their class tokens (DINO-I), and the distance of their structures.

Any vision transformer with a class token that transformers loads will do: DINOv2, DINO, ViT. Its name is part of the figure's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import loading
from ..errors import ModelError
from .batches import as_pictures, same_count
from .clip import bounded, clip_i

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from .batches import Pictures

_CHUNK = 16
_KEYS = ("k_proj", "key")


@dataclass(frozen=True, kw_only=True, eq=False)
class Dino:
    """A vision transformer in float32 as ``model``, the image ``processor`` that prepares its pictures, and its ``name``."""

    model: Any
    processor: Any
    name: str = "dino"

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    def features(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """The class token after the last layer's normalisation, (N, d), of N pictures of any size; not made unit length."""
        return self._batched(
            pictures, lambda part: self._run(self._prepared([bounded(one) for one in part])).last_hidden_state[:, 0]
        )

    def keys(self, pictures: Sequence[Image.Image], *, side: int = 224, layer: int = -1) -> torch.Tensor:
        """The keys of a layer's attention, all heads side by side, (N, tokens, d); the class token's is the first.

        Pictures are scaled to ``side`` x ``side`` (bicubic, antialiased) and normalised with the model's mean and deviation.
        """
        return self._batched(pictures, lambda part: self._keys(_square(part, self.processor, side), layer))

    def _batched(self, pictures: Sequence[Image.Image], run: Any) -> torch.Tensor:
        import torch

        parts = [pictures[first : first + _CHUNK] for first in range(0, len(pictures), _CHUNK)]
        with torch.no_grad():
            return torch.cat([run([picture.convert("RGB") for picture in part]) for part in parts]).float()

    def _prepared(self, pictures: list[Image.Image]) -> torch.Tensor:
        return self.processor(images=pictures, return_tensors="pt").pixel_values

    def _run(self, pixels: torch.Tensor) -> Any:
        """Positions are interpolated where the pictures are not of the size that it was trained on."""
        own = self.model.config.image_size
        own = (own, own) if isinstance(own, int) else tuple(own)
        more = {"interpolate_pos_encoding": True} if pixels.shape[-2:] != own and _asks(self.model) else {}
        return self.model(pixel_values=pixels.to(self.device), **more)

    def _keys(self, pixels: torch.Tensor, layer: int) -> torch.Tensor:
        found: list[torch.Tensor] = []
        modules = [m for name, m in self.model.named_modules() if name.rsplit(".", 1)[-1] in _KEYS]
        if not modules or not -len(modules) <= layer < len(modules):
            raise ModelError(
                f"{self.name}: has {len(modules)} layers with keys of attention: there is no layer {layer}"
            )
        hook = modules[layer].register_forward_hook(lambda module, given, made: found.append(made))
        try:
            self._run(pixels)
        finally:
            hook.remove()
        return found[0]


def load_dino(
    name: str | os.PathLike[str], *, device: str = "cpu", resize: int | None = None, crop: int | None = None
) -> Dino:
    """A DINO from a folder or a hub id, such as ``facebook/dinov2-base``, as safetensors, on ``device``.

    Pictures are prepared by its own image processor, or, with ``resize``, the shorter side is scaled to so many pixels
    (bicubic) and the middle ``crop`` (by default ``resize``) taken, normalised with the model's mean and deviation. Raises
    ``ModelError``, one line, for what cannot be loaded or has no class token.
    """
    model, processor = loading.load_vision(name)
    if resize is not None:
        processor = _processor(processor, {"shortest_edge": resize}, crop or resize)
    return Dino(model=model.to(loading.pick_device(device)), processor=processor, name=os.fspath(name))


def dino_image(dino: Dino, a: Pictures, b: Pictures) -> torch.Tensor:
    """DINO-I, cos(DINO(a), DINO(b)) of class tokens, pair by pair: (B,) in [-1, 1]."""
    first, second = as_pictures(a, "the first pictures"), as_pictures(b, "the second pictures")
    same_count(first_pictures=first, second_pictures=second)
    return clip_i(dino.features(first), dino.features(second))


def structure_distance(dino: Dino, a: Pictures, b: Pictures, *, side: int = 224, layer: int = -1) -> torch.Tensor:
    """How differently two pictures are laid out: the mean squared difference of S(a) and S(b), (B,), 0 for equal pictures.

    S_ij = cos(k_i, k_j) over the keys of the last layer's attention, all heads joined, class token included (Tumanyan et al.
    2022); published figures are of DINO ViT-B/8 at 224 pixels. Pictures are scaled to ``side`` x ``side``.
    """
    import torch

    first, second = as_pictures(a, "the first pictures"), as_pictures(b, "the second pictures")
    count = same_count(first_pictures=first, second_pictures=second)
    gaps = []
    for i in range(0, count, _CHUNK):  # S is large: 785 x 785 for ViT-B/8
        one, other = (_similarity(dino.keys(p[i : i + _CHUNK], side=side, layer=layer)) for p in (first, second))
        gaps.append((one - other).square().flatten(1).mean(1))
    return torch.cat(gaps)


def _similarity(keys: torch.Tensor) -> torch.Tensor:
    import torch.nn.functional as F

    unit = F.normalize(keys, dim=-1)
    return unit @ unit.transpose(1, 2)


def _square(pictures: list[Image.Image], processor: Any, side: int) -> torch.Tensor:
    return _processor(processor, {"height": side, "width": side}, None)(
        images=pictures, return_tensors="pt"
    ).pixel_values


def _processor(like: Any, size: dict[str, int], crop: int | None) -> Any:
    """A processor with another size and the same mean and deviation."""
    from PIL import Image
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(
        size=size, do_center_crop=crop is not None, crop_size=crop or 0, resample=Image.Resampling.BICUBIC,
        image_mean=list(like.image_mean), image_std=list(like.image_std),
    )  # fmt: skip


def _asks(model: Any) -> bool:
    """Whether a model interpolates its positions only when it is told to (ViT), and not always (DINOv2)."""
    import inspect

    return "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
