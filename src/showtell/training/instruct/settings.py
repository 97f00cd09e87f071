"""What a training of an instruction editor is told: one typed configuration, read from YAML, a preset and overrides.

Every key has a default but ``data.path``. ``configuring`` reads them; ranges are checked here, before anything is loaded.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from showtell.errors import UsageError


def _require(what: str, *, of: bool, must: str) -> None:
    if not of:
        raise UsageError(f"{what} {must}")


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is learned from.

    ``name``, ``path``, ``limit`` and ``options`` are those of ``showtell.data.load``. ``held_out`` is the share of rows, picked
    by a hash of their ids, that is only measured on; ``held_out_path`` and ``held_out_options`` name another place for them, and
    then every row of ``path`` is trained on. ``resolution`` is the side of a square picture in pixels (None: the model's own);
    with ``buckets`` a picture goes to the nearest of several frames of about that area, else all are square. ``order``
    "shards" reads shards in long runs, for data that lie in tar files. ``cache`` "latents" encodes each picture once, which
    ``crop: random`` cannot have. ``too_long`` is what happens to words over 77 tokens.
    """

    name: str = "pairs"
    path: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    held_out: float = 0.05
    held_out_path: str | None = None
    held_out_options: dict[str, Any] = field(default_factory=dict)
    resolution: int | None = None
    buckets: bool = True
    flip: bool = False
    crop: Literal["center", "random"] = "center"
    order: Literal["random", "shards"] = "random"
    cache: Literal["none", "latents"] = "none"
    workers: int = 0
    too_long: Literal["error", "drop", "cut"] = "error"
    check_pictures: bool = True

    def __post_init__(self) -> None:
        _require("data.held_out", of=0 <= self.held_out < 1, must=f"is {self.held_out}: from 0 to below 1")
        _require("data.limit", of=self.limit is None or self.limit > 0, must=f"is {self.limit}: one row is the least")
        side = self.resolution
        _require("data.resolution", of=side is None or 8 <= side <= 8192, must=f"is {side}: from 8 to 8192 pixels")
        _require("data.workers", of=0 <= self.workers <= 256, must=f"is {self.workers}: from 0 to 256")
        for name in ("options", "held_out_options"):
            try:
                json.dumps(getattr(self, name))
            except (TypeError, ValueError) as error:
                raise UsageError(
                    f"data.{name} holds what is no text, number or list ({error}): put it in quotes"
                ) from error
        fits = not (self.cache == "latents" and self.crop == "random")
        _require("data.cache", of=fits, must="latents keeps one crop of a picture: leave out data.crop random")


@dataclass(frozen=True, kw_only=True)
class Train:
    """The optimisation.

    ``batch_size`` is the whole batch of a step, over all processes and accumulated passes; ``micro_batch`` the rows of one
    pass through the network (None: a process's whole share). The rate rises for ``warmup_steps`` and then stays, or falls
    to zero over the last ``fall`` (a share) of the steps, straight or as a cosine. ``ema`` is the greatest decay of the averaged
    weights (None: none are kept). ``min_snr`` is gamma of Hang et al. 2023 (5 there). Noise levels are 1000 u^``noise_exponent``.
    ``drop_text``, ``drop_image`` and ``drop_both`` are shares of samples that lose the words, the picture, or both.
    """

    steps: int = 10_000
    batch_size: int = 32
    micro_batch: int | None = None
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    fall: float = 1.0
    optimiser: Literal["adamw", "adamw8bit"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0
    ema: float | None = 0.9999
    min_snr: float | None = None
    noise_exponent: float = 1.0
    drop_text: float = 0.05
    drop_image: float = 0.05
    drop_both: float = 0.05
    precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            value = getattr(self, name)
            _require(f"train.{name}", of=value >= 1, must=f"is {value}: 1 is the least")
        micro = self.micro_batch
        _require("train.micro_batch", of=micro is None or micro >= 1, must=f"is {micro}: 1 is the least")
        for name in ("learning_rate", "noise_exponent"):
            value = getattr(self, name)
            _require(f"train.{name}", of=0 < value < float("inf"), must=f"is {value}: it must be above 0")
        for name in ("min_snr", "clip_norm"):
            value = getattr(self, name)
            _require(
                f"train.{name}", of=value is None or 0 < value < float("inf"), must=f"is {value}: above 0, or null"
            )
        _require("train.weight_decay", of=0 <= self.weight_decay < float("inf"), must="must be 0 or more")
        _require("train.warmup_steps", of=self.warmup_steps >= 0, must=f"is {self.warmup_steps}: 0 is the least")
        _require("train.fall", of=0 < self.fall <= 1, must=f"is {self.fall}: a share of the steps, above 0 and up to 1")
        _require("train.betas", of=all(0 <= b < 1 for b in self.betas), must=f"are {self.betas}: from 0 to below 1")
        _require(
            "train.ema", of=self.ema is None or 0 <= self.ema < 1, must=f"is {self.ema}: from 0 to below 1, or null"
        )
        shares = (self.drop_text, self.drop_image, self.drop_both)
        fits = all(s >= 0 for s in shares) and sum(shares) <= 1
        _require(
            "train.drop_text, drop_image and drop_both", of=fits, must=f"are {shares}: shares that sum to at most 1"
        )


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters in place of the whole network: ``targets`` are the layers' names, as peft takes them."""

    rank: int = 16
    alpha: float = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")

    def __post_init__(self) -> None:
        _require("lora.rank", of=1 <= self.rank <= 4096, must=f"is {self.rank}: from 1 to 4096")
        _require("lora.alpha", of=0 < self.alpha < float("inf"), must=f"is {self.alpha}: it must be above 0")
        _require("lora.dropout", of=0 <= self.dropout < 1, must=f"is {self.dropout}: from 0 to below 1")
        _require("lora.targets", of=bool(self.targets), must="is empty: name a layer, such as to_q")


_LCM = 50
"""The timesteps that ``LCMScheduler`` takes its stops from: a student learns them all."""


@dataclass(frozen=True, kw_only=True)
class Distill:
    """What an instruct model is distilled into: ``guidance``, one evaluation a step in place of three; ``consistency``, also few
    steps (see ``distilling``).

    The teacher's ``guidance_scale`` and ``image_guidance_scale`` (None: the model card's, else the paper's) are fixed by it.
    For consistency: ``solver_steps`` timesteps are learned; the teacher goes ``jump`` of them down, in ``teacher_steps``,
    and from there the student's own word is taken. With ``jump`` as many as there are the teacher goes all the way, and nothing
    is learned from the student. ``distance`` is ``huber`` or ``mse``; ``num_inference_steps`` is what the card will say. No words
    and no pictures are left out.
    """

    kind: Literal["guidance", "consistency"] = "consistency"
    guidance_scale: float | None = None
    image_guidance_scale: float | None = None
    num_inference_steps: int = 4
    solver_steps: int = 50
    jump: int = 1
    teacher_steps: int = 1
    distance: Literal["huber", "mse"] = "huber"

    def __post_init__(self) -> None:
        for name, least in (("guidance_scale", 1), ("image_guidance_scale", 0)):
            scale = getattr(self, name)
            fits = scale is None or least <= scale < float("inf")
            _require(f"distill.{name}", of=fits, must=f"is {scale}: {least} is the least")
        grid, steps, jump = self.solver_steps, self.num_inference_steps, self.jump
        fits = grid >= _LCM and grid % _LCM == 0 and 1000 % grid == 0
        _require("distill.solver_steps", of=fits, must=f"is {grid}: 50, 100, 200, 250, 500 or 1000, as LCM stops")
        _require("distill.num_inference_steps", of=1 <= steps <= _LCM, must=f"is {steps}: from 1 to {_LCM}")
        _require("distill.jump", of=1 <= jump <= grid, must=f"is {jump}: from 1 to solver_steps")
        ways = self.teacher_steps
        _require("distill.teacher_steps", of=1 <= ways <= jump, must=f"is {ways}: from 1 to jump")


@dataclass(frozen=True, kw_only=True)
class Validate:
    """Pictures and figures of held-out rows while it trains: every so many steps (None: never). Scales that are None are
    the model card's, else the paper's."""

    every: int | None = 500
    rows: int = 8
    metrics_rows: int = 64
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    image_guidance_scale: float | None = None

    def __post_init__(self) -> None:
        _require("validate.every", of=self.every is None or self.every >= 1, must=f"is {self.every}: 1 is the least")
        for name in ("rows", "metrics_rows"):
            value = getattr(self, name)
            _require(f"validate.{name}", of=value >= 0, must=f"is {value}: 0 is the least")
        steps = self.num_inference_steps
        _require("validate.num_inference_steps", of=steps is None or steps >= 1, must=f"is {steps}: 1 is the least")
        for name, least in (("guidance_scale", 1), ("image_guidance_scale", 0)):
            scale = getattr(self, name)
            fits = scale is None or least <= scale < float("inf")
            _require(f"validate.{name}", of=fits, must=f"is {scale}: {least} is the least")


@dataclass(frozen=True, kw_only=True)
class Save:
    """Checkpoints every so many steps, and also every so many ``seconds``; the last ``keep`` are kept. In the end the model may
    go to the hub (``push_to_hub``, a repository's name). ``trackers``: tensorboard, wandb."""

    every: int = 500
    seconds: float | None = None
    keep: int = 2
    push_to_hub: str | None = None
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()

    def __post_init__(self) -> None:
        for name in ("every", "keep"):
            value = getattr(self, name)
            _require(f"save.{name}", of=value >= 1, must=f"is {value}: 1 is the least")
        _require(
            "save.seconds", of=self.seconds is None or self.seconds > 0, must=f"is {self.seconds}: above 0, or null"
        )


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole training. ``model`` is a starter, a folder, a hub id or a ``.safetensors`` file, with 4 input channels (widened
    with zeros) or 8. ``lora`` None trains every weight of the UNet. With ``distill`` it learns from itself, guided."""

    model: str = "starter-base"
    seed: int = 0
    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
    lora: Lora | None = None
    distill: Distill | None = None
    validate: Validate = field(default_factory=Validate)
    save: Save = field(default_factory=Save)

    def __post_init__(self) -> None:
        _require("model", of=bool(self.model.strip()), must="is empty: name a starter, a folder, a hub id or a file")
        _require("seed", of=0 <= self.seed < 2**31, must=f"is {self.seed}: from 0 to 2147483647")

    def as_dict(self) -> dict[str, Any]:
        """The whole configuration as JSON and YAML can hold it."""
        return _plain(dataclasses.asdict(self))

    def micro_batch(self, world_size: int = 1) -> int:
        """Rows of one pass through the network, in each of ``world_size`` processes."""
        share = -(-self.train.batch_size // world_size)
        return min(self.train.micro_batch or share, share)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def rate(train: Train, step: int) -> float:
    """The learning rate of a step (0-based)."""
    up = min(1.0, (step + 1) / train.warmup_steps) if train.warmup_steps else 1.0
    start = train.steps * (1 - train.fall)
    left = min(1.0, max(0.0, (train.steps - step) / max(1.0, train.steps - start)))
    down = {"constant": 1.0, "linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left))}[train.schedule]
    return train.learning_rate * up * down
