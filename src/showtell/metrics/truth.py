"""Edits of drawn scenes against their truth (:func:`showtell.scenes.score`): (B,) of what is right and what is wrong, in float64.

``case`` is a scene's case or a list of them, ``picture`` the edited pictures at the scenes' own size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .. import scenes
from .batches import as_pictures, same_count

if TYPE_CHECKING:
    import torch

    from ..scenes import Case, Score
    from .batches import Pictures


def edit_success(case: Case | Sequence[Case], picture: Pictures) -> torch.Tensor:
    """1 where an edit is right inside its mask and leaves the outside alone, else 0: (B,)."""
    return _each(case, picture, lambda case, score: score.success)


def edit_inside(case: Case | Sequence[Case], picture: Pictures) -> torch.Tensor:
    """1 where the squared error inside the mask is below a quarter of the unedited picture's, else 0: (B,)."""
    return _each(case, picture, lambda case, score: score.inside)


def edit_parts(case: Case | Sequence[Case], picture: Pictures) -> torch.Tensor:
    """The share of a case's edits that are right, each on its own mask: (B,) in [0, 1]."""
    return _each(case, picture, lambda case, score: np.mean([part.success for part in score.per_edit or (score,)]))


def edit_error(case: Case | Sequence[Case], picture: Pictures) -> torch.Tensor:
    """The squared error inside the mask over that of the unedited picture: (B,); 0 is perfect, 1 no edit at all."""
    return _each(case, picture, lambda case, score: score.edit_error)


def outside_psnr(case: Case | Sequence[Case], picture: Pictures) -> torch.Tensor:
    """PSNR in dB to the input outside the mask: (B,), infinite where nothing changed, NaN where nothing is outside."""
    return _each(case, picture, lambda case, score: np.nan if np.any(case.masks, axis=0).all() else score.outside_psnr)


def _each(case: Case | Sequence[Case], picture: Pictures, value) -> torch.Tensor:
    """A value of each case's score."""
    import torch

    cases = [case] if isinstance(case, scenes.Case) else list(case)
    opened = as_pictures(picture)
    same_count(cases=cases, pictures=opened)
    pairs = zip(cases, opened, strict=True)
    return torch.tensor([float(value(one, _score(one, seen))) for one, seen in pairs], dtype=torch.float64)


def _score(case: Case, picture) -> Score:
    return scenes.score(case, picture)
