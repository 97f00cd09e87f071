"""TensorBoard and Weights & Biases beside the training's own log."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from .settings import Config


class Trackers:
    """The trackers of a run; made by the first process only. ``step``: the step that a resumed run goes on from, so that
    what a killed run had written of later ones is not there twice. Raises ``UsageError`` for one that is not installed.
    """

    def __init__(self, names: Sequence[str], folder: str | os.PathLike[str], config: Config, *, step: int = 0) -> None:
        raise NotImplementedError

    def log(self, step: int, figures: Mapping[str, float], pictures: Mapping[str, Image.Image] | None = None) -> None:
        """Keep figures, and pictures by name, of a step."""
        raise NotImplementedError

    def close(self) -> None:
        """Write what is not written yet."""
        raise NotImplementedError


def check(names: Sequence[str]) -> None:
    """Raise ``UsageError`` before a training for a tracker that is unknown or not installed."""
    raise NotImplementedError
