"""Validation while an editor is trained: pictures of held-out rows and figures, which leave the training as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from .data.rows import Row
    from .training.instruct.settings import Config

Validate = "Callable[[Any, int], tuple[dict[str, float], Image.Image | None]]"


def validator(
    config: Config, rows: Sequence[Row], *, clip: str | None = "starter-clip"
) -> Callable[[Any, int], tuple[dict[str, float], Image.Image | None]]:
    """What ``run.train`` calls every so many steps with a pipeline, whose UNet holds the averaged weights, and the step."""
    raise NotImplementedError
