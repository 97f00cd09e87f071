"""What Gradio says of a request that it cannot use, in one line: by itself it tells at length, or fails."""

from __future__ import annotations

import functools
from typing import Any

from ..errors import ShowtellError
from ..recipe import readable

#: Characters of a line.
_LONGEST = 1000
_FILES = 'a file of the request is not told as {"path": what /upload answered, "meta": {"_type": "gradio.FileData"}}'
_VALUES = "the request's values are not those of this endpoint, in number or in kind"
_NAMELESS = "there is no endpoint of this name or number"


def line(text: str) -> str:
    """A text as one line that every file and every stream can hold."""
    return readable(" ".join(text.split()))[:_LONGEST]


def speak_plainly(blocks: Any, app: Any) -> None:
    """Let everything that goes wrong in ``blocks`` and in ``app``, which serves them, become one line."""
    blocks.process_api = _plain(blocks.process_api)
    _answer_plainly(app)


def _plain(process: Any) -> Any:
    """Gradio's own way from a request to its answer, all of whose errors a client can be shown."""
    import gradio as gr
    from gradio.exceptions import InvalidPathError
    from pydantic import ValidationError

    from .page.doing import unexpected

    @functools.wraps(process)
    async def processed(*args: Any, **options: Any) -> Any:
        try:
            return await process(*args, **options)
        except gr.Error as error:
            told = str(error.message)
        except ShowtellError as error:
            told = str(error)
        except (ValidationError, InvalidPathError):
            told = _FILES
        except Exception as error:  # noqa: BLE001 - a client never meets a traceback
            told = _VALUES if _of_values(error) else unexpected(error)
        raise gr.Error(line(told), print_exception=False)

    return processed


def _of_values(error: BaseException) -> bool:
    """Whether Gradio could not make its components' values, or an event, out of what was sent (6.31)."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    raised_in = at.tb_frame.f_globals.get("__name__") if at is not None else None
    return raised_in == "gradio.events" or str(error).startswith(("Could not preprocess", "An event handler"))


def _answer_plainly(app: Any) -> None:
    """Requests for what is not there, or without what they need, are the asker's errors and not the server's."""
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from gradio.route_utils import FnIndexInferError

    async def nameless(request: Any, error: Exception) -> Any:
        return JSONResponse({"detail": _NAMELESS}, 404)

    async def unlike(request: Any, error: Exception) -> Any:
        # Of a call by names, Gradio says which name is missing or not known.
        told = str(error).partition(" Please click")[0] if "/call/v2/" in request.url.path else _VALUES
        return JSONResponse({"detail": line(told)}, 400)

    async def invalid(request: Any, error: Any) -> Any:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"detail": line(f"{where}: {first['msg']}")}, 422)

    app.add_exception_handler(FnIndexInferError, nameless)
    app.add_exception_handler(LookupError, nameless)
    app.add_exception_handler(RequestValidationError, invalid)
    for kind in (TypeError, ValueError, AttributeError, AssertionError):
        app.add_exception_handler(kind, unlike)
