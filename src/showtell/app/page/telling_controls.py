"""What the controls of the telling room do at once: settings follow the method, masks are painted, results come back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from .. import telling
from ..workshop import INSTRUCT
from . import examples, returning
from .doing import AT_ONCE, tried, visitor
from .tell import ALL_LINES, OWN_SCHEDULER, Tell
from .widgets import canvas, painted, said

if TYPE_CHECKING:
    from ..sessions import Made, Session
    from ..studio import Studio


def wire(studio: Studio, room: Tell) -> Any:
    """Let the controls do what they say; returns the event of an example that was clicked."""
    own = [room.steps, room.words_scale, room.picture_scale, room.more, room.line]
    by_lines = [*room.weights, room.whose]
    gr.on(
        [room.lines.change, room.method.change],
        _by_lines(room),
        [room.lines, room.method, room.whose],
        by_lines,
        **AT_ONCE,
    )
    room.method.input(_by_method(studio, room), room.method, own, **AT_ONCE)
    room.picture.change(_new_picture(studio, room), room.picture, [room.painter, room.whose, room.line], **AT_ONCE)
    room.whose.change(_turned(studio, room), [room.picture, room.whose], [room.painter, room.line], **AT_ONCE)
    room.painter.input(_painted(studio, room), [room.painter, room.picture, room.whose], room.line, **AT_ONCE)
    back = [room.picture, *room.settings, room.line, room.slider, room.download, room.again, room.overlay]
    room.strip.select(_returned(studio, room), None, back, **AT_ONCE)
    room.grid.select(_returned(studio, room, grid=True), None, back, **AT_ONCE)
    again = returning.as_input(studio, room, "tell", "say what else should change")
    room.again.click(again, None, [room.picture, room.line], **AT_ONCE)
    room.picture.upload(
        returning.dropped(studio, room, _back(studio, room), {room.more: {}}), room.picture, back, **AT_ONCE
    )
    return room.gallery.select(_example(studio, room), None, back, **AT_ONCE)


def shown(room: Tell, session: Session, made: Made) -> dict[Any, Any]:
    """A result on the page."""
    told = f"done in {made.seconds:.1f} s, seed {made.seed}"
    return {
        room.line: said(told, notes=made.notes),
        room.slider: (made.before, made.path),
        room.download: gr.DownloadButton(value=made.path, interactive=True),
        room.again: gr.Button(interactive=True),
        room.overlay: gr.Image(value=made.overlay, visible=made.overlay is not None),
        room.strip: earlier(session),
    }


def earlier(session: Session) -> gr.Gallery:
    """The strip of results, the newest first."""
    return gr.Gallery([(each.path, each.caption) for each in session.results], selected_index=None)


def _by_lines(room: Tell) -> Callable[..., Any]:
    def by_lines(text: str, method: str, whose: str) -> dict[Any, Any]:
        lines = telling.lines_of(text)[: len(room.weights)]
        apart = method == "foi" and len(lines) > 1
        labels = [*lines, *[""] * (len(room.weights) - len(lines))]
        sliders = {
            slider: gr.Slider(visible=apart and bool(label), label=f"Weight: {label[:60]}")
            for slider, label in zip(room.weights, labels, strict=True)
        }
        each = [(f"line {number}: {line[:60]}", f"line {number}") for number, line in enumerate(lines, start=1)]
        kept = whose if _line_number(whose) < len(lines) else ALL_LINES
        return {**sliders, room.whose: gr.Dropdown(choices=[(ALL_LINES, ALL_LINES), *each], value=kept)}

    return by_lines


def _by_method(studio: Studio, room: Tell) -> Callable[..., Any]:
    def by_method(method: str) -> dict[Any, Any]:
        own = dict(zip((room.steps, room.words_scale, room.picture_scale), scales(studio, method), strict=True))
        return {**{control: value for control, value in own.items() if value is not None}, room.more: {}}

    return tried(by_method, room.line)


def scales(studio: Studio, method: str) -> list[Any]:
    """The steps and scales that are a method's own here; None for what it does not have."""
    default = studio.workshop.defaults(INSTRUCT, method)
    return [getattr(default, name, None) for name in telling.SCALES]


def _line_number(whose: str | None) -> int:
    """Of the painter's choice: the line's number from 0 on, -1 for all lines."""
    number = (whose or "").split(":")[0].removeprefix("line ")
    return int(number) - 1 if number.isdecimal() else -1


def _new_picture(studio: Studio, room: Tell) -> Callable[..., Any]:
    def new_picture(given: Any, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        if not given:
            session.put(None)
            return {room.painter: {"picture": None, "mask": None}, room.whose: ALL_LINES}
        picture = studio.picture(session, given)
        session.put(picture.pixels_sha256)
        return {room.painter: canvas(picture.rgb, session.masks.get(-1)), room.whose: ALL_LINES}

    return tried(new_picture, room.line)


def _turned(studio: Studio, room: Tell) -> Callable[..., Any]:
    def turned(given: Any, whose: str, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        if not given:
            return {}
        return {room.painter: canvas(studio.picture(session, given).rgb, session.masks.get(_line_number(whose)))}

    return tried(turned, room.line)


def _painted(studio: Studio, room: Tell) -> Callable[..., Any]:
    def keep(value: Any, given: Any, whose: str, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        number, mask = _line_number(whose), painted(value, studio.picture(session, given).size)
        session.masks.pop(number, None)
        if mask is None:
            return {room.line: said("nothing is painted here: the edit may happen where its words say")}
        session.masks[number] = mask
        share, where = 100 * float(mask.mean()), ALL_LINES if number < 0 else f"line {number + 1}"
        return {room.line: said(f"painted for {where}: {share:.0f} % of the picture")}

    return tried(keep, room.line)


def controls(studio: Studio, room: Tell, found: telling.Wish) -> dict[Any, Any]:
    """A wish on the controls; its seed is kept."""
    told = [getattr(found, name) for name in telling.SCALES]
    own = scales(studio, found.method)
    numbers = [default if value is None else value for value, default in zip(told, own, strict=True)]
    weights = [*found.weights, *[1.0] * len(room.weights)]
    changes = {
        room.lines: "\n".join(found.lines), room.method: found.method, room.seed: found.seed, room.lock: True,
        room.negative: found.negative_prompt, room.fit: found.fit, room.resolution: found.resolution or 0,
        room.scheduler: found.scheduler or OWN_SCHEDULER, room.more: found.more,
        **dict(zip(room.weights, weights, strict=False)),
    }  # fmt: skip
    places = zip((room.steps, room.words_scale, room.picture_scale), numbers, strict=True)
    return {**changes, **{control: value for control, value in places if value is not None}}


def _example(studio: Studio, room: Tell) -> Callable[..., Any]:
    def example(event: gr.SelectData, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        chosen = examples.TOLD[int(event.index)]
        found = telling.Wish(lines=chosen.lines, method=chosen.method, seed=chosen.seed)
        place = session.remember_image(chosen.case.before)
        return {
            **controls(studio, room, found), room.picture: place,
            room.line: said("an example; it runs with a fixed seed")
        }  # fmt: skip

    return tried(example, room.line)


def _back(studio: Studio, room: Tell) -> returning.Back:
    """A result's settings on the controls, and its painted masks on the picture once that is there."""

    def back(session: Session, found: telling.Restored, result: Path) -> dict[Any, Any]:
        method = found.wish.method
        if method not in studio.workshop.methods(INSTRUCT):
            return {
                room.line: said(f"it was made by {method}, which is not among the methods of this room: see Describe")
            }
        session.awaited = (found.input.pixels_sha256, found.masks)
        session.restored = found.input.pixels_sha256
        found = dataclasses.replace(found, notes=(*found.notes, *_unseen(studio, found)))
        if session.recall(found.input.pixels_sha256) is not None:
            session.put(found.input.pixels_sha256)  # also where the picture is there already, and so does not change
        return returning.with_input(room, session, found, result, controls(studio, room, found.wish))

    return back


def _unseen(studio: Studio, found: telling.Restored) -> list[str]:
    """What comes back with a result and stands in no control of its own."""
    default, notes = studio.workshop.defaults(INSTRUCT, found.wish.method), []
    told = {name: value for name, value in found.wish.more.items() if value != getattr(default, name, value)}
    if told:
        notes.append(
            f"also set: {', '.join(f'{name} {value}' for name, value in told.items())}; another picture clears it"
        )
    places = ["all lines" if number < 0 else f"line {number + 1}" for number in sorted(found.masks)]
    if places:
        notes.append(f"a place is painted for {', '.join(places)}: see “Paint where it may happen”")
    return notes


def _returned(studio: Studio, room: Tell, *, grid: bool = False) -> Callable[..., Any]:
    def returned(event: gr.SelectData, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        made = session.tile(int(event.index)) if grid else session.result(int(event.index))
        session.current["tell"] = made
        found = telling.restored(made.path, studio.library(session.user), studio.limits)
        changes = {} if found is None else _back(studio, room)(session, found, made.path)
        seen = shown(room, session, made)
        del seen[room.strip]
        return {**changes, **seen}

    return tried(returned, room.line)
