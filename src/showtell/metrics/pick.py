"""PickScore (Kirstain et al. 2023): a CLIP tuned on what people preferred, as a score of a picture for a text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UsageError
from .batches import as_pictures, as_texts
from .clip import Clip, clip_i

if TYPE_CHECKING:
    import torch

    from .batches import Pictures


# The published weights come without a tokenizer and an image processor: they were tuned with these.
_BESIDE = {"yuvalkirstain/PickScore_v1": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"}


@dataclass(frozen=True, kw_only=True, eq=False)
class PickScore:
    """The CLIP that was tuned, as ``clip``. ``name`` is its name."""

    clip: Clip

    @property
    def name(self) -> str:
        """What it was loaded under."""
        return self.clip.name

    @property
    def scale(self) -> float:
        """e to the model's logit scale: what a cosine is multiplied with, 100 in the published weights."""
        return float(self.clip.model.logit_scale.detach().exp())


def load_pick_score(
    name: str | os.PathLike[str] = "yuvalkirstain/PickScore_v1", *, device: str = "cpu", processor: str | None = None
) -> PickScore:
    """PickScore from a folder or a hub id, on ``device``: a CLIP with both towers as safetensors.

    ``processor`` is the folder or hub id of its tokenizer and image processor where they do not lie with the weights; the
    published ones are those of ``laion/CLIP-ViT-H-14-laion2B-s32B-b79K``. Raises ``ModelError``, one line, for what cannot be
    loaded.
    """
    beside = processor or _BESIDE.get(os.fspath(name))
    return PickScore(clip=Clip.load(name, device=device, processor=beside))


def pick_score(model: PickScore, image: Pictures, text: str | Sequence[str]) -> torch.Tensor:
    """e^logit_scale cos(image, text): (B,), higher is better. A single string is the text of every picture."""
    opened = as_pictures(image)
    texts = as_texts(text, len(opened))
    return from_features(model, model.clip.image_features(opened), model.clip.text_features(texts))


def pick_preference(model: PickScore, images: Pictures, text: str) -> torch.Tensor:
    """How the model shares its preference between K pictures that were made for one text: (K,), adding up to 1.

    The softmax of their :func:`pick_score`; FoI's Table 1 averages it over pictures. Raises ``UsageError`` for fewer than two.
    """
    scores = pick_score(model, images, text)
    if len(scores) < 2:
        raise UsageError("a preference is between two pictures at least")
    return scores.softmax(0)


def from_features(model: PickScore, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """:func:`pick_score` of features (B, p) that were already made."""
    return model.scale * clip_i(image, text)
