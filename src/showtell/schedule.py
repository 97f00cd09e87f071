"""Timestep pairs, what a network predicts, DDIM in both directions, and diffusers schedulers as a step.

Notation: x_t the latents, alpha_bar = ``scheduler.alphas_cumprod[t]``, eps the predicted noise.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .errors import MethodError, ModelError

if TYPE_CHECKING:
    import torch

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


def pairs(timesteps: Sequence[Any]) -> list[tuple[Any, Any]]:
    """(t, t_next) for each step of a run; the last step's t_next is None, the clean latents."""
    steps = list(timesteps)
    return list(zip(steps, [*steps[1:], None], strict=True))


def to_epsilon(output: torch.Tensor, x: torch.Tensor, alpha_bar: torch.Tensor, prediction_type: str) -> torch.Tensor:
    """The predicted noise, from a network's output of any type at x_t (same shapes).

    v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0 (Salimans and Ho 2022); x_t = sqrt(alpha_bar) x_0 + sqrt(1 -
    alpha_bar) eps. Raises ``ModelError`` for a prediction type that is not one of ``PREDICTION_TYPES``.
    """
    a, s = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    if prediction_type == "epsilon":
        return output
    if prediction_type == "v_prediction":
        return a * output + s * x
    if prediction_type == "sample":
        return (x - a * output) / s
    raise ModelError(
        f"prediction type {prediction_type!r} is not known: one of {', '.join(PREDICTION_TYPES)} is needed"
    )


def to_sample(eps: torch.Tensor, x: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """f(x_t) = (x_t - sqrt(1 - alpha_bar) eps) / sqrt(alpha_bar): the predicted clean latents (PTI, section 3)."""
    return (x - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5


def ddim(x: torch.Tensor, eps: torch.Tensor, alpha_bar: torch.Tensor, alpha_bar_next: torch.Tensor) -> torch.Tensor:
    """One deterministic DDIM step from noise level alpha_bar to alpha_bar_next, in either direction.

    x_next = sqrt(alpha_bar_next) f(x) + sqrt(1 - alpha_bar_next) eps. With the same eps it is its own inverse
    with the levels exchanged; sampling goes to a larger alpha_bar, inversion to a smaller one.
    """
    return alpha_bar_next**0.5 * to_sample(eps, x, alpha_bar) + (1 - alpha_bar_next) ** 0.5 * eps


class SchedulerStep:
    """One run of a diffusers scheduler: the loop's ``schedule`` and ``step``, and its noise levels.

    Build one for each run: the scheduler inside counts steps and remembers predictions.
    ``generators`` is one CPU generator per sample, drawn from once per stochastic step, as stock pipelines do.
    Raises ``MethodError`` where the scheduler cannot take that number of steps.
    """

    def __init__(self, scheduler: Any, *, num_inference_steps: int, device: Any, generators: list[Any]) -> None:
        with _refusals(scheduler, f"cannot take {num_inference_steps} steps"):
            scheduler.set_timesteps(num_inference_steps, device=device)
        self.scheduler = scheduler
        self.schedule = pairs(scheduler.timesteps)
        self.init_noise_sigma = scheduler.init_noise_sigma
        self._extra: dict[str, Any] = {}
        if "generator" in inspect.signature(scheduler.step).parameters:
            self._extra["generator"] = generators[0] if len(generators) == 1 else generators

    def __len__(self) -> int:
        return len(self.schedule)

    def scale_input(self, x: torch.Tensor, t: Any) -> torch.Tensor:
        """The latents as the network takes them: divided by sqrt(sigma^2 + 1) for schedulers in sigma space."""
        return self.scheduler.scale_model_input(x, t)

    def step(self, x: torch.Tensor, output: torch.Tensor, t: Any, t_next: Any) -> torch.Tensor:
        """x at t to x at t_next; ``output`` is the guided prediction in the network's own type."""
        with _refusals(self.scheduler, "does not fit these models"):
            return self.scheduler.step(output, t, x, **self._extra, return_dict=False)[0]

    def noised(self, z: torch.Tensor, noise: torch.Tensor, t: Any) -> torch.Tensor:
        """Clean latents brought to the noise level of timestep t; t = None is the clean latents."""
        if t is None:
            return z
        return self.scheduler.add_noise(z, noise, t.reshape(1).to(z.device))


@contextlib.contextmanager
def _refusals(scheduler: Any, what: str) -> Iterator[None]:
    """What a scheduler raises about the number of steps or its own arithmetic, as a ``MethodError``."""
    try:
        yield
    except (ValueError, TypeError, LookupError, ArithmeticError, AssertionError) as error:
        raise MethodError(
            f"scheduler {type(scheduler).__name__} {what}: choose another number of steps or scheduler ({error})"
        ) from error
