"""The room in which an edit is shown: before and after in, a learned edit out, and the library of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from . import examples
from .widgets import Number, Picture, Slider, drop, heading, line, strip

if TYPE_CHECKING:
    from ..studio import Studio

#: Pairs that the page has room for.
ROOM_FOR = 4


@dataclass(kw_only=True)
class Show:
    """The components of the room."""

    gallery: gr.Gallery
    rows: list[gr.Row]
    before: list[Picture]
    after: list[Picture]
    another: gr.Button
    name: gr.Textbox
    init: gr.Textbox
    steps: gr.Slider
    rate: gr.Number
    seed: gr.Number
    learn: gr.Button
    stop: gr.Button
    line: gr.HTML
    curve: gr.LinePlot
    growth: gr.Gallery
    unfinished: gr.Dropdown
    unfinished_box: gr.Accordion
    go_on: gr.Button
    discard: gr.Button
    search: gr.Textbox
    looks: gr.Gallery
    chosen: gr.State
    chosen_line: gr.HTML
    new_name: gr.Textbox
    rename: gr.Button
    delete: gr.Button
    export: gr.DownloadButton
    upload: gr.UploadButton
    library_line: gr.HTML
    picture: Picture
    words: gr.Textbox
    strength: gr.Slider
    apply_seed: gr.Number
    apply: gr.Button
    apply_stop: gr.Button
    apply_line: gr.HTML
    preview: gr.HTML
    slider: gr.ImageSlider
    download: gr.DownloadButton


def build(studio: Studio) -> Show:
    """Lay the room out."""
    gallery = examples.gallery("show", examples.SHOWN)
    with gr.Row(elem_classes=["st-room"]):
        with gr.Column(scale=5, min_width=320):
            left = _showing(studio)
        with gr.Column(scale=6, min_width=320):
            right = _library() | _applying()
    return Show(gallery=gallery, **left, **right)


def _showing(studio: Studio) -> dict[str, Any]:
    rows, before, after = [], [], []
    heading("1 · Show an edit")
    for number in range(min(ROOM_FOR, studio.limits.pairs)):
        with gr.Row(visible=number == 0) as row:
            for side, kept in (("before", before), ("after", after)):
                kept.append(
                    drop(f"{side.capitalize()}{'' if number == 0 else f' {number + 1}'}", height=190,
                        elem_id=f"show-{side}-{number + 1}", min_width=140, buttons=[],
                    )
                )  # fmt: skip
        rows.append(row)
    another = gr.Button("Show another pair of the same edit", size="sm", elem_id="show-another")
    name = gr.Textbox(
        label="Name", placeholder="watercolor", max_lines=1, elem_id="show-name", info="In words it is called <name>."
    )
    with gr.Accordion("More settings", open=False, elem_id="show-settings"):
        init = gr.Textbox(
            label="Start from words",
            placeholder="nothing, or a few words near the edit",
            elem_id="show-init",
            max_lines=1,
        )
        steps = Slider(10, studio.limits.learn_steps, value=200, step=10, label="Steps", elem_id="show-steps")
        with gr.Row():
            rate = Number(value=0, label="Learning rate", info="0: the model's own", elem_id="show-rate", min_width=110)
            seed = Number(value=0, precision=0, label="Seed", elem_id="show-seed", min_width=110)
    with gr.Row():
        learn = gr.Button("Learn it", variant="primary", elem_id="show-learn")
        stop = gr.Button("Stop", elem_id="show-stop", min_width=80)
    status = line(elem_id="show-line")
    curve = gr.LinePlot(
        x="step", y="loss", color="of", title="How well it explains the pair (less is better)", height=220,
        visible=False,
        elem_id="show-curve", buttons=[],
    )  # fmt: skip
    growth = strip(small=True, visible=False, label="How it grows", elem_id="show-growth")
    with gr.Accordion("Unfinished", open=True, visible=False, elem_id="show-unfinished-box") as box:
        unfinished = gr.Dropdown([], label="Stopped before their end", elem_id="show-unfinished")
        with gr.Row():
            go_on = gr.Button("Go on", elem_id="show-go-on", min_width=80)
            discard = gr.Button("Discard", elem_id="show-discard", variant="stop", min_width=80)
    return {
        "rows": rows, "before": before, "after": after, "another": another, "name": name, "init": init, "steps": steps,
        "rate": rate,
        "seed": seed, "learn": learn, "stop": stop, "line": status, "curve": curve, "growth": growth,
        "unfinished": unfinished,
        "unfinished_box": box, "go_on": go_on, "discard": discard,
    }  # fmt: skip


def _library() -> dict[str, Any]:
    heading("2 · Your library")
    search = gr.Textbox(
        placeholder="search by name or words", show_label=False, container=False, max_lines=1, elem_id="show-search"
    )
    looks = strip(small=True, label="Learned edits", elem_id="show-looks")
    chosen = gr.State(None)
    told = gr.HTML("", elem_id="show-chosen")
    with gr.Accordion("Rename, delete, export, import", open=False, elem_id="show-keeping"):
        with gr.Row():
            new_name = gr.Textbox(label="New name", max_lines=1, elem_id="show-new-name", min_width=140)
            rename = gr.Button("Rename", elem_id="show-rename", min_width=80)
        with gr.Row():
            export = gr.DownloadButton("Export", interactive=False, elem_id="show-export", min_width=80)
            upload = gr.UploadButton("Import …", file_types=[".safetensors"], elem_id="show-import", min_width=80)
            delete = gr.Button("Delete", variant="stop", elem_id="show-delete", min_width=80)
    return {
        "search": search, "looks": looks, "chosen": chosen, "chosen_line": told, "new_name": new_name, "rename": rename,
        "delete": delete, "export": export, "upload": upload, "library_line": line(elem_id="show-library-line"),
    }  # fmt: skip


def _applying() -> dict[str, Any]:
    heading("3 · Use it on another picture")
    with gr.Row():
        with gr.Column(min_width=200):
            picture = drop("Picture", height=220, elem_id="show-picture", buttons=["fullscreen"])
            words = gr.Textbox(label="And say (if you like)", placeholder="at night", max_lines=3, elem_id="show-words")
            strength = Slider(0, 2, value=1, step=0.05, label="Strength", elem_id="show-strength")
            seed = Number(precision=0, label="Seed", elem_id="show-apply-seed")
            with gr.Row():
                apply = gr.Button("Use it", variant="primary", elem_id="show-apply", min_width=100)
                stop = gr.Button("Stop", elem_id="show-apply-stop", min_width=70)
            status = line(elem_id="show-apply-line")
        with gr.Column(min_width=200):
            preview = gr.HTML("", elem_id="show-preview")
            slider = gr.ImageSlider(
                label="Before and after", type="filepath", format="png", interactive=False, elem_id="show-result",
                max_height=420,
                buttons=["fullscreen"],
            )  # fmt: skip
            download = gr.DownloadButton("Download PNG", interactive=False, elem_id="show-download")
    return {
        "picture": picture, "words": words, "strength": strength, "apply_seed": seed, "apply": apply,
        "apply_stop": stop,
        "apply_line": status, "preview": preview, "slider": slider, "download": download,
    }  # fmt: skip
