"""The page: its head, its rooms, and what happens when somebody comes or goes."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

import gradio as gr

from ... import __version__
from ..studio import draw_seed
from ..workshop import BASE, INSTRUCT
from . import describe, describing_events, inside, show, showing_events, tell, telling_events, words
from .doing import AT_ONCE, visitor
from .widgets import asset, said

if TYPE_CHECKING:
    from ..studio import Studio

_FONTS = ["ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def page(studio: Studio) -> gr.Blocks:
    """The studio's page, with its endpoints."""
    from .. import api

    with gr.Blocks(
        title="showtell studio", analytics_enabled=False, fill_width=True, delete_cache=(3600, 6 * 3600)
    ) as blocks:
        api.endpoints(studio)  # first, so that their names are theirs
        gr.HTML(_head(studio), elem_id="st-head")
        seeds = []
        with gr.Tabs(elem_id="st-rooms"):
            if studio.workshop.has(INSTRUCT):
                with gr.Tab("Tell", id="tell", elem_id="room-tell"):
                    telling = tell.build(studio)
                    telling_events.wire(studio, telling)
                with gr.Tab("Show", id="show", elem_id="room-show"):
                    showing = show.build(studio)
                    showing_events.wire(studio, showing)
                seeds += [telling.seed, showing.apply_seed]
            if studio.workshop.has(BASE):
                with gr.Tab("Describe", id="describe", elem_id="room-describe"):
                    describing = describe.build(studio)
                    describing_events.wire(studio, describing)
                seeds.append(describing.seed)
            with gr.Tab("Look inside", id="inside", elem_id="room-inside"):
                inside.wire(studio, inside.build(studio))
            for kind, name, why in _MISSING:
                if not studio.workshop.has(kind):
                    with gr.Tab(name, id=f"no-{kind}"):
                        gr.HTML(said(why))
        if studio.workshop.has(INSTRUCT):
            _on_arrival(studio, blocks, showing)
        blocks.load(lambda: [draw_seed() for _ in seeds], None, seeds, **AT_ONCE)
        blocks.unload(_gone(studio))
    return blocks


_MISSING = (
    (
        INSTRUCT,
        "Tell",
        "To tell and to show edits, start the studio with an instruct model: --model timbrooks/instruct-pix2pix",
    ),
    (
        BASE,
        "Describe",
        "To describe results, start the studio with a base model, too: --base stable-diffusion-v1-5/stable-diffusion-v1-5",
    ),
)


def _on_arrival(studio: Studio, blocks: gr.Blocks, room: show.Show) -> None:
    def arrived(request: gr.Request) -> dict[Any, Any]:
        return showing_events.arrived(studio, room, visitor(studio, request))

    outputs = [room.looks, room.chosen, room.chosen_line, room.export, room.unfinished, room.unfinished_box]
    blocks.load(arrived, None, outputs, **AT_ONCE)


def _gone(studio: Studio) -> Any:
    def gone(request: gr.Request) -> None:
        studio.sessions.leave(request.session_hash, request.username)

    return gone


def _head(studio: Studio) -> str:
    names = " and ".join(html.escape(name.rstrip("/").rpartition("/")[2]) for name in studio.workshop.names.values())
    return (
        '<header class="st-head"><span class="st-name">showtell</span> '
        '<span class="st-sub">edit pictures by showing or by telling</span>'
        f'<span class="st-model">{names} · {html.escape(__version__)}</span>'
        '<span class="st-keys"><kbd>Ctrl</kbd>+<kbd>Enter</kbd> runs, <kbd>Esc</kbd> stops, '
        "<kbd>Alt</kbd>+<kbd>1</kbd>…<kbd>4</kbd> "
        "changes rooms</span></header>"
    )


def dressed() -> dict[str, Any]:
    """What ``launch`` is told of the looks: no font and no script that is not here."""
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.teal, neutral_hue=gr.themes.colors.stone, font=_FONTS, font_mono=_MONO,
        radius_size=gr.themes.sizes.radius_md,
    ).set(  # text keeps 4.5 to 1 against what is behind it
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700", block_title_text_color="*neutral_700",
        input_placeholder_color="*neutral_600", input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700", button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800", button_primary_background_fill_hover_dark="*primary_800",
    )  # fmt: skip
    tips = json.dumps(words.TIPS).replace("</", "<\\/")
    head = f"<script>window.showtellTips = {tips};\n{asset('studio.js')}</script>"
    return {"theme": theme, "css": asset("studio.css"), "head": head}
