"""The loss of held-out rows, on draws that are always the same: what changes from one time to the next is the network."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from showtell.errors import ShowtellError

if TYPE_CHECKING:
    import torch

    from showtell.data.rows import Row
    from showtell.training.instruct.latents import Encoded
    from showtell.training.instruct.settings import Config

_BATCH = 8
#: Successive noise levels are this far apart on the circle [0, 1): any number of them is spread evenly.
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """What a row's loss is made of: unscaled latents of its pictures and noise, (4, h, w), words (77, d), level in [0, 1)."""

    before: torch.Tensor
    after: torch.Tensor
    noise: torch.Tensor
    context: torch.Tensor
    level: float


def key(config: Config, name: str) -> int:
    """63 bits of the training's seed and a row's name."""
    return int.from_bytes(hashlib.sha256(f"validation:{config.seed}:{name}".encode()).digest()[:8], "big") >> 1


def encoded(pipe: Any, config: Config, rows: Sequence[Row]) -> list[Sample]:
    """The rows as the training would take them, without flips and crops of their own; those that cannot be read are left out."""
    from showtell import models
    from showtell.training.instruct import buckets

    side = config.data.resolution or models.resolution(pipe)
    frames = buckets.frames(side, models.size_multiple(pipe), several=config.data.buckets)
    found: list[Sample] = []
    for index, row in enumerate(rows):
        with contextlib.suppress(ShowtellError):
            found.append(_sample(pipe, config, row, frames, level=(0.5 + index * _GOLDEN) % 1))
    return found


def _sample(pipe: Any, config: Config, row: Row, frames: Sequence[tuple[int, int]], *, level: float) -> Sample:
    import torch

    from showtell import instruction, models
    from showtell.training.instruct import buckets, latents
    from showtell.training.instruct.rows import Example, words_of

    assert row.after is not None
    before, after = row.before(), row.after()
    words, _ = instruction.cut(pipe, words_of(row))
    ids = tuple(instruction.lay_out(pipe, [words])[0])
    frame = buckets.nearest(before.size, frames)
    example = Example(
        id=row.id, words="", ids=ids, before=lambda: before, after=lambda: after, size=before.size, frame=frame
    )
    encoded: Encoded = latents.encode(pipe, latents.pixels([example], frames[frame], [False], [(0.5, 0.5)]))
    draw = torch.Generator().manual_seed(key(config, row.id))
    return Sample(
        before=encoded.before[0].cpu(),
        after=encoded.mean[0].cpu(),
        noise=torch.randn(encoded.mean.shape[1:], generator=draw),
        context=models.encode_ids(pipe, torch.tensor([ids]))[0].cpu(),
        level=level,
    )


def loss_of(pipe: Any, samples: Sequence[Sample]) -> dict[str, float]:
    """``held_out_loss``, the mean denoising loss of the samples; nothing where there is none."""
    import torch

    from showtell import models
    from showtell.training.instruct import loss

    alphas, kind = loss.schedule_of(pipe)
    device, total = models.device_of(pipe), 0.0
    for part in _alike(samples):
        before, after, noise, context = (
            torch.stack([getattr(one, name) for one in part]).to(device)
            for name in ("before", "after", "noise", "context")
        )
        t = loss.levels(torch.tensor([one.level for one in part]), len(alphas), 1.0).to(device)
        found = loss.losses(
            pipe.unet, z=models.scaled(pipe, after), image=before, context=context, noise=noise, t=t,
            alphas=alphas.to(device), prediction_type=kind,
        )  # fmt: skip
        total += float(found.sum())
    return {"held_out_loss": total / len(samples)} if samples else {}


def _alike(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """Batches of samples of one size."""
    by_size: dict[tuple[int, ...], list[Sample]] = {}
    for one in samples:
        by_size.setdefault(tuple(one.noise.shape), []).append(one)
    for alike in by_size.values():
        for start in range(0, len(alike), _BATCH):
            yield alike[start : start + _BATCH]
