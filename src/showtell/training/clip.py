"""starter-clip: both towers from nothing, contrastively, as CLIP was trained.

Beside the pictures and their captions (symmetric cross-entropy over the batch), the text tower also learns what
instructions mean: the direction from the before to the after picture's embedding is matched with the instruction's,
through a projection that is thrown away afterwards. Without it the words of instructions would stay as they were drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from showtell.training.corpus import Corpus
from showtell.training.loop import Report, fit, generator, half_precision
from showtell.training.settings import Preset
from showtell.training.tokenizer import POSITIONS

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPTokenizer

WIDTH = 128
"""Width of the text tower, and so the cross-attention width of the starters."""
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def new_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained pair of towers for 64×64 pictures and `tokenizer`'s words."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=64,
        patch_size=8,
        projection_dim=WIDTH,
    )
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH)
    # attention written out is twice as fast as the fused one in bf16 on a CPU, backward pass included
    config._attn_implementation = "eager"
    return CLIPModel(config)


def normalise(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] to what the vision tower was trained on (its preprocessor's mean and std)."""
    mean, std = (torch.tensor(v, device=pictures.device)[:, None, None] for v in (MEAN, STD))
    return (pictures - mean) / std


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids (B, 77), padded and cut."""
    out = tokenizer(texts, padding="max_length", max_length=POSITIONS, truncation=True, return_tensors="pt")
    return out.input_ids


def match(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy between rows of a and b."""
    logits = scale * F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
    target = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _crop(ids: Tensor, tokenizer: CLIPTokenizer) -> Tensor:
    """Token ids without the columns that are padding in every row (the tower is causal: nothing is lost)."""
    return ids[:, : int((ids != tokenizer.pad_token_id).sum(1).max()) + 1]


class _Towers(nn.Module):
    """CLIP and the projection of instructions that only training needs."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip
        self.instruction = nn.Linear(WIDTH, WIDTH, bias=False)

    def images(self, pictures: Tensor) -> Tensor:
        return self.clip.get_image_features(pixel_values=normalise(pictures)).pooler_output

    def pooled(self, ids: Tensor) -> Tensor:
        return self.clip.text_model(input_ids=ids).pooler_output


def train_clip(
    corpus: Corpus, tokenizer: CLIPTokenizer, preset: Preset, folder: Path, *, seed: int, device: str, report: Report
) -> CLIPModel:
    """Train both towers and return them with their averaged weights."""
    torch.manual_seed(seed)
    towers = _Towers(new_clip(tokenizer)).to(device)
    texts = {
        "captions": [tokenize(tokenizer, [e.captions[side].text for e in corpus.entries]) for side in (0, 1)],
        "instruction": tokenize(tokenizer, [e.instruction.text for e in corpus.entries]),
    }

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        index = torch.randint(len(corpus), (preset.clip.batch,), generator=generator(seed, step))
        before, after = (corpus.picture(index.numpy(), side).to(device) for side in (0, 1))
        captions = torch.cat([texts["captions"][side][index] for side in (0, 1)])
        told_ids = texts["instruction"][index]
        with half_precision(device, wanted=preset.autocast):
            pictures = towers.images(torch.cat((before, after)))
            words = towers.clip.text_projection(towers.pooled(_crop(captions, tokenizer).to(device)))
            told = towers.instruction(towers.pooled(_crop(told_ids, tokenizer).to(device)))
        pictures, words, told = pictures.float(), words.float(), told.float()
        scale = towers.clip.logit_scale.exp().clamp(max=100)
        contrast = match(pictures, words, scale)
        old, new = F.normalize(pictures, dim=-1).chunk(2)
        direction = match(new - old, told, scale)
        return contrast + 0.5 * direction, {
            "contrast": float(contrast.detach()),
            "direction": float(direction.detach()),
        }

    ema = fit("clip", towers, loss_at, preset.clip, folder, report=report)
    towers.load_state_dict(ema)
    return towers.clip.eval().requires_grad_(False)
