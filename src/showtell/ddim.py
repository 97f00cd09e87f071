"""The DDIM pair: deterministic sampling and its inversion over one list of timesteps (Song, Meng and Ermon 2021).

A sampling step goes from the noise level of its timestep t to the level that it arrives at, by the prediction at t. The
inversion takes the same pairs backwards: from the level that a step arrives at to that of its t, by the prediction at the
latents that it has and the t that it *goes to*, as ``DDIMInverseScheduler`` and the code of Null-Text Inversion do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .errors import MethodError
from .guidance import check_scale
from .schedule import ddim, to_epsilon

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, eq=False)
class Ddim:
    """The steps of a run: ``timesteps`` those that are run, the noisiest first; ``levels`` alpha_bar of each, ``arrivals``
    alpha_bar that each step arrives at, float32; ``prediction_type`` what the network says.
    """

    timesteps: tuple[Any, ...]
    levels: tuple[Any, ...]
    arrivals: tuple[Any, ...]
    prediction_type: str

    @classmethod
    def of(cls, scheduler: Any, *, encoding_ratio: float = 1.0) -> Ddim:
        """The pair of a ``DDIMScheduler`` whose timesteps are set: the last ``encoding_ratio`` of its steps, rounded down.

        Raises ``MethodError`` for another scheduler, one that clips or thresholds what it predicts (which no inversion can
        follow), a ratio outside (0, 1], or one that leaves no step.
        """
        name, config = type(scheduler).__name__, scheduler.config
        if "DDIM" not in name or not hasattr(scheduler, "final_alpha_cumprod"):
            raise MethodError(f"scheduler {name} cannot be inverted: leave scheduler out, or use ddim")
        for option in ("clip_sample", "thresholding"):
            if config.get(option):
                raise MethodError(f"scheduler {name} with {option} cannot be inverted: build it with {option}=False")
        count = len(scheduler.timesteps)
        kept = kept_steps(count, encoding_ratio)
        alphas, stride = scheduler.alphas_cumprod, config.num_train_timesteps // scheduler.num_inference_steps
        timesteps = tuple(scheduler.timesteps[count - kept :])
        at = [int(t) for t in timesteps]
        device = scheduler.timesteps.device
        levels = tuple(alphas[t].to(device) for t in at)
        before = (alphas[t - stride] if t >= stride else scheduler.final_alpha_cumprod for t in at)
        before = tuple(before)
        if config.prediction_type == "sample" and float(before[-1]) == 1:
            raise MethodError(
                f"scheduler {name}: a network that predicts the clean latents says nothing of their noise: build it with "
                "set_alpha_to_one=False"
            )
        if float(levels[0]) == 0:
            raise MethodError(
                f"scheduler {name} begins in pure noise, which no picture can be brought to: encoding_ratio < 1"
            )
        return cls(
            timesteps=timesteps,
            levels=levels,
            arrivals=tuple(alpha.to(device) for alpha in before),
            prediction_type=config.prediction_type,
        )

    @cached_property
    def _places(self) -> dict[int, int]:
        return {int(t): i for i, t in enumerate(self.timesteps)}

    def __len__(self) -> int:
        return len(self.timesteps)

    @property
    def schedule(self) -> list[tuple[Any, Any]]:
        """(t, t_next) of each sampling step; the last one's t_next is None."""
        return list(zip(self.timesteps, [*self.timesteps[1:], None], strict=True))

    @property
    def inverse_schedule(self) -> list[tuple[Any, Any]]:
        """The same steps backwards, from the clean latents: (t that is gone to and predicted at, the same)."""
        return [(t, t) for t in reversed(self.timesteps)]

    def step(self, x: torch.Tensor, output: torch.Tensor, t: Any, t_next: Any = None) -> torch.Tensor:
        """x_t (B, C, h, w) to the level that the step of t arrives at; ``output`` in the network's own prediction type."""
        i = self._index(t)
        return self._moved(x, output, self.levels[i], self.arrivals[i])

    def step_back(self, x: torch.Tensor, output: torch.Tensor, t: Any, t_next: Any = None) -> torch.Tensor:
        """x at the level that the step of t arrives at, back to that of t; ``output`` was predicted at (x, t)."""
        i = self._index(t)
        return self._moved(x, output, self.arrivals[i], self.levels[i])

    def _moved(self, x: Any, output: Any, at: Any, to: Any) -> torch.Tensor:
        return ddim(x, to_epsilon(output, x, at, self.prediction_type), at, to)

    def _index(self, t: Any) -> int:
        return self._places[int(t)]


def kept_steps(count: int, encoding_ratio: float) -> int:
    """How many of ``count`` steps an encoding ratio runs, rounded down. Raises ``MethodError`` outside (0, 1], or for none."""
    check_ratio(encoding_ratio)
    kept = min(int(count * encoding_ratio + 1e-6), count)
    if kept < 1:
        raise MethodError(
            f"encoding_ratio={encoding_ratio:g} of {count} steps is none: raise encoding_ratio or num_inference_steps"
        )
    return kept


def check_ratio(value: Any, name: str = "encoding_ratio") -> None:
    """Raise ``MethodError`` unless a ratio is a number in (0, 1]."""
    check_scale(name, value, least=0.0, most=1.0)
    if value == 0:
        raise MethodError(f"{name}=0 is out of range: it must be above 0 and at most 1")
