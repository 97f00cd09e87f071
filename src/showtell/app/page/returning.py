"""Results that come back: dropped into a room, they bring their settings; as an input, they are edited further."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ...errors import TextError
from .. import telling
from .doing import tried, visitor
from .widgets import said

if TYPE_CHECKING:
    from ..sessions import Session
    from ..studio import Studio

#: (session, what was restored, the result's file) -> changes of the room's controls.
Back = Callable[["Session", telling.Restored, Path], dict[Any, Any]]


def dropped(studio: Studio, room: Any, back: Back, cleared: dict[Any, Any]) -> Callable[..., Any]:
    """A handler for a picture that is dropped into a room: a result brings its settings ``back``.

    Any other picture, except the one that such a result was made from, makes the changes ``cleared``.
    """

    def handler(given: Any, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        picture = studio.picture(session, given)
        found = telling.restored(Path(given[0]), studio.library(session.user), studio.limits)
        if found is None:
            fresh = {} if picture.pixels_sha256 == session.restored else cleared
            return {**fresh, room.line: said(f"{picture.size[0]} × {picture.size[1]} pixels", notes=picture.notes)}
        return back(session, found, Path(given[0]))

    return tried(handler, room.line)


def with_input(
    room: Any, session: Session, found: telling.Restored, result: Path, controls: dict[Any, Any]
) -> dict[Any, Any]:
    """The ``controls``, and the result's input beside it where that is known; else a word on what to do."""
    notes, place = list(found.notes), session.recall(found.input.pixels_sha256)
    if place is None:
        name = Path(found.input.path or "the input").name
        notes.append(
            f"the picture that it was made from ({name}) is not here: drop it to make the edit again, or edit this one further"
        )
    else:
        controls = {**controls, room.picture: place, room.slider: (session.before(place), result)}
    return {**controls, room.line: said("its settings are back", notes=tuple(notes))}


def as_input(studio: Studio, room: Any, name: str, then: str) -> Callable[..., Any]:
    """A handler that makes what the room ``name`` shows its picture; ``then`` says what to do with it."""

    def handler(request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        made = session.current.get(name)
        if made is None:
            raise TextError("there is no result yet")
        return {room.picture: made.path, room.line: said(f"the result is now the picture; {then}")}

    return tried(handler, room.line)
