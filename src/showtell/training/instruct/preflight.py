"""Whether a training fits into memory, before anything is loaded.

The bytes of weights, gradients, the optimiser's moments and averaged weights follow from the configurations; activations are
counted (``activations``). Beside them a device needs some room for what lives for a moment only, and for its allocator's gaps:
``MARGIN``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from showtell.errors import UsageError
from showtell.memory import shapes as shaping
from showtell.memory.free import MARGIN, gib

if TYPE_CHECKING:
    from showtell.memory.shapes import Shapes
    from showtell.training.instruct.settings import Config

#: Feature maps of the autoencoder's widest level that live at once while a picture is encoded.
_ENCODING_MAPS = 4


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Bytes that a training holds on one device. ``parts``: by name, in the table's order, whatever the micro batch is;
    ``per_row``: for each row of a micro batch; ``micro_batch``: rows of one forward; ``encoding``: of the autoencoder at work,
    before a forward, for each row of it, and the most that it takes; ``teaching``: of a teacher's branches at work, for each
    row; ``side``: pixels of a square picture; ``learned`` and
    ``numbers``: how many numbers of the UNet learn, and how many it has.
    """

    parts: Mapping[str, int]
    per_row: int
    micro_batch: int
    encoding: tuple[int, int]
    side: int
    learned: int
    numbers: int
    config: Config
    world_size: int = 1
    device: str = "cpu"
    teaching: int = 0

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return sum(self.parts.values()) + max(self.per_row * self.micro_batch, self.encoded, self.taught)

    @property
    def taught(self) -> int:
        """Bytes of a teacher's branches at work, before a student's forward."""
        return self.teaching * self.micro_batch

    @property
    def encoded(self) -> int:
        """Bytes of the autoencoder at work, before a forward."""
        row, most = self.encoding
        return min(row * self.micro_batch, most)

    @property
    def needed(self) -> int:
        """What should be free: the total, and a tenth more."""
        return -(-self.total * MARGIN // 100)

    def largest_micro_batch(self, free: int) -> int:
        """Rows of one forward that ``free`` bytes have room for; 0 where not even one fits."""
        room = free * 100 // MARGIN - sum(self.parts.values())
        row, most = self.encoding
        rows = room // max(1, self.per_row, self.teaching)
        return max(0, rows if room >= most else min(rows, room // max(1, row)))

    def as_dict(self) -> dict[str, object]:
        """The estimate as JSON can hold it."""
        return {
            "bytes": {**self.parts, "activations": self.per_row * self.micro_batch},
            "encoding": self.encoded,
            "total": self.total,
            "needed": self.needed,
            "per_row": self.per_row,
            "micro_batch": self.micro_batch,
            "resolution": self.side,
            "learned": self.learned,
            "numbers": self.numbers,
        }

    def table(self) -> str:
        """Plain text: a line a part, the total, and what should be free."""
        rows = f"{self.micro_batch} row" + ("s" if self.micro_batch != 1 else "")
        lines = [
            *self.parts.items(),
            (f"activations of {rows} of {self.side} x {self.side}", self.per_row * self.micro_batch),
        ]
        if self.encoded > self.per_row * self.micro_batch:
            lines.append(("or, before them, pictures in the autoencoder", self.encoded))
        if self.taught > self.per_row * self.micro_batch:
            lines.append(("or, before them, the teacher's branches", self.taught))
        lines += [("in all", self.total), ("should be free", self.needed)]
        wide = max(len(name) for name, _ in lines)
        head = f"{self.learned:,} of the UNet's {self.numbers:,} numbers learn"
        return "\n".join([head, *(f"{name:<{wide}}  {gib(size):>10}" for name, size in lines)])

    def check(self, free: int) -> None:
        """Raise ``UsageError``, one line with the mend, unless the training fits into ``free`` bytes."""
        if self.needed <= free:
            return
        has = f"the training needs {gib(self.needed)} of memory and {gib(free)} is free"
        rows = self.largest_micro_batch(free)
        if rows:
            raise UsageError(f"{has}: use --set train.micro_batch={rows}; the batch of a step stays the same")
        for told, config in _smaller(self.config):
            fit = estimate(config, world_size=self.world_size, device=self.device)
            if fit.largest_micro_batch(free):
                one = f"train.micro_batch={min(self.micro_batch, fit.largest_micro_batch(free))}"
                settings = " ".join(f"--set {each}" for each in (*told, one))
                raise UsageError(f"{has}: use {settings}")
        raise UsageError(
            f"{has}, and LoRA with gradient checkpointing does not fit either: take a smaller data.resolution"
        )


def _smaller(config: Config) -> Iterator[tuple[tuple[str, ...], Config]]:
    """Configurations that need less, the ones that change least first, each with what was set."""
    from showtell.training.instruct.settings import Lora

    train = dataclasses.replace(config.train, gradient_checkpointing=True)
    steps = ("train.gradient_checkpointing=true",)
    yield steps, dataclasses.replace(config, train=train)
    if config.lora is None:
        eight = dataclasses.replace(train, optimiser="adamw8bit")
        yield (*steps, "train.optimiser=adamw8bit"), dataclasses.replace(config, train=eight)
        yield (*steps, "lora.rank=16"), dataclasses.replace(config, train=train, lora=Lora())


def estimate(config: Config, *, world_size: int = 1, device: str = "cpu") -> Fit:
    """What a configuration will hold on each of ``world_size`` devices; no weights are loaded.

    ``device`` is the kind that it will run on: CUDA's mixed precision keeps more in float32 than a CPU's. Raises ``ModelError``
    for a model whose configuration cannot be read.
    """
    from showtell.training.instruct import activations

    train, shapes = config.train, shaping.of(config.model)
    side = max(shapes.multiple, (config.data.resolution or shapes.resolution) // shapes.multiple * shapes.multiple)
    counted = activations.count(
        shapes, side=side, lora=config.lora, precision=train.precision, checkpointing=train.gradient_checkpointing,
        device=device,
    )  # fmt: skip
    return Fit(
        parts=_parts(config, shapes, counted.learned, counted.fixed, world_size),
        per_row=counted.per_row,
        micro_batch=config.micro_batch(world_size),
        encoding=_encoding(config, shapes, side),
        side=side,
        learned=counted.learned,
        numbers=_network(shapes),
        config=config,
        world_size=world_size,
        device=device,
        teaching=_teaching(config, shapes, side),
    )


def _teaching(config: Config, shapes: Shapes, side: int) -> int:
    """Bytes of a teacher's branches at work, for each row of a forward; 0 where nothing is distilled."""
    import torch

    from showtell.memory import working
    from showtell.training.instruct import distilling

    if config.distill is None:
        return 0
    dtype = torch.float32 if config.train.precision == "no" else torch.bfloat16
    return len(distilling.rule(config).branches) * working.count(shapes, side=side, dtype=dtype).forward


def _network(shapes: Shapes) -> int:
    """Numbers of the UNet that is trained: a widened one has four more input channels."""
    first = shapes.unet["block_out_channels"][0] * shapes.unet.get("conv_in_kernel", 3) ** 2
    return shapes.counts["unet"] + (shapes.unet["out_channels"] * first if shapes.widened else 0)


def _parts(config: Config, shapes: Shapes, learned: int, fixed: int, world_size: int) -> dict[str, int]:
    """Every network is held in float32; mixed precision makes its copies while it runs."""
    train = config.train
    adapters = learned if config.lora is not None else 0
    found = {
        "UNet": 4 * (_network(shapes) + adapters),
        "autoencoder": 4 * shapes.counts["vae"],
        "text encoder": 4 * shapes.counts["text_encoder"],
        "gradients": 4 * learned,
        "optimiser": (2 if train.optimiser == "adamw8bit" else 8) * learned,
        "teacher": 4 * _network(shapes) if config.distill is not None and config.lora is None else 0,
        "averaged weights": 0 if train.ema is None else 4 * learned,
        "half-precision copies": fixed,
        "exchange between processes": 4 * learned if world_size > 1 else 0,
    }
    return {name: size for name, size in found.items() if size}


def _encoding(config: Config, shapes: Shapes, side: int) -> tuple[int, int]:
    """Bytes of pictures while they are encoded: for each row of a forward, and the most. Kept latents come in blocks."""
    from showtell.training.instruct.latents import BLOCK, ENCODED_PIXELS

    pixel = 4 * _ENCODING_MAPS * shapes.vae_channels
    row, most = 2 * side * side * pixel, max(ENCODED_PIXELS, side * side) * pixel
    kept = min(BLOCK * row, most)
    return (kept, kept) if config.data.cache == "latents" else (row, most)
