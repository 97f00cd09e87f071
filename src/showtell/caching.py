"""What stays the same from step to step is made once: values made of tensors, and keys and values of constant text."""

from __future__ import annotations

import contextlib
import copy
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class Kept:
    """Values made of tensors, kept for as long as those very tensors live and nobody changes them in place.

    It holds no tensor but the values, which must not be one of the tensors that they are made of.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[int, ...], tuple[list[Any], list[Any], Any]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def of(self, tensors: Sequence[Any], make: Callable[[], T]) -> T:
        """``make()``, or what it gave for the same ``tensors``, which may be None where there is none."""
        key, versions = tuple(map(id, tensors)), [_version(tensor) for tensor in tensors]
        entry = self._entries.get(key)
        if entry is not None:
            references, as_it_was, value = entry
            living = all(t is None or ref() is t for t, ref in zip(tensors, references, strict=True))
            if living and as_it_was == versions:
                return value
        value = make()
        forget = _forgetting(self._entries, key)
        self._entries[key] = [t if t is None else weakref.ref(t, forget) for t in tensors], versions, value
        return value


def _forgetting(entries: dict[tuple[int, ...], Any], key: tuple[int, ...]) -> Callable[[Any], None]:
    """Drops an entry once a tensor of it is gone. (A method of ``Kept`` would keep that alive in a cycle.)"""

    def forget(gone: Any) -> None:
        entries.pop(key, None)

    return forget


def _version(tensor: Any) -> int | None:
    """Counts the changes in place; tensors that were made in inference mode do not tell."""
    return None if tensor is None or tensor.is_inference() else tensor._version


@contextlib.contextmanager
def constant_text(*networks: Any) -> Iterator[None]:
    """Inside, cross-attention layers keep their keys and values of a text for as long as they are told the same tensor.

    It is the projections that remember, so that any attention processor has the good of it, also one that is put in
    later. Nothing is kept while gradients flow. Left alone are networks that are compiled, and layers that are not plain:
    with unfused adapters, quantised, or with an offloading hook. On leaving, by whatever way, all are as they were. Each of
    ``networks`` may be None.
    """
    changed: list[Any] = []
    try:
        for network in networks:
            for layer in _projections(network):
                layer.forward = _Remembering(layer)
                changed.append(layer)
        yield
    finally:
        for layer in changed:
            layer.__dict__.pop("forward", None)


def is_compiled(network: Any) -> bool:
    """Whether a network or a part of it is compiled: what is changed inside it would be compiled again, or not be seen."""
    if hasattr(network, "_orig_mod"):
        return True
    return any(
        getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module.__dict__.get("forward"), "_torchdynamo_orig_callable")
        for module in network.modules()
    )


@contextlib.contextmanager
def uncompiled(*networks: Any) -> Iterator[None]:
    """Inside, networks that were compiled in place, and their parts, run as they are; afterwards compiled again."""
    held = [
        (module, module._compiled_call_impl)
        for network in networks
        if network is not None
        for module in network.modules()
        if getattr(module, "_compiled_call_impl", None) is not None
    ]
    try:
        for module, _ in held:
            module._compiled_call_impl = None
        yield
    finally:
        for module, compiled in held:
            module._compiled_call_impl = compiled


def _projections(network: Any) -> list[Any]:
    """The plain linear layers that take a text to keys and values."""
    import torch
    from diffusers.models.attention_processor import Attention

    if not isinstance(network, torch.nn.Module) or is_compiled(network):
        return []
    found = []
    for module in network.modules():
        if isinstance(module, Attention) and module.is_cross_attention:
            found += [module.to_k, module.to_v]
    # An offloading hook stands in the place of a layer's forward.
    return [layer for layer in found if type(layer) is torch.nn.Linear and "forward" not in layer.__dict__]


class _Remembering:
    """A linear layer's forward that keeps its results. That of a layer's copy is the copy's own, and keeps nothing."""

    def __init__(self, layer: Any) -> None:
        self.layer, self.forward, self.kept = layer, layer.forward, Kept()

    def __call__(self, told: Any) -> Any:
        import torch

        if torch.is_grad_enabled():
            return self.forward(told)
        return self.kept.of((told, self.layer.weight), lambda: self.forward(told))

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[[Any], Any]:
        layer = copy.deepcopy(self.layer, memo)
        return type(layer).forward.__get__(layer)
