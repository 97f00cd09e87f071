"""A studio that runs: `showtell app` in a process of its own, on a free port, with a library in a folder of the test's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx


@dataclass(kw_only=True)
class Running:
    """A studio: its ``address``, its ``process``, and the ``folder`` of its library."""

    address: str
    process: subprocess.Popen[str]
    folder: Path
    said: list[str] = field(default_factory=list)

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=30)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """A plain request."""
        return httpx.get(f"{self.address}{path}", timeout=30, **options)

    def memory(self) -> int:
        """Bytes that the process has in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


@contextlib.contextmanager
def running(
    folder: Path, *arguments: str, starters: Path | None = None, env: dict[str, str] | None = None
) -> Iterator[Running]:
    """Start a studio and end it; ``arguments`` are further ones of `showtell app`. Raises ``RuntimeError`` if it cannot."""
    command = [sys.executable, "-m", "showtell.cli", "app", "--no-browser", "--json", "--library", str(folder)]
    command += ["--port", "0", *arguments] if "--port" not in arguments else arguments
    told = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **(env or {})}
    if starters is not None:
        told["SHOWTELL_STARTERS"] = str(starters)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=told)
    errors: list[str] = []
    reader = threading.Thread(target=_read, args=(process.stderr, errors), daemon=True)
    reader.start()
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        address = json.loads(line)["url"].rstrip("/")
    except ValueError:
        process.kill()
        process.wait(timeout=30)
        reader.join(timeout=5)
        raise RuntimeError(f"the studio did not start: {line}{''.join(errors)}") from None
    try:
        yield Running(address=address, process=process, folder=folder, said=errors)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=15)
        process.kill()
        process.stdout.close()


def _read(stream: Any, lines: list[str]) -> None:
    for line in stream:
        lines.append(line)


def upload(address: str, files: Sequence[Path], **options: Any) -> list[dict[str, Any]]:
    """Files as the endpoints take them."""
    opened = [("files", (file.name, file.read_bytes())) for file in files]
    answer = httpx.post(f"{address}/gradio_api/upload", files=opened, timeout=30, **options)
    answer.raise_for_status()
    return [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in answer.json()]
