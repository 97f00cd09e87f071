"""What editing and learning will hold on a device, before anything is loaded: a table of ways, the plainest first.

The bytes of weights follow from the configurations, and what works besides is counted (``working``). Latents, embeddings and
what a method keeps of its own (attention maps, tuned embeddings) are small beside both, and are not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from showtell import loading, models
from showtell.errors import ShowtellError
from showtell.guidance import check_whole
from showtell.memory import shapes as shaping
from showtell.memory import working
from showtell.memory.free import MARGIN, free_memory, gib
from showtell.memory.shapes import Shapes

#: Pixels a side that a model may be shown.
_SIDES = (32, 4096)
#: Of a noise schedule, of each of which a learning keeps the noise in half precision.
TIMESTEPS = 1000
_BRANCHES = {"instruct": 3, "control": 2, "base": 2, "inpaint": 2}
# Of the CLIP whose text tower a pipeline's text encoder is, by its width: OpenAI's ViT-L/14, LAION's ViT-H/14.
_CLIP_NUMBERS = {768: 427_616_513, 1024: 986_109_441}


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to do a task: its ``options``, as Python has them; the bytes of the weights that are on the device and of what is
    at work, ``(weights, work)``, while the denoising network works and while the autoencoder does.
    """

    task: str
    options: str
    network: tuple[int, int]
    autoencoder: tuple[int, int]

    @property
    def total(self) -> int:
        """The most at any time, in bytes."""
        return max(sum(self.network), sum(self.autoencoder))

    @property
    def needed(self) -> int:
        """What should be free: the total, and a tenth more."""
        return -(-self.total * MARGIN // 100)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What the ``ways`` of using a model hold. ``parts``: bytes of each network's weights in ``dtype``; ``side``: pixels of a
    square picture, ``pictures`` so many at once; ``timesteps_per_step`` of a learning; ``free``: bytes that are free, None where
    that is not known.
    """

    model: str
    kind: str
    dtype: str
    side: int
    pictures: int
    timesteps_per_step: int
    parts: Mapping[str, int]
    ways: tuple[Way, ...]
    free: int | None

    def fits(self, way: Way) -> bool | None:
        """Whether a way fits into what is free; None where that is not known."""
        return None if self.free is None else way.needed <= self.free

    def as_dict(self) -> dict[str, Any]:
        """The estimate as JSON can hold it, sizes in bytes."""
        return {
            "model": self.model, "kind": self.kind, "dtype": self.dtype, "resolution": self.side,
            "batch_size": self.pictures, "timesteps_per_step": self.timesteps_per_step, "weights": dict(self.parts),
            "free": self.free, "ways": [
                {
                    "task": way.task, "options": way.options,
                    "network": {"weights": way.network[0], "work": way.network[1]},
                    "autoencoder": {"weights": way.autoencoder[0], "work": way.autoencoder[1]},
                    "total": way.total, "needed": way.needed, "fits": self.fits(way),
                } for way in self.ways
            ],
        }  # fmt: skip

    def table(self) -> str:
        """Plain text: a line a way, with its weights, what works beside them, and what should be free."""
        pictures = f"{self.pictures} pictures" if self.pictures != 1 else "1 picture"
        weights = ", ".join(f"{name} {gib(size)}" for name, size in self.parts.items())
        head = ["", "options", "weights", "network", "autoencoder", "in all", "should be free", "fits"]
        rows = [
            [
                way.task, way.options, gib(max(way.network[0], way.autoencoder[0])), gib(way.network[1]),
                gib(way.autoencoder[1]), gib(way.total), gib(way.needed),
                {True: "yes", False: "no", None: "?"}[self.fits(way)],
            ]
            for way in self.ways
        ]  # fmt: skip
        wide = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, wide, strict=True)).rstrip() for row in [head, *rows]]
        free = "" if self.free is None else f"; {gib(self.free)} is free"
        about = f"{self.model} ({self.kind}) in {self.dtype}, {pictures} of {self.side} x {self.side}{free}"
        return "\n".join([about, f"weights: {weights}", *lines])


def estimate(
    model: str | Shapes,
    *,
    resolution: int | None = None,
    dtype: Any = None,
    batch_size: int = 1,
    timesteps_per_step: int = 1,
    device: str = "auto",
    free: int | None = None,
) -> Estimate:
    """What editing with a model, learning with it and inverting by it hold; no weights are loaded, and of a hub id only the
    configurations are fetched.

    ``model``: as ``showtell.load`` takes it. ``resolution``: the longer side of a square picture, by default the model's own;
    ``batch_size`` pictures are edited or inverted at once; ``timesteps_per_step``: of a learning. ``dtype``: by default what
    ``load`` would take on ``device``. ``free``: bytes of a device that is not here; by default what is free on ``device``.
    Raises ``ModelError``, ``UsageError``, ``MethodError``.
    """
    check_whole("resolution", resolution, *_SIDES)
    check_whole("batch_size", batch_size, 1, 4096)
    check_whole("timesteps_per_step", timesteps_per_step, 1, 256)
    name = model if isinstance(model, str) else "this configuration"
    found = shaping.of(model) if isinstance(model, str) else model
    target = "cuda" if free is not None else loading.pick_device(device)
    wanted = loading.pick_dtype(dtype)
    if wanted is None:
        wanted = torch.float32 if name in loading.STARTERS or target == "cpu" else torch.float16
    if free is None:
        free = _free(target)
    side = max(found.multiple, (resolution or found.resolution) // found.multiple * found.multiple)
    return Estimate(
        model=name, kind=found.kind, dtype=str(wanted).removeprefix("torch."), side=side, pictures=batch_size,
        timesteps_per_step=timesteps_per_step, free=free,
        parts={_called(part): numbers * wanted.itemsize for part, numbers in found.counts.items()},
        ways=tuple(
            _Ways(
                shapes=found, work=working.count(found, side=side, dtype=wanted), dtype=wanted, side=side,
                pictures=batch_size, timesteps=timesteps_per_step, clip=_clip(name, found), movable=target != "cpu",
            ).all()
        ),
    )  # fmt: skip


def _free(device: str) -> int | None:
    try:
        return free_memory(device)
    except (ShowtellError, RuntimeError):
        return None


def _called(part: str) -> str:
    return {"unet": "UNet", "vae": "autoencoder", "controlnet": "ControlNet"}.get(part, part.replace("_", " "))


def _clip(name: str, shapes: Shapes) -> int:
    """Bytes of the CLIP that a learning's direction loss asks, in float32; 0 where it has to be named."""
    if name not in loading.STARTERS:
        return 4 * _CLIP_NUMBERS.get(shapes.text_width, 0)
    from transformers import CLIPConfig, CLIPModel

    config = json.loads((loading.starters_dir() / "clip" / "config.json").read_text(encoding="utf-8"))
    with loading.silent(), torch.device("meta"):
        clip = CLIPModel(CLIPConfig(**{key: value for key, value in config.items() if key != "model_type"}))
    return 4 * sum(p.numel() for p in clip.parameters())


@dataclass(frozen=True, kw_only=True)
class _Ways:
    """``clip``: bytes of the CLIP beside a learning; ``movable``: whether weights can rest elsewhere than on the device."""

    shapes: Shapes
    work: working.Work
    dtype: torch.dtype
    side: int
    pictures: int
    timesteps: int
    clip: int
    movable: bool

    def all(self) -> Iterator[Way]:
        kind = self.shapes.kind
        rows, branches = self.pictures, _BRANCHES[kind]
        yield self._way("edit", "", branches * rows * self.work.forward)
        one = rows * self.work.forward
        yield self._way("edit", "sequential=True", one)
        tiles = self.work.decoding_tiled < self.work.decoding or models.at_once(self.side, self.side, rows) > 1
        told = "sequential=True, vae_tiling=True" if tiles else "sequential=True"
        if tiles:
            yield self._way("edit", told, one, tiled=True)
        if self.movable:
            for offload in ("model", "sequential"):
                yield self._way("edit", f"{told}, offload={offload!r}", one, tiled=tiles, offload=offload)
        if kind == "inpaint":
            return
        task, learning = ("learn", self._learn) if kind != "base" else ("invert by pti or nti", self._invert)
        for checkpointing in (False, True):
            options = "gradient_checkpointing=True" if checkpointing else ""
            yield self._way(task, options, learning(checkpointing), beside=self._beside)
        if self.movable:
            options = "gradient_checkpointing=True, offload='model'"
            yield self._way(task, options, learning(True), beside=self._beside, offload="model")

    @property
    def _beside(self) -> int:
        return self.clip if self.shapes.kind != "base" else 0

    def _learn(self, checkpointing: bool) -> int:
        """A step of VISII: the branches without gradients before the one with them, beside the noises of all timesteps. Its
        checks take no more rows.
        """
        others = _BRANCHES[self.shapes.kind] - 1
        noises = 2 * TIMESTEPS * self.shapes.latent_channels * (self.side // self.shapes.factor) ** 2
        return noises + self.timesteps * max(self._gradient(checkpointing), others * self.work.forward)

    def _invert(self, checkpointing: bool) -> int:
        """An iteration of a tuning: one branch with gradients; the other was predicted before."""
        return self.pictures * self._gradient(checkpointing)

    def _gradient(self, checkpointing: bool) -> int:
        return self.work.learning_checkpointing if checkpointing else self.work.learning

    def _way(
        self, task: str, options: str, network: int, *, beside: int = 0, tiled: bool = False, offload: str = "none"
    ) -> Way:
        size, counts, work = self.dtype.itemsize, self.shapes.counts, self.work
        denoising = size * (counts["unet"] + counts.get("controlnet", 0))
        autoencoder = working.vae_dtype(self.shapes, self.dtype).itemsize * counts["vae"]
        rest = size * (counts["text_encoder"] + counts.get("safety_checker", 0))
        held = {
            "none": (denoising + size * counts["vae"] + rest, denoising + autoencoder + rest),
            "model": (denoising, autoencoder),
            "sequential": (size * self.shapes.largest, size * self.shapes.largest),
        }[offload]
        picture = max(work.encoding_tiled, work.decoding_tiled) if tiled else max(work.encoding, work.decoding)
        at_once = 1 if task == "learn" or tiled else models.at_once(self.side, self.side, self.pictures)
        return Way(
            task=task, options=options, network=(held[0] + beside, network),
            autoencoder=(held[1] + beside, at_once * picture),
        )  # fmt: skip
