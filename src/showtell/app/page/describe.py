"""The room in which the result is described, and a slider goes from the picture to the words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from ..describing import AUTOMATIC, STARTS
from ..workshop import BASE
from . import examples, words
from .widgets import Number, Picture, Slider, drop, line

if TYPE_CHECKING:
    from ..studio import Studio


@dataclass(kw_only=True)
class Describe:
    """The components of the room."""

    gallery: gr.Gallery
    picture: Picture
    target: gr.Textbox
    source: gr.Textbox
    method: gr.Dropdown
    run: gr.Button
    stop: gr.Button
    line: gr.HTML
    eta: gr.Slider
    seed: gr.Number
    start: gr.Radio
    steps: gr.Slider
    scale: gr.Slider
    ratio: gr.Slider
    strength: gr.Slider
    preview: gr.HTML
    slider: gr.ImageSlider
    reconstruction: gr.Image
    reconstruction_line: gr.HTML
    download: gr.DownloadButton
    again: gr.Button

    @property
    def asked(self) -> list[Any]:
        """The controls that make a description, in the order in which the handlers take them."""
        return [
            self.picture, self.target, self.source, self.method, self.eta, self.start, self.seed, self.steps,
            self.scale, self.ratio,
            self.strength,
        ]  # fmt: skip


def build(studio: Studio) -> Describe:
    """Lay the room out."""
    gallery = examples.gallery("describe", examples.DESCRIBED)
    with gr.Row(elem_classes=["st-room"]):
        with gr.Column(scale=5, min_width=320):
            left = _asking(studio) | _settings(studio)
        with gr.Column(scale=6, min_width=320):
            right = _results()
    return Describe(gallery=gallery, **left, **right)


def _asking(studio: Studio) -> dict[str, Any]:
    choices = [(words.method(name), name) for name in studio.workshop.methods(BASE)]
    picture = drop("Picture", height=300, elem_id="describe-picture", buttons=["fullscreen"])
    target = gr.Textbox(
        label="What should the result show?", lines=2, max_lines=4, placeholder="a red [house] at night",
        elem_id="describe-target",
        info="The whole picture, not only what changes.",
    )  # fmt: skip
    source = gr.Textbox(
        label="What does it show now? (helps)",
        max_lines=3,
        placeholder="a blue house by day",
        elem_id="describe-source",
    )
    method = gr.Dropdown(choices, value=choices[0][1] if choices else None, label="How", elem_id="describe-method")
    with gr.Row():
        run = gr.Button("Edit", variant="primary", elem_id="describe-run", min_width=120)
        stop = gr.Button("Stop", elem_id="describe-stop", min_width=80)
    return {
        "picture": picture, "target": target, "source": source, "method": method, "run": run, "stop": stop,
        "line": line(elem_id="describe-line"),
    }  # fmt: skip


def _settings(studio: Studio) -> dict[str, Any]:
    own = studio.workshop.defaults(BASE, studio.workshop.methods(BASE)[0])
    with gr.Accordion("More settings", open=False, elem_id="describe-settings"):
        start = gr.Radio(list(STARTS), value=AUTOMATIC, label="Tuning starts from", elem_id="describe-start")
        seed = Number(precision=0, label="Seed", elem_id="describe-seed")
        steps = Slider(
            1, studio.limits.steps, value=own.num_inference_steps, step=1, label="Steps", elem_id="describe-steps"
        )
        scale = Slider(
            0, 20, value=own.guidance_scale, step=0.1, label="Closeness to the words", elem_id="describe-scale"
        )
        ratio = Slider(
            0.05, 1, value=own.encoding_ratio, step=0.05, label="How far back to go", elem_id="describe-ratio"
        )
        strength = Slider(
            0.05, 1, value=0.6, step=0.05, label="How much noise (sdedit)", elem_id="describe-strength", visible=False
        )
    return {"start": start, "seed": seed, "steps": steps, "scale": scale, "ratio": ratio, "strength": strength}


def _results() -> dict[str, Any]:
    eta = Slider(
        0, 1, value=0.9, step=0.05, label="From the picture to the words", elem_id="describe-eta",
        info="0 is the picture, 1 the words. Moving it makes the edit again without inverting again.",
    )  # fmt: skip
    preview = gr.HTML("", elem_id="describe-preview")
    slider = gr.ImageSlider(
        label="Before and after", type="filepath", format="png", interactive=False, elem_id="describe-result",
        max_height=460,
        buttons=["fullscreen"],
    )  # fmt: skip
    with gr.Row():
        download = gr.DownloadButton("Download PNG", interactive=False, elem_id="describe-download", min_width=120)
        again = gr.Button("Use as input", interactive=False, elem_id="describe-again", min_width=120)
    reconstruction = gr.Image(
        label="The picture as the model can draw it again", type="filepath", format="png", interactive=False,
        height=220, visible=False,
        elem_id="describe-reconstruction", buttons=["fullscreen"],
    )  # fmt: skip
    return {
        "eta": eta, "preview": preview, "slider": slider, "download": download, "again": again,
        "reconstruction": reconstruction,
        "reconstruction_line": gr.HTML("", elem_id="describe-reconstruction-line"),
    }  # fmt: skip
