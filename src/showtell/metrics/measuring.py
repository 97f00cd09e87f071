"""A measure of a protocol on a batch of examples: what each function takes from an example, and what has no value.

Every network sees every picture once, however many measures ask for it. A value is None where an example lacks what the measure
needs, or where the measure is not defined: a mask of nothing, no direction, a picture that is too small for it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ImageError
from . import clip as on_features
from . import learned_distance, pick, pixels, structural, truth
from .batches import as_tensor
from .dino import structure_distance
from .perceptual import distance as perceptual_distance
from .protocol import Example, Measure

if TYPE_CHECKING:
    import torch
    from PIL import Image

Values = list["float | None"]
_CHUNK = 16
# Pictures that go through a network together have at most so many pixels, or are one: activations are many times as large.
_PIXELS = _CHUNK * 512 * 512

_PICTURES: dict[str, Callable[[Example], Any]] = {
    "before": lambda e: e.before,
    "result": lambda e: e.result,
    "after": lambda e: e.after,
    "pair before": lambda e: e.pair and e.pair[0],
    "pair after": lambda e: e.pair and e.pair[1],
    "inside": lambda e: None if e.mask is None or not np.any(e.mask) else _blackened(e.result, e.mask),
}


class Batch:
    """Some examples, and what each model said of their pictures and texts: asked when it is wanted, and once."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = list(examples)
        self._known: dict[tuple[Any, str], list[Any]] = {}

    def pictures(self, which: str) -> list[Image.Image | None]:
        """One picture of each example, None where it has none."""
        return [_PICTURES[which](example) for example in self.examples]

    def features(self, model: Any, which: str) -> list[torch.Tensor | None]:
        """A model's features of one picture of each example."""
        return self._ask(model, which, self.pictures(which), "image_features" if _is_clip(model) else "features")

    def texts(self, model: Any, which: str) -> list[torch.Tensor | None]:
        """A CLIP's features of one caption of each example; None where it is empty."""
        return self._ask(model, which, [getattr(e, which) or None for e in self.examples], "text_features")

    def _ask(self, model: Any, which: str, items: list[Any], how: str) -> list[Any]:
        key = (model, which)
        if key not in self._known:
            places = [i for i, item in enumerate(items) if item is not None]
            found: list[Any] = [None] * len(items)
            if places:
                for i, row in zip(places, getattr(model, how)([items[i] for i in places]), strict=True):
                    found[i] = row
            self._known[key] = found
        return self._known[key]


def measure(batch: Batch, what: Measure, model: Any) -> Values:
    """The value of one measure, scaled, for each example of a batch."""
    found = FUNCTIONS[what.function](batch, what, model)
    return [None if value is None or math.isnan(value) else float(value) * what.scale for value in found]


def whole(function: Callable[..., torch.Tensor], *columns: list[Any]) -> Values:
    """A function of features, on the examples that have all of them."""
    import torch

    places = [i for i, row in enumerate(zip(*columns, strict=True)) if all(item is not None for item in row)]
    values: Values = [None] * len(columns[0])
    if places:
        stacked = [torch.stack([column[i] for i in places]) for column in columns]
        for i, value in zip(places, function(*stacked).tolist(), strict=True):
            values[i] = value
    return values


def _clip_image(batch: Batch, what: Measure, clip: Any) -> Values:
    return whole(on_features.clip_i, batch.features(clip, _other(what)), batch.features(clip, "result"))


def _clip_directional(batch: Batch, what: Measure, clip: Any) -> Values:
    images = (batch.features(clip, which) for which in ("before", "result"))
    texts = (batch.texts(clip, which) for which in ("source_caption", "target_caption"))
    return whole(partial(on_features.clip_d, unit=bool(dict(what.options).get("unit"))), *images, *texts)


def _clip_text(batch: Batch, what: Measure, clip: Any) -> Values:
    which = "inside" if what.where == "inside the mask" else "result"
    return whole(on_features.clip_i, batch.features(clip, which), batch.texts(clip, "target_caption"))


def _clip_score(batch: Batch, what: Measure, clip: Any) -> Values:
    return [None if value is None else 100 * max(value, 0.0) for value in _clip_text(batch, what, clip)]


def _clip_visual(batch: Batch, what: Measure, clip: Any) -> Values:
    parts = ("pair before", "pair after", "before", "result")
    return whole(on_features.visual_clip, *(batch.features(clip, which) for which in parts))


def _pick_score(batch: Batch, what: Measure, model: Any) -> Values:
    image, text = batch.features(model.clip, "result"), batch.texts(model.clip, "target_caption")
    return whole(lambda x, y: pick.from_features(model, x, y), image, text)


def _on_pixels(function: Callable[..., torch.Tensor]) -> Callable[[Batch, Measure, Any], Values]:
    """A measure of two pictures and a mask, one example at a time: pictures may differ in size."""

    def run(batch: Batch, what: Measure, model: Any) -> Values:
        values: Values = []
        for example, other in zip(batch.examples, batch.pictures(_other(what)), strict=True):
            mask, value = counted(example, what), None
            if other is not None and (what.where == "everywhere" or mask is not None):
                with contextlib.suppress(ImageError):  # too small for it
                    value = float(function(other, example.result, mask))
            values.append(value)
        return values

    return run


def _by_size(run_one: Callable[..., torch.Tensor], *, masks: bool = False) -> Callable[[Batch, Measure, Any], Values]:
    """A network's measure of two pictures (and a mask), examples of one size together."""

    def run(batch: Batch, what: Measure, model: Any) -> Values:
        import torch

        others = batch.pictures(_other(what))
        sizes: dict[tuple[int, int], list[int]] = {}
        for i, (example, other) in enumerate(zip(batch.examples, others, strict=True)):
            if other is not None and (what.where == "everywhere" or counted(example, what) is not None):
                sizes.setdefault(example.result.size, []).append(i)
        values: Values = [None] * len(others)
        for part in (part for size, places in sizes.items() for part in _parts(places, size)):
            two = [[others[i] for i in part], [batch.examples[i].result for i in part]]
            more = {}
            if masks and what.where != "everywhere":
                more["mask"] = torch.stack([torch.as_tensor(counted(batch.examples[i], what)) for i in part])
            with contextlib.suppress(ImageError):  # too small for it
                for i, value in zip(part, run_one(model, *two, what, **more).tolist(), strict=True):
                    values[i] = value
        return values

    return run


def _parts(places: list[int], size: tuple[int, int]) -> list[list[int]]:
    """Examples of one size, a few at a time."""
    count = max(1, min(_CHUNK, _PIXELS // (size[0] * size[1])))
    return [places[i : i + count] for i in range(0, len(places), count)]


def _on_truth(function: Callable[..., torch.Tensor]) -> Callable[[Batch, Measure, Any], Values]:
    """A measure of a drawn scene's edit."""

    def run(batch: Batch, what: Measure, model: Any) -> Values:
        return [None if e.truth is None else float(function(e.truth, e.result)) for e in batch.examples]

    return run


def counted(example: Example, what: Measure) -> np.ndarray | None:
    """The pixels that a measure counts, (H, W) bool; None for all of them, or where the example has no mask."""
    if what.where == "everywhere" or example.mask is None:
        return None
    mask = np.asarray(example.mask, dtype=bool)
    return mask if what.where == "inside the mask" else ~mask


def _other(what: Measure) -> str:
    return "after" if what.against == "the true picture" else "before"


def _blackened(picture: Image.Image, mask: np.ndarray) -> Image.Image:
    from PIL import Image

    return Image.fromarray(np.asarray(picture.convert("RGB")) * np.asarray(mask, dtype=np.uint8)[:, :, None])


def _is_clip(model: Any) -> bool:
    return hasattr(model, "image_features")


FUNCTIONS: dict[str, Callable[[Batch, Measure, Any], Values]] = {
    "mse": _on_pixels(pixels.mse),
    "l1": _on_pixels(pixels.l1),
    "l2": _on_pixels(pixels.l2),
    "psnr": _on_pixels(pixels.psnr),
    "ssim": _on_pixels(structural.ssim),
    "ms_ssim": _on_pixels(lambda a, b, mask: structural.ms_ssim(a, b)),
    "lpips": _by_size(lambda model, a, b, what, mask=None: learned_distance.lpips(model, a, b, mask), masks=True),
    "perceptual_distance": _by_size(lambda model, a, b, what: perceptual_distance(model, as_tensor(a), as_tensor(b))),
    "structure_distance": _by_size(lambda model, a, b, what: structure_distance(model, a, b, **dict(what.options))),
    "dino_image": _clip_image,
    "clip_image": _clip_image,
    "clip_directional": _clip_directional,
    "clip_text": _clip_text,
    "clip_score": _clip_score,
    "clip_visual": _clip_visual,
    "pick_score": _pick_score,
    "edit_success": _on_truth(truth.edit_success),
    "edit_inside": _on_truth(truth.edit_inside),
    "edit_parts": _on_truth(truth.edit_parts),
    "edit_error": _on_truth(truth.edit_error),
    "outside_psnr": _on_truth(truth.outside_psnr),
}
