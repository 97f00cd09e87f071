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
# Their steps take a generator, for options that are not used here.
_QUIET = (
    "DDIMScheduler", "DDIMParallelScheduler", "CogVideoXDDIMScheduler", "EulerDiscreteScheduler", "EDMEulerScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "EDMDPMSolverMultistepScheduler",
)  # fmt: skip
# Steps whose noise is drawn together.
_AHEAD = 25


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


def to_target(z: torch.Tensor, noise: torch.Tensor, alpha_bar: torch.Tensor, prediction_type: str) -> torch.Tensor:
    """What a network of that prediction type should say of clean latents z with noise added (same shapes).

    Raises ``ModelError`` for a prediction type that is not one of ``PREDICTION_TYPES``.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        return alpha_bar**0.5 * noise - (1 - alpha_bar) ** 0.5 * z
    if prediction_type == "sample":
        return z.expand_as(noise)
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


def euler_ancestral(
    x: torch.Tensor, eps: torch.Tensor, sigma: torch.Tensor, sigma_next: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """One ancestral Euler step in sigma space, x = x_0 + sigma eps (k-diffusion's ``sample_euler_ancestral``, eta 1).

    sigma_up^2 = sigma_next^2 (sigma^2 - sigma_next^2) / sigma^2; sigma_down^2 = sigma_next^2 - sigma_up^2;
    x_next = x + (sigma_down - sigma) eps + sigma_up noise.
    """
    up = (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2) ** 0.5
    down = (sigma_next**2 - up**2) ** 0.5
    return x + (down - sigma) * eps + up * noise


class SchedulerStep:
    """One run of a diffusers scheduler: the loop's ``schedule`` and ``step``, and its noise levels.

    Build one for each run: the scheduler inside counts steps and remembers predictions. Latents are on ``device``; timesteps
    and noise levels stay on the CPU, where a step can look at them without waiting for the device.
    ``generators`` is one CPU generator per sample, drawn from once per stochastic step, as stock pipelines do.
    ``replay(noises)`` replaces those draws: one (B, C, h, w) for each step but the last.
    Raises ``MethodError`` where the scheduler cannot take that number of steps.
    """

    def __init__(self, scheduler: Any, *, num_inference_steps: int, device: Any, generators: list[Any]) -> None:
        import torch

        with _refusals(scheduler, f"cannot take {num_inference_steps} steps"):
            scheduler.set_timesteps(num_inference_steps, device="cpu")
        self.scheduler = scheduler
        self.device = torch.device(device)
        self.num_inference_steps = num_inference_steps
        self.schedule = pairs(scheduler.timesteps)
        self.init_noise_sigma = scheduler.init_noise_sigma
        self._extra: dict[str, Any] = {}
        self._generators = generators
        self._replayed: dict[float, torch.Tensor] = {}
        self._draws_ahead = self.device.type != "cpu" and all(g.device.type == "cpu" for g in generators)
        if "generator" in inspect.signature(scheduler.step).parameters:
            self._extra["generator"] = generators[0] if len(generators) == 1 else generators

    def __len__(self) -> int:
        return len(self.schedule)

    def last(self, strength: float) -> list[tuple[Any, Any]]:
        """The part of the schedule that a start noised to ``strength`` runs, in (0, 1]: that share of the steps, rounded
        down, as in stock pipelines. Raises ``MethodError`` if that is no step.
        """
        kept = min(int(self.num_inference_steps * strength + 1e-6), self.num_inference_steps)
        if kept < 1:
            raise MethodError(
                f"strength={strength:g} of {self.num_inference_steps} steps is none: raise strength or num_inference_steps"
            )
        first = self.num_inference_steps - kept
        if first and type(self.scheduler).__name__ == "PNDMScheduler":
            return self._multistep(first)
        return self.schedule[first * getattr(self.scheduler, "order", 1) :]

    def _multistep(self, first: int) -> list[tuple[Any, Any]]:
        """PNDM from step ``first`` on. It counts its own steps: Runge-Kutta steps come first of all or not at all, and the
        second of the others is taken twice, wherever the run begins. (Stock pipelines leave it a step behind.)
        """
        scheduler = self.scheduler
        scheduler.register_to_config(skip_prk_steps=True)
        scheduler.set_timesteps(self.num_inference_steps, device="cpu")
        distinct = [scheduler.timesteps[0], *scheduler.timesteps[2:]][first:]
        return pairs([*distinct[:1], *distinct[1:2], *distinct[1:]])

    def scale_input(self, x: torch.Tensor, t: Any) -> torch.Tensor:
        """The latents as the network takes them: divided by sqrt(sigma^2 + 1) for schedulers in sigma space."""
        return self.scheduler.scale_model_input(x, t)

    def step(self, x: torch.Tensor, output: torch.Tensor, t: Any, t_next: Any) -> torch.Tensor:
        """x at t to x at t_next; ``output`` is the guided prediction in the network's own type."""
        if self._draws_inside and t_next is not None:
            if self._draws_ahead and float(t) not in self._replayed:
                self._draw(x, t)
            if self._replayed:
                return self._euler_ancestral(x, output, t, self._replayed[float(t)])
        with _refusals(self.scheduler, "does not fit these models"):
            return self.scheduler.step(output, t, x, **self._extra, return_dict=False)[0]

    @property
    def _draws_inside(self) -> bool:
        return type(self.scheduler).__name__ == "EulerAncestralDiscreteScheduler"

    def replay(self, noises: Sequence[torch.Tensor]) -> None:
        """Take each stochastic step's noise from here: ``noises[i]`` for step i, all steps but the last.

        Schedulers that draw nothing have no use for it. Raises ``MethodError`` for one that draws its noise where
        nothing can replace it.
        """
        if not _draws(self.scheduler):
            return
        if not self._draws_inside:
            raise MethodError(
                f"recorded noise cannot be used with {type(self.scheduler).__name__}: "
                "choose euler-ancestral, or one that draws no noise, such as ddim"
            )
        self._replayed = {float(t): noise for (t, _), noise in zip(self.schedule, noises, strict=False)}

    def _draw(self, x: torch.Tensor, t: Any) -> None:
        """The noise of step t and of those after it, as the scheduler would draw it, and moved to the device together: a copy
        in every step would wait for all work before it.
        """
        import torch

        first = self._index(t)
        coming = [float(t) for t, t_next in self.schedule[first : first + _AHEAD] if t_next is not None]
        shape = (len(coming), 1, *x.shape[1:])
        drawn = [torch.stack([torch.randn(shape[1:], generator=g) for _ in coming]) for g in self._generators]
        self._replayed = dict(zip(coming, torch.cat(drawn, dim=1).to(x.device), strict=True))

    def _index(self, t: Any) -> int:
        return next(i for i, (known, _) in enumerate(self.schedule) if float(known) == float(t))

    def _euler_ancestral(self, x: torch.Tensor, output: torch.Tensor, t: Any, noise: torch.Tensor) -> torch.Tensor:
        scheduler, i = self.scheduler, self._index(t)
        sigma, sigma_next = (s.to(x.dtype) for s in (scheduler.sigmas[i], scheduler.sigmas[i + 1]))
        alpha_bar = 1 / (sigma**2 + 1)
        eps = to_epsilon(output, x * alpha_bar**0.5, alpha_bar, scheduler.config.prediction_type)
        # The scheduler counts its steps by calls; the one that is left out here must count, too.
        scheduler._step_index = i + 1
        scheduler.is_scale_input_called = True
        return euler_ancestral(x, eps, sigma, sigma_next, noise)

    def noised(self, z: torch.Tensor, noise: torch.Tensor, t: Any) -> torch.Tensor:
        """Clean latents brought to the noise level of timestep t; t = None is the clean latents."""
        if t is None:
            return z
        signal, share = self._mixture(t)
        return signal * z + share * noise

    def level(self, t: Any) -> torch.Tensor:
        """alpha_bar at timestep t, read off how the scheduler mixes clean latents with noise there: a float32 scalar."""
        signal, share = self._mixture(t)
        return signal**2 / (signal**2 + share**2)

    def _mixture(self, t: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """By what clean latents and noise are multiplied at timestep t: float32 scalars on the CPU."""
        import torch

        one = torch.ones(1, 1, 1, 1)
        t = t.reshape(1)
        signal, share = self.scheduler.add_noise(one, 0 * one, t), self.scheduler.add_noise(0 * one, one, t)
        return signal.squeeze(), share.squeeze()


def _draws(scheduler: Any) -> bool:
    """Whether a scheduler's steps draw noise, as they are called here. DDIM's do only with an eta that is not given."""
    name = type(scheduler).__name__
    if "SDE" in name or "Cosine" in name or str(scheduler.config.get("algorithm_type", "")).startswith("sde"):
        return True
    return name not in _QUIET and "generator" in inspect.signature(scheduler.step).parameters


@contextlib.contextmanager
def _refusals(scheduler: Any, what: str) -> Iterator[None]:
    """What a scheduler raises about the number of steps or its own arithmetic, as a ``MethodError``."""
    try:
        yield
    except (ValueError, TypeError, LookupError, ArithmeticError, AssertionError) as error:
        raise MethodError(
            f"scheduler {type(scheduler).__name__} {what}: choose another number of steps or scheduler ({error})"
        ) from error
