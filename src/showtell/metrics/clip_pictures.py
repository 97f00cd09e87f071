"""What a CLIP says of pictures and texts: CLIP-I, directional CLIP, CLIP-T, visual CLIP.

Pictures are what :mod:`~showtell.metrics.batches` takes and go in as the CLIP's own image processor prepares them. Each gives
(B,) in float32. The measures on features that were already made are in :mod:`~showtell.metrics.clip`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import clip as on_features
from .batches import as_pictures, as_texts, same_count

if TYPE_CHECKING:
    import torch

    from .batches import Pictures
    from .clip import Clip


def load_clip(name: str | os.PathLike[str] = "starter-clip", *, device: str = "cpu") -> Clip:
    """A CLIP with both towers: ``starter-clip``, a folder or a hub id, on ``device``.

    Raises ``ModelError``, one line, for what cannot be loaded.
    """
    return on_features.Clip.load(name, device=device)


def clip_image(clip: Clip, a: Pictures, b: Pictures) -> torch.Tensor:
    """CLIP-I, cos(CLIP(a), CLIP(b)), pair by pair: (B,) in [-1, 1]. Raises ``UsageError`` for what are no pairs of pictures."""
    first, second = _features(clip, first_pictures=a, second_pictures=b)
    return on_features.clip_i(first, second)


def clip_directional(
    clip: Clip,
    before: Pictures,
    after: Pictures,
    text_before: str | Sequence[str],
    text_after: str | Sequence[str],
    *,
    unit: bool = False,
) -> torch.Tensor:
    """CLIP-D, cos(CLIP(after) - CLIP(before), CLIP(text_after) - CLIP(text_before)): (B,) in [-1, 1] (Gal et al. 2021; IP2P).

    Features are not normalised before they are subtracted, unless ``unit`` is set: so InstructPix2Pix's code has it. NaN where a
    picture or its text did not change: there is no direction.
    """
    first, second = _features(clip, pictures_before=before, pictures_after=after)
    texts = (as_texts(text, len(first)) for text in (text_before, text_after))
    return on_features.clip_d(first, second, *(clip.text_features(text) for text in texts), unit=unit)


def clip_text(clip: Clip, image: Pictures, text: str | Sequence[str]) -> torch.Tensor:
    """CLIP-T, cos(CLIP(image), CLIP(text)): (B,) in [-1, 1]. A single string is the text of every picture."""
    (found,) = _features(clip, pictures=image)
    return on_features.clip_i(found, clip.text_features(as_texts(text, len(found))))


def clip_score(clip: Clip, image: Pictures, text: str | Sequence[str]) -> torch.Tensor:
    """100 max(cos(CLIP(image), CLIP(text)), 0): (B,) in [0, 100], the form in which PIE-Bench reports :func:`clip_text`."""
    return 100 * clip_text(clip, image, text).clamp(min=0)


def clip_visual(clip: Clip, x: Pictures, y: Pictures, x2: Pictures, y2: Pictures) -> torch.Tensor:
    """Visual CLIP (VISII, section 4), cos(CLIP(y) - CLIP(x), CLIP(y2) - CLIP(x2)): does x2 -> y2 repeat what x -> y shows? (B,)
    in [-1, 1], NaN where either pair's two pictures are the same.
    """
    return on_features.visual_clip(*_features(clip, x=x, y=y, x2=x2, y2=y2))


def _features(clip: Clip, **pictures: Pictures) -> list[torch.Tensor]:
    """The features of each batch, which must all be of one length."""
    opened = {name: as_pictures(several, name.replace("_", " ")) for name, several in pictures.items()}
    same_count(**opened)
    return [clip.image_features(several) for several in opened.values()]
