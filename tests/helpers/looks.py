"""Learned instructions made by hand: every shape is right, no learning is run."""

from __future__ import annotations

import json
import struct

import torch

from showtell import instruction, models
from showtell.learned import LearnedFor, LearnedInstruction
from showtell.starts import RecordedNoise

#: A learning that takes a moment.
QUICK = {
    "steps": 4,
    "timesteps_per_step": 2,
    "learning_rate": 0.05,
    "clip_weight": 0.0,
    "check_every": 2,
    "check_timesteps": 2,
    "num_tokens": 3,
}


def made(pipe, name="night", *, tokens=4, seed=0, noise=False, thumbnails=False, pictures=None):
    """A look for this pipeline, with other random tokens for each seed; ``noise`` recorded at three timesteps."""
    from PIL import Image

    filler = instruction.Words(text="", ids=(pipe.tokenizer.pad_token_id,) * tokens)
    ids, spans = instruction.lay_out(pipe, [filler])
    embeds = models.encode_ids(pipe, torch.tensor([ids]))[0].cpu()
    empty = instruction.assemble(pipe, [instruction.Words(text="")])[0].cpu()
    start, end = spans[0]
    generator = torch.Generator().manual_seed(seed)
    embeds[start:end] = torch.randn(tokens, embeds.shape[1], generator=generator)
    if thumbnails:
        pictures = tuple(Image.new("RGB", (12, 8), colour) for colour in ("red", "blue"))
    return LearnedInstruction(
        name=name, embeds=embeds, empty_embeds=empty, ids=tuple(ids), span=(start, end), how={"seed": seed},
        model=LearnedFor(
            id="tiny", text_encoder=models.weights_hash(pipe, parts=("text_encoder",)), weights=models.weights_hash(pipe)
        ),
        noise=recorded([10, 500, 900], seed=seed) if noise else None, thumbnails=(pictures,) if pictures else (),
    )  # fmt: skip


def recorded(timesteps, *, shape=(4, 8, 8), seed=0):
    """Noises for these timesteps."""
    values = torch.randn((len(timesteps), *shape), generator=torch.Generator().manual_seed(seed)).half()
    return RecordedNoise(timesteps=torch.tensor(timesteps), values=values)


def header(content: bytes) -> dict:
    """What a learned instruction's file says beside its tensors."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["showtell"])
