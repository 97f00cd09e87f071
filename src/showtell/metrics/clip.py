"""CLIP features, and the cosines that edits are measured with.

The model is whichever CLIP was loaded (``Clip.name``): a measure's name is only whole with it. Pictures go in at the model's
own size (224 pixels a side for OpenAI's ViT-L/14, 64 for ``starter-clip``), prepared by its own image processor: shorter side
scaled to that size, centre-cropped, scaled to [0, 1] and normalised with its mean and deviation. Texts are cut where the text
encoder's sequence ends (77 tokens). Everything is float32, and no feature is normalised before it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import loading
from ..errors import ModelError

if TYPE_CHECKING:
    import torch
    from PIL import Image

_CHUNK = 64
# A longer picture loses its ends before it is scaled: the processor crops far more away, but only after scaling it whole.
_LONGEST = 16
# Features that differ by less than this share of their length are the same but for float32's rounding: equal pictures in other
# batches differ by 3e-7 on starter-clip, one grey level in one pixel by 9e-6.
_ROUNDING = 2e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """A CLIP with both towers, ``model`` in float32, its ``tokenizer``, its image ``processor``, and its ``name``."""

    model: Any
    tokenizer: Any
    processor: Any
    name: str = "clip"

    @classmethod
    def load(
        cls, name: str | os.PathLike[str] = "starter-clip", *, device: str = "cpu", processor: str | None = None
    ) -> Clip:
        """``starter-clip``, a folder or a hub id, on ``device`` (``auto`` or a torch device). ``processor`` names where its
        tokenizer and image processor are, if not with the weights.

        Raises ``ModelError`` for what cannot be loaded and ``UsageError`` for a device that is not there.
        """
        target = loading.pick_device(device)
        model, tokenizer, prepare = loading.load_clip(name, processor=processor)
        return cls(model=model.to(target), tokenizer=tokenizer, processor=prepare, name=os.fspath(name))

    @property
    def device(self) -> torch.device:
        """Where the model runs, and where features are."""
        return self.model.device

    @property
    def room(self) -> int:
        """Length of the text encoder's sequence, start and end included: 77."""
        return min(int(self.tokenizer.model_max_length), int(self.model.config.text_config.max_position_embeddings))

    def image_features(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Projected features (N, p) of N pictures of any size, float32, *not* normalised; no gradient is kept."""
        import torch

        found = [torch.zeros(0, self.model.config.projection_dim, device=self.device)]
        for part in _parts(pictures):
            ready = [bounded(picture.convert("RGB")) for picture in part]
            pixels = self.processor(images=ready, return_tensors="pt").pixel_values
            with torch.no_grad():
                found.append(self.model.get_image_features(pixel_values=pixels.to(self.device)).pooler_output)
        return torch.cat(found).float()

    def text_features(self, texts: Sequence[str]) -> torch.Tensor:
        """Projected features (N, p) of N texts, float32, *not* normalised; no gradient is kept. Long texts are cut."""
        import torch

        found = [torch.zeros(0, self.model.config.projection_dim, device=self.device)]
        for part in _parts(texts):
            ids = self.tokenizer(
                list(part), padding=True, truncation=True, max_length=self.room, return_tensors="pt"
            ).input_ids
            with torch.no_grad():
                # The tower is causal and reads the first end of text: what pads behind it changes nothing.
                found.append(self.model.get_text_features(input_ids=ids.to(self.device)).pooler_output)
        return torch.cat(found).float()

    def embedded_text_features(self, embeds: torch.Tensor) -> torch.Tensor:
        """Projected features (N, p) of texts given as input embeddings (N, n, d) of their n tokens, before positions are
        added; start and end of text are put around them here. Differentiable.
        """
        import torch
        from transformers.masking_utils import create_causal_mask

        tower, words = self.model.text_model, self.tokenizer
        table = tower.embeddings.token_embedding.weight
        start, end = (table[i].expand(len(embeds), 1, -1) for i in (words.bos_token_id, words.eos_token_id))
        hidden = tower.embeddings(inputs_embeds=torch.cat([start, embeds.to(table), end], dim=1))
        mask = create_causal_mask(config=tower.config, inputs_embeds=hidden, attention_mask=None, past_key_values=None)
        hidden = tower.encoder(inputs_embeds=hidden, attention_mask=mask, is_causal=True).last_hidden_state
        return self.model.text_projection(tower.final_layer_norm(hidden)[:, -1]).float()

    def project_text(self, hidden: torch.Tensor) -> torch.Tensor:
        """CLIP's text projection P alone: (d,) or (N, d) to (p,) or (N, p), on the same device. Differentiable.

        Raises ``ModelError`` if ``hidden`` is not as wide as this CLIP's text encoder.
        """
        import torch.nn.functional as F

        weight = self.model.text_projection.weight.detach()
        if hidden.shape[-1] != weight.shape[1]:
            raise ModelError(
                f"{self.name}: its text encoder is {weight.shape[1]} wide and the tokens {hidden.shape[-1]}: "
                "take the CLIP that the editing model's text encoder comes from"
            )
        return F.linear(hidden.float(), weight.to(hidden.device).float())


def clip_i(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """CLIP-I, cos(x, y) of picture features (N, p), row by row: (N,) in [-1, 1]. A feature of zeros gives NaN."""
    return _cosine(x, y)


def clip_d(
    image_before: torch.Tensor,
    image_after: torch.Tensor,
    text_before: torch.Tensor,
    text_after: torch.Tensor,
    *,
    unit: bool = False,
) -> torch.Tensor:
    """Directional CLIP, cos(image_after - image_before, text_after - text_before), row by row: (N, p) to (N,) in [-1, 1].

    With ``unit``, features are made unit length before they are subtracted, as InstructPix2Pix's published code does.
    Where a picture or a text did not change there is no direction, and the value is NaN: count those, do not average
    them.
    """
    features = (image_before, image_after, text_before, text_after)
    if unit:
        features = tuple(one.float() / one.float().norm(dim=-1, keepdim=True) for one in features)
    return _cosine(_direction(*features[:2]), _direction(*features[2:]))


def visual_clip(
    before: torch.Tensor, after: torch.Tensor, new_before: torch.Tensor, new_after: torch.Tensor
) -> torch.Tensor:
    """Visual CLIP, cos(after - before, new_after - new_before) of picture features (VISII, section 4), row by row:
    (N, p) to (N,) in [-1, 1]. NaN where a pair's two pictures are the same: count those, do not average them.
    """
    return _cosine(_direction(before, after), _direction(new_before, new_after))


def _cosine(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Unlike torch's own, NaN where a vector has no length."""
    x, y = x.float(), y.float()
    return ((x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))).clamp(-1, 1)


def _direction(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """after - before, and zeros where that is nothing but rounding."""
    import torch

    difference = after.float() - before.float()
    same = difference.norm(dim=-1, keepdim=True) <= _ROUNDING * before.float().norm(dim=-1, keepdim=True)
    return torch.where(same, torch.zeros_like(difference), difference)


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), _CHUNK):
        yield items[first : first + _CHUNK]


def bounded(picture: Image.Image) -> Image.Image:
    """The middle of a very long picture; any other as it is."""
    width, height = picture.size
    limit = _LONGEST * min(width, height)
    left, top = (max(0, (side - limit) // 2) for side in (width, height))
    return picture.crop((left, top, width - left, height - top)) if left or top else picture
