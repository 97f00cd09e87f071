"""The room in which an edit is told: words in, picture out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from ... import fitting, schedulers
from .. import telling
from ..workshop import INSTRUCT
from . import examples, words
from .widgets import Number, Picture, Slider, drop, heading, line, painter, strip

if TYPE_CHECKING:
    from ..studio import Studio

#: The painter's first choice: not one line, but all.
ALL_LINES = "all lines together"
OWN_SCHEDULER = "the method's own"


@dataclass(kw_only=True)
class Tell:
    """The components of the room."""

    gallery: gr.Gallery
    picture: Picture
    lines: gr.Textbox
    method: gr.Radio
    weights: list[gr.Slider]
    run: gr.Button
    stop: gr.Button
    line: gr.HTML
    seed: gr.Number
    dice: gr.Button
    lock: gr.Checkbox
    steps: gr.Slider
    words_scale: gr.Slider
    picture_scale: gr.Slider
    negative: gr.Textbox
    fit: gr.Radio
    resolution: gr.Number
    scheduler: gr.Dropdown
    whose: gr.Dropdown
    painter: gr.HTML
    count: gr.Slider
    vary: gr.Button
    across: gr.Dropdown
    across_values: gr.Textbox
    down: gr.Dropdown
    down_values: gr.Textbox
    cross: gr.Button
    preview: gr.HTML
    slider: gr.ImageSlider
    download: gr.DownloadButton
    again: gr.Button
    overlay: gr.Image
    grid: gr.Gallery
    grid_file: gr.DownloadButton
    strip: gr.Gallery
    more: gr.State

    @property
    def settings(self) -> list[Any]:
        """The controls that make a wish, in the order in which the handlers take them."""
        return [
            self.lines, self.method, self.seed, self.lock, self.steps, self.words_scale, self.picture_scale,
            self.negative,
            self.fit, self.resolution, self.scheduler, self.more, *self.weights,
        ]  # fmt: skip


def build(studio: Studio) -> Tell:
    """Lay the room out."""
    gallery = examples.gallery("tell", examples.TOLD)
    with gr.Row(elem_classes=["st-room"]):
        with gr.Column(scale=5, min_width=320):
            left = _asking(studio)
            left |= _settings(studio)
            left |= _painting()
        with gr.Column(scale=6, min_width=320):
            right = _results()
            right |= _many(studio)
    return Tell(gallery=gallery, **left, **right)


def _asking(studio: Studio) -> dict[str, Any]:
    with gr.Group():
        picture = drop("Picture", elem_id="tell-picture", height=300, buttons=["fullscreen"],
            placeholder="Drop a picture here\n- or -\nclick to choose one. What was made here brings its settings back.",
        )  # fmt: skip
        lines = gr.Textbox(
            label="What should change?",
            info="One instruction a line. [brackets] mark the word that says where; <name> calls a learned edit.",
            lines=3, max_lines=studio.limits.instructions, placeholder="make the [house] red\nput it at night",
            elem_id="tell-lines",
        )  # fmt: skip
        choices = [(words.method(name), name) for name in studio.workshop.methods(INSTRUCT)]
        method = gr.Radio(
            choices,
            value=choices[0][1] if choices else None,
            label="How",
            elem_id="tell-method",
            visible=len(choices) > 1,
        )
        weights = [
            Slider(0, 2, value=1, step=0.05, label=f"Weight of line {number + 1}", visible=False,
            elem_id=f"tell-weight-{number + 1}")
            for number in range(studio.limits.instructions)
        ]  # fmt: skip
    with gr.Row(elem_classes=["st-seed"]):
        seed = Number(precision=0, label="Seed", elem_id="tell-seed", min_width=110)
        dice = gr.Button("New seed", elem_id="tell-dice", size="sm", min_width=80)
        lock = gr.Checkbox(value=False, label="Keep this seed", elem_id="tell-lock", min_width=110)
    with gr.Row():
        run = gr.Button("Edit", variant="primary", elem_id="tell-run", min_width=120)
        stop = gr.Button("Stop", elem_id="tell-stop", min_width=80)
    return {
        "picture": picture, "lines": lines, "method": method, "weights": weights, "seed": seed, "dice": dice,
        "lock": lock,
        "run": run, "stop": stop, "line": line(elem_id="tell-line"),
    }  # fmt: skip


def _settings(studio: Studio) -> dict[str, Any]:
    with gr.Accordion("More settings", open=False, elem_id="tell-settings"):
        own = studio.workshop.defaults(INSTRUCT, studio.workshop.methods(INSTRUCT)[0])
        steps = Slider(
            1, studio.limits.steps, value=own.num_inference_steps, step=1, label="Steps", elem_id="tell-steps"
        )
        scale = Slider(
            1, 20, value=own.guidance_scale, step=0.1, label="Closeness to the words", elem_id="tell-words-scale"
        )
        beside = Slider(
            0,
            5,
            value=own.image_guidance_scale,
            step=0.05,
            label="Closeness to the picture",
            elem_id="tell-picture-scale",
        )
        negative = gr.Textbox(label="What it should not be", elem_id="tell-negative", max_lines=2)
        fit = gr.Radio(list(fitting.FITS), value="fit", label="Fit", elem_id="tell-fit")
        with gr.Row():
            resolution = Number(
                value=0, precision=0, label="Size", info="0: the model's own", elem_id="tell-resolution", min_width=110
            )
            samplers = [OWN_SCHEDULER, *schedulers.names()]
            scheduler = gr.Dropdown(
                samplers,
                value=OWN_SCHEDULER,
                label="Sampler",
                info="The solver",
                elem_id="tell-scheduler",
                min_width=190,
            )
    return {
        "steps": steps, "words_scale": scale, "picture_scale": beside, "negative": negative, "fit": fit,
        "resolution": resolution, "scheduler": scheduler, "more": gr.State({}),
    }  # fmt: skip


def _painting() -> dict[str, Any]:
    with gr.Accordion("Paint where it may happen", open=False, elem_id="tell-painting"):
        whose = gr.Dropdown(
            [ALL_LINES], value=ALL_LINES, label="For", elem_id="tell-whose",
            info="A line has a place of its own under “Each in its own place”.",
        )  # fmt: skip
        brush = painter(elem_id="tell-painter")
    return {"whose": whose, "painter": brush}


def _results() -> dict[str, Any]:
    preview = gr.HTML("", elem_id="tell-preview")
    slider = gr.ImageSlider(
        label="Before and after", type="filepath", format="png", interactive=False, elem_id="tell-result",
        max_height=520,
        buttons=["fullscreen"],
    )  # fmt: skip
    with gr.Row():
        download = gr.DownloadButton("Download PNG", interactive=False, elem_id="tell-download", min_width=120)
        again = gr.Button("Use as input", interactive=False, elem_id="tell-again", min_width=120)
    overlay = gr.Image(
        label="Which place went to which line", type="filepath", format="png", interactive=False, visible=False,
        elem_id="tell-overlay", elem_classes=["st-fits"], buttons=["fullscreen"],
    )  # fmt: skip
    heading("Earlier results")
    earlier = strip(small=True, label="Earlier results", elem_id="tell-strip")
    return {
        "preview": preview,
        "slider": slider,
        "download": download,
        "again": again,
        "overlay": overlay,
        "strip": earlier,
    }


def _many(studio: Studio) -> dict[str, Any]:
    from ..grids import AXES

    settings = ["nothing", *AXES]
    with gr.Accordion("Many at once", open=False, elem_id="tell-many"):
        with gr.Row():
            count = Slider(
                2, min(16, studio.limits.tiles), value=4, step=1, label="Variations over seeds", elem_id="tell-count"
            )
            vary = gr.Button("Make variations", elem_id="tell-vary", min_width=120)
        with gr.Row():
            across = gr.Dropdown(
                settings, value="closeness to the words", label="Across", elem_id="tell-across", min_width=140
            )
            across_values = gr.Textbox("1.5, 3, 6", label="Values across", elem_id="tell-across-values", min_width=120)
        with gr.Row():
            down = gr.Dropdown(
                settings, value="closeness to the picture", label="Down", elem_id="tell-down", min_width=140
            )
            down_values = gr.Textbox("1, 2", label="Values down", elem_id="tell-down-values", min_width=120)
        cross = gr.Button("Make the grid", elem_id="tell-cross")
        grid = gr.Gallery(
            columns=4, height="auto", allow_preview=False, interactive=False, elem_id="tell-grid", visible=False,
            buttons=[],
            object_fit="contain", show_label=False, elem_classes=["st-grid"], label="The grid",
        )  # fmt: skip
        grid_file = gr.DownloadButton("Download the grid", visible=False, elem_id="tell-grid-file")
    return {
        "count": count, "vary": vary, "across": across, "across_values": across_values, "down": down,
        "down_values": down_values,
        "cross": cross, "grid": grid, "grid_file": grid_file,
    }  # fmt: skip


def wish(studio: Studio, values: list[Any], masks: dict[int, Any]) -> telling.Wish:
    """The controls' values, in the order of ``Tell.settings``, as a wish. Raises one line."""
    lines, method, seed, _, steps, scale, beside, negative, fit, resolution, scheduler, more, *weights = values
    found = telling.Wish(
        lines=telling.lines_of(lines), method=method, seed=telling.whole(seed),
        num_inference_steps=telling.whole(steps),
        guidance_scale=scale, image_guidance_scale=beside, negative_prompt=negative or "", fit=fit,
        resolution=telling.whole(resolution) or None, scheduler=None if scheduler == OWN_SCHEDULER else scheduler,
        weights=telling.numbers([1 if weight is None else weight for weight in weights], "weights"), more=more or {},
        masks={number: mask for number, mask in masks.items() if number >= 0}, mask=masks.get(-1),
    )  # fmt: skip
    found.check(studio.limits)
    return found
