"""Widgets that the rooms share: a picture that keeps its bytes, a picture to paint on, a line that says how things are."""

from __future__ import annotations

import base64
import binascii
import contextlib
import html
import io
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from gradio import component_meta
from PIL import Image

from ...errors import ImageError

if TYPE_CHECKING:
    from ..running import Update

#: Longest side of the picture that is painted on.
_CANVAS = 768
_DATA = "data:image/png;base64,"


def asset(name: str) -> str:
    """The text of a file beside this one."""
    return resources.files("showtell.app.page").joinpath(name).read_text(encoding="utf-8")


@contextlib.contextmanager
def _no_stub() -> Iterator[None]:
    """Gradio writes a .pyi file beside every module that derives from its components, which is no place for a running program."""
    kept = component_meta.create_or_modify_pyi
    component_meta.create_or_modify_pyi = lambda *_: None
    try:
        yield
    finally:
        component_meta.create_or_modify_pyi = kept


with _no_stub():

    class Picture(gr.Image):
        """A picture as the file that was given, unread: Gradio would decode it before any limit was asked."""

        is_template = True  # it looks as its parent does

        def preprocess(self, payload: Any) -> Any:
            """(path, the name that it had), or None."""
            if payload is None or not payload.path:
                return None
            return payload.path, Path(payload.orig_name or payload.path).name

    class Slider(gr.Slider):
        """A slider whose value comes as it is: what is out of range is said in its place, where Gradio would cover the page."""

        is_template = True

        def preprocess(self, payload: Any) -> Any:
            return payload

    class Number(gr.Number):
        """A number that comes as it is, as ``Slider``'s."""

        is_template = True

        def preprocess(self, payload: Any) -> Any:
            return payload


def drop(label: str, **options: Any) -> Picture:
    """A picture to be dropped."""
    return Picture(
        label=label, placeholder=options.pop("placeholder", "Drop a picture here\n- or -\nclick to choose one"),
        type="filepath", format="png", image_mode=None, sources=["upload", "clipboard"],
        elem_classes=["st-drop"], **options,
    )  # fmt: skip


def strip(value: Any = None, *, small: bool = False, **options: Any) -> gr.Gallery:
    """Small pictures to click, as many in a row as fit."""
    classes = ["st-strip", "st-small"] if small else ["st-strip"]
    return gr.Gallery(
        value, allow_preview=False, interactive=False, height="auto", object_fit="contain", format="png", buttons=[],
        show_label=False, elem_classes=classes, **options,
    )  # fmt: skip


def heading(text: str) -> gr.HTML:
    """A line over a part of a room."""
    return gr.HTML(f'<h3 class="st-heading">{html.escape(text)}</h3>')


def painter(**options: Any) -> gr.HTML:
    """A picture to paint on; its value is {"picture": data URL, "mask": data URL or None}."""
    return gr.HTML(
        value={"picture": None, "mask": None}, html_template=asset("painter.html"), js_on_load=asset("painter.js"),
        **options
    )  # fmt: skip


def canvas(picture: Image.Image, mask: np.ndarray | None = None) -> dict[str, str | None]:
    """A painter's value for a picture, with a mask (H, W) that was painted before."""
    shown = picture.convert("RGB")
    shown.thumbnail((_CANVAS, _CANVAS))
    if max(shown.size) < 256:  # large enough for a finger
        scale = 256 / max(shown.size)
        size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
        shown = shown.resize(size, Image.Resampling.NEAREST)
    painted = None
    if mask is not None:
        ink = np.zeros((*mask.shape, 4), np.uint8)
        ink[mask] = (226, 72, 46, 255)
        painted = _url(Image.fromarray(ink).resize(shown.size, Image.Resampling.NEAREST))
    return {"picture": _url(shown), "mask": painted}


def painted(value: Any, size: tuple[int, int]) -> np.ndarray | None:
    """What was painted, (H, W) bool for a picture of ``size``; None where nothing was. Raises ``ImageError``."""
    data = value.get("mask") if isinstance(value, dict) else None
    if not data:
        return None
    try:
        if not isinstance(data, str) or not data.startswith(_DATA):
            raise ValueError
        with Image.open(io.BytesIO(base64.b64decode(data[len(_DATA) :], validate=True)), formats=["PNG"]) as opened:
            if max(opened.size) > 4 * _CANVAS:
                raise ValueError
            alpha = opened.convert("RGBA").getchannel("A")
    except (ValueError, OSError, SyntaxError, binascii.Error, Image.DecompressionBombError):
        raise ImageError("what was painted did not arrive whole: clear it and paint again") from None
    mask = np.asarray(alpha.resize(size, Image.Resampling.BILINEAR)) >= 128
    return mask if mask.any() else None


def _url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return _DATA + base64.b64encode(buffer.getvalue()).decode("ascii")


def line(**options: Any) -> gr.HTML:
    """The line that says how things are."""
    return gr.HTML("", elem_classes=["st-line"], **options)


def said(text: str, *, notes: tuple[str, ...] = ()) -> str:
    """Good news, and what a user should know."""
    more = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f'<div role="status" class="st-said">{html.escape(text)}{f"<ul>{more}</ul>" if more else ""}</div>'


def wrong(error: BaseException | str) -> str:
    """What is wrong, in one line."""
    return f'<div role="alert" class="st-wrong">{html.escape(" ".join(str(error).split()))}</div>'


def busy(update: Update) -> str:
    """How far a work has come."""
    if not update.total:
        text = html.escape(update.phase.rstrip(", ") or "waiting for its turn")
        return f'<div role="status" class="st-busy">{text} …</div>'
    share = 100 * update.done / update.total
    text = html.escape(f"{update.phase.rstrip(', ')} {update.done} of {update.total}".strip())
    return (
        f'<div role="status" class="st-busy">{text}<span class="st-bar" aria-hidden="true">'
        f'<span style="width:{share:.1f}%"></span></span></div>'
    )
