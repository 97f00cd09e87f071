"""What the controls of the showing room do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr
import pandas as pd
from PIL import Image

from ... import scenes
from ...errors import ImageError, ShowtellError, TextError
from .. import showing, telling
from . import examples
from .doing import AT_ONCE, asked, carried_out, friendly, stop, tried, visitor
from .widgets import said

if TYPE_CHECKING:
    from ..library import Entry
    from ..sessions import Session
    from ..studio import Studio
    from .show import Show

_SIDE = 96


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
    pictures = [room.before[0], room.after[0], room.picture, room.name, room.line]
    room.gallery.select(_example(studio, room), None, pictures, **AT_ONCE)
    _wire_library(studio, room)


def _wire_library(studio: Studio, room: Show) -> None:
    changed = [room.looks, room.chosen, room.chosen_line, room.export, room.library_line, room.new_name]
    room.search.change(_search(studio, room), [room.search, room.chosen], changed, **AT_ONCE)
    room.looks.select(_choose(studio, room), room.search, changed, **AT_ONCE)
    room.rename.click(_rename(studio, room), [room.chosen, room.new_name, room.search], changed, **AT_ONCE)
    room.delete.click(_delete(studio, room), [room.chosen, room.search], changed, **AT_ONCE)
    room.upload.upload(_import(studio, room), [room.upload, room.search], changed, **AT_ONCE)


def arrived(studio: Studio, room: Show, session: Session) -> dict[Any, Any]:
    """What the page shows of the library to whoever opens it."""
    return {**_looks(studio, room, session), **_unfinished(studio, room, session)}


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
            options["learning_rate"] = float(rate)
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
        **_looks(studio, room, session, chosen=entry.name), **_unfinished(studio, room, session), room.name: "",
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
        if which:
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
        call = f"<{chosen}>" if float(strength) == 1 else f"<{chosen}:{float(strength):g}>"
        said_too = " ".join((words or "").split())
        wanted = telling.Wish(lines=(f"{call} {said_too}".strip(),), seed=telling.whole(seed))
        wanted.check(studio.limits)
        edit, seconds = yield from carried_out(
            session, lambda run: telling.tell(run, studio.workshop, studio.library(session.user), picture, wanted),
            line=room.apply_line, preview=room.preview,
        )  # fmt: skip
        made = session.keep(edit, caption=wanted.caption, seconds=seconds)
        yield {
            room.apply_line: said(f"done in {made.seconds:.1f} s, seed {made.seed}", notes=made.notes),
            room.slider: (made.before, made.path), room.download: gr.DownloadButton(value=made.path, interactive=True),
        }  # fmt: skip

    return apply


def _example(studio: Studio, room: Show) -> Callable[..., Any]:
    def example(event: gr.SelectData, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        chosen = examples.SHOWN[int(event.index)]
        case = chosen.case
        other = scenes.apply(case, to=chosen.scene + 1, split="train")
        before, after, new = (session.remember_image(one) for one in (case.before, case.after, other.before))
        return {
            room.before[0]: before, room.after[0]: after, room.picture: new,
            room.name: showing.free_name(studio.library(session.user), "", chosen.caption),
            room.line: said("an example: press “Learn it”, then use what was learned on the other picture"),
        }  # fmt: skip

    return tried(example, room.line)


def _looks(
    studio: Studio, room: Show, session: Session, *, search: str = "", chosen: str | None = None
) -> dict[Any, Any]:
    """The library as it is, with one chosen."""
    entries = studio.library(session.user).list(search or "")
    found = next((entry for entry in entries if entry.name == chosen), None)
    return {
        room.looks: gr.Gallery([(_thumbnail(entry), entry.name) for entry in entries], selected_index=None),
        room.chosen: found.name if found else None, room.chosen_line: _told(found),
        room.export: gr.DownloadButton(value=_exported(studio, session, found), interactive=found is not None),
    }  # fmt: skip


def _exported(studio: Studio, session: Session, entry: Entry | None) -> Any:
    return None if entry is None else session.copy(studio.library(session.user).export(entry.name))


def _thumbnail(entry: Entry) -> Image.Image:
    """Before and after, side by side."""
    tile = Image.new("RGB", (2 * _SIDE + 4, _SIDE), "#888888")
    for number, picture in enumerate(entry.thumbnails[0] if entry.thumbnails else ()):
        tile.paste(picture.convert("RGB").resize((_SIDE, _SIDE)), (number * (_SIDE + 4), 0))
    return tile


def _told(entry: Entry | None) -> str:
    if entry is None:
        return said("no learned edit is chosen")
    start = f"from “{entry.words}”, " if entry.words else ""
    loss = "" if entry.loss is None else f", loss {entry.loss:.4f}"
    return said(f"<{entry.name}>: {start}{entry.steps or 0} steps{loss}, {entry.learned:%d %B %Y}")


def _search(studio: Studio, room: Show) -> Callable[..., Any]:
    def search(text: str, chosen: str | None, request: gr.Request) -> dict[Any, Any]:
        return _looks(studio, room, visitor(studio, request), search=text, chosen=chosen)

    return tried(search, room.library_line)


def _choose(studio: Studio, room: Show) -> Callable[..., Any]:
    def choose(text: str, event: gr.SelectData, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        entries = studio.library(session.user).list(text or "")
        if not 0 <= int(event.index) < len(entries):
            raise TextError("this learned edit is not there any more")
        entry = entries[int(event.index)]
        changes = _looks(studio, room, session, search=text, chosen=entry.name)
        del changes[room.looks]
        return {**changes, room.new_name: entry.name, room.library_line: ""}

    return tried(choose, room.library_line)


def _rename(studio: Studio, room: Show) -> Callable[..., Any]:
    def rename(chosen: str | None, name: str, search: str, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        entry = studio.library(session.user).rename(_needed(chosen), name or "")
        return {
            **_looks(studio, room, session, search=search, chosen=entry.name),
            room.library_line: said(f"it is called <{entry.name}> now"),
        }

    return tried(rename, room.library_line)


def _delete(studio: Studio, room: Show) -> Callable[..., Any]:
    def delete(chosen: str | None, search: str, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        studio.library(session.user).delete(_needed(chosen))
        return {**_looks(studio, room, session, search=search), room.library_line: said(f"<{chosen}> is deleted")}

    return tried(delete, room.library_line)


def _import(studio: Studio, room: Show) -> Callable[..., Any]:
    def take_in(path: str | None, search: str, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        if not path:
            raise TextError("choose a file of a learned edit, .safetensors")
        entry = studio.library(session.user).import_file(path)
        return {
            **_looks(studio, room, session, search=search, chosen=entry.name),
            room.library_line: said(f"<{entry.name}> is in your library"),
        }

    return tried(take_in, room.library_line)


def _needed(chosen: str | None) -> str:
    if not chosen:
        raise TextError("choose a learned edit first")
    return chosen
