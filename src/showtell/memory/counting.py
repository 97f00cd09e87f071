"""Counting the memory of a network at work by running it on tensors that have shapes and no numbers.

What is counted follows from the program itself: every storage is counted from its making until nothing refers to it any more.
Not seen is what lives inside one operation: a convolution's workspace, or a conversion in between.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def identity(tensor: Tensor) -> int:
    """What tensors have in common that share their storage."""
    return tensor.untyped_storage()._cdata


def place(network: Any, dtype: torch.dtype | None = None) -> None:
    """Put tensors that say they are on a CPU, as autocast and some kernels want them, in the place of a network's on the meta
    device; floating ones in ``dtype``, if it is given. To be called inside a ``FakeTensorMode``.
    """
    for module in network.modules():
        for name, held in module.named_parameters(recurse=False):
            module.register_parameter(name, torch.nn.Parameter(_empty(held, dtype), requires_grad=held.requires_grad))
        for name, held in module.named_buffers(recurse=False):
            module.register_buffer(name, _empty(held, dtype))


def _empty(held: Tensor, dtype: torch.dtype | None) -> Tensor:
    return torch.empty(held.shape, dtype=dtype if dtype is not None and held.is_floating_point() else held.dtype)


class Peak(TorchDispatchMode):
    """Counts the bytes of the storages that are made while it is entered: ``live`` now, ``most`` at any time. Storages of
    ``networks``' weights are not counted.
    """

    def __init__(self, *networks: Any) -> None:
        super().__init__()
        self.live = self.most = 0
        self._known = {identity(p) for network in networks for p in (*network.parameters(), *network.buffers())}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            if isinstance(value, Tensor):
                self._note(value.untyped_storage())
        return made

    def _note(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        self.most = max(self.most, self.live)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


class Efficient(TorchFunctionMode):
    """Attention that holds what the memory-efficient kernels hold: its output and one number a query, and not the scores."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            return _Attention.apply(*args[:3])
        return func(*args, **(kwargs or {}))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = query.new_empty((*query.shape[:-1], value.shape[-1]))
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(each) for each in ctx.saved_tensors[:3])
