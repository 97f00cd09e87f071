"""A chat endpoint on a socket of its own that answers what a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD = {
    "instructions": [
        {"text": "make the house blue", "keyword": "house"},
        {"text": "replace the tree with a lamp", "keyword": "tree"},
    ],
    "source_caption": "a house beside a tree",
    "target_caption": "a blue house beside a lamp",
}


@dataclass(frozen=True)
class Reply:
    """A status other than 200, with headers; or, where there is no status, a connection that breaks off. ``slow`` seconds pass
    before each byte of the body.
    """

    status: int | None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"no"
    slow: float = 0.0


@dataclass
class Fake:
    """What was asked, and where. ``answers`` gives, to each question, the model's words, a raw body, or a ``Reply``."""

    url: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def served(answers: Callable[[int], str | bytes | Reply]) -> Iterator[Fake]:
    """An endpoint for the length of a block; ``answers(n)`` is what its n-th question gets."""
    fake = Fake("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with fake.lock:
                number = len(fake.asked)
                fake.asked.append(json.loads(body))
                fake.paths.append(self.path)
                fake.keys.append(self.headers.get("Authorization"))
            answer, slow = answers(number), 0.0
            if isinstance(answer, Reply):
                slow = answer.slow
            if isinstance(answer, Reply):
                if answer.status is None:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                data = answer.body
            else:
                self.send_response(200)
                data = answer
                if isinstance(answer, str):
                    data = json.dumps({"choices": [{"message": {"role": "assistant", "content": answer}}]}).encode()
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            for part in [data[n : n + 1] for n in range(len(data))] if slow else [data]:
                time.sleep(slow)
                self.wfile.write(part)
                self.wfile.flush()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
