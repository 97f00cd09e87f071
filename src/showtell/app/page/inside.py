"""The room that looks inside the model: where each word looks, and what each branch predicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from ... import attending, overlays, predicting
from ...errors import Cancelled
from .. import telling
from ..workshop import BASE, INSTRUCT
from . import examples
from .doing import AT_ONCE, asked, carried_out, friendly, stop, tried, visitor
from .widgets import Number, Picture, Slider, drop, heading, line, said, strip

if TYPE_CHECKING:
    from PIL import Image

    from ..running import Run
    from ..studio import Studio

#: What the branches were told, in the words of the page.
_NOISED = "what it was shown (the picture under noise)"


@dataclass(kw_only=True)
class Inside:
    """The components of the room."""

    gallery: gr.Gallery
    picture: Picture
    lines: gr.Textbox
    strength: gr.Slider
    seed: gr.Number
    look: gr.Button
    stop: gr.Button
    line: gr.HTML
    maps: gr.Gallery
    branches: gr.Gallery


def build(studio: Studio) -> Inside:
    """Lay the room out."""
    gallery = examples.gallery("inside", examples.TOLD)
    with gr.Row(elem_classes=["st-room"]):
        with gr.Column(scale=4, min_width=320):
            picture = drop("Picture", height=300, elem_id="inside-picture", buttons=["fullscreen"])
            lines = gr.Textbox(
                label="Instructions", lines=2, max_lines=studio.limits.instructions, placeholder="make the [house] red",
                elem_id="inside-lines",
                info="One a line.",
            )  # fmt: skip
            strength = Slider(
                0.05, 1, value=0.8, step=0.05, label="How much noise is on the picture", elem_id="inside-strength"
            )
            seed = Number(value=0, precision=0, label="Seed", elem_id="inside-seed")
            with gr.Row():
                look = gr.Button("Look", variant="primary", elem_id="inside-look")
                halt = gr.Button("Stop", elem_id="inside-stop", min_width=80)
            status = line(elem_id="inside-line")
        with gr.Column(scale=7, min_width=320):
            with gr.Column(visible=studio.workshop.has(INSTRUCT)):
                heading("Where each word looks")
                gr.HTML('<p class="st-note">Cross-attention of the first step; bright is where a word looks most.</p>')
                maps = strip(label="Where each word looks", elem_id="inside-maps")
            heading("What each branch of the guidance predicts")
            branches = strip(label="What each branch predicts", elem_id="inside-branches")
    return Inside(
        gallery=gallery, picture=picture, lines=lines, strength=strength, seed=seed, look=look, stop=halt, line=status,
        maps=maps,
        branches=branches,
    )  # fmt: skip


def wire(studio: Studio, room: Inside) -> None:
    """Let the controls do what they say."""
    told = [room.picture, room.lines, room.strength, room.seed]
    results = [room.line, room.maps, room.branches]
    look = _look(studio, room)
    asked(room.look.click, studio, room.line)(look, told, results)
    room.stop.click(stop(studio), None, room.line, **AT_ONCE)
    chosen = room.gallery.select(_example(studio, room), None, [*told, room.line], **AT_ONCE)
    asked(chosen.success, studio, room.line)(look, told, results)


def _look(studio: Studio, room: Inside) -> Callable[..., Any]:
    @friendly(room.line)
    def look(request: gr.Request, given: Any, text: str, strength: Any, seed: Any) -> Iterator[dict[Any, Any]]:
        session = visitor(studio, request)
        picture = studio.picture(session, given)
        wish = telling.Wish(lines=telling.lines_of(text))
        wish.check(studio.limits)
        looks = telling.called(studio.library(session.user), wish.lines) or None
        told: dict[str, Any] = {
            "seed": telling.whole(seed) or 0,
            "learned": looks,
            "strength": telling.number(strength, "how much noise", 0.8),
        }
        maps, branches, notes = yield from carried_out(
            session, lambda run: seen(run, studio, picture, wish, told), line=room.line
        )
        yield {
            room.line: said("this is one call of the network; nothing was edited", notes=notes),
            room.maps: maps,
            room.branches: branches,
        }

    return look


def seen(
    run: Run, studio: Studio, picture: Any, wish: telling.Wish, told: dict[str, Any]
) -> tuple[list[tuple[Image.Image, str]], list[tuple[Image.Image, str]], tuple[str, ...]]:
    """Captioned pictures of the maps and of the branches, and notes. A base model has no maps here."""
    kind = INSTRUCT if studio.workshop.has(INSTRUCT) else BASE
    maps, notes = [], []
    with studio.workshop.at_work(kind) as editor:
        run.begin()
        run.phase("looking", 0, 2)
        if kind == INSTRUCT:
            found = attending.attend(editor, picture, wish.words, **told)
            maps = [
                (overlays.heat(found.picture, values), f"{word.text} · keyword" if word.keyword else word.text)
                for word, values in zip(found.words, found.maps, strict=True)
            ]
            notes += found.notes
        if run.cancelled():
            raise Cancelled("stopped before the predictions")
        run.phase("predicting", 1, 2)
        predicted = predicting.predict(editor, picture, wish.words, **told)
    branches = [
        (predicted.noised, _NOISED),
        *((each.image, f"{each.name}: {each.told}") for each in predicted.predictions),
    ]
    return maps, branches, tuple(dict.fromkeys([*notes, *predicted.notes]))


def _example(studio: Studio, room: Inside) -> Callable[..., Any]:
    def example(event: gr.SelectData, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        chosen = examples.TOLD[int(event.index)]
        return {
            room.picture: session.remember_image(chosen.case.before), room.lines: "\n".join(chosen.lines),
            room.seed: chosen.seed,
            room.line: said("an example"),
        }  # fmt: skip

    return tried(example, room.line)
