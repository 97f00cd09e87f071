"""A hub on this machine: what the client of the Hugging Face hub asks of it when a folder is pushed."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hub:
    """``files``: what was committed, by name. ``asked``: method and path of each request; ``told``: the JSON of new repositories.
    ``refuses``: the status that commits are answered with, if not 200.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    told: list[dict] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    refuses: int = 0


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """A hub at ``hub.address`` that takes small files whole, in the commit."""
    hub = Hub()

    class Answers(BaseHTTPRequestHandler):
        def log_message(self, *args) -> None:
            """Say nothing."""

        def do_GET(self) -> None:  # noqa: N802
            self._note()
            self._answer({"sha": "0" * 40, "siblings": []})

        def do_POST(self) -> None:  # noqa: N802
            self._note()
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or self._chunks()
            if self.path == "/api/repos/create":
                hub.told.append(json.loads(body))
                self._answer({"url": f"{hub.address}/someone/{hub.told[-1]['name']}", "id": "someone/watercolours"})
            elif self.path == "/api/validate-yaml":
                self._answer({"warnings": [], "errors": []})
            elif "/preupload/" in self.path:
                asked = json.loads(body)["files"]
                self._answer(
                    {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
                )
            elif "/commit/" in self.path and not hub.refuses:
                for line in body.splitlines():
                    value = json.loads(line)
                    if value["key"] == "file":
                        hub.files[value["value"]["path"]] = base64.b64decode(value["value"]["content"])
                self._answer({"commitUrl": f"{hub.address}/someone/x/commit/1", "commitOid": "1" * 40, "success": True})
            else:
                self._answer({"error": "no"}, hub.refuses or 404)

        def _chunks(self) -> bytes:
            found = b""
            while self.headers.get("Transfer-Encoding") == "chunked" and (
                size := int(self.rfile.readline().strip() or b"0", 16)
            ):
                found += self.rfile.read(size)
                self.rfile.readline()
            return found

        def _note(self) -> None:
            hub.asked.append(f"{self.command} {self.path.split('?')[0]}")
            hub.tokens.add(self.headers.get("Authorization", ""))

        def _answer(self, told: dict, status: int = 200) -> None:
            text = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
