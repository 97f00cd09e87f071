"""What an inversion finds: the latents that lead to a picture, and the embeddings that keep a guided run on that way."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, eq=False)
class Inverted:
    """Of B pictures, over K steps; all tensors float32.

    ``trajectory`` (K + 1, B, C, h, w): z* of DDIM inversion, from the clean latents to the noisiest. With tuning, ``tuned``
    (K, B, 77, d) is the embedding of each sampling step, the noisiest first, that of the words (``of`` = ``"cond"``, Prompt
    Tuning Inversion) or of their absence (``"uncond"``, Null-Text Inversion), and ``reconstruction`` (K + 1, B, C, h, w) the
    latents of the run under it, the noisiest first; ``losses`` (K, B) how far each step ended from the trajectory.
    """

    trajectory: torch.Tensor
    of: str | None = None
    tuned: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None
    losses: torch.Tensor | None = None

    @property
    def start(self) -> torch.Tensor:
        """The noisiest latents, (B, C, h, w)."""
        return self.trajectory[-1]

    def arrived(self, i: int) -> torch.Tensor:
        """The trajectory's latents where sampling step ``i`` arrives."""
        return self.trajectory[len(self.trajectory) - 2 - i]

    def rows(self, wanted: Sequence[int]) -> Inverted:
        """Of some of the pictures."""
        return self._each(lambda value: value[:, list(wanted)])

    def to(self, device: Any) -> Inverted:
        """On another device."""
        return self._each(lambda value: value.to(device))

    @staticmethod
    def joined(parts: Sequence[Inverted]) -> Inverted:
        """Several as one, picture after picture: all with tuning, or none."""
        import torch

        names = [f.name for f in dataclasses.fields(Inverted) if f.name != "of"]
        found: dict[str, Any] = {}
        for name in names:
            values = [getattr(part, name) for part in parts]
            found[name] = None if any(value is None for value in values) else torch.cat(values, dim=1)
        return Inverted(of=parts[0].of, **found)

    def _each(self, change: Any) -> Inverted:
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "of"}
        changed: dict[str, Any] = {name: None if value is None else change(value) for name, value in values.items()}
        return Inverted(of=self.of, **changed)
