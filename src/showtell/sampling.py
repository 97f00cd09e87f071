"""The loop, and the guided denoiser that it calls. There is no other loop over timesteps in the package."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .attention import BranchContext
from .caching import Kept
from .conditioning import Conditioning
from .guidance import Guidance
from .guidance import at as guidance_at
from .networks import Network

if TYPE_CHECKING:
    import torch

    from .types import LatentMask, Latents


def keep(x: Latents, i: int) -> Latents:
    """A blend that changes nothing."""
    return x


def ignore(i: int, x: Latents) -> None:
    """An observer that looks away."""


def unscaled(x: Any, t: Any) -> Any:
    """Latents as they are: what a step that is no scheduler's, such as DDIM's pair, hands to the network."""
    return x


def sample(
    denoise: Callable[[Any, Any, int], Any],
    x: Latents,
    schedule: Iterable[tuple[Any, Any]],
    step: Callable[[Any, Any, Any, Any], Any],
    *,
    blend: Callable[[Any, int], Any] = keep,
    observe: Callable[[int, Any], None] = ignore,
) -> Latents:
    """Run the loop over ``schedule``, pairs (t, t_next), from ``x`` (B, 4, h, w).

    ``denoise(x, t, i)`` predicts, ``step(x, eps, t, t_next)`` moves, ``blend(x, i)`` mixes, ``observe(i, x)``
    looks on and may raise to stop.
    """
    for i, (t, t_next) in enumerate(schedule):
        eps = denoise(x, t, i)
        x = blend(step(x, eps, t, t_next), i)
        observe(i, x)
    return x


@dataclass(frozen=True, kw_only=True)
class GuidedDenoiser:
    """Predicts once for each branch that the guidance lists, and combines.

    Latents and predictions are float32; no gradient is kept. The branches run as one batch, branch by
    branch in the guidance's order; with ``sequential``, one after the other, to save memory, the ``image`` branch
    first, since a control may need it while it computes ``full``. ``attend`` is told the step and the layout before
    each call of the network; ``text_mask(i)`` gives the mask of the text term, (B, 1, h, w), or None. The network is told the
    same tensor again where the conditioning tells the same ones, so that it may know constant text again.
    """

    network: Network
    conditioning: Conditioning
    guidance: Guidance
    scale_input: Callable[[Any, Any], Any]
    sequential: bool = False
    attend: Callable[[BranchContext], None] | None = None
    text_mask: Callable[[int], LatentMask | None] | None = None
    _joined: Kept = field(default_factory=Kept, init=False, repr=False, compare=False)

    def __call__(self, x: Latents, t: Any, i: int) -> Latents:
        guidance = guidance_at(self.guidance, i)
        eps = self.predicted(x, t, i, guidance.branches)
        mask = self.text_mask(i) if self.text_mask is not None else None
        return guidance.combine(eps, text_mask=mask)

    def predicted(self, x: Latents, t: Any, i: int, branches: tuple[str, ...]) -> dict[str, torch.Tensor]:
        """What the network says in each of ``branches``, which need not be the guidance's; as (B, 4, h, w) each."""
        scaled = self.scale_input(x, t)
        eps: dict[str, torch.Tensor] = {}
        for together in self._calls(branches):
            eps.update(self._predict(scaled, t, i, together))
        return eps

    def _calls(self, branches: tuple[str, ...]) -> list[tuple[str, ...]]:
        if not self.sequential:
            return [branches]
        return [(branch,) for branch in sorted(branches, key=lambda branch: branch != "image")]

    def _predict(self, scaled: Latents, t: Any, i: int, branches: tuple[str, ...]) -> dict[str, torch.Tensor]:
        import torch

        told = [self.conditioning.told(branch, i) for branch in branches]
        if self.attend is not None:
            self.attend(BranchContext(step=i, timestep=t, branches=branches, batch=len(scaled), latents=scaled))
        texts = [embeds for embeds, _ in told]
        with torch.no_grad():
            x, embeds = torch.cat([scaled] * len(branches)), self._joined.of(texts, lambda: torch.cat(texts))
            output = self.network(x, t, embeds, [beside for _, beside in told])
        return dict(zip(branches, output.chunk(len(branches)), strict=True))
