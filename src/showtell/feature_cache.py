"""Feature caching across steps (DeepCache; Ma, Fang and Wang 2024).

From step to step the deep features of a UNet change little. A whole step keeps what comes up to its last layers; the steps
after it run only the first and last few layers, joined by the skip connections, on what was kept: they see the new latents,
the timestep and the text there alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .errors import MethodError

if TYPE_CHECKING:
    import torch

    from .attention import BranchContext

    Make = Callable[[Any, Callable[..., Any]], Callable[..., Any]]

_DOWN = {"DownBlock2D", "CrossAttnDownBlock2D"}
_UP = {"UpBlock2D", "CrossAttnUpBlock2D"}
_MIDDLE = {"UNetMidBlock2D", "UNetMidBlock2DCrossAttn", "NoneType"}


def whole_steps(branches: Sequence[tuple[str, ...]], *, every: int) -> tuple[bool, ...]:
    """Which steps compute the whole network, where step i needs ``branches[i]``: the first one, every ``every``-th after
    it, and each that needs a branch which the last whole step did not compute, from which the counting begins anew.
    """
    whole: list[bool] = []
    last = 0
    for i, needed in enumerate(branches):
        whole.append(not whole or i - last >= every or not set(needed) <= set(branches[last]))
        last = i if whole[-1] else last
    return tuple(whole)


class FeatureCache:
    """The caching of one run. Enter :meth:`installed` around it, and call the cache with each ``BranchContext``.

    ``whole[i]`` says whether step i computes the whole network (:func:`whole_steps`). The other steps run the last ``depth``
    layers of the way up, and of the way down what these are joined to: conv_in and ``depth`` - 1 layers. Features are kept
    branch by branch, so that branches may run together or one by one; a call that needs one that was not kept computes the
    whole network, too. Raises ``MethodError`` for a UNet whose blocks are not those of Stable Diffusion, or that is
    compiled as a whole, and for more layers than its shallowest level has.
    """

    def __init__(self, unet: Any, whole: Sequence[bool], *, depth: int = 1) -> None:
        _check(unet)
        most = len(unet.up_blocks[-1].resnets)
        if depth > most:
            raise MethodError(f"cache_depth={depth} is out of range: this network has 1 to {most} layers to compute")
        self.unet, self.whole, self.depth = unet, whole, depth
        self._branches: BranchContext | None = None
        self._kept: dict[str, torch.Tensor] = {}

    def __call__(self, branches: BranchContext) -> None:
        self._branches = branches

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Wrap what is left out in between; on leaving, by whatever way, the UNet is as it was."""
        with contextlib.ExitStack() as wrapped:
            try:
                for module, make in self._changes():
                    wrapped.enter_context(_wrapped(module, make))
                yield
            finally:
                self._branches = None
                self._kept.clear()

    def _changes(self) -> Iterator[tuple[Any, Make]]:
        """What is wrapped, and how."""
        down, up = self.unet.down_blocks, self.unet.up_blocks
        for layer in _layers(down[0], self.depth - 1, None):
            yield layer, self._passing
        for module in (*(down[0].downsamplers or ()), *down[1:], self.unet.mid_block, *up[:-2]):
            if module is not None:
                yield module, self._skipping
        above = [up[-2], *_layers(up[-1], 0, len(up[-1].resnets) - self.depth)]
        for module in above[1:-1]:
            yield module, self._passing
        if len(above) > 1:  # which needs something of the right shape to be joined to
            yield above[0], self._reusing
        yield above[-1], self._keeping

    def _reuses(self) -> bool:
        """Whether the present call runs on what was kept."""
        told = self._branches
        return told is not None and not self.whole[told.step] and all(name in self._kept for name in told.branches)

    def _features(self) -> torch.Tensor:
        """What was kept of the present call's branches."""
        import torch

        assert self._branches is not None
        return torch.cat([self._kept[name] for name in self._branches.branches])

    def _skipping(self, block: Any, forward: Callable[..., Any]) -> Callable[..., Any]:
        """A block that computes nothing where features are reused: an empty place instead of each of its results."""
        results = len(block.resnets) + len(block.downsamplers or ()) if type(block).__name__ in _DOWN else 0

        def run(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if not self._reuses():
                return forward(hidden_states, *args, **kwargs)
            nothing = hidden_states.new_zeros(())  # a scalar, to which a ControlNet can add what it likes
            return (nothing, (nothing,) * results) if results else nothing

        return run

    def _passing(self, layer: Any, forward: Callable[..., Any]) -> Callable[..., Any]:
        """A layer that hands on what it is told where features are reused: its shape is all that is wanted."""

        def run(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if not self._reuses():
                return forward(hidden_states, *args, **kwargs)
            return _as(kwargs, hidden_states)

        return run

    def _reusing(self, block: Any, forward: Callable[..., Any]) -> Callable[..., Any]:
        """A block that gives the kept features where they are reused."""

        def run(*args: Any, **kwargs: Any) -> Any:
            return _as(kwargs, self._features()) if self._reuses() else forward(*args, **kwargs)

        return run

    def _keeping(self, block: Any, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The block or layer whose result the last layers take up: it is kept, and given where it is reused."""

        def run(*args: Any, **kwargs: Any) -> Any:
            told = self._branches
            if self._reuses():
                return _as(kwargs, self._features())
            result = forward(*args, **kwargs)
            features = result[0] if isinstance(result, tuple) else result
            if told is not None:
                self._kept.update((name, features[told.rows(name)]) for name in told.branches)
            return result

        return run


def _as(told: dict[str, Any], features: torch.Tensor) -> Any:
    """Features as a transformer layer gives them, which is asked for a tuple, or as any other module does."""
    return (features,) if told.get("return_dict") is False else features


def _layers(block: Any, first: int, end: int | None) -> list[Any]:
    """Some of a block's layers, in the order in which they run: a residual layer, and its attention if it has one."""
    attentions = getattr(block, "attentions", None)
    found = []
    for i in range(len(block.resnets))[first:end]:
        found += [block.resnets[i], *([attentions[i]] if attentions is not None else [])]
    return found


def _check(unet: Any) -> None:
    """Raise ``MethodError`` for a network that this module does not know."""
    down, up = (list(getattr(unet, name, None) or ()) for name in ("down_blocks", "up_blocks"))
    middle = type(getattr(unet, "mid_block", None)).__name__
    strange: list[str] = [type(block).__name__ for block in down if type(block).__name__ not in _DOWN]
    strange += [type(block).__name__ for block in up if type(block).__name__ not in _UP]
    strange += [name for name in (middle,) if name not in _MIDDLE]
    if strange or len(down) != len(up) or len(down) < 2:
        what = f"blocks of {strange[0]}" if strange else f"{len(down)} levels"
        raise MethodError(
            f"cache_interval does not know this network ({type(unet).__name__} with {what}): leave it at 1"
        )
    parts = (unet, *down, *up)
    if hasattr(unet, "_orig_mod") or any(getattr(part, "_compiled_call_impl", None) for part in parts):
        raise MethodError(
            "cache_interval changes the network from step to step, and this one is compiled as a whole: leave it at 1, or "
            "compile the transformer blocks alone, editor.compile('blocks')"
        )


@contextlib.contextmanager
def _wrapped(block: Any, make: Make) -> Iterator[None]:
    """``make(block, its forward)`` in the place of a block's forward, which may be an offloading hook's."""
    own = block.__dict__.get("forward")
    block.forward = make(block, block.forward)
    try:
        yield
    finally:
        if own is None:
            del block.forward
        else:
            block.forward = own
