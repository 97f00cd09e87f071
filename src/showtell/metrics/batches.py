"""What every measure takes: pictures as (B, 3, H, W) in [0, 1], and masks of the pixels that count.

Pictures may be given as a PIL picture, a path, a list of them, or a float tensor (B, 3, H, W) in [0, 1]. Networks that have an
image processor of their own see 8-bit pictures: a tensor is rounded to them first, as a saved picture is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from .. import images
from ..errors import UsageError

if TYPE_CHECKING:
    import torch
    from PIL import Image

    #: A PIL picture (or whatever ``images.open_picture`` opens), several of them, or a tensor (B, 3, H, W) in [0, 1].
    Pictures = Union[Image.Image, Sequence[Image.Image], torch.Tensor]

# Rounding of a sum of weights may leave [0, 1] by this much.
_SLACK = 1e-6


def as_tensor(pictures: Pictures, what: str = "the pictures") -> torch.Tensor:
    """(B, 3, H, W) in [0, 1], in float64 where the device has it; PIL pictures are their bytes over 255.

    Raises ``UsageError`` for another shape, numbers outside [0, 1] or that are not finite, pictures of different sizes, or none.
    """
    import torch

    if isinstance(pictures, torch.Tensor):
        return _exact(_checked(pictures, what))
    opened = as_pictures(pictures, what)
    sizes = {picture.size for picture in opened}
    if len(sizes) > 1:
        named = " and ".join(f"{w}x{h}" for w, h in sorted(sizes)[:2])
        raise UsageError(f"{what}: have different sizes ({named}): measure those of one size at a time")
    stacked = np.stack([np.asarray(picture, dtype=np.uint8) for picture in opened])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).double() / 255


def as_pictures(pictures: Pictures, what: str = "the pictures") -> list[Image.Image]:
    """A list of 8-bit RGB pictures. A tensor is rounded to bytes, transparency is laid over white.

    Raises ``UsageError`` for what :func:`as_tensor` refuses, but pictures may differ in size.
    """
    import torch
    from PIL import Image

    if isinstance(pictures, torch.Tensor):
        bytes_ = (_checked(pictures, what).detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(one) for one in bytes_]
    several = (
        list(pictures) if isinstance(pictures, Sequence) and not isinstance(pictures, (str, bytes)) else [pictures]
    )
    if not several:
        raise UsageError(f"{what}: there are none")
    return [images.open_picture(one).rgb for one in several]


def as_pair(a: Pictures, b: Pictures) -> tuple[torch.Tensor, torch.Tensor]:
    """Two batches of the same shape, on the first one's device. Raises ``UsageError`` where they are not."""
    first, second = as_tensor(a, "the first pictures"), as_tensor(b, "the second pictures")
    if first.shape != second.shape:
        raise UsageError(
            f"pictures of the shapes {tuple(first.shape)} and {tuple(second.shape)}: "
            "both must be the same (B, 3, H, W), pair by pair"
        )
    return first, second.to(first)


def same_count(**several: Sequence[Any]) -> int:
    """How many each of these lists holds. Raises ``UsageError``, with their names, where they differ."""
    counts = {name.replace("_", " "): len(items) for name, items in several.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise UsageError(f"{told}: give as many of each")
    return next(iter(counts.values()))


def as_texts(texts: str | Sequence[str], count: int, what: str = "texts") -> list[str]:
    """``count`` texts; a single string is the text of every picture. Raises ``UsageError`` for another number, or no text."""
    if not isinstance(texts, Iterable):
        raise UsageError(f"{what}: are {type(texts).__name__}: give a string, or a list of them")
    several = [texts] * count if isinstance(texts, str) else list(texts)
    if len(several) != count:
        raise UsageError(f"{count} pictures and {len(several)} {what}: give one for each, or a single string for all")
    for text in several:
        if not isinstance(text, str) or text != text.encode("utf-8", "replace").decode("utf-8"):
            raise UsageError(f"{what}: {ascii(text):.80} is no text that can be read")
    return several


def as_mask(mask: Any, like: torch.Tensor) -> torch.Tensor:
    """(B, 1, H, W) of zeros and ones in ``like``'s dtype, one where a pixel counts.

    ``mask`` is (H, W), (B, H, W) or (B, 1, H, W): bool, or numbers that are all 0 or 1; an array, a tensor, a picture of one bit,
    or a list of them. Raises ``UsageError`` for another shape or other numbers.
    """
    import torch

    try:
        if isinstance(mask, (list, tuple)):
            mask = np.stack([np.asarray(one) for one in mask])
        found = mask if isinstance(mask, torch.Tensor) else torch.as_tensor(np.array(mask, order="C"))
    except (TypeError, ValueError) as error:  # text, objects, lines of several lengths
        raise UsageError(
            f"a mask cannot be made of this {type(mask).__name__}: give (H, W) or (B, H, W) of true and false"
        ) from error
    count, _, height, width = like.shape
    if found.ndim == 4 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim == 2:
        found = found[None].expand(count, -1, -1)
    if tuple(found.shape) != (count, height, width):
        raise UsageError(
            f"a mask of the shape {tuple(found.shape)} does not fit pictures of {tuple(like.shape)}: "
            "give (H, W) or (B, H, W), of the pictures' own size"
        )
    if found.dtype != torch.bool and not ((found == 0) | (found == 1)).all():
        raise UsageError("a mask must be bool, or only zeros and ones: true where a pixel counts")
    return found[:, None].to(like)


def mean_where(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The mean of (B, C, H, W) over the pixels that count, weight (B, 1, H, W): (B,); NaN where none does."""
    total = (values * weight).flatten(1).sum(1)
    return total / (weight.flatten(1).sum(1) * values.shape[1])  # 0 / 0 is NaN: no pixel, no value


def only_where(a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``b`` with ``a``'s pixels wherever a pixel does not count: what must not count cannot be seen through a window either."""
    return b * weight + a * (1 - weight)


def _checked(pictures: torch.Tensor, what: str) -> torch.Tensor:
    if pictures.ndim != 4 or pictures.shape[1] != 3 or 0 in pictures.shape:
        raise UsageError(f"{what}: have the shape {tuple(pictures.shape)}, and (B, 3, H, W) is wanted")
    if not pictures.is_floating_point():
        raise UsageError(f"{what}: are {pictures.dtype} numbers; divide bytes by 255, so that they are in [0, 1]")
    if not pictures.isfinite().all():
        raise UsageError(f"{what}: hold numbers that are not finite")
    low, high = float(pictures.detach().min()), float(pictures.detach().max())
    if low < -_SLACK or high > 1 + _SLACK:
        raise UsageError(
            f"{what}: go from {low:.3g} to {high:.3g} and must be in [0, 1]: "
            + (
                "add 1 and halve what is in [-1, 1]"
                if -1 - _SLACK <= low and high <= 1 + _SLACK
                else "scale them first"
            )
        )
    return pictures


def _exact(pictures: torch.Tensor) -> torch.Tensor:
    return pictures.float() if pictures.device.type == "mps" else pictures.double()
