"""The network that learns: loaded, widened where it is a text-to-image one, with its averaged weights and its optimiser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from showtell import loading, models
from showtell.errors import ModelError, UsageError
from showtell.training.denoiser import widen
from showtell.training.instruct import distilling, lora
from showtell.training.instruct.settings import Config, Train
from showtell.training.loop import decay_at


@dataclass(frozen=True, kw_only=True)
class Network:
    """An instruct pipeline whose UNet learns; ``widened`` says that it was a text-to-image one. ``weights`` is the fingerprint of
    the pipeline before any step, ``learned`` the parameters that learn, by their names. ``checker``, the pipeline's safety
    checker if it has one, is out of it meanwhile: it has no part in training, and takes as much memory as the text encoder.
    ``teacher`` is a ``distilling.Teacher`` where the UNet is a student.
    """

    pipe: Any
    widened: bool
    weights: str
    learned: dict[str, nn.Parameter]
    checker: Any = None
    teacher: Any = None

    def whole(self) -> None:
        """The pipeline has its safety checker again, as it is to be saved."""
        if self.checker is not None:
            self.pipe.register_modules(safety_checker=self.checker)


def load(config: Config, *, device: str = "auto") -> Network:
    """The model of a configuration in float32, with everything but the UNet, or but its adapters, frozen.

    A network with 4 input channels gets 4 more, for the picture before, whose weights are zero: it begins by computing what it
    computed (InstructPix2Pix, section 3.2). Raises ``ModelError`` for a model of another kind.
    """
    pipe = loading.load_pipeline(config.model, device=device, dtype="float32").pipe
    kind = models.kind(pipe)
    if kind not in ("base", "instruct"):
        raise ModelError(
            f"{config.model}: cannot be trained to follow instructions: give a text-to-image model (4 input channels) or an "
            "instruct model (8)"
        )
    distilling.check(config, kind)
    if kind == "base":
        pipe = _instruct(pipe)
    checker = getattr(pipe, "safety_checker", None)
    if checker is not None:
        pipe.register_modules(safety_checker=None)
        checker.to("cpu")
    for part in models.part_names(pipe):
        getattr(pipe, part).requires_grad_(False).eval()
    weights, teacher = models.weights_hash(pipe), distilling.teacher(config, pipe.unet)
    if config.lora is None:
        pipe.unet.requires_grad_(True)
    else:
        lora.attach(pipe.unet, config.lora, config.seed, widened=kind == "base")
    if config.train.gradient_checkpointing:
        pipe.unet.enable_gradient_checkpointing()
    learned = {name: p for name, p in pipe.unet.named_parameters() if p.requires_grad}
    return Network(
        pipe=pipe, widened=kind == "base", weights=weights, learned=learned, checker=checker, teacher=teacher
    )


def _instruct(base: Any) -> Any:
    """An instruct pipeline of a text-to-image pipeline's parts, with the UNet widened."""
    from diffusers import StableDiffusionInstructPix2PixPipeline

    checker = getattr(base, "safety_checker", None)
    pipe = StableDiffusionInstructPix2PixPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=widen(base.unet).to(base.unet.device),
        scheduler=base.scheduler,
        safety_checker=checker,
        feature_extractor=getattr(base, "feature_extractor", None),
        requires_safety_checker=checker is not None,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def optimiser_for(train: Train, learned: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW over the parameters that learn. Raises ``UsageError`` for the 8-bit one where bitsandbytes is not installed."""
    parameters = list(learned.values())
    told: dict[str, Any] = {"lr": train.learning_rate, "betas": train.betas, "weight_decay": train.weight_decay}
    if train.optimiser == "adamw8bit":
        check_optimiser(train)
        from bitsandbytes.optim import AdamW8bit  # ty: ignore[import-not-found]

        return AdamW8bit(parameters, **told)
    return torch.optim.AdamW(parameters, fused=parameters[0].device.type in ("cpu", "cuda"), **told)


def check_optimiser(train: Train) -> None:
    """Raise ``UsageError`` before a training whose optimiser is not installed."""
    import importlib.util

    if train.optimiser == "adamw8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(
            "train.optimiser adamw8bit needs bitsandbytes: pip install bitsandbytes, or say train.optimiser: adamw"
        )


class Average:
    """The exponential moving average of what learns, in float32. With ``most`` None it is the network itself."""

    def __init__(self, learned: dict[str, nn.Parameter], most: float | None) -> None:
        self.learned, self.most = learned, most
        self.tensors = {} if most is None else {name: p.detach().float().clone() for name, p in learned.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After the ``step``-th (0-based) step of the optimiser."""
        if self.most is not None:
            now = [p.detach().float() for p in self.learned.values()]
            torch._foreach_lerp_(list(self.tensors.values()), now, 1 - decay_at(step, self.most))

    def state(self) -> dict[str, Tensor]:
        """The averaged tensors by the names of the parameters."""
        return self.tensors or {name: p.detach() for name, p in self.learned.items()}

    @contextlib.contextmanager
    def inside(self, unet: nn.Module) -> Iterator[None]:
        """The network holds the averaged weights for a while, and is one for use, not for training. Nothing is copied: they
        change places."""
        kept = {name: p.data for name, p in self.learned.items()} if self.tensors else {}
        _put(self.learned, self.tensors)
        unet.eval()
        try:
            yield
        finally:
            _put(self.learned, kept)
            unet.train()


def _put(learned: dict[str, nn.Parameter], tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        learned[name].data = tensor
