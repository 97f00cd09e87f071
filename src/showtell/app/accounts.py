"""Whose a request is, where the studio has accounts, and which of the files that visitors make are whose."""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

#: The folder of folders that are each of one account.
OF = "of"
# What a login page needs, and what Gradio asks itself at its start. All else takes an account, also what Gradio would give to
# anybody (6.31): /cancel, /heartbeat, /user, /app_id, /queue/status.
_OPEN = {
    "/", "/login", "/logout", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt",
    "/gradio_api/startup-events",
}  # fmt: skip
_OPEN_BELOW = ("/assets/", "/static/", "/svelte/")


def part_of(folder: Path, user: str | None) -> Path:
    """The part of ``folder`` for what one account uploads and makes; where there are none, everybody has the same."""
    return folder / OF / hashlib.sha256((user or "").encode()).hexdigest()[:24]


class Accounts:
    """The accounts of Gradio's ``app``: who is logged in."""

    def __init__(self, app: Any) -> None:
        self._app = app

    @property
    def needed(self) -> bool:
        """Whether the studio has accounts; it is known once it has been launched."""
        return self._app.auth is not None

    def user(self, scope: MutableMapping[str, Any]) -> str | None:
        """Who asks, by the cookie that the login gave."""
        from starlette.requests import HTTPConnection

        cookies = HTTPConnection(scope).cookies
        names = (f"access-token-{self._app.cookie_id}", f"access-token-unsecure-{self._app.cookie_id}")
        return next((self._app.tokens.get(cookies[name]) for name in names if name in cookies), None)


def is_open(path: str) -> bool:
    """Whether there is something here for whoever has not logged in."""
    bare = path[:-1] if len(path) > 1 and path.endswith("/") else path
    return bare in _OPEN or path.startswith(_OPEN_BELOW)
