"""Text in any script, and pictures in a grid: what sheets and legends are drawn with."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

Font: TypeAlias = "ImageFont.FreeTypeFont | ImageFont.ImageFont"

PAPER, CARD, INK, GREY, MARK = "#f3f1ec", "#ffffff", "#22262b", "#6d747c", "#c2410c"
MARGIN, GAP = 28, 12
#: Fonts of the system that know more scripts than Pillow's own, tried in this order.
_SCRIPTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf", "Arial Unicode.ttf", "Hiragino Sans GB.ttc", "msyh.ttc", "meiryo.ttc", "malgun.ttf",
    "arial.ttf", "NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf", "NotoSansArabic-Regular.ttf",
)  # fmt: skip
#: A character that no font has.
_UNKNOWN = "\U0010fffe"


def font(size: int, text: str = "") -> Font:
    """Pillow's own font, or one of the system's that knows more of this text's letters, if there is one."""
    own = ImageFont.load_default(size)
    missing = {c for c in text if not c.isspace() and not _knows("", c)}
    if not missing:
        return own
    best = max(_installed(), key=lambda name: sum(_knows(name, c) for c in missing), default="")
    return ImageFont.truetype(best, size) if any(_knows(best, c) for c in missing) else own


@functools.cache
def _installed() -> tuple[str, ...]:
    found = []
    for name in _SCRIPTS:
        try:
            ImageFont.truetype(name, 16)
        except OSError:
            continue
        found.append(name)
    return tuple(found)


@functools.cache
def _knows(name: str, character: str) -> bool:
    """Whether a font ("" is Pillow's own) draws a character otherwise than one that it does not have."""
    return _drawn(name, character) != _drawn(name, _UNKNOWN)


@functools.cache
def _drawn(name: str, character: str) -> bytes:
    used = ImageFont.truetype(name, 16) if name else ImageFont.load_default(16)
    spot = Image.new("L", (40, 32))
    ImageDraw.Draw(spot).text((4, 4), character, fill=255, font=used)
    return spot.tobytes()


def one_line(text: str) -> str:
    """Text as a sheet can show it: without line breaks and other control characters."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def line(pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, colour: str, room: int, sizes: Sequence[int]) -> int:
    """One line of text in the largest of ``sizes`` that fits into ``room`` pixels, else cut short in the smallest.

    Returns the x at which it ends.
    """
    text = one_line(text)
    fonts = [font(size, text) for size in sizes]
    used = next((each for each in fonts if pen.textlength(text, font=each) <= room), fonts[-1])
    text = shortened(pen, text, used, room)
    pen.text(at, text, fill=colour, font=used)
    return at[0] + round(pen.textlength(text, font=used))


def shortened(pen: ImageDraw.ImageDraw, text: str, used: Font, room: int) -> str:
    """The beginning of a line of text that fits into ``room`` pixels, with dots if that is not all of it."""
    if pen.textlength(text, font=used) <= room:
        return text
    # Halving finds the length quickly even where the text is very long.
    least, most = 0, len(text)
    while least < most:
        middle = (least + most + 1) // 2
        if pen.textlength(text[:middle].rstrip() + "...", font=used) <= room:
            least = middle
        else:
            most = middle - 1
    return text[:least].rstrip() + "..."


def within(picture: Image.Image, room: tuple[int, int], *, most: float = 64.0) -> Image.Image:
    """The picture, RGB, as large as fits into ``room`` (width, height). Small ones are enlarged, at most ``most`` times."""
    scale = min(room[0] / picture.width, room[1] / picture.height, most)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    if size == picture.size:
        return picture.convert("RGB")
    resample = Image.Resampling.NEAREST if scale >= 4 else Image.Resampling.BICUBIC
    return picture.convert("RGB").resize(size, resample)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A picture with a caption and a line of figures; ``marked`` puts a frame around it."""

    picture: Image.Image
    caption: str
    note: str = ""
    marked: bool = False


def page(
    heading: str,
    sections: Sequence[tuple[str, Sequence[Tile]]],
    *,
    subtitle: str = "",
    cell: int = 192,
    columns: int = 5,
) -> Image.Image:
    """Tiles of ``cell`` pixels, in rows of at most ``columns``, under a heading and the title of each section."""
    columns = max(1, min(columns, max((len(tiles) for _, tiles in sections), default=1)))
    width = 2 * MARGIN + max(columns * (cell + 2 * GAP) + (columns - 1) * GAP, 380)
    tall = cell + 62
    heights = [(34 if title else 0) + -(-len(tiles) // columns) * (tall + GAP) for title, tiles in sections]
    top = MARGIN + (70 if subtitle else 46)
    sheet = Image.new("RGB", (width, top + sum(heights) + MARGIN - GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    line(pen, (MARGIN, MARGIN - 8), heading, INK, width - 2 * MARGIN, (28, 24, 20, 17))
    line(pen, (MARGIN, MARGIN + 32), subtitle, GREY, width - 2 * MARGIN, (15, 13))
    for (title, tiles), height in zip(sections, heights, strict=True):
        line(pen, (MARGIN, top + 4), title, INK, width - 2 * MARGIN, (18, 16, 14))
        for i, tile in enumerate(tiles):
            x = MARGIN + i % columns * (cell + 3 * GAP)
            y = top + (34 if title else 0) + i // columns * (tall + GAP)
            _tile(sheet, pen, tile, (x, y), (cell + 2 * GAP, tall), cell)
        top += height
    return sheet


def _tile(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, tile: Tile, at: tuple[int, int], size: tuple[int, int], cell: int
) -> None:
    (x, y), room = at, size[0] - 2 * GAP
    frame = MARK if tile.marked else None
    pen.rounded_rectangle((x, y, x + size[0], y + size[1]), radius=8, fill=CARD, outline=frame, width=3)
    shown = within(tile.picture, (cell, cell))
    sheet.paste(shown, (x + GAP + (cell - shown.width) // 2, y + GAP + (cell - shown.height) // 2))
    line(pen, (x + GAP, y + cell + GAP + 5), tile.caption, MARK if tile.marked else INK, room, (16, 14, 13))
    line(pen, (x + GAP, y + cell + GAP + 28), tile.note, GREY, room, (13, 12))
