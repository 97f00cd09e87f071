"""Contact sheets: cards of pictures with a title, a verdict and a line of figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from showtell.drawing import CARD, GREY, INK, PAPER, font, line

if TYPE_CHECKING:
    import numpy as np

    from showtell.scenes import Case

CELL = 128
GAP = 8
MARGIN = 28
MOST = 200
"""Cards that one sheet may hold: a picture of twenty megapixels."""
GOOD, BAD = "#2e8b57", "#c0392b"


@dataclass(frozen=True, kw_only=True)
class Card:
    """One case: named pictures side by side. ``right`` puts a tick or a cross under the picture named ``judged``."""

    title: str
    pictures: Sequence[tuple[str, Image.Image]]
    note: str = ""
    right: bool | None = None
    judged: str = "edited"


def truth(case: Case) -> list[tuple[str, Image.Image]]:
    """The pictures of a scene's case that need no model."""
    return [("before", case.before), ("truth", case.after), ("mask", overlay(case.before, case.masks))]


def overlay(picture: Image.Image, masks: Sequence[np.ndarray]) -> Image.Image:
    """Each mask in a colour of its own over the picture, which is paled."""
    import numpy as np

    tints = ((230, 85, 60), (45, 120, 210), (60, 160, 90), (170, 90, 190))
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float64) * 0.35 + 255 * 0.65
    for i, mask in enumerate(masks):
        pixels[mask] = pixels[mask] * 0.35 + np.array(tints[i % len(tints)]) * 0.65
    return Image.fromarray(pixels.round().astype(np.uint8))


def blank() -> Image.Image:
    """What stands where there is no picture."""
    return Image.new("RGB", (CELL, CELL), PAPER)


def stack(pages: Sequence[Image.Image]) -> Image.Image:
    """Sheets one below the other."""
    whole = Image.new("RGB", (max(page.width for page in pages), sum(page.height for page in pages)), PAPER)
    top = 0
    for page in pages:
        whole.paste(page, (0, top))
        top += page.height
    return whole


def draw(heading: str, cards: Sequence[Card], *, subtitle: str = "", columns: int = 2) -> Image.Image:
    """The cards in a grid under a heading."""
    columns = min(columns, len(cards))
    width = max(len(card.pictures) for card in cards) * (CELL + GAP) + GAP + 8
    height = CELL + 84
    top = MARGIN + (74 if subtitle else 52)
    rows = -(-len(cards) // columns)
    size = (2 * MARGIN + columns * (width + GAP * 2) - GAP * 2, top + rows * (height + GAP * 2) + MARGIN - GAP * 2)
    page = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN - 6), heading, fill=INK, font=font(30))
    line(pen, (MARGIN, MARGIN + 36), subtitle, GREY, size[0] - 2 * MARGIN, (15, 13))
    for i, card in enumerate(cards):
        at = (MARGIN + i % columns * (width + GAP * 2), top + i // columns * (height + GAP * 2))
        _card(page, pen, card, at, (width, height))
    return page


def _card(page: Image.Image, pen: ImageDraw.ImageDraw, card: Card, at: tuple[int, int], size: tuple[int, int]) -> None:
    left, top = at
    pen.rounded_rectangle((left, top, left + size[0], top + size[1]), radius=8, fill=CARD)
    x, y = left + GAP + 4, top + 36
    room = size[0] - 2 * (GAP + 4)
    line(pen, (x, top + 8), card.title, INK, room, (17, 15, 13))
    line(pen, (x, y + CELL + 22), card.note, GREY if card.right is not False else BAD, room, (14, 12))
    widest = (room + GAP) // len(card.pictures) - GAP
    for name, picture in card.pictures:
        scaled = _scaled(picture, (widest, CELL))
        page.paste(scaled, (x, y + (CELL - scaled.height) // 2))
        pen.text((x, y + CELL + 3), name, fill=GREY, font=font(13))
        if card.right is not None and name == card.judged:
            _badge(pen, (x + scaled.width - 9, y + CELL + 12), card.right)
        x += max(scaled.width, 64) + GAP


def _scaled(picture: Image.Image, room: tuple[int, int]) -> Image.Image:
    scale = min(room[0] / picture.width, room[1] / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)


def _badge(pen: ImageDraw.ImageDraw, centre: tuple[int, int], right: bool) -> None:
    x, y = centre
    pen.ellipse((x - 9, y - 9, x + 9, y + 9), fill=GOOD if right else BAD)
    if right:
        pen.line((x - 5, y, x - 1, y + 4, x + 5, y - 4), fill="white", width=2, joint="curve")
    else:
        pen.line((x - 4, y - 4, x + 4, y + 4), fill="white", width=2)
        pen.line((x - 4, y + 4, x + 4, y - 4), fill="white", width=2)
