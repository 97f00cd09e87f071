"""Bringing a pipeline to where it computes, with what saves memory there."""

from __future__ import annotations

from typing import Any

from ..errors import UsageError

#: What rests in main memory while it is not used: nothing, whole networks, or every layer.
OFFLOADS = ("none", "model", "sequential")


def check(offload: Any, device: str) -> None:
    """Raise ``UsageError`` for an offloading that is not known, or that has nowhere to go."""
    if offload not in OFFLOADS:
        raise UsageError(f"offload {offload!r} is not known: choose one of {', '.join(OFFLOADS)}")
    if offload != "none" and device == "cpu":
        raise UsageError(
            f"offload {offload!r} moves networks between a GPU and main memory, and the device is cpu: leave it out"
        )


def settle(pipe: Any, device: str, *, offload: str, vae_tiling: bool, attention_slicing: bool) -> Any:
    """The pipeline on a device (``names.pick_device``), or at rest where it will be brought there from."""
    if offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe = pipe.to(device)
    if vae_tiling:
        pipe.vae.enable_tiling()  # and one picture at a time: ``models``
    if attention_slicing:
        pipe.enable_attention_slicing()
    return pipe
