"""Measures of edited pictures. Each names its model, its input size and its preprocessing.

    from showtell import metrics

    clip = metrics.load_clip("starter-clip")
    metrics.clip_image(clip, a, b)          # pictures: PIL, a list of them, or tensors (B, 3, H, W) in [0, 1]; gives (B,)
    metrics.psnr(a, b, mask=~region)        # over the pixels that count
    meter = metrics.load("starter")         # a named protocol: every column with its model, input, range and reduction

Everything is imported when it is first asked for. The measures of features that were already made are in ``metrics.clip`` and
``metrics.frechet``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clip_pictures import clip_directional as clip_directional
    from .clip_pictures import clip_image as clip_image
    from .clip_pictures import clip_score as clip_score
    from .clip_pictures import clip_text as clip_text
    from .clip_pictures import clip_visual as clip_visual
    from .clip_pictures import load_clip as load_clip
    from .dino import dino_image as dino_image
    from .dino import load_dino as load_dino
    from .dino import structure_distance as structure_distance
    from .frechet import class_distance as class_frechet_distance  # noqa: F401
    from .frechet import distance as frechet_distance  # noqa: F401
    from .learned_distance import load_lpips as load_lpips
    from .learned_distance import lpips as lpips
    from .perceptual import distance as perceptual_distance  # noqa: F401
    from .pick import load_pick_score as load_pick_score
    from .pick import pick_preference as pick_preference
    from .pick import pick_score as pick_score
    from .pixels import l1 as l1
    from .pixels import l2 as l2
    from .pixels import mse as mse
    from .pixels import psnr as psnr
    from .protocol import Example as Example
    from .protocol import Measure as Measure
    from .protocol import Meter as Meter
    from .protocol import Protocol as Protocol
    from .protocols import PROTOCOLS as PROTOCOLS
    from .protocols import choose as choose
    from .protocols import load as load
    from .structural import ms_ssim as ms_ssim
    from .structural import ssim as ssim
    from .structural import ssim_map as ssim_map
    from .truth import edit_error as edit_error
    from .truth import edit_inside as edit_inside
    from .truth import edit_parts as edit_parts
    from .truth import edit_success as edit_success
    from .truth import outside_psnr as outside_psnr

_ROOMS = {
    "clip_pictures": ("clip_directional", "clip_image", "clip_score", "clip_text", "clip_visual", "load_clip"),
    "dino": ("dino_image", "load_dino", "structure_distance"),
    "learned_distance": ("load_lpips", "lpips"),
    "pick": ("load_pick_score", "pick_preference", "pick_score"),
    "pixels": ("l1", "l2", "mse", "psnr"),
    "protocol": ("Example", "Measure", "Meter", "Protocol"),
    "protocols": ("PROTOCOLS", "choose", "load"),
    "structural": ("ms_ssim", "ssim", "ssim_map"),
    "truth": ("edit_error", "edit_inside", "edit_parts", "edit_success", "outside_psnr"),
}
_ON_FEATURES = ("clip", "frechet")
_LAZY = {name: (room, name) for room, names in _ROOMS.items() for name in names} | {
    "class_frechet_distance": ("frechet", "class_distance"),
    "frechet_distance": ("frechet", "distance"),
    "perceptual_distance": ("perceptual", "distance"),
}

__all__ = sorted(_LAZY)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        room, own = _LAZY[name]
        return getattr(importlib.import_module(f".{room}", __name__), own)
    if name in _ON_FEATURES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
