"""Carrying out what a button asked for: a run with its progress, a way to stop, and every error as one friendly line."""

from __future__ import annotations

import base64
import functools
import io
import logging
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from ...errors import Cancelled, ShowtellError
from .. import running
from . import widgets

if TYPE_CHECKING:
    from PIL import Image

    from ..sessions import Session
    from ..studio import Studio

#: All work on the models waits in one line.
ON_DEVICE: dict[str, Any] = {
    "concurrency_id": "device",
    "concurrency_limit": 1,
    "show_progress": "hidden",
    "api_visibility": "private",
}
#: What is done at once, beside the work.
AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
STOPPED = "stopped; what was there before is still there"

ONE_AT_A_TIME = "one piece of work at a time: wait for the one that is under way, or stop it"
NOT_TAKEN = "this was not taken: too many are waiting already; try again in a while"

log = logging.getLogger("showtell.studio")


def carried_out(
    session: Session,
    work: Callable[[running.Run], Any],
    *,
    line: Any,
    preview: Any = None,
    shown: Callable[[Any], dict] | None = None,
) -> Generator[dict[Any, Any], None, Any]:
    """Run ``work``, yielding what changes on the page; returns what came of it. Raises what it raises.

    ``line`` says how far it is, ``preview`` shows it; ``shown`` makes changes out of what else the work shows.
    """
    run = session.begin()
    latest = None
    try:
        for told in running.stream(run, work):
            if isinstance(told, running.Ended):
                return told.value
            changes: dict[Any, Any] = {line: widgets.busy(told)}
            if preview is not None and told.preview is not None:
                changes[preview] = picture_of(told.preview)
            if shown is not None and told.shown is not None and told.shown is not latest:
                latest = told.shown
                changes |= shown(latest)
            yield changes
    finally:
        session.end(run)


def asked(trigger: Any, studio: Studio, line: Any) -> Callable[..., Any]:
    """A trigger for work on the device: at once it says that the work waits in line, where ``stop`` finds it.

    Takes a handler (whose first parameter is the request), its inputs and outputs, as Gradio's triggers do. A second click while
    the first one's work goes on asks for nothing.
    """
    number = gr.State(0)

    def ask(request: gr.Request) -> dict[Any, Any]:
        ticket = visitor(studio, request).ask()
        wanted = ticket.state == "wanted"
        return {number: ticket.number, line: widgets.busy(running.Update()) if wanted else widgets.said(ONE_AT_A_TIME)}

    follows = trigger(ask, None, [number, line], **AT_ONCE).success

    def then(handler: Callable[..., Any], inputs: Any, outputs: list[Any]) -> None:
        def held(request: gr.Request, ticket: Any, *values: Any) -> Iterator[dict[Any, Any]]:
            state = visitor(studio, request).turn(ticket)
            if state == "wanted":
                yield from handler(request, *values)
            else:
                yield {line: widgets.said(STOPPED) if state == "stopped" else gr.skip()}

        told = inputs if isinstance(inputs, list) else [inputs]
        carried = follows(held, [number, *told], outputs, trigger_mode="multiple", **ON_DEVICE)
        carried.failure(lambda: widgets.wrong(NOT_TAKEN), None, line, **AT_ONCE)

    return then


def friendly(line: Any, **always: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Of a handler that yields changes: what goes wrong becomes a line in ``line``; nothing else changes.

    ``always`` has ``preview``, if one is to be emptied when the handler is done.
    """
    end = {always["preview"]: ""} if "preview" in always else {}

    def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handler)
        def handled(*args: Any) -> Any:
            try:
                yield from handler(*args)
                if end:
                    yield dict(end)
            except Cancelled:
                yield {line: widgets.said(STOPPED), **end}
            except ShowtellError as error:
                yield {line: widgets.wrong(error), **end}
            except Exception as error:  # noqa: BLE001 - a visitor never meets a traceback
                yield {line: widgets.wrong(unexpected(error)), **end}

        return handled

    return decorate


def tried(handler: Callable[..., Any], line: Any) -> Callable[..., Any]:
    """A handler that gives changes at once; what goes wrong becomes a line in ``line``, and nothing else changes."""

    @functools.wraps(handler)
    def handled(*args: Any) -> Any:
        try:
            return handler(*args) or {line: gr.skip()}  # Gradio takes an empty dict for a value
        except ShowtellError as error:
            return {line: widgets.wrong(error)}
        except Exception as error:  # noqa: BLE001 - a visitor never meets a traceback
            return {line: widgets.wrong(unexpected(error))}

    return handled


def unexpected(error: Exception) -> str:
    """A line for what nobody foresaw; the log has the rest."""
    log.error("unexpected", exc_info=error)
    if type(error).__name__ in ("OutOfMemoryError", "MemoryError"):
        return "the device has not enough memory for this: use a smaller size, or fewer instructions"
    return f"something went wrong that was not foreseen ({type(error).__name__}); the server's log says more"


def picture_of(picture: Image.Image) -> str:
    """A preview: a picture inside the page, which leaves no file."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img class="st-preview" alt="the picture as it is coming to be" src="data:image/jpeg;base64,{data}">'


def visitor(studio: Studio, request: gr.Request) -> Session:
    """The session of whoever asked."""
    return studio.session(request.session_hash, request.username)


def stop(studio: Studio) -> Callable[..., str]:
    """A handler that stops what the visitor has running."""

    def stopped(request: gr.Request) -> str:
        there = visitor(studio, request).stop()
        return widgets.said("stopping after the step at hand …" if there else "nothing is running")

    return stopped
