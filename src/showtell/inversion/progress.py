"""How far a learning has come: everything that going on from there needs, as tensors and numbers."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files
from ..errors import FileFormatError

if TYPE_CHECKING:
    import torch

_KEY = "showtell-progress"


@dataclass(kw_only=True, eq=False)
class Progress:
    """``parameter`` (n, d) float32 is being learned, with AdamW's two moments; ``step`` counts the steps done.

    ``best`` (n, d) are the tokens of the least checked loss; ``checks`` the (step, loss) of every check, and
    ``snapshots`` the tokens at each; ``broke_at`` the step whose loss was not finite; ``words`` what it started from.
    """

    parameter: torch.nn.Parameter
    best: torch.Tensor
    moments: tuple[torch.Tensor, torch.Tensor] | None = None
    step: int = 0
    checks: list[tuple[int, float]] = field(default_factory=list)
    snapshots: list[torch.Tensor] = field(default_factory=list)
    broke_at: int | None = None
    words: str = ""
    _optimiser: Any = None

    @classmethod
    def of(cls, tokens: torch.Tensor, *, words: str = "") -> Progress:
        """A beginning at ``tokens`` (n, d), those of ``words``."""
        import torch

        parameter = torch.nn.Parameter(tokens.detach().float().clone())
        return cls(parameter=parameter, best=parameter.detach().clone(), words=words)

    @property
    def tokens(self) -> torch.Tensor:
        """The tokens as they are now, (n, d) float32."""
        return self.parameter.detach()

    @property
    def best_check(self) -> tuple[int, float]:
        """The step and the loss of the best tokens."""
        finite = [check for check in self.checks if math.isfinite(check[1])]
        return min(finite, key=lambda check: check[1]) if finite else (0, math.nan)

    def checked(self, loss: float) -> None:
        """Note the loss of the present tokens, and keep them if none were better."""
        self.checks.append((self.step, loss))
        self.snapshots.append(self.tokens.clone().cpu())
        if math.isfinite(loss) and self.best_check == (self.step, loss):
            self.best = self.tokens.clone()

    def over(self, patience: int) -> bool:
        """Whether ``patience`` checks in a row have brought nothing better (0: never)."""
        if not patience or len(self.checks) <= patience:
            return False
        return self.best_check[0] < self.checks[-patience][0]

    def optimiser(self, *, weight_decay: float) -> torch.optim.AdamW:
        """AdamW over the parameter, going on with the moments of a saved progress."""
        import torch

        made = torch.optim.AdamW([self.parameter], lr=1.0, weight_decay=weight_decay)
        if self.moments is not None:
            first, second = (m.to(self.parameter.device) for m in self.moments)
            made.state[self.parameter] = {
                "step": torch.tensor(float(self.step)), "exp_avg": first, "exp_avg_sq": second,
            }  # fmt: skip
        self._optimiser = made
        return made

    def save(self, path: str | os.PathLike[str], *, what: str) -> None:
        """Write it whole, over an older one; ``what`` names the learning that it belongs to. Raises ``OutputError``."""
        import torch
        from safetensors.torch import save

        state = self._optimiser.state[self.parameter] if self._optimiser is not None else {}
        zeros = torch.zeros_like(self.tokens)
        tensors = {
            "tokens": self.tokens,
            "best": self.best,
            "exp_avg": state.get("exp_avg", zeros),
            "exp_avg_sq": state.get("exp_avg_sq", zeros.clone()),
            "snapshots": torch.stack(self.snapshots),
        }
        header = {"what": what, "step": self.step, "checks": self.checks, "words": self.words}
        data = save({k: v.cpu().contiguous() for k, v in tensors.items()}, metadata={_KEY: json.dumps(header)})
        files.write_atomic(path, data, force=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, what: str, device: Any) -> Progress:
        """Read it back. Raises ``FileFormatError`` if it is damaged or belongs to another learning."""
        import torch
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})[_KEY])
                t = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
            own = header["what"]
            checks = [(int(step), float(loss)) for step, loss in header["checks"]]
            parameter = torch.nn.Parameter(t["tokens"].to(device))
            progress = cls(
                parameter=parameter, best=t["best"].to(device), moments=(t["exp_avg"], t["exp_avg_sq"]),
                step=int(header["step"]), checks=checks, snapshots=list(t["snapshots"]), words=str(header["words"]),
            )  # fmt: skip
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise FileFormatError(
                f"{path}: cannot be gone on from ({error!s:.100}); remove it and start again without --resume"
            ) from error
        if own != what:
            raise FileFormatError(
                f"{path}: belongs to another learning (other pairs, model, seed or settings); give the same ones again, or "
                "start again without --resume"
            )
        return progress


def steps_done(path: str | os.PathLike[str]) -> int | None:
    """The steps of a saved progress, without reading its tensors; None where there is none that can be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            step = json.loads((file.metadata() or {})[_KEY])["step"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return step if type(step) is int and step >= 0 else None
