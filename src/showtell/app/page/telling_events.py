"""What the buttons of the telling room have done: edits, variations, grids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from .. import grids, telling
from ..studio import draw_seed
from ..workshop import INSTRUCT
from . import telling_controls
from .doing import AT_ONCE, asked, carried_out, friendly, stop, visitor
from .tell import Tell, wish
from .telling_controls import earlier, shown
from .widgets import said

if TYPE_CHECKING:
    from ..sessions import Made
    from ..studio import Studio


def wire(studio: Studio, room: Tell) -> None:
    """Let the controls do what they say."""
    results = [
        room.line, room.preview, room.slider, room.download, room.again, room.overlay, room.strip, room.seed,
        room.grid, room.grid_file,
    ]  # fmt: skip
    told = [room.picture, *room.settings]
    edit = _edit(studio, room)
    asked(room.run.click, studio, room.line)(edit, told, results)
    room.stop.click(stop(studio), None, room.line, **AT_ONCE)
    asked(room.vary.click, studio, room.line)(_vary(studio, room), [room.count, *told], results)
    axes = [room.across, room.across_values, room.down, room.down_values]
    asked(room.cross.click, studio, room.line)(_cross(studio, room), [*axes, *told], results)
    room.dice.click(draw_seed, None, room.seed, **AT_ONCE)
    chosen = telling_controls.wire(studio, room)
    asked(chosen.success, studio, room.line)(edit, told, results)


def _edit(studio: Studio, room: Tell) -> Callable[..., Any]:
    @friendly(room.line, preview=room.preview)
    def edit(request: gr.Request, given: Any, *values: Any) -> Iterator[dict[Any, Any]]:
        session = visitor(studio, request)
        picture = studio.picture(session, given)
        wanted = wish(studio, list(values), session.masks)
        edit, seconds = yield from carried_out(
            session, lambda run: telling.tell(run, studio.workshop, studio.library(session.user), picture, wanted),
            line=room.line, preview=room.preview,
        )  # fmt: skip
        made = session.keep(edit, caption=wanted.caption, seconds=seconds, masks=wanted.painted)
        yield {**shown(room, session, made), room.seed: values[2] if values[3] else draw_seed()}

    return edit


def _vary(studio: Studio, room: Tell) -> Callable[..., Any]:
    @friendly(room.line, preview=room.preview)
    def vary(request: gr.Request, count: Any, given: Any, *values: Any) -> Iterator[dict[Any, Any]]:
        wanted = wish(studio, list(values), visitor(studio, request).masks)
        across = grids.seeds(wanted.seed if wanted.seed is not None else draw_seed(), telling.whole(count) or 1)
        yield from _many(studio, room, request, given, wanted, across, grids.Axis())

    return vary


def _cross(studio: Studio, room: Tell) -> Callable[..., Any]:
    @friendly(room.line, preview=room.preview)
    def cross(
        request: gr.Request, across: Any, across_values: Any, down: Any, down_values: Any, given: Any, *values: Any
    ) -> Iterator[dict[Any, Any]]:
        wanted = wish(studio, list(values), visitor(studio, request).masks)
        axes = grids.axis(across, across_values or ""), grids.axis(down, down_values or "")
        yield from _many(studio, room, request, given, wanted, *axes)

    return cross


def _many(
    studio: Studio,
    room: Tell,
    request: gr.Request,
    given: Any,
    wanted: telling.Wish,
    across: grids.Axis,
    down: grids.Axis,
) -> Iterator[dict[Any, Any]]:
    session = visitor(studio, request)
    picture = studio.picture(session, given)
    grids.check(wanted, across, down, studio.workshop.defaults(INSTRUCT, wanted.method), studio.limits)
    library = studio.library(session.user)

    def tiles(made: tuple[Made, ...]) -> dict[Any, Any]:
        columns = len(across.values)
        return {
            room.strip: earlier(session),
            room.grid: gr.Gallery([(each.path, each.caption) for each in made], visible=True, columns=columns),
        }

    made = yield from carried_out(
        session, lambda run: grids.make(run, studio.workshop, library, session, picture, wanted, across, down),
        line=room.line, preview=room.preview, shown=tiles,
    )  # fmt: skip
    sheet = session.file("grid.png")
    grids.sheet(across, down, made, wanted.caption).save(sheet)
    yield {
        **shown(room, session, made[-1]), **tiles(tuple(made)),
        room.line: said(f"{len(made)} pictures; click one in the grid to see it above"),
        room.grid_file: gr.DownloadButton(value=sheet, visible=True),
    }  # fmt: skip
