"""Compiling a pipeline's denoising networks with ``torch.compile``: an option that pays over many edits of one size.

It is done in place, so that names of weights, fingerprints and copies stay as they are.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import models
from .errors import MethodError, ModelError, ShowtellError

if TYPE_CHECKING:
    from .editor import Editor

#: What is compiled: the transformer blocks, which repeat and are compiled soon; whole networks; or nothing any more.
WHAT = ("blocks", "whole", "none")
#: Those of ``torch.compile``; the ones that record CUDA graphs need whole networks.
MODES = ("default", "max-autotune-no-cudagraphs", "reduce-overhead", "max-autotune")
_GRAPHS = MODES[2:]
_BLOCKS = ("BasicTransformerBlock",)
#: Methods that need the layers themselves, and so run uncompiled.
UNCOMPILED = ("foi", "grid", "imagic", "p2p", "pti")
# Variants of one block, for widths and sizes, that may be compiled before torch gives up on it without a word.
_VARIANTS = 64


def compile_editor(
    editor: Editor,
    what: str = "blocks",
    *,
    mode: str = "default",
    dynamic: bool | None = None,
    backend: str = "inductor",
    size: tuple[int, int] | None = None,
    batch_size: int = 1,
    warm_up: bool = True,
    **options: Any,
) -> float:
    """Compile an editor's denoising networks with ``torch.compile``; returns the seconds that the warm-up took.

    ``what``: ``blocks``, the transformer blocks; ``whole``, all, which takes longer; ``none`` undoes it. ``mode``,
    ``dynamic`` and ``backend`` are those of ``torch.compile``; ``reduce-overhead`` and ``max-autotune`` record CUDA graphs
    and need ``whole``.
    The warm-up edits ``batch_size`` blank pictures of ``size`` (width, height), by default the model's own, with the
    ``options`` of ``Editor.edit``. What has another size is compiled when it first comes; without ``warm_up`` all is.

    Results differ from uncompiled ones by rounding. What needs the layers themselves runs uncompiled: learning, tuning, and
    methods that control attention (``foi``, ``p2p``). Raises ``MethodError``; ``ModelError`` where it cannot be compiled.
    """
    from PIL import Image

    check(what, mode)
    compile_networks(editor.pipe, what, name=editor.model_id, mode=mode, dynamic=dynamic, backend=backend)
    if what == "none":
        return 0.0
    side = models.resolution(editor.pipe)
    picture = Image.new("RGB", size or (side, side), "gray")
    method = "sdedit" if editor.kind == "base" else "ip2p"
    told: dict[str, Any] = {"method": method, "num_inference_steps": 4, **options}

    def edit() -> None:
        if warm_up and editor.kind != "inpaint":  # that is shown a pair, whose size is its own
            rows = range(batch_size)
            edits = editor.edit(
                [picture for _ in rows], ["a circle"] * batch_size, seed=0, batch_size=batch_size, **told
            )
            for failed in (each for each in edits if isinstance(each, ShowtellError)):
                raise failed

    begun = time.perf_counter()
    with refusals(editor.pipe, editor.model_id):
        _probe(editor.pipe, backend)
        edit()
    return time.perf_counter() - begun


def check(what: Any, mode: Any) -> None:
    """Raise ``MethodError`` for what cannot be asked."""
    for name, told, known in (("what", what, WHAT), ("mode", mode, MODES)):
        if told not in known:
            raise MethodError(f"{name}={told!r:.60} is not known: choose one of {', '.join(known)}")
    if what == "blocks" and mode in _GRAPHS:
        raise MethodError(f"mode={mode!r} records CUDA graphs, which need the networks as a whole: use what='whole'")


def networks(pipe: Any) -> list[Any]:
    """The denoising networks of a pipeline: its UNet, and its ControlNet where it has one."""
    return [net for net in (getattr(pipe, name, None) for name in ("unet", "controlnet")) if net is not None]


def compile_networks(pipe: Any, what: str, *, name: str, mode: str = "default", **options: Any) -> None:
    """Compile the denoising networks, which happens when they first run; ``name`` is the model's, for messages.

    Raises ``ModelError`` where they cannot be compiled: another program has done it already, or layers are offloaded.
    """
    import torch._dynamo

    undo(pipe)
    if what == "none":
        return
    for net in networks(pipe):
        if hasattr(net, "_orig_mod"):
            raise ModelError(f"{name}: is compiled already, by torch.compile: leave compile out")
        inner = [
            module for module in net.modules() if hasattr(module, "_hf_hook") or hasattr(module, "_diffusers_hook")
        ]
        if inner and (what == "whole" or inner != [net]):
            raise ModelError(f"{name}: is offloaded, and what is compiled must stay where it is: load it whole")
    settings: Any = torch._dynamo.config
    settings.recompile_limit = max(settings.recompile_limit, _VARIANTS)
    for net in networks(pipe):
        blocks = getattr(net, "_repeated_blocks", None) or _BLOCKS
        parts = [net] if what == "whole" else [m for m in net.modules() if type(m).__name__ in blocks]
        for part in parts:
            part.compile(mode=None if mode == "default" else mode, **options)


def undo(pipe: Any) -> None:
    """Let the networks run as they are, where they were compiled in place."""
    for net in networks(pipe):
        for module in net.modules():
            module._compiled_call_impl = None


@contextlib.contextmanager
def refusals(pipe: Any, name: str) -> Iterator[None]:
    """What the compiler raises, as a ``ModelError`` of one line, after which the networks are as they were."""
    try:
        yield
    except Exception as error:
        cause = next((each for each in _chain(error) if _is_compilers(each)), None)
        if cause is None:
            raise
        undo(pipe)
        told = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise ModelError(
            f"{name}: cannot be compiled here ({told:.200}): install what torch.compile needs (a C++ compiler such as g++; on "
            "a GPU Triton), or leave compile out"
        ) from error


def _probe(pipe: Any, backend: Any) -> None:
    """A sum, compiled: what is missing shows at once, and not in the middle of an edit."""
    import torch

    torch.compile(_sum, dynamic=False, backend=backend)(torch.ones(2, device=models.device_of(pipe)))


def _sum(x: Any) -> Any:
    return x + x.sum()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_compilers(error: BaseException) -> bool:
    module = type(error).__module__
    return module.startswith(("torch._dynamo", "torch._inductor")) or "torch.compile" in str(error)
