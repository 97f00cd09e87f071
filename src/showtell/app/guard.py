"""What stands in front of Gradio: by which name, from where, what, how much and for which files may be asked.

``guarded`` puts it there. A request that is refused gets a status and one plain line, and no code of Gradio's sees it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import bodies
from .accounts import Accounts, is_open, part_of
from .bodies import FILE, UPLOAD, Gone, Message, Meter, Receive, Refusal
from .limits import Limits
from .plainly import speak_plainly

Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

_API = "/gradio_api/"
_CANVAS = f"{_API}component_server"
# What the studio's page and its API need of all that gradio/routes.py has (6.31). Left out, and so not there, are: proxy= (asks
# other servers), file/ (an old spelling of file=), stream/ and process_recording (sound and film), custom_component/ (files of
# packages), deep_link, token, run-history and runs (keep a visitor's work elsewhere), monitoring, profiling, pwa_icon, dev/,
# vibe-* (rewrite the app's own source), mcp, and FastAPI's own /openapi.json.
_GET = {
    "/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/logout",
    *(_API + name for name in (
        "user", "login_check", "app_id", "info", "openapi.json", "startup-events", "theme.css", "queue/data", "queue/status",
        "upload_progress",
    )),
}  # fmt: skip
_GET_BELOW = ("/assets/", "/static/", "/svelte/", f"{_API}heartbeat/", f"{_API}call/", FILE)
_POST = {"/login", f"{_API}queue/join", f"{_API}cancel", f"{_API}reset", UPLOAD, _CANVAS}
_POST_BELOW = (f"{_API}call/", f"{_API}run/", f"{_API}api/")

_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"SAMEORIGIN",
    # Gradio's page runs scripts that stand in it and makes functions of texts.
    b"content-security-policy": b"default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    b"script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; connect-src 'self'; font-src 'self' data:; worker-src 'self' blob:; "
    b"frame-src 'none'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
}
_FILE_HEADERS = {
    **_HEADERS,
    b"content-security-policy": b"sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    b"cache-control": b"private",
}
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_FORWARDED = (b"x-forwarded-host", b"x-gradio-server")
# Where what a request uploads is kept, if not with everybody's.
_uploads_to: ContextVar[Path | None] = ContextVar("uploads_to", default=None)
#: Layers of a canvas, far above what the studio offers.
_LAYERS = 16


class Guard:
    """ASGI middleware around Gradio's app. ``hosts`` are the names it goes by, ("*",) any; ``uploads`` the folder of its files.

    ``pages`` are the further pages of the app, ``accounts`` those who may come in. Whatever is no HTTP request passes.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        *,
        limits: Limits,
        hosts: tuple[str, ...],
        uploads: Callable[[], Path],
        pages: Iterable[str] = (),
        accounts: Accounts | None = None,
    ) -> None:
        self.app, self.limits, self.uploads, self.accounts = app, limits, uploads, accounts
        self.hosts = {f"[{host}]" if host.count(":") > 1 and host[0] != "[" else host for host in map(str.lower, hosts)}
        self.pages = {f"/{page.strip('/')}" for page in pages}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send, of_file=scope["path"].startswith(FILE))
        try:
            names = self._names(scope)
            mine = self._mine(scope)
            self._check_path(scope["method"], scope["path"], mine)
            scope, receive = await self._body(self._plain(scope), receive, names, mine)
            answer.meter = receive if isinstance(receive, Meter) else None
            if answer.meter is not None:
                _uploads_to.set(mine)
            await self.app(scope, receive, answer)
        except Refusal as refusal:
            await answer.refuse(refusal)
        except Gone:
            return
        except Exception:
            if answer.meter is None or answer.meter.refusal is None:
                raise
        if answer.meter is not None and answer.meter.refusal is not None:
            await answer.refuse(answer.meter.refusal)

    def _names(self, scope: Scope) -> set[str]:
        """What this request calls the server, once it is known to go by that name and no other site's page asks."""
        told = _values(scope, b"host")
        match = _HOST.fullmatch(told[0].lower()) if len(told) == 1 else None
        if match is None:
            raise Refusal(400, "the request must say, once, which host it is for")
        if "*" not in self.hosts and match[1] not in self.hosts:
            raise Refusal(421, "this server does not go by that name: use the address that it printed at its start")
        names = {match[0]}
        if "*" in self.hosts:  # behind a tunnel or a proxy, whose word a page of another site cannot put in its mouth
            names |= {value.split(",")[0].strip().lower() for value in _values(scope, b"x-forwarded-host")}
        origins = [value.lower() for value in _values(scope, b"origin")]
        cross = any(not _same(origin, names) for origin in origins)
        if scope["method"] not in ("GET", "HEAD"):
            cross = cross or any(value in ("cross-site", "same-site") for value in _values(scope, b"sec-fetch-site"))
        if cross:
            raise Refusal(403, "another site's page may not ask for this")
        return names

    def _mine(self, scope: Scope) -> Path | None:
        """The folder of whoever asks, in that of the uploads; None where there are no accounts, or for who is still to log in."""
        if self.accounts is None or not self.accounts.needed:
            return None
        user = self.accounts.user(scope)
        if user is None and not is_open(scope["path"]):
            raise Refusal(401, "this studio has accounts: log in first")
        return None if user is None else part_of(self.uploads(), user)

    def _check_path(self, method: str, path: str, mine: Path | None) -> None:
        """Refuse what is not on the lists above, and files elsewhere."""
        if method not in ("GET", "HEAD", "POST"):
            raise Refusal(405, "only GET, HEAD and POST are understood")
        exact, below = (_POST, _POST_BELOW) if method == "POST" else (_GET | self.pages, _GET_BELOW)
        bare = path[:-1] if len(path) > 1 and path.endswith("/") else path
        there = bare in exact or any(path.startswith(start) and path != start for start in below)
        if there and path.startswith(FILE):
            there = bodies.inside(path.removeprefix(FILE), self.uploads(), mine)
        if not there or "\\" in path or ".." in path.split("/") or any(ord(letter) < 32 for letter in path):
            raise Refusal(404, "there is nothing here")

    def _plain(self, scope: Scope) -> Scope:
        """The request without headers that Gradio need not believe: what a proxy is called, and, for files, ranges of bytes."""
        dropped = set() if "*" in self.hosts else set(_FORWARDED)
        if scope["path"].startswith(FILE):
            dropped.add(b"range")  # Gradio answers one with the request's own headers, cookies and all (6.31)
        return {**scope, "headers": [pair for pair in scope["headers"] if pair[0].lower() not in dropped]}

    async def _body(self, scope: Scope, receive: Receive, names: set[str], mine: Path | None) -> tuple[Scope, Receive]:
        """The request with a body that was looked at, or that is counted while it is read."""
        path = scope["path"].removesuffix("/")
        kind = next(iter(_values(scope, b"content-type")), "")
        canvas = path == _CANVAS and kind.startswith("multipart/form-data")  # as Gradio tells them apart
        sizes = {UPLOAD: 2 * self.limits.upload_bytes, _CANVAS: self.limits.upload_bytes + 2**20}
        limit = sizes[path] if canvas or path == UPLOAD else self.limits.json_bytes
        if any(not length.isdecimal() or int(length[:20]) > limit for length in _values(scope, b"content-length")):
            raise bodies.too_long(limit)
        if path == UPLOAD:
            return scope, Meter(receive, limit, kind)
        if scope["method"] != "POST":
            return scope, receive
        data = await bodies.read(receive, limit)
        if canvas:
            await bodies.check_canvas(data, kind, _LAYERS)
        elif path != "/login":
            data = await asyncio.to_thread(bodies.checked, data, names, self.uploads(), mine)
            kept = [
                pair for pair in scope["headers"] if pair[0].lower() not in (b"content-length", b"transfer-encoding")
            ]
            scope = {**scope, "headers": [*kept, (b"content-length", str(len(data)).encode())]}
        return scope, bodies.replayed(data, receive)


class _Answer:
    """Sends what Gradio answers, piece by piece, under the guard's headers; or a refusal, unless an answer has begun."""

    def __init__(self, send: Send, *, of_file: bool) -> None:
        self._send, self._headers, self._begun = send, _FILE_HEADERS if of_file else _HEADERS, False
        self.meter: Meter | None = None

    async def __call__(self, message: Message) -> None:
        if self.meter is not None and self.meter.refusal is not None and not self._begun:
            return  # Gradio's own words for a body that it was told is broken
        if message["type"] == "http.response.start":
            self._begun = True
            kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in self._headers]
            message = {**message, "headers": [*kept, *self._headers.items()]}
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        if self._begun:
            return
        self.meter = None
        line = f"{refusal.line}\n".encode()
        about = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(line)).encode())]
        await self({"type": "http.response.start", "status": refusal.status, "headers": about})
        await self({"type": "http.response.body", "body": line})


class _Blobs(OrderedDict[str, Any]):
    """What canvases have sent and nobody has used yet: the oldest goes, where Gradio would keep all (6.31)."""

    most = 64

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        while len(self) > self.most:
            with contextlib.suppress(KeyError):  # another thread was quicker
                self.popitem(last=False)


def guarded(blocks: Any, limits: Limits, hosts: tuple[str, ...], uploads: Callable[[], Path]) -> dict[str, Any]:
    """What ``blocks.launch`` is to be given so that the guard is outermost from the first request on, and nothing goes around it.

    ``uploads`` must tell Gradio's own folder (GRADIO_TEMP_DIR, set before ``blocks`` is made).
    """
    from gradio.routes import App, ORJSONResponse

    pages = [page[0] for page in blocks.pages if page[0]]

    class Guarded(App):
        def build_middleware_stack(self) -> Any:
            # Around all of it: middleware that an app is given stands behind Gradio's own and the one that answers errors.
            inner = super().build_middleware_stack()
            return Guard(inner, limits=limits, hosts=hosts, uploads=uploads, pages=pages, accounts=Accounts(self))

        @property
        def uploaded_file_dir(self) -> str:
            return str(_uploads_to.get() or uploads())

        @uploaded_file_dir.setter
        def uploaded_file_dir(self, folder: str) -> None:
            pass

    for block in blocks.blocks.values():
        if hasattr(block, "blob_storage"):
            block.blob_storage = _Blobs()
    app = Guarded(default_response_class=ORJSONResponse)
    speak_plainly(blocks, app)
    return {
        "_app": app,
        # Other servers beside or before this one, which would not be guarded, and what the lists above leave out.
        "ssr_mode": False, "num_workers": 0, "mcp_server": False, "enable_monitoring": False, "run_history": False, "pwa": False,
        "root_path": "", "strict_cors": True,
        "max_file_size": limits.upload_bytes, "state_session_capacity": limits.sessions,
    }  # fmt: skip


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key.lower() == name]


def _same(origin: str, names: set[str]) -> bool:
    """Whether an Origin is one of the hosts ``names``; a scheme's usual port may be left out."""
    try:
        parts = urlsplit(origin)
        usual = {"http": ":80", "https": ":443"}.get(parts.scheme)
    except ValueError:
        return False
    return usual is not None and parts.netloc.removesuffix(usual) in {name.removesuffix(usual) for name in names}
