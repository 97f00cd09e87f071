"""Starting and stopping the server."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ShowtellWarning, UsageError
from ..work.alone import alone
from . import entry
from .limits import Limits

#: Ports that are tried where none is asked for.
PORTS = range(7860, 7960)
_SCRATCH = "showtell-studio-"
#: Seconds that a step at hand has at the end.
_PATIENCE = 10.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the studio is to be served. ``home`` keeps the libraries; ``port`` None takes the first free one of ``PORTS``."""

    model: str = "starter"
    base: str | None = None
    device: str = "auto"
    dtype: str | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    share: bool = False
    accounts: Sequence[tuple[str, str]] = ()
    home: Path = field(default_factory=lambda: default_home())
    limits: Limits = field(default_factory=Limits)


def default_home() -> Path:
    """Where learned edits stay: $SHOWTELL_HOME, else the user's data folder."""
    told = os.environ.get("SHOWTELL_HOME")
    if told:
        return Path(told) / "studio"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "showtell" / "studio"


def check(settings: Settings) -> int:
    """The port, where everything that can be wrong before a model is loaded is right. Raises ``UsageError``."""
    entry.check_reach(settings.host, settings.share, settings.accounts)
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise UsageError("the studio needs Gradio: install it with pip install 'showtell[app]'") from error
    return _free_port(settings)


@contextlib.contextmanager
def served(settings: Settings) -> Iterator[str]:
    """Serve the studio while the block runs; yields its address. What visitors made is gone afterwards, libraries stay.

    Raises ``UsageError`` for a port or a host that cannot be had, ``ModelError``.
    """
    port = check(settings)
    with _scratch() as scratch:
        os.environ |= {
            "GRADIO_TEMP_DIR": str(scratch),
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_ANALYTICS_MAX_EVENTS": "100",  # kept, and made a table of, at every request
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        from .page.layout import page
        from .studio import Studio
        from .workshop import Workshop

        warnings.simplefilter("ignore", ShowtellWarning)  # what a visitor must know is said on the page
        workshop = Workshop(settings.model, other=settings.base, device=settings.device, dtype=settings.dtype)
        studio = Studio(workshop, limits=settings.limits, home=settings.home, scratch=scratch)
        blocks = page(studio)
        blocks.queue(max_size=settings.limits.queue, default_concurrency_limit=4, api_open=False)
        try:
            yield _launched(blocks, settings, port, scratch)
        finally:
            studio.sessions.close()
            blocks.close(verbose=False)
            workshop.rest(_PATIENCE)


def _launched(blocks: Any, settings: Settings, port: int, scratch: Path) -> str:
    """Open the doors; the address."""
    from .guard import guarded
    from .page.layout import dressed

    hosts = entry.hosts_for(settings.host, settings.share)
    try:
        _, local, shared = blocks.launch(
            server_name=f"[{settings.host}]" if ":" in settings.host else settings.host, server_port=port,
            share=settings.share, auth=list(settings.accounts) or None, auth_message="showtell studio",
            prevent_thread_lock=True, quiet=True, inbrowser=False, show_error=True, footer_links=["api"], allowed_paths=[],
            **dressed(), **guarded(blocks, settings.limits, hosts, lambda: scratch),
        )  # fmt: skip
    except OSError as error:
        raise UsageError(f"--host {settings.host} --port {port}: cannot be served there ({error})") from error
    return shared or local


def wait() -> None:
    """Until Ctrl-C or SIGTERM."""
    import signal

    stop = threading.Event()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with contextlib.suppress(KeyboardInterrupt):
        while not stop.wait(0.5):
            pass


def _free_port(settings: Settings) -> int:
    host = "" if settings.host in ("0.0.0.0", "::") else settings.host
    for port in (settings.port,) if settings.port is not None else PORTS:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except (OSError, OverflowError) as error:
                taken = getattr(error, "errno", None) in (errno.EADDRINUSE, errno.EACCES)
                if settings.port is not None or not taken:
                    raise UsageError(
                        f"--host {settings.host} --port {port}: cannot be served there ({error})"
                    ) from error
                continue
            return probe.getsockname()[1]
    raise UsageError(f"no port from {PORTS.start} to {PORTS.stop - 1} is free: choose another with --port")


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for what visitors make, gone afterwards; those that killed servers left are removed."""
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"{_SCRATCH}*"):
        with contextlib.suppress(Exception), alone(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_SCRATCH))
    try:
        with alone(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
