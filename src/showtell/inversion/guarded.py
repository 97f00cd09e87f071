"""Steps of an optimiser that nobody has to wait for: what is not finite is found on the device, and asked for now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Steps between two looks at a device that works on its own; a CPU is looked at after each.
EVERY = 10


class Guarded:
    """AdamW over one ``parameter``, which moves no more, nor do its moments, from the first loss or gradient on that is not
    finite. The gradient is clipped at ``clip``, a scalar tensor, in magnitude. One is made for each stretch of steps.
    """

    def __init__(self, optimiser: torch.optim.Optimizer, parameter: Any, *, clip: torch.Tensor) -> None:
        import torch

        self.optimiser, self.parameter, self.clip = optimiser, parameter, float(clip)
        self._moved = torch.zeros((), device=parameter.device)
        self._sound = torch.ones((), dtype=torch.bool, device=parameter.device)
        self._loss = self._moved

    def step(self, loss: torch.Tensor, gradient: torch.Tensor) -> None:
        """One step by a scalar ``loss`` and its gradient; nothing waits for the device."""
        import torch

        self._loss = loss.detach().float()
        self._sound = self._sound & torch.isfinite(gradient).all() & torch.isfinite(self._loss)
        self._moved = self._moved + self._sound
        self.parameter.grad = gradient.clamp(-self.clip, self.clip)
        before = self._state()
        before = [torch.zeros_like(gradient) if then is None else then.detach().clone() for then in before]
        self.optimiser.step()
        with torch.no_grad():
            for now, then in zip(self._state(), before, strict=True):
                now.copy_(torch.where(self._sound, now, then))

    def look(self) -> tuple[int, float]:
        """How many steps have moved the parameter, and the last one's loss. This waits for the device, once."""
        import torch

        moved, loss = torch.stack([self._moved, self._loss]).tolist()
        return int(moved), loss

    def _state(self) -> list[Any]:
        """The parameter and its moments, None where there are none yet: they are zeros."""
        state = self.optimiser.state[self.parameter]
        return [self.parameter, state.get("exp_avg"), state.get("exp_avg_sq")]
