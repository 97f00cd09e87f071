"""What a forward keeps for its backward, counted by running the network on tensors without storage.

Counted are the storages of all that autograd saves, each once, and not the weights themselves. Attention counts as the
memory-efficient kernels have it, which keep queries, keys, values, the output and one number a query: not the scores.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from showtell import loading
from showtell.memory import counting
from showtell.memory.shapes import Shapes
from showtell.training.instruct import lora as adapters
from showtell.training.instruct.settings import Lora

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Bytes: ``fixed`` whatever the batch is (half-precision copies of the weights), ``per_row`` for each row of it; and
    ``learned``, how many numbers learn.
    """

    fixed: int
    per_row: int
    learned: int


def count(
    shapes: Shapes, *, side: int, lora: Lora | None, precision: str, checkpointing: bool, device: str = "cpu"
) -> Counted:
    """What the training's network keeps for pictures of ``side`` pixels square. ``precision`` is autocast's: no, bf16 or fp16;
    ``device`` says whose autocast: CUDA's keeps normalisations in float32, a CPU's does not.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    unet = _network(shapes, lora)
    learned = sum(p.numel() for p in unet.parameters() if p.requires_grad)
    with FakeTensorMode():  # shapes, dtypes and a device, and no numbers
        counting.place(unet)
        if precision != "no" and torch.device(device).type == "cuda":
            _normalise_in_float32(unet)
        one, two = (_kept(unet, shapes, rows, side, precision, checkpointing) for rows in (1, 2))
    # Autocast holds the copies of weights that learn until the forward's end, whatever is saved of them.
    copies = 2 * learned if precision != "no" else 0
    return Counted(fixed=max(copies, 2 * one - two), per_row=two - one, learned=learned)


def _network(shapes: Shapes, lora: Lora | None) -> Any:
    """The network that is trained, on the meta device."""
    from diffusers import UNet2DConditionModel

    wide = {"in_channels": 2 * shapes.unet["out_channels"]} if shapes.widened else {}
    with loading.silent(), torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(shapes.unet) | wide)
        if lora is not None:
            adapters.attach(unet, lora, 0, widened=shapes.widened)
    return unet.train()


def _kept(unet: Any, shapes: Shapes, rows: int, side: int, precision: str, checkpointing: bool) -> int:
    latents = side // shapes.factor
    x = torch.empty(rows, unet.config.in_channels, latents, latents)
    t, words = torch.empty(rows, dtype=torch.long), torch.empty(rows, 77, shapes.text_width)
    ledger = _Ledger(own={counting.identity(p) for p in (*unet.parameters(), *unet.buffers())})
    if checkpointing:
        unet.enable_gradient_checkpointing(ledger.checkpoint)
    with counting.Efficient(), _autocast(precision), ledger.watching():
        unet(x, t, words, return_dict=False)
    return ledger.total


@contextlib.contextmanager
def _autocast(precision: str) -> Iterator[None]:
    with torch.autocast("cpu", _HALF.get(precision), enabled=precision != "no"):
        yield


def _normalise_in_float32(unet: Any) -> None:
    def widen(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0].float(), *args[1:])

    for module in unet.modules():
        if isinstance(module, (torch.nn.GroupNorm, torch.nn.LayerNorm)):
            module.register_forward_pre_hook(widen)


@dataclass
class _Ledger:
    """Storages that are kept, each once; under checkpointing, what a block gets, and the most that one keeps while it is run
    again.
    """

    own: set[int]
    kept: dict[int, Tensor] = field(default_factory=dict)
    inside: int = 0

    def add(self, tensor: Tensor) -> Tensor:
        if counting.identity(tensor) not in self.own:
            self.kept[counting.identity(tensor)] = tensor  # held, so that no other storage gets its address
        return tensor

    def watching(self) -> Any:
        return torch.autograd.graph.saved_tensors_hooks(self.add, lambda tensor: tensor)

    def checkpoint(self, block: Callable[..., Any], *args: Any) -> Any:
        for each in args:
            if isinstance(each, Tensor):
                self.add(each)
        within = _Ledger(own=self.own | set(self.kept))
        with within.watching():
            made = block(*args)
        self.inside = max(self.inside, within.total)
        return made

    @property
    def total(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self.kept.values()) + self.inside
