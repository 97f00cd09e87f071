"""What exists in the world: colours, things, backgrounds, places, styles, and the plain data of a scene.

The world is small on purpose: a model of nine million parameters that is trained on two cores can know it well.
Names are the words that captions and instructions use; all lengths are shares of the picture's side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

RGB = tuple[float, float, float]


def rgb(r: int, g: int, b: int) -> RGB:
    return (r / 255, g / 255, b / 255)


COLOURS: dict[str, RGB] = {
    "red": rgb(214, 40, 40),
    "yellow": rgb(250, 205, 40),
    "green": rgb(30, 120, 50),
    "blue": rgb(30, 75, 205),
    "purple": rgb(135, 50, 170),
    "white": rgb(246, 246, 246),
}

KINDS: tuple[str, ...] = ("circle", "square", "star", "heart", "house", "tree", "boat", "flower")

PLACES: dict[str, tuple[float, float]] = {
    "top left": (0.25, 0.25),
    "top right": (0.75, 0.25),
    "bottom left": (0.25, 0.75),
    "bottom right": (0.75, 0.75),
}


@dataclass(frozen=True, kw_only=True)
class Backdrop:
    """How a background is spoken of: as a thing ("a meadow"), as a where ("in a meadow"), and by one word."""

    noun: str
    where: str
    word: str


BACKDROPS: dict[str, Backdrop] = {
    "day": Backdrop(noun="a day sky", where="by day", word="day"),
    "night": Backdrop(noun="a night sky", where="at night", word="night"),
    "sea": Backdrop(noun="the sea", where="at sea", word="sea"),
    "meadow": Backdrop(noun="a meadow", where="in a meadow", word="meadow"),
    "desert": Backdrop(noun="a desert", where="in a desert", word="desert"),
    "gray": Backdrop(noun="plain gray", where="on a gray background", word="gray"),
    "pink": Backdrop(noun="plain pink", where="on a pink background", word="pink"),
}

STYLES: dict[str, str] = {
    "monochrome": "a monochrome picture of",
    "sepia": "a sepia picture of",
    "negative": "a negative of",
    "mosaic": "a mosaic of",
    "sketch": "a sketch of",
}

RADIUS = 0.16
"""Radius of a thing that an edit adds (share of the picture's side)."""
RADII = (0.14, 0.175)
"""Radii of the things that a scene starts with."""
BIGGER, SMALLER = 1.4, 0.6
"""What "bigger" and "smaller" multiply a radius by."""
BIG, SMALL = 0.19, 0.115
"""Above and below these radii a caption says "big" and "small"."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One thing in a scene. `key` stays the same through edits, so that masks can follow a thing."""

    key: int
    kind: str
    colour: str
    place: str
    x: float
    y: float
    radius: float
    shade: RGB = (0.0, 0.0, 0.0)

    @property
    def rgb(self) -> RGB:
        r, g, b = (min(1.0, max(0.0, c + s)) for c, s in zip(COLOURS[self.colour], self.shade, strict=True))
        return (r, g, b)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A whole picture as data. `tint` and `shift` vary a background from scene to scene; an edit sets them to zero."""

    backdrop: str
    things: tuple[Thing, ...]
    tint: RGB = (0.0, 0.0, 0.0)
    shift: float = 0.0
    style: str | None = None

    def with_thing(self, thing: Thing) -> Scene:
        """The scene with `thing` in place of the one with the same key."""
        return replace(self, things=tuple(thing if t.key == thing.key else t for t in self.things))

    def free_places(self) -> list[str]:
        taken = {t.place for t in self.things}
        return [p for p in PLACES if p not in taken]
