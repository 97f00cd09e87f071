"""The bodies of requests: how long they may be, and which files they may name."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

#: Where files are uploaded, and where they are had back.
UPLOAD, FILE = "/gradio_api/upload", "/gradio_api/file="
#: How deep the lists and objects of a request may lie in each other, and how many they may be with what is in them.
DEPTH, PIECES = 64, 200_000
#: Files of one upload; each is one part of its body.
FILES = 16
#: The fields beside the one file that a canvas sends, and the characters of each.
_FIELDS, _FIELD = 12, 256


class Refusal(Exception):
    """A request that goes no further, for one reason: an HTTP status and a line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


class Gone(Exception):
    """Whoever asked has left in the middle of asking."""


def too_long(limit: int) -> Refusal:
    """The refusal of a body over ``limit`` bytes."""
    return Refusal(413, f"the request is over the limit of {limit / 2**20:.3g} MiB: send less at once")


async def read(receive: Receive, limit: int) -> bytes:
    """The whole body, of which never more than ``limit`` bytes are held."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        piece, more = message.get("body", b""), message.get("more_body", False)
        if len(body) + len(piece) > limit:
            raise too_long(limit)
        body += piece
    return bytes(body)


def replayed(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that tells a body that was read already, and then what the server tells."""
    waiting = [body]

    async def again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again


class Meter:
    """Counts an upload while Gradio reads and writes it: its bytes, and its parts.

    Over a limit Gradio is told that the body is broken, so that it removes the files it has begun, and ``refusal`` says what to
    answer. It is told the same if the sender leaves: else those files would stay for ever.
    """

    def __init__(self, receive: Receive, limit: int, content_type: str) -> None:
        from python_multipart.multipart import parse_options_header

        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not boundary:
            raise Refusal(400, "an upload is multipart/form-data, with a boundary")
        self.refusal: Refusal | None = None
        self._receive, self._left, self._limit = receive, limit, limit
        self._mark, self._tail, self._marks, self._ended = b"--" + boundary, b"", 0, False

    async def __call__(self) -> Message:
        from starlette.formparsers import MultiPartException

        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._ended:
            raise MultiPartException("the sender has left")
        piece, self._ended = message.get("body", b""), not message.get("more_body", False)
        self._left -= len(piece)
        window = self._tail + piece
        self._marks += window.count(self._mark)
        self._tail = window[1 - len(self._mark) :]
        if self._left < 0:
            self.refusal = too_long(self._limit)
        elif self._marks > FILES + 1:  # the last mark ends the body
            self.refusal = Refusal(413, f"too many files at once: send at most {FILES}")
        if self.refusal:
            raise MultiPartException(self.refusal.line)
        return message


def inside(text: str, folder: Path, mine: Path | None = None) -> bool:
    """Whether a path, as it is written, leads into ``folder`` by its real path: absolute, no "..", no link out of it.

    ``mine`` is one of several folders that lie together in a folder of ``folder``: into the others it does not lead.
    """
    odd = any(ord(letter) < 32 for letter in text) or (os.sep != "\\" and "\\" in text)
    if odd or not os.path.isabs(text) or ".." in text.replace(os.sep, "/").split("/"):
        return False
    try:
        path, root = os.path.realpath(text), os.path.realpath(folder)
    except (OSError, ValueError):
        return False
    if not path.startswith(root + os.sep):
        return False
    parts = path.removeprefix(root + os.sep).split(os.sep)
    # Some file systems take small letters and capitals for the same.
    others = mine is not None and parts[0].casefold() == mine.parent.name and parts[:2] != [mine.parent.name, mine.name]
    return not others


def own(url: str, hosts: Collection[str], folder: Path, mine: Path | None = None) -> bool:
    """Whether an address is this server's own for a file inside ``folder``: without a host, or with one of ``hosts``."""
    for scheme in ("http://", "https://"):
        if url.startswith(scheme):
            host, _, url = url.removeprefix(scheme).partition("/")
            if host.lower() not in hosts:
                return False
            url = f"/{url}"
            break
    if not url.startswith(FILE) or "?" in url or "#" in url:
        return False
    return inside(unquote(url.removeprefix(FILE)), folder, mine)


def checked(data: bytes, hosts: Collection[str], folder: Path, mine: Path | None = None) -> bytes:
    """A JSON body, written anew, so that Gradio reads what was checked here: every file that it names was uploaded.

    Whatever has a path or a url counts as a file. Gradio minds only those that have "meta" too, and fetches their addresses; of
    the others a gr.Image opens whatever picture there is (6.31).
    """
    if sum(data.count(mark) for mark in (b"[", b"{", b",")) > PIECES:
        raise Refusal(413, f"the request has more than {PIECES} pieces: send less at once")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Refusal(400, "the request is not JSON that can be read") from None
    for named in _files(value):
        path, url = named.get("path"), named.get("url")
        # An empty path in a file's object is the server's current folder to Gradio.
        fine = (
            path is None
            or (path == "" and "meta" not in named)
            or (isinstance(path, str) and inside(path, folder, mine))
        )
        fine = fine and (url is None or url == "" or (isinstance(url, str) and own(url, hosts, folder, mine)))
        if not fine:
            raise Refusal(400, f"pictures are uploaded first: POST them to {UPLOAD}")
    return json.dumps(value).encode()


def _files(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value that may be a file to somebody."""
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > DEPTH:
            raise Refusal(400, f"the request is nested too deeply: {DEPTH} levels at most")
        if isinstance(item, dict) and ("path" in item or "url" in item):
            yield item
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        waiting += [(each, depth + 1) for each in inner if isinstance(each, (dict, list))]


async def check_canvas(body: bytes, content_type: str, layers: int) -> None:
    """Refuse what a canvas (gr.ImageEditor) would not send: Gradio makes a list as long as "index" says, whoever says it."""
    from starlette.datastructures import Headers
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(
        Headers({"content-type": content_type}), stream(), max_files=1, max_fields=_FIELDS, max_part_size=_FIELD
    )
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError, LookupError):
        raise Refusal(400, "the request is not one of a canvas") from None
    fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    await form.close()
    for name, value in fields:
        if name == "index" and value not in ("", "null") and not (value.isdecimal() and int(value) < layers):
            raise Refusal(400, f"a canvas has at most {layers} layers")
