"""Tuning an embedding step by step, so that a guided run stays on the way that DDIM inversion found.

Prompt Tuning Inversion (Dong et al. 2023, Algorithm 1, lines 1-13) tunes the embedding of the words; Null-Text Inversion
(Mokady et al. 2023, Algorithm 1) that of their absence. The one that is not tuned is a constant of each step: it is
predicted once, whatever the number of iterations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import sampling
from ..ddim import Ddim
from ..errors import UsageError
from ..guidance import ClassifierFree
from . import gradients
from .inverted import Inverted

if TYPE_CHECKING:
    import torch

    from ..networks import Network
    from ..types import PromptEmbeds


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What is tuned, and what stays. ``of`` names the branch that is tuned, ``cond`` or ``uncond``.

    ``start`` (B, 77, d) is what its embedding starts from, ``constant`` (B, 77, d) the other branch's. ``iterations`` a step;
    ``rate(i)`` the learning rate of step i; ``enough(i)`` the loss below which a picture's step is over (negative: never).
    """

    network: Network
    pair: Ddim
    trajectory: torch.Tensor
    of: str
    start: PromptEmbeds
    constant: PromptEmbeds
    guidance_scale: float
    iterations: int
    rate: Callable[[int], float]
    enough: Callable[[int], float] = lambda i: -1.0


class NotFinite(UsageError):
    """A loss or gradient that is no number. ``tuned`` holds what was good before it."""

    def __init__(self, message: str, tuned: Tuned) -> None:
        super().__init__(message)
        self.tuned = tuned


@dataclass(kw_only=True, eq=False)
class Tuned:
    """How far a tuning has come: the ``trajectory`` that it follows, of each step done its ``embeds`` (B, 77, d) and ``losses``
    (B,), the ``latents`` of the run, the start's first;
    ``how`` it was told to tune.
    """

    trajectory: torch.Tensor | None = None
    embeds: list[torch.Tensor] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)
    latents: list[torch.Tensor] = field(default_factory=list)
    how: dict[str, Any] = field(default_factory=dict)

    def found(self, task: Task) -> Inverted:
        """The whole, once every step is done."""
        import torch

        return Inverted(
            trajectory=task.trajectory,
            of=task.of,
            tuned=torch.stack(self.embeds),
            reconstruction=torch.stack(self.latents),
            losses=torch.stack(self.losses),
        )


def tune(
    task: Task, *, progress: Tuned | None = None, observe: Callable[[int, Any], None] = sampling.ignore
) -> Inverted:
    """Tune every step that ``progress`` has not yet, which is filled on the way, and return the whole.

    ``observe(i, x)`` after each step may raise to stop: going on with the same ``progress`` gives the same result. Raises
    ``NotFinite``, saying at which step.
    """
    progress = Tuned() if progress is None else progress
    if not progress.latents:
        progress.latents.append(task.trajectory[-1])
    first = len(progress.latents) - 1
    del progress.embeds[first:], progress.losses[first:]  # what was stopped between tuning a step and taking it
    tuner = _Tuner(task, progress, first)

    def noted(i: int, x: Any) -> None:
        progress.latents.append(x)
        observe(first + i, x)

    sampling.sample(tuner, progress.latents[-1], task.pair.schedule[first:], task.pair.step, observe=noted)
    return progress.found(task)


class _Tuner:
    """A denoiser that tunes its embedding for a step before it predicts."""

    def __init__(self, task: Task, progress: Tuned, first: int) -> None:
        self.task, self.progress, self.first = task, progress, first
        self.guidance = ClassifierFree(guidance_scale=task.guidance_scale)
        self.other = "uncond" if task.of == "cond" else "cond"

    def __call__(self, x: torch.Tensor, t: Any, i: int) -> torch.Tensor:
        import torch

        task, step = self.task, self.first + i
        embeds = self.progress.embeds[-1] if self.progress.embeds else task.start
        constant, sound = None, torch.ones((), dtype=torch.bool, device=x.device)
        if self.other in self.guidance.branches:
            with torch.no_grad():
                constant = task.network(x, t, task.constant)
        if task.of in self.guidance.branches:
            embeds, sound = self._tuned(x, t, step, embeds.float(), constant)
        with torch.no_grad():
            output = self._guided(x, t, embeds, constant)
            loss = self._losses(x, t, step, output)
        # The one look of a step: what broke must be in no step that is kept.
        if not (sound & torch.isfinite(loss).all()):
            raise self._not_finite(step, t)
        self.progress.embeds.append(embeds)
        self.progress.losses.append(loss)
        return output

    def _tuned(self, x: torch.Tensor, t: Any, step: int, start: torch.Tensor, constant: Any) -> tuple[Any, Any]:
        """The iterations of one step, each with Adam. A picture whose loss is small enough stays as it is from then on.

        Returns the embeddings and, as a scalar on the device, whether all losses and gradients were finite.
        """
        import torch

        embeds, enough = start.detach().clone().requires_grad_(), self.task.enough(step)
        optimiser = torch.optim.Adam([embeds], lr=self.task.rate(step))
        open_ = torch.ones(len(x), dtype=torch.bool, device=x.device)
        sound = torch.ones((), dtype=torch.bool, device=x.device)
        for _ in range(self.task.iterations):
            losses = self._losses(x, t, step, self._guided(x, t, embeds, constant))
            # Each picture's own mean, summed: the pictures of a batch do not feel each other.
            gradient = gradients.of(losses.sum(), embeds)
            sound = sound & torch.isfinite(gradient).all() & torch.isfinite(losses).all()
            before = embeds.detach().clone()
            embeds.grad = gradient
            optimiser.step()
            with torch.no_grad():
                embeds.copy_(torch.where(open_[:, None, None], embeds, before))
            open_ = open_ & (losses.detach() >= enough)
            # A look waits for the device: where no loss is small enough, there is nothing to see.
            if enough >= 0 and not (open_.any() & sound):
                break
        return embeds.detach(), sound

    def _guided(self, x: torch.Tensor, t: Any, embeds: torch.Tensor, constant: Any) -> torch.Tensor:
        outputs = {self.other: constant}
        if self.task.of in self.guidance.branches:
            outputs[self.task.of] = self.task.network(x, t, embeds)
        return self.guidance.combine(outputs)

    def _losses(self, x: torch.Tensor, t: Any, step: int, output: torch.Tensor) -> torch.Tensor:
        """|z*_{t-1} - DDIM(z_t)|^2 of each picture, (B,), as a mean over the latents."""
        wanted = self.task.trajectory[len(self.task.trajectory) - 2 - step]
        return (self.task.pair.step(x, output, t) - wanted).square().flatten(1).mean(1)

    def _not_finite(self, step: int, t: Any) -> NotFinite:
        return NotFinite(
            f"the tuning broke at step {step + 1} of {len(self.task.pair)} (t = {int(t)}): its loss or gradient is not a "
            "finite number: use a smaller learning_rate, or dtype float32 or bfloat16",
            self.progress,
        )
