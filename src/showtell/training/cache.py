"""What stays the same while a denoiser is trained is computed once: latents, text embeddings, marks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from showtell.training.clip import tokenize
from showtell.training.corpus import Corpus, Text
from showtell.training.grounding import Marks
from showtell.training.loop import Report

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from transformers import CLIPModel, CLIPTokenizer

_BLOCK = 128


@torch.no_grad()
def cache_latents(vae: AutoencoderKL, corpus: Corpus, path: Path, *, device: str, report: Report) -> np.ndarray:
    """The unscaled modes of all pictures: (N, 2, 4, 16, 16), float16, kept in `path`."""
    if path.exists():
        return np.load(path, mmap_mode="r")
    out = np.empty((len(corpus), 2, 4, 16, 16), np.float16)
    for start in range(0, len(corpus), _BLOCK):
        index = np.arange(start, min(start + _BLOCK, len(corpus)))
        for side in (0, 1):
            mode = vae.encode(corpus.picture(index, side).to(device) * 2 - 1).latent_dist.mode()
            out[index, side] = mode.cpu().numpy()
        report("latents", int(index[-1]) + 1, len(corpus), {})
    _write(path, out)
    return out


def _write(path: Path, array: np.ndarray) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, array)
    part.replace(path)


@dataclass(frozen=True)
class Words:
    """Text embeddings of distinct texts, (U, 77, d) float16, which of them each entry uses, and the marks of each entry."""

    embeds: Tensor
    rows: np.ndarray
    marks: list[tuple[tuple[int, int], ...]]

    def of(self, index: np.ndarray) -> Tensor:
        return self.embeds[torch.from_numpy(self.rows[index])].float()


@torch.no_grad()
def embed(clip: CLIPModel, tokenizer: CLIPTokenizer, texts: list[Text], *, device: str, report: Report) -> Words:
    """Embed texts with the frozen text tower, each distinct one once."""
    distinct = {t: i for i, t in enumerate(dict.fromkeys(t.text for t in texts))}
    known, blocks = list(distinct), []
    for start in range(0, len(known), _BLOCK):
        ids = tokenize(tokenizer, known[start : start + _BLOCK]).to(device)
        blocks.append(clip.text_model(input_ids=ids).last_hidden_state.half().cpu())
        report("texts", min(start + _BLOCK, len(known)), len(known), {})
    return Words(torch.cat(blocks), np.array([distinct[t.text] for t in texts]), [t.marks for t in texts])


def marks_of(words: Words, entries: np.ndarray, regions: np.ndarray, weights: Tensor) -> Marks:
    """The marks of a batch. `regions`: (B, 13, 16, 16) uint8 of the same samples; weights (B,): 0 leaves a sample out."""
    rows, tokens, targets = [], [], []
    counts = weights.tolist()  # once: asking a GPU for each sample's weight would wait for it each time
    for b, entry in enumerate(entries):
        if counts[b] == 0:
            continue
        for token, region in words.marks[entry]:
            if regions[b, region].any():
                rows.append(b)
                tokens.append(token)
                targets.append(torch.from_numpy(regions[b, region].astype(np.float32)).flatten())
    device = weights.device
    at = torch.tensor(rows, dtype=torch.long, device=device)
    target = torch.stack(targets).to(device) if targets else torch.zeros(0, 1, device=device)
    return Marks(at, torch.tensor(tokens, dtype=torch.long, device=device), target, weights[at])
