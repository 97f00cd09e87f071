"""What is laid over a picture to be looked at: regions in colours of their own with a legend, and maps as heat."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from . import drawing

#: Clearly different, also for most of those who see colours differently.
_COLOURS = (
    (213, 60, 40), (30, 105, 200), (25, 150, 90), (165, 70, 180), (235, 150, 20), (60, 185, 215), (225, 105, 160),
    (125, 85, 50),
)  # fmt: skip
#: Sides of an overlay: a smaller picture is enlarged, a larger one reduced.
_LEAST, _MOST = 512, 1600
#: A legend is never narrower.
_LEGEND = 440
_ROW = 26
_HEAT = np.array([[0, 0, 4], [60, 15, 110], [150, 40, 110], [225, 85, 50], [250, 165, 30], [252, 250, 165]], np.float32)


def colour(number: int) -> tuple[int, int, int]:
    """The colour of region ``number``, from 0 on."""
    if number < len(_COLOURS):
        return _COLOURS[number]
    r, g, b = colorsys.hsv_to_rgb(number * 0.381966 % 1, 0.85, 0.5 + 0.35 * (number % 2))
    return round(255 * r), round(255 * g), round(255 * b)


def regions(picture: Image.Image, masks: Sequence[np.ndarray], legend: Sequence[tuple[str, str]]) -> Image.Image:
    """Which region is whose: each mask, bool (H, W) of the picture's size, tinted in its colour and numbered over the paled
    picture, and under it a line of ``legend`` for each: what was asked, which may be shortened, and how it was found.

    Where masks overlap, stripes of their colours alternate. Small pictures are enlarged, so that the legend fits.
    """
    shown = tinted(picture, masks)
    rows = key(legend, width=max(shown.width, _LEGEND))
    page = Image.new("RGB", (rows.width, shown.height + rows.height), drawing.PAPER)
    page.paste(shown, ((rows.width - shown.width) // 2, 0))
    page.paste(rows, (0, shown.height))
    return page


def key(legend: Sequence[tuple[str, str]], *, width: int, left: int = 8) -> Image.Image:
    """The legend alone: a line for each region, as in :func:`regions`."""
    page = Image.new("RGB", (width, 12 + _ROW * len(legend) + 8), drawing.PAPER)
    pen = ImageDraw.Draw(page)
    for number, (asked, found) in enumerate(legend):
        y = 12 + _ROW * number
        _badge(pen, (left + 12, y + 10), number)
        room = width - 2 * left - 36
        end = drawing.line(pen, (left + 32, y), asked, drawing.INK, round(room * 0.66), (16, 15, 14))
        drawing.line(pen, (end + 12, y), found, drawing.GREY, room + left + 20 - end, (16, 15, 14))
    return page


def tinted(picture: Image.Image, masks: Sequence[np.ndarray], *, side: int | None = None) -> Image.Image:
    """The numbered regions over the paled picture, without a legend; ``side`` is that of the result, if it matters."""
    most = max(1.0, _LEAST / max(picture.size))
    shown = drawing.within(picture, (side, side)) if side else drawing.within(picture, (_MOST, _MOST), most=most)
    sized = [np.asarray(Image.fromarray(mask).resize(shown.size, Image.Resampling.NEAREST)) for mask in masks]
    shown = _tinted(shown, sized)
    _number(ImageDraw.Draw(shown), sized)
    return shown


def _tinted(picture: Image.Image, masks: Sequence[np.ndarray]) -> Image.Image:
    grey = np.asarray(picture.convert("L"), dtype=np.float32)[..., None]
    pixels = np.asarray(picture, dtype=np.float32) * 0.12 + grey * 0.23 + 255 * 0.65
    height, width = grey.shape[:2]
    covers = sum((mask.astype(np.uint8) for mask in masks), np.zeros((height, width), np.uint8))
    down, across = np.ogrid[:height, :width]
    turn = (down + across) // 7 % np.maximum(covers, 1)  # whose stripe it is among the masks that overlap here
    before = np.zeros_like(covers)
    for number, mask in enumerate(masks):
        own = mask & (before == turn)
        before += mask
        tint = np.array(colour(number), np.float32)
        pixels[own] = pixels[own] * 0.42 + tint * 0.58
        pixels[_edge(mask)] = tint
    return Image.fromarray(pixels.round().astype(np.uint8))


def _edge(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask that lie beside others."""
    inner = np.pad(mask, 2, mode="edge")
    for _ in range(2):
        inner = inner[1:-1, 1:-1] & inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    return mask & ~inner


def _number(pen: ImageDraw.ImageDraw, masks: Sequence[np.ndarray]) -> None:
    """Each region's number on the pixel of its own that is nearest to its middle."""
    taken: list[tuple[int, int]] = []
    for number, mask in enumerate(masks):
        others = [other for other in (*masks[:number], *masks[number + 1 :]) if other is not mask]
        alone = mask & ~np.any(others, axis=0) if others else mask
        ys, xs = np.nonzero(alone if alone.any() else mask)
        if not len(xs):
            continue
        nearest = np.argmin((xs - xs.mean()) ** 2 + (ys - ys.mean()) ** 2)
        x, y = int(xs[nearest]), int(ys[nearest])
        while any(abs(x - u) + abs(y - v) < 24 for u, v in taken):
            x += 26
        taken.append((x, y))
        _badge(pen, (x, y), number)


def _badge(pen: ImageDraw.ImageDraw, centre: tuple[int, int], number: int) -> None:
    x, y = centre
    pen.ellipse((x - 11, y - 11, x + 11, y + 11), fill=colour(number), outline="white", width=2)
    pen.text((x, y), str(number + 1), fill="white", font=drawing.font(13), anchor="mm", stroke_width=0)


def heat(picture: Image.Image, values: np.ndarray, *, side: int = 256) -> Image.Image:
    """A map (h, w) as heat over the picture, which is paled to grey: from its least value, clear, to its greatest, bright.

    The longer side becomes ``side`` pixels. A map that is the same everywhere shows no heat.
    """
    shown = drawing.within(picture, (side, side))
    low, high = float(values.min()), float(values.max())
    share = (values.astype(np.float32) - low) / max(high - low, 1e-12)
    smooth = Image.fromarray(share).resize(shown.size, Image.Resampling.BICUBIC)
    share = np.clip(np.asarray(smooth, dtype=np.float32), 0, 1)
    place = share * (len(_HEAT) - 1)
    first = np.minimum(place.astype(int), len(_HEAT) - 2)
    part = (place - first)[..., None]
    colours = _HEAT[first] * (1 - part) + _HEAT[first + 1] * part
    grey = np.asarray(shown.convert("L"), dtype=np.float32)[..., None] * 0.6 + 60
    opacity = 0.45 + 0.4 * share[..., None]
    return Image.fromarray((grey * (1 - opacity) + colours * opacity).round().clip(0, 255).astype(np.uint8))
