"""Render the drawings of examples/*.svg into src/showtell/cli/pictures with Cairo; with --check, only say what differs.

python tools/draw_pictures.py [--check]

Needs libcairo.so.2 on the machine and no Python package. It reads as much SVG as those drawings use: paths of M, L, H, V, C,
S and Z, rectangles, circles, groups, and linear gradients along an element's box.
"""

from __future__ import annotations

import argparse
import ctypes
import io
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from ctypes import c_double, c_int, c_void_p
from pathlib import Path

from PIL import Image, ImageChops

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "examples"
PICTURES = ROOT / "src" / "showtell" / "cli" / "pictures"
_ROUND = {"round": 1}
_NUMBERS = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Z": 0}
_RESULTS = {
    "cairo_image_surface_create": c_void_p, "cairo_create": c_void_p, "cairo_pattern_create_linear": c_void_p,
    "cairo_image_surface_get_data": c_void_p, "cairo_image_surface_get_stride": c_int,
}  # fmt: skip


class Cairo:
    """The C library: ``cairo.fill_preserve()`` is cairo_fill_preserve on the drawing; Python's floats are doubles."""

    def __init__(self, width: int, height: int) -> None:
        self.library = ctypes.CDLL("libcairo.so.2")
        self.size = (width, height)
        self.surface = self.call("cairo_image_surface_create", 0, width, height)  # 0: ARGB32
        self.context = c_void_p(self.call("cairo_create", c_void_p(self.surface)))

    def call(self, name: str, *args: object):
        function = getattr(self.library, name)
        function.restype = _RESULTS.get(name)
        return function(*(c_double(a) if isinstance(a, float) else a for a in args))

    def __getattr__(self, name: str):
        return lambda *args: self.call(f"cairo_{name}", self.context, *args)

    def picture(self) -> Image.Image:
        self.call("cairo_surface_flush", c_void_p(self.surface))
        stride = self.call("cairo_image_surface_get_stride", c_void_p(self.surface))
        data = self.call("cairo_image_surface_get_data", c_void_p(self.surface))
        raw = ctypes.string_at(data, stride * self.size[1])
        return Image.frombytes("RGB", self.size, raw, "raw", "BGRX", stride)


def draw(svg: str) -> Image.Image:
    root = ElementTree.fromstring(re.sub(r'xmlns="[^"]*"', "", svg))
    cairo = Cairo(int(root.get("width", "")), int(root.get("height", "")))
    gradients = {g.get("id", ""): [(float(s.get("offset", "")), s.get("stop-color", "")) for s in g]
                 for g in root.iter("linearGradient")}  # fmt: skip
    for element, style in _elements(root, {}):
        _outline(cairo, element)
        _paint(cairo, style, gradients)
    return cairo.picture()


def _elements(
    parent: ElementTree.Element, style: dict[str, str]
) -> Iterator[tuple[ElementTree.Element, dict[str, str]]]:
    """Shapes in their order, with what they inherit."""
    for child in parent:
        own = {**style, **child.attrib}
        if child.tag == "g":
            yield from _elements(child, own)
        elif child.tag in ("path", "rect", "circle"):
            yield child, own


def _outline(cairo: Cairo, element: ElementTree.Element) -> None:
    number = {k: float(v) for k, v in element.attrib.items() if re.fullmatch(r"-?[\d.]+", v)}
    if element.tag == "rect":
        cairo.rectangle(number.get("x", 0.0), number.get("y", 0.0), number["width"], number["height"])
    elif element.tag == "circle":
        cairo.arc(number["cx"], number["cy"], number["r"], 0.0, 6.283185307179586)
    else:
        _path(cairo, element.get("d", ""))


def _path(cairo: Cairo, text: str) -> None:
    x, y, control, start = 0.0, 0.0, (0.0, 0.0), (0.0, 0.0)
    for letter, rest in re.findall(r"([MLHVCSZmlhvcsz])([^MLHVCSZmlhvcsz]*)", text):
        kind, values = letter.upper(), [float(n) for n in re.findall(r"-?[\d.]+", rest)]
        count = _NUMBERS[kind]
        for at in range(0, len(values), count) if count else [0]:
            n = values[at : at + count]
            if letter.islower():  # along the current point
                n = [v + ((x, y)[i % 2] if count > 1 else x if kind == "H" else y) for i, v in enumerate(n)]
            if kind == "S":
                n = [2 * x - control[0], 2 * y - control[1], *n]
            if kind in ("C", "S"):
                cairo.curve_to(*n)
                control, (x, y) = (n[2], n[3]), (n[4], n[5])
                continue
            if kind == "Z":
                cairo.close_path()
                x, y = start
            else:
                x, y = (n[0], y) if kind == "H" else (x, n[0]) if kind == "V" else (n[0], n[1])
                (cairo.move_to if kind == "M" and at == 0 else cairo.line_to)(x, y)
                start = (x, y) if kind == "M" and at == 0 else start
            control = (x, y)


def _paint(cairo: Cairo, style: dict[str, str], gradients: dict[str, list[tuple[float, str]]]) -> None:
    fill, stroke = style.get("fill", "#000000"), style.get("stroke", "none")
    if fill.startswith("url(#"):
        _gradient(cairo, gradients[fill[5:-1]])
        cairo.fill_preserve()
    elif fill != "none":
        cairo.set_source_rgb(*_rgb(fill))
        cairo.fill_preserve()
    if stroke != "none":
        cairo.set_source_rgb(*_rgb(stroke))
        cairo.set_line_width(float(style.get("stroke-width", "1")))
        cairo.set_line_join(_ROUND.get(style.get("stroke-linejoin", ""), 0))
        cairo.set_line_cap(_ROUND.get(style.get("stroke-linecap", ""), 0))
        cairo.stroke_preserve()
    cairo.new_path()


def _gradient(cairo: Cairo, stops: list[tuple[float, str]]) -> None:
    """From the top of the outline's box to its bottom."""
    box = [c_double() for _ in range(4)]
    cairo.path_extents(*(ctypes.byref(side) for side in box))
    pattern = c_void_p(cairo.call("cairo_pattern_create_linear", 0.0, box[1].value, 0.0, box[3].value))
    for offset, colour in stops:
        cairo.call("cairo_pattern_add_color_stop_rgb", pattern, offset, *_rgb(colour))
    cairo.set_source(pattern)


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a picture is another")
    check = parser.parse_args().check
    wrong = []
    for source in sorted(SOURCES.glob("*.svg")):
        picture, path = draw(source.read_text(encoding="utf-8")), PICTURES / f"{source.stem}.png"
        if path.is_file() and _alike(Image.open(path).convert("RGB"), picture):
            continue
        if check:
            wrong.append(path.name)
            continue
        data = io.BytesIO()
        picture.save(data, "PNG", optimize=True)
        path.write_bytes(data.getvalue())
    if wrong:
        print(f"not as their drawings: {', '.join(wrong)}; run tools/draw_pictures.py", file=sys.stderr)
    return 1 if wrong else 0


def _alike(a: Image.Image, b: Image.Image) -> bool:
    """Versions of Cairo differ by a few levels in gradients."""
    if a.size != b.size:
        return False
    return all(high <= 4 for _, high in ImageChops.difference(a, b).getextrema())


if __name__ == "__main__":
    sys.exit(main())
