"""Asking a model behind an OpenAI-compatible endpoint: one picture, some words, one answer. Standard library only."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ShowtellError, UsageError

MAX_ANSWER = 4 * 1024 * 1024
"""Largest answer that is read, in bytes."""
MAX_WAIT = 60.0
"""Longest pause before asking again, in seconds, whatever the endpoint asks for."""


class Refused(ShowtellError):
    """The endpoint refuses every question (a wrong key, model or address): there is no use in asking on."""


class Unanswered(ShowtellError):
    """This question got no answer, after all repetitions."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection would carry the key to another place."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a model answers: ``POST {url}/chat/completions``.

    ``key`` goes into the Authorization header and nowhere else. ``retries`` repetitions follow on 429, 5xx, a broken connection
    or no answer within ``timeout`` seconds; the pause doubles from ``wait`` seconds, or is what ``Retry-After`` says, at most
    ``MAX_WAIT``.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 120.0
    retries: int = 5
    wait: float = 1.0
    pause: Callable[[float], None] = field(default=time.sleep, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ``UsageError`` for what is no http or https address, one with a key in it, or a key that no header can hold."""
        try:
            parts = urllib.parse.urlsplit(self.url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if good and ("@" in parts.netloc or set("?#") & set(self.url)):
            raise UsageError(
                f"endpoint {parts.scheme}://{parts.hostname}: give the address alone, without name, password, ? or #; a key goes "
                "into the environment variable"
            )
        if not good or not self.url.isascii() or not self.url.isprintable() or " " in self.url:
            raise UsageError(f"endpoint {self.url!r}: give an http or https address, such as http://localhost:8000/v1")
        if not (self.key.isascii() and self.key.isprintable()):
            raise UsageError("the key has characters in it that no header can hold: check the environment variable")

    def ask(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The model's answer to a conversation, as text. Raises ``Refused`` or ``Unanswered``."""
        body = json.dumps({"model": self.model, "messages": list(messages)}).encode()
        for attempt in range(self.retries + 1):
            try:
                return _text(self._post(body))
            except _Busy as busy:
                if attempt == self.retries:
                    raise Unanswered(f"{self.url}: {busy} ({attempt + 1} times)") from busy
                wait = self.wait * 2**attempt if busy.after is None else busy.after
                self.pause(min(max(wait, 0.0), MAX_WAIT))
        raise AssertionError("unreachable")

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        address = f"{self.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, data=body, headers=headers, method="POST")
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=self.timeout) as answer:
                data = answer.read(MAX_ANSWER + 1)
        except urllib.error.HTTPError as error:
            with error:
                raise _status(self.url, error) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise _Busy(f"no connection ({str(reason) or type(error).__name__})") from error
        if len(data) > MAX_ANSWER:
            raise Unanswered(f"{self.url}: the answer is over {MAX_ANSWER // 2**20} MiB")
        return data


class _Busy(Exception):
    """Asking again may help, in ``after`` seconds if that is said."""

    def __init__(self, what: str, after: float | None = None) -> None:
        super().__init__(what)
        self.after = after


def _status(url: str, error: urllib.error.HTTPError) -> Exception:
    """What a status other than success means."""
    if error.code == 429 or error.code >= 500:
        return _Busy(
            f"the endpoint is busy or broken (status {error.code})", _seconds(error.headers.get("Retry-After"))
        )
    try:
        said = " ".join(error.read(2000).decode("utf-8", "replace").split())[:200]
    except (OSError, http.client.HTTPException):
        said = ""
    if 300 <= error.code < 400:
        return Refused(f"{url}: redirects elsewhere (status {error.code}): give the final address")
    if error.code in (401, 403, 404, 405):
        return Refused(f"{url}: refused (status {error.code}: {said}): check the address, --model and the key")
    return Unanswered(f"{url}: the question was refused (status {error.code}: {said})")


def _seconds(text: str | None) -> float | None:
    """``Retry-After`` in seconds; dates are left to our own pauses."""
    try:
        seconds = float(text) if text is not None else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < float("inf") else None


def _text(data: bytes) -> str:
    """What the first choice of an answer says."""
    try:
        content = json.loads(data)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise Unanswered("the endpoint's answer is not a chat completion") from error
    if isinstance(content, list):  # some give parts
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    if not isinstance(content, str) or not content.strip():
        raise Unanswered("the endpoint's answer is empty")
    return content
