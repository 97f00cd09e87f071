"""What the controls of the library do: search, choose, rename, delete, export, import."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from ...errors import TextError
from .doing import AT_ONCE, tried, visitor
from .widgets import said

if TYPE_CHECKING:
    from ..library import Entry
    from ..sessions import Session
    from ..studio import Studio
    from .show import Show

_SIDE = 96


def wire(studio: Studio, room: Show) -> None:
    """Let the controls do what they say."""
    changed = [room.looks, room.chosen, room.chosen_line, room.export, room.library_line, room.new_name]
    room.search.change(_search(studio, room), [room.search, room.chosen], changed, **AT_ONCE)
    room.looks.select(_choose(studio, room), room.search, changed, **AT_ONCE)
    room.rename.click(_rename(studio, room), [room.chosen, room.new_name, room.search], changed, **AT_ONCE)
    room.delete.click(_delete(studio, room), [room.chosen, room.search], changed, **AT_ONCE)
    room.upload.upload(_import(studio, room), [room.upload, room.search], changed, **AT_ONCE)


def looks(
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
        return looks(studio, room, visitor(studio, request), search=text, chosen=chosen)

    return tried(search, room.library_line)


def _choose(studio: Studio, room: Show) -> Callable[..., Any]:
    def choose(text: str, event: gr.SelectData, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        entries = studio.library(session.user).list(text or "")
        if not 0 <= int(event.index) < len(entries):
            raise TextError("this learned edit is not there any more")
        entry = entries[int(event.index)]
        changes = looks(studio, room, session, search=text, chosen=entry.name)
        del changes[room.looks]
        return {**changes, room.new_name: entry.name, room.library_line: ""}

    return tried(choose, room.library_line)


def _rename(studio: Studio, room: Show) -> Callable[..., Any]:
    def rename(chosen: str | None, name: str, search: str, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        entry = studio.library(session.user).rename(_needed(chosen), name or "")
        return {
            **looks(studio, room, session, search=search, chosen=entry.name),
            room.library_line: said(f"it is called <{entry.name}> now"),
        }

    return tried(rename, room.library_line)


def _delete(studio: Studio, room: Show) -> Callable[..., Any]:
    def delete(chosen: str | None, search: str, request: gr.Request) -> dict[Any, Any]:
        session, name = visitor(studio, request), _needed(chosen)
        if session.doomed != name:
            session.doomed = name
            return {room.library_line: said(f"press Delete once more to delete <{name}> for good")}
        session.doomed = None
        studio.library(session.user).delete(name)
        return {**looks(studio, room, session, search=search), room.library_line: said(f"<{name}> is deleted")}

    return tried(delete, room.library_line)


def _import(studio: Studio, room: Show) -> Callable[..., Any]:
    def take_in(path: str | None, search: str, request: gr.Request) -> dict[Any, Any]:
        session = visitor(studio, request)
        if not path:
            raise TextError("choose a file of a learned edit, .safetensors")
        entry = studio.library(session.user).import_file(path)
        return {
            **looks(studio, room, session, search=search, chosen=entry.name),
            room.library_line: said(f"<{entry.name}> is in your library"),
        }

    return tried(take_in, room.library_line)


def _needed(chosen: str | None) -> str:
    if not chosen:
        raise TextError("choose a learned edit first")
    return chosen
