"""HTTP as it goes over the wire, so that a test may send what no client would; and a server that nobody should ask."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Reply:
    """What came back."""

    status: int
    body: bytes
    headers: dict[str, list[str]] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The body, which must be one line."""
        text = self.body.decode()
        assert text.endswith("\n") and text.count("\n") == 1, text
        return text.strip()


def head(method: str, path: str, headers: dict[str, str]) -> bytes:
    """The first lines of a request; a header that is None is left out."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items() if value is not None)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def ask(
    port: int, path: str, *, method: str = "GET", headers: Any = None, body: bytes = b"", chunked: bool = False
) -> Reply:
    """Send a request as it stands here and read the answer to its end."""
    all_headers = {"Host": f"127.0.0.1:{port}", "Connection": "close", **(headers or {})}
    if chunked:
        all_headers["Transfer-Encoding"] = "chunked"
        pieces = [body[at : at + 8192] for at in range(0, len(body), 8192)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    elif body:
        all_headers.setdefault("Content-Length", str(len(body)))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        with contextlib.suppress(OSError):  # refused before it was read
            wire.sendall(head(method, path, all_headers) + body)
        return reply(wire)


def reply(wire: socket.socket) -> Reply:
    """What is answered until the server closes."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := wire.recv(65536):
            data += piece
    top, _, body = data.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.lower(), []).append(value.strip())
    return Reply(int(first.split()[1]), body, headers)


def post(port: int, path: str, value: Any, **headers: str) -> Reply:
    """POST a JSON value."""
    about = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return ask(port, path, method="POST", headers=about, body=json.dumps(value).encode())


def form(*files: tuple[str, bytes], fields: dict[str, str] | None = None) -> tuple[bytes, dict[str, str]]:
    """A multipart body and its header."""
    parts = [
        f'--cut\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode() + data + b"\r\n"
        for name, data in files
    ]
    for name, value in (fields or {}).items():
        parts.append(f'--cut\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    return b"".join(parts) + b"--cut--\r\n", {"Content-Type": "multipart/form-data; boundary=cut"}


@contextlib.contextmanager
def never_asked(secret: bytes) -> Iterator[int]:
    """A server on this machine (its port) that has a secret, and that must not have been asked for it at the end."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(secret)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
    assert not asked, asked


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Served:
    """A small app behind the guard: ``/go`` tells the path of its picture, ``/count`` tells three numbers, slowly."""

    port: int
    uploads: Path
    blocks: Any
    seen: list[Any]

    def upload(self, name: str, data: bytes) -> str:
        """The path of an uploaded file."""
        body, about = form((name, data))
        answer = ask(self.port, "/gradio_api/upload", method="POST", headers=about, body=body)
        assert answer.status == 200, answer
        return json.loads(answer.body)[0]

    def go(self, value: Any, path: str = "/gradio_api/run/go") -> Reply:
        """What the app says to a picture."""
        return post(self.port, path, {"data": [value]})


@contextlib.contextmanager
def serve(folder: Path, limits: Any, **launch: Any) -> Iterator[Served]:
    """A ``Served`` whose files are in ``folder``."""
    import gradio as gr

    from showtell.app import entry, guard

    seen: list[Any] = []

    def count():
        for number in range(3):
            yield number
            time.sleep(0.3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        with gr.Blocks(analytics_enabled=False) as blocks:
            picture, said, number = gr.Image(type="filepath", image_mode=None), gr.Textbox(), gr.Number(label="number")
            gr.Button("go").click(lambda path: seen.append(path) or str(path), picture, said, api_name="go")
            gr.Button("count").click(count, None, number, api_name="count")
            canvas = gr.ImageEditor(type="pil")
            canvas.change(lambda value: str(value), canvas, said, api_name="canvas")
        port = free_port()
        given = guard.guarded(blocks, limits, entry.hosts_for("127.0.0.1", False), lambda: folder)
        blocks.launch(prevent_thread_lock=True, quiet=True, server_port=port, **given, **launch)
        try:
            yield Served(port, folder, blocks, seen)
        finally:
            blocks.close(verbose=False)
