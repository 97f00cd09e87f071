"""What the controls of the showing room do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import pandas as pd

from ... import scenes
from ...errors import ImageError, ShowtellError, TextError
from .. import showing, telling
from . import examples, library_events
from .doing import AT_ONCE, asked, carried_out, friendly, stop, tried, visitor
from .widgets import said

if TYPE_CHECKING:
    from ..sessions import Session
    from ..studio import Studio
    from .show import Show


def wire(studio: Studio, room: Show) -> None:
    """Let the controls do what they say."""
    learned = [
        room.line, room.curve, room.growth, room.looks, room.chosen, room.chosen_line, room.export, room.unfinished,
        room.unfinished_box, room.name,
    ]  # fmt: skip
    given = [room.name, room.init, room.steps, room.rate, room.seed, *room.before, *room.after]
    asked(room.learn.click, studio, room.line)(_learn(studio, room), given, learned)
    asked(room.go_on.click, studio, room.line)(_go_on(studio, room), room.unfinished, learned)
    room.discard.click(_discard(studio, room), room.unfinished, learned, **AT_ONCE)
    for button, status in ((room.stop, room.line), (room.apply_stop, room.apply_line)):
        button.click(stop(studio), None, status, **AT_ONCE)
    room.another.click(_another(room), room.before, room.rows, **AT_ONCE)
    applied = [room.apply_line, room.preview, room.slider, room.download]
    told = [room.chosen, room.picture, room.words, room.strength, room.apply_seed]
    asked(room.apply.click, studio, room.apply_line)(_apply(studio, room), told, applied)
    pictures = [*room.before, *room.after, *room.rows, room.picture, room.name, room.init, room.line]
    room.picture.upload(_dropped(studio, room), room.picture, room.apply_line, **AT_ONCE)
    room.gallery.select(_example(studio, room), None, pictures, **AT_ONCE)
    library_events.wire(studio, room)


def arrived(studio: Studio, room: Show, session: Session) -> dict[Any, Any]:
    """What the page shows of the library to whoever opens it."""
    return {**library_events.looks(studio, room, session), **_unfinished(studio, room, session)}


def _learn(studio: Studio, room: Show) -> Callable[..., Any]:
    @friendly(room.line)
    def learn(
        request: gr.Request, name: str, init: str, steps: Any, rate: Any, seed: Any, *pictures: Any
    ) -> Iterator[dict[Any, Any]]:
        session, half = visitor(studio, request), len(room.before)
        pairs = _pairs(studio, session, pictures[:half], pictures[half:])
        options: dict[str, Any] = {
            "steps": studio.limits.whole("steps", telling.whole(steps), 1, studio.limits.learn_steps)
        }
        options["seed"] = telling.whole(seed) or 0
        if (init or "").strip():
            options["init"] = studio.limits.text("the words to start from", init)
        if rate:
            options["learning_rate"] = telling.number(rate, "learning rate")
        library = studio.library(session.user)
        free = showing.free_name(library, name or "")
        lesson = studio.unfinished(session.user).begin(free, pairs, options, studio.workshop.names["instruct"])
        yield from _taught(studio, room, session, lesson.id)

    return learn


def _go_on(studio: Studio, room: Show) -> Callable[..., Any]:
    @friendly(room.line)
    def go_on(request: gr.Request, which: str | None) -> Iterator[dict[Any, Any]]:
        session = visitor(studio, request)
        if not which:
            raise TextError("choose what to go on with")
        yield from _taught(studio, room, session, which)

    return go_on


def _taught(studio: Studio, room: Show, session: Session, which: str) -> Iterator[dict[Any, Any]]:
    unfinished, library = studio.unfinished(session.user), studio.library(session.user)
    lesson = unfinished.get(which)
    try:
        entry, notes = yield from carried_out(
            session, lambda run: showing.learn(run, studio.workshop, library, unfinished, lesson),
            line=room.line, shown=lambda growth: _grown(room, growth),
        )  # fmt: skip
    except ShowtellError:
        if not lesson.checkpoint.exists():  # nothing was learned yet, so there is nothing to go on with
            unfinished.discard(lesson.id)
        yield _unfinished(studio, room, session)
        raise
    yield {
        **library_events.looks(studio, room, session, chosen=entry.name), **_unfinished(studio, room, session), room.name: "",
        room.line: said(f"learned <{entry.name}>; use it below, or write <{entry.name}> in any instruction",
        notes=tuple(notes)),
    }  # fmt: skip


def _pairs(studio: Studio, session: Session, before: Any, after: Any) -> list[tuple[Any, Any]]:
    """The pairs that were dropped, as files. Raises ``ImageError`` for half a pair."""
    pairs = []
    for number, (first, second) in enumerate(zip(before, after, strict=True), start=1):
        if first is None and second is None:
            continue
        if first is None or second is None:
            missing = "before" if first is None else "after"
            raise ImageError(f"pair {number} has no picture {missing} the edit: drop it, or clear the other")
        for side, one in (("before", first), ("after", second)):
            studio.picture(session, one, f"the picture {side} the edit of pair {number}")
        pairs.append((first[0], second[0]))
    if not pairs:
        raise ImageError("show an edit first: drop a picture before and after it")
    return pairs


def _grown(room: Show, growth: showing.Growth) -> dict[Any, Any]:
    rows = [(step, loss, "steps, smoothed") for step, loss in growth.losses[:: max(1, len(growth.losses) // 200)]]
    rows += [(step, loss, "checks") for step, loss in growth.checks]
    curve = gr.LinePlot(pd.DataFrame(rows, columns=["step", "loss", "of"]), visible=True)
    pictures = [(picture, f"step {step}") for step, picture in growth.pictures]
    return {room.curve: curve, room.growth: gr.Gallery(pictures, visible=bool(pictures))}


def _discard(studio: Studio, room: Show) -> Callable[..., Any]:
    def discard(which: str | None, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        if not which:
            raise TextError("choose what to discard")
        studio.unfinished(session.user).discard(which)
        return {**_unfinished(studio, room, session), room.line: said("discarded")}

    return tried(discard, room.line)


def _unfinished(studio: Studio, room: Show, session: Session) -> dict[Any, Any]:
    waiting = [lesson for lesson in studio.unfinished(session.user).list() if not lesson.running()]
    choices = [
        (f"{lesson.name}, step {lesson.steps_done() or 0}, of {lesson.begun:%d %B, %H:%M}", lesson.id)
        for lesson in waiting
    ]
    return {
        room.unfinished: gr.Dropdown(choices=choices, value=waiting[0].id if waiting else None),
        room.unfinished_box: gr.Accordion(visible=bool(waiting)),
    }


def _another(room: Show) -> Callable[..., Any]:
    def another(*before: Any) -> list[Any]:
        used = max((number for number, one in enumerate(before, start=1) if one is not None), default=0)
        return [gr.Row(visible=number <= used) for number in range(len(before))]

    return another


def _apply(studio: Studio, room: Show) -> Callable[..., Any]:
    @friendly(room.apply_line, preview=room.preview)
    def apply(
        request: gr.Request, chosen: str | None, given: Any, words: str, strength: Any, seed: Any
    ) -> Iterator[dict[Any, Any]]:
        session = visitor(studio, request)
        if not chosen:
            raise TextError("choose a learned edit in your library, or learn one")
        picture = studio.picture(session, given)
        much = telling.number(strength, "strength", 1.0)
        call = f"<{chosen}>" if much == 1 else f"<{chosen}:{much:g}>"
        said_too = " ".join((words or "").split())
        wanted = telling.Wish(lines=(f"{call} {said_too}".strip(),), seed=telling.whole(seed))
        wanted.check(studio.limits)
        edit, seconds = yield from carried_out(
            session, lambda run: telling.tell(run, studio.workshop, studio.library(session.user), picture, wanted),
            line=room.apply_line, preview=room.preview,
        )  # fmt: skip
        made = session.keep(edit, caption=wanted.caption, seconds=seconds, room="show")
        yield {
            room.apply_line: said(f"done in {made.seconds:.1f} s, seed {made.seed}", notes=made.notes),
            room.slider: (made.before, made.path), room.download: gr.DownloadButton(value=made.path, interactive=True),
        }  # fmt: skip

    return apply


def _dropped(studio: Studio, room: Show) -> Callable[..., Any]:
    def dropped(given: Any, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        picture = studio.picture(session, given)
        if telling.restored(Path(given[0]), studio.library(session.user), studio.limits) is not None:
            return {
                room.apply_line: said("a result: here it is a picture like others; in Tell it brings its settings back")
            }
        return {room.apply_line: said(f"{picture.size[0]} × {picture.size[1]} pixels", notes=picture.notes)}

    return tried(dropped, room.apply_line)


def _example(studio: Studio, room: Show) -> Callable[..., Any]:
    def example(event: gr.SelectData, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        chosen = examples.SHOWN[int(event.index)]
        case = chosen.case
        other = scenes.apply(case, to=chosen.scene + 1, split="train")
        before, after, new = (session.remember_image(one) for one in (case.before, case.after, other.before))
        return {
            **dict.fromkeys([*room.before, *room.after]),
            **{row: gr.Row(visible=row is room.rows[0]) for row in room.rows},
            room.before[0]: before, room.after[0]: after, room.picture: new, room.init: "",
            room.name: showing.free_name(studio.library(session.user), "", chosen.caption),
            room.line: said("an example: press “Learn it”, then use what was learned on the other picture"),
        }  # fmt: skip

    return tried(example, room.line)
