"""What the frozen parts make of rows: latents of both pictures, encoded as they come or once and kept on disk, and words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from showtell import files, fitting, models
from showtell.errors import OutputError
from showtell.training.instruct import buckets, rows
from showtell.training.instruct.rows import Example, Examples

BLOCK = 32
"""Rows that lie in one file of the cache."""
ENCODED_PIXELS = 2**20
"""Pixels that go through the autoencoder at once: its first feature maps are far larger than anything else in a training."""
_MOST_WORDS = 512 * 2**20
"""Bytes of text embeddings that are kept in memory; data sets with more distinct texts have theirs encoded as they come."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Latents of rows, each (B, 4, h, w) float32: the unscaled mode of the picture before; mean and deviation of the unscaled
    posterior of the picture after."""

    before: Tensor
    mean: Tensor
    deviation: Tensor


def pixels(
    examples: Sequence[Example], frame: tuple[int, int], flips: Sequence[bool], crops: Sequence[tuple[float, float]]
) -> Tensor:
    """The pictures before, then the pictures after, scaled and cropped to a frame: (2 B, 3, H, W) in [-1, 1]."""
    from PIL import Image, ImageOps

    found = []
    for side in ("before", "after"):
        for example, flip, at in zip(examples, flips, crops, strict=True):
            image = rows.opened(example, side)
            box = buckets.cover(image.size, frame, at)
            if image.size != frame:
                image = image.resize(frame, Image.Resampling.LANCZOS, box=box)
            found.append(ImageOps.mirror(image) if flip else image)
    return fitting.to_pixels(found)


@torch.no_grad()
def encode(pipe: Any, pictures: Tensor) -> Encoded:
    """Latents of what :func:`pixels` gives, a few pictures at a time."""
    device, dtype = models.device_of(pipe), models.dtype_of(pipe.vae)
    at_once = max(1, ENCODED_PIXELS // (pictures.shape[-2] * pictures.shape[-1]))
    parts = [pipe.vae.encode(some.to(device, dtype)).latent_dist for some in pictures.split(at_once)]
    half = len(pictures) // 2
    mean, deviation = (torch.cat([getattr(part, key).float() for part in parts]) for key in ("mean", "std"))
    return Encoded(
        before=mean[:half], mean=mean[half:], deviation=deviation[half:]
    )  # the mode of a normal one is its mean


class Cache:
    """Latents of every row, and of every mirrored row where pictures are flipped, in blocks of rows of one frame.

    The folder's name is a hash of the autoencoder's weights, of the frames and of all rows; so nothing stale is ever read. Blocks
    are whole or not there: making them goes on where it was stopped, and processes share the work.
    """

    def __init__(self, out: Path, pipe: Any, examples: Examples, *, flip: bool, half: bool) -> None:
        self.examples, self.sides, self.dtype = examples, (False, True) if flip else (False,), None
        self.dtype = torch.float16 if half else torch.float32
        told = json.dumps([models.weights_hash(pipe, parts=["vae"]), examples.fingerprint, str(self.dtype), BLOCK])
        self.folder = out / "cache" / f"latents-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
        self.blocks: list[list[int]] = []
        self.place: dict[int, tuple[int, int]] = {}
        for frame in range(len(examples.frames)):
            members = [i for i, one in enumerate(examples.train) if one.frame == frame]
            self.blocks += [members[i : i + BLOCK] for i in range(0, len(members), BLOCK)]
        for number, block in enumerate(self.blocks):
            self.place |= {row: (number, at) for at, row in enumerate(block)}

    def path(self, number: int, flip: bool) -> Path:
        """The file of a block."""
        return self.folder / f"block-{number:06d}{'-mirrored' if flip else ''}.safetensors"

    def fill(self, pipe: Any, *, rank: int, world: int, tick: Callable[[int, int], None]) -> None:
        """Make the blocks that are missing, this process its share. Raises ``OutputError`` where the disk is full."""
        files.make_folder(self.folder)
        wanted = [(number, flip) for number in range(len(self.blocks)) for flip in self.sides][rank::world]
        for done, (number, flip) in enumerate(wanted, start=1):
            if not self.path(number, flip).exists():
                self._make(pipe, number, flip=flip)
            tick(done, len(wanted))

    def _make(self, pipe: Any, number: int, *, flip: bool) -> None:
        from safetensors.torch import save

        own = [self.examples.train[i] for i in self.blocks[number]]
        frame = self.examples.frames[own[0].frame]
        found = encode(pipe, pixels(own, frame, [flip] * len(own), [(0.5, 0.5)] * len(own)))
        tensors = {key: value.to(self.dtype).cpu().contiguous() for key, value in vars(found).items()}
        files.write_atomic(self.path(number, flip), save(tensors), force=True)

    def read(self, indices: Sequence[int], flips: Sequence[bool]) -> Encoded:
        """Latents of rows, on the CPU."""
        found: list[dict[str, Tensor]] = []
        for row, flip in zip(indices, flips, strict=True):
            number, at = self.place[row]
            path = self.path(number, flip)
            try:
                with safe_open(path, "pt") as file:
                    found.append(
                        {key: file.get_slice(key)[at : at + 1].float() for key in ("before", "mean", "deviation")}
                    )
            except (OSError, SafetensorError) as error:
                raise OutputError(
                    f"{path}: cannot be read ({error}); remove the file, and the next run makes it again"
                ) from error
        return Encoded(**{key: torch.cat([one[key] for one in found]) for key in ("before", "mean", "deviation")})


class Words:
    """Text embeddings (77, d) float32 of rows, and of no words.

    Each distinct text is encoded once, before the training, if all of them fit into memory; else texts are encoded with the
    batch that they are in. What a batch is told depends on neither the run's past nor what was seen before.
    """

    def __init__(self, pipe: Any, examples: Sequence[Example], *, tick: Callable[[int, int], None]) -> None:
        from showtell import instruction

        self.pipe = pipe
        none = tuple(instruction.lay_out(pipe, [instruction.Words(text="")])[0])
        self.none = models.encode_ids(pipe, torch.tensor([none])).cpu()
        texts = list(dict.fromkeys(one.ids for one in examples))
        self.place: dict[tuple[int, ...], int] = {}
        if len(texts) * self.none.numel() * 4 > _MOST_WORDS:
            return
        blocks = []
        for start in range(0, len(texts), BLOCK):
            blocks.append(models.encode_ids(pipe, torch.tensor(texts[start : start + BLOCK])).cpu())
            tick(min(start + BLOCK, len(texts)), len(texts))
        self.known, self.place = torch.cat(blocks), {ids: i for i, ids in enumerate(texts)}

    def of(self, examples: Sequence[Example], kept: Sequence[bool]) -> Tensor:
        """(B, 77, d); where the words are not ``kept``, the embedding of none."""
        if self.place:
            told = self.known[[self.place[one.ids] for one in examples]]
        else:
            told = models.encode_ids(self.pipe, torch.tensor([one.ids for one in examples])).cpu()
        return torch.where(torch.tensor(list(kept))[:, None, None], told, self.none)
