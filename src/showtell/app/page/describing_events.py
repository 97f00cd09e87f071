"""What the controls of the describing room do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from .. import describing, telling
from ..workshop import BASE
from . import examples, returning
from .doing import AT_ONCE, ON_DEVICE, asked, carried_out, friendly, stop, tried, visitor
from .widgets import said

if TYPE_CHECKING:
    from ...inversions import Inversion
    from ..sessions import Made, Session
    from ..studio import Studio
    from .describe import Describe


def wire(studio: Studio, room: Describe) -> None:
    """Let the controls do what they say."""
    results = [
        room.line, room.preview, room.slider, room.download, room.again, room.reconstruction, room.reconstruction_line,
    ]  # fmt: skip
    edit = _edit(studio, room)
    asked(room.run.click, studio, room.line)(edit, room.asked, results)
    room.eta.release(_slid(studio, room), room.asked, results, trigger_mode="always_last", **ON_DEVICE)
    room.stop.click(stop(studio), None, room.line, **AT_ONCE)
    numbers = [room.steps, room.scale, room.ratio, room.strength, room.eta, room.start]
    room.method.input(_by_method(studio, room), room.method, numbers, **AT_ONCE)
    then = "describe what it should become"
    room.again.click(returning.as_input(studio, room, "describe", then), None, [room.picture, room.line], **AT_ONCE)
    controls = [*room.asked, room.line, room.slider]
    chosen = room.gallery.select(_example(studio, room), None, controls, **AT_ONCE)
    asked(chosen.success, studio, room.line)(edit, room.asked, results)
    room.picture.upload(returning.dropped(studio, room, _back(studio, room), {}), room.picture, controls, **AT_ONCE)


def told(values: tuple[Any, ...], studio: Studio) -> describing.Description:
    """The controls' values, in the order of ``Describe.asked`` after the picture. Raises one line."""
    target, source, method, eta, start, seed, steps, scale, ratio, strength = values
    found = describing.Description(
        target=" ".join((target or "").split()), source=" ".join((source or "").split()), method=method,
        eta=telling.number(eta, "eta", 0.9) or 0.0,
        start=start,
        seed=telling.whole(seed), num_inference_steps=telling.whole(steps), guidance_scale=scale, encoding_ratio=ratio,
        strength=strength,
    )  # fmt: skip
    studio.workshop.defaults(BASE, method)
    found.check(studio.limits)
    return found


def _edit(studio: Studio, room: Describe) -> Callable[..., Any]:
    @friendly(room.line, preview=room.preview)
    def edit(request: gr.Request, given: Any, *values: Any) -> Iterator[dict[Any, Any]]:
        session = visitor(studio, request)
        picture = studio.picture(session, given)
        wanted = told(values, studio)
        library = studio.library(session.user)
        reused = describing.held(session, studio.workshop, picture, wanted) is not None
        found, back, seconds = yield from carried_out(
            session, lambda run: describing.describe(run, session, studio.workshop, library, picture, wanted),
            line=room.line, preview=room.preview,
        )  # fmt: skip
        made = session.keep(found, caption=wanted.target[:60], seconds=seconds, room="describe")
        yield shown(room, session, made, back, reused=reused)

    return edit


def _slid(studio: Studio, room: Describe) -> Callable[..., Any]:
    edit = _edit(studio, room)

    @friendly(room.line)
    def slid(request: gr.Request, given: Any, *values: Any) -> Iterator[dict[Any, Any]]:
        session = visitor(studio, request)
        wanted = told(values, studio)
        if describing.held(session, studio.workshop, studio.picture(session, given), wanted) is None:
            yield {room.line: said("press “Edit” to make the inversion that the slider goes out from")}
            return
        yield from edit(request, given, *values)

    return slid


def shown(room: Describe, session: Session, made: Made, back: Inversion | None, *, reused: bool) -> dict[Any, Any]:
    """A result on the page, and the reconstruction beside it."""
    how = ", the inversion was there already" if reused else ""
    changes = {
        room.line: said(f"done in {made.seconds:.1f} s, seed {made.seed}{how}", notes=made.notes),
        room.slider: (made.before, made.path), room.download: gr.DownloadButton(value=made.path, interactive=True),
        room.again: gr.Button(interactive=True), room.reconstruction: gr.Image(visible=back is not None),
        room.reconstruction_line: "",
    }  # fmt: skip
    if back is not None:
        drawn = session.remember_image(back.image.convert("RGB"))
        changes[room.reconstruction] = gr.Image(value=drawn, visible=True)
        changes[room.reconstruction_line] = said(
            f"{back.psnr:.1f} dB from the picture (PSNR); what the words do goes out from here"
        )
    return changes


def follow(studio: Studio, room: Describe, method: str, **told: Any) -> dict[Any, Any]:
    """The controls as a method has them, at its own values where ``told`` has no other."""
    default = studio.workshop.defaults(BASE, method)
    sliders = {
        "num_inference_steps": room.steps, "guidance_scale": room.scale, "encoding_ratio": room.ratio,
        "strength": room.strength, "eta": room.eta,
    }  # fmt: skip
    changes: dict[Any, Any] = {room.method: method, room.start: gr.Radio(visible=method == "pti")}
    for name, slider in sliders.items():
        there = hasattr(default, name)
        value = told.get(name) if told.get(name) is not None else getattr(default, name, None)
        changes[slider] = gr.Slider(value=value, visible=True) if there else gr.Slider(visible=False)
    return changes


def _by_method(studio: Studio, room: Describe) -> Callable[..., Any]:
    def by_method(method: str) -> dict[Any, Any]:
        changes = follow(studio, room, method)
        del changes[room.method]
        return changes

    return tried(by_method, room.line)


def _example(studio: Studio, room: Describe) -> Callable[..., Any]:
    def example(event: gr.SelectData, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        chosen = examples.DESCRIBED[int(event.index)]
        return {
            room.picture: session.remember_image(chosen.case.before), room.target: chosen.case.captions[1],
            room.source: chosen.case.captions[0],
            **follow(studio, room, chosen.method), room.seed: chosen.seed,
            room.line: said("an example; it runs with a fixed seed"),
        }  # fmt: skip

    return tried(example, room.line)


def _back(studio: Studio, room: Describe) -> returning.Back:
    """A result's settings on the controls."""

    def back(session: Session, found: telling.Restored, result: Path) -> dict[Any, Any]:
        wish = found.wish
        if wish.method not in studio.workshop.methods(BASE):
            return {
                room.line: said(f"it was made by {wish.method}, which is not among the methods of this room: see Tell")
            }
        starts = {start: name for name, start in describing.STARTS.items() if start}
        numbers = {"guidance_scale": wish.guidance_scale, "num_inference_steps": wish.num_inference_steps}
        controls = {
            **follow(studio, room, wish.method, **{**wish.more, **numbers}), room.target: ", ".join(wish.lines),
            room.source: wish.source,
        }  # fmt: skip
        if wish.seed is not None:
            controls[room.seed] = wish.seed
        if wish.more.get("start") in starts:
            controls[room.start] = gr.Radio(value=starts[wish.more["start"]])
        found = dataclasses.replace(found, notes=(*found.notes, *_not_here(wish, found)))
        return returning.with_input(room, session, found, result, controls)

    return back


def _not_here(wish: telling.Wish, found: telling.Restored) -> list[str]:
    """What a result was made with that this room has no control for."""
    told = {
        "what it should not be": wish.negative_prompt, "the sampler": wish.scheduler, "the size": wish.resolution,
        "the fit": "" if wish.fit == "fit" else wish.fit, "a painted mask": found.masks,
    }  # fmt: skip
    missing = [name for name, value in told.items() if value]
    return [f"it also had {', '.join(missing)}, which this room cannot set"] if missing else []
