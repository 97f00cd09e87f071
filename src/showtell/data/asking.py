"""Asking a model behind an OpenAI-compatible endpoint: a conversation, one answer. Standard library only."""

from __future__ import annotations

import http.client
import json
import threading
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
_LONGEST = 86_400.0
_BLOCK = 65_536


class Refused(ShowtellError):
    """The endpoint refuses every question (a wrong key, model or address): there is no use in asking on."""


class Unanswered(ShowtellError):
    """This question got no answer, after all repetitions."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection would carry the key to another place."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens that were read and written; ``rough`` where the endpoint did not count them and characters / 4 stands for them."""

    read: int = 0
    written: int = 0
    rough: bool = False

    def __add__(self, other: Usage) -> Usage:
        return Usage(read=self.read + other.read, written=self.written + other.written, rough=self.rough or other.rough)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model said, and the tokens that it took."""

    text: str
    usage: Usage


class Pace:
    """Spaces requests of all threads evenly, ``per_minute`` at most: called before each, it returns when that may be sent."""

    def __init__(
        self,
        per_minute: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap, self._clock, self._pause = 60.0 / per_minute, clock, pause
        self._lock, self._next = threading.Lock(), float("-inf")

    def __call__(self) -> None:
        """Wait for this request's turn."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._gap
        if turn > now:
            self._pause(turn - now)


def at_once() -> None:
    """The pace of requests that need not wait."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a model answers: ``POST {url}/chat/completions``.

    ``key`` goes into the Authorization header and nowhere else. ``retries`` repetitions follow on 429, 5xx, a broken connection
    or no answer within ``timeout`` seconds; the pause doubles from ``wait`` seconds, or is what ``Retry-After`` says, at most
    ``MAX_WAIT``. ``options`` go with each question (``temperature``, ``max_tokens``); ``pace`` is called before each request,
    repetitions among them (:class:`Pace`).
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 120.0
    retries: int = 5
    wait: float = 1.0
    pause: Callable[[float], None] = field(default=time.sleep, repr=False, compare=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    pace: Callable[[], None] = field(default=at_once, repr=False, compare=False)

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
        if not 0 < self.timeout <= _LONGEST:
            raise UsageError(f"timeout {self.timeout:g}: give seconds, at most {_LONGEST:g}")
        if not (self.key.isascii() and self.key.isprintable()):
            raise UsageError("the key has characters in it that no header can hold: check the environment variable")

    def ask(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The model's answer to a conversation, as text. Raises ``Refused`` or ``Unanswered``."""
        return self.answer(messages).text

    def answer(self, messages: Sequence[Mapping[str, Any]]) -> Answer:
        """The model's answer to a conversation, and its tokens. Raises ``Refused`` or ``Unanswered``."""
        talk = list(messages)
        data = self._tried("chat/completions", {"model": self.model, "messages": talk, **self.options})
        text = _text(data)
        return Answer(text=text, usage=_usage(data) or Usage(read=tokens(talk), written=tokens(text), rough=True))

    def flagged(self, texts: Sequence[str]) -> str | None:
        """What the endpoint's moderation (``POST {url}/moderations``) has against any of the texts, or None.

        Raises ``Refused``, also where the endpoint has no moderation, or ``Unanswered``.
        """
        return _flags(self._tried("moderations", {"input": list(texts)}))

    def _tried(self, room: str, question: Mapping[str, Any]) -> bytes:
        body = json.dumps(question).encode()
        for attempt in range(self.retries + 1):
            self.pace()
            try:
                return self._post(room, body)
            except _Busy as busy:
                if attempt == self.retries:
                    raise Unanswered(f"{self.url}: {busy} ({attempt + 1} times)") from busy
                wait = self.wait * 2**attempt if busy.after is None else busy.after
                self.pause(min(max(wait, 0.0), MAX_WAIT))
        raise AssertionError("unreachable")

    def _post(self, room: str, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        address = f"{self.url.rstrip('/')}/{room}"
        request = urllib.request.Request(address, data=body, headers=headers, method="POST")
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=self.timeout) as answer:
                data = self._read(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise _status(self.url, error, self.key) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise _Busy(f"no connection ({str(reason) or type(error).__name__})") from error
        if len(data) > MAX_ANSWER:
            raise Unanswered(f"{self.url}: the answer is over {MAX_ANSWER // 2**20} MiB")
        return data

    def _read(self, answer: http.client.HTTPResponse) -> bytes:
        """The body, up to one byte too many. The socket's own timeout begins anew with each byte; this one does not."""
        data, last = b"", time.monotonic() + self.timeout
        while len(data) <= MAX_ANSWER and (block := answer.read1(min(_BLOCK, MAX_ANSWER + 1 - len(data)))):
            data += block
            if time.monotonic() > last:
                raise TimeoutError("timed out")
        return data


class _Busy(Exception):
    """Asking again may help, in ``after`` seconds if that is said."""

    def __init__(self, what: str, after: float | None = None) -> None:
        super().__init__(what)
        self.after = after


def _status(url: str, error: urllib.error.HTTPError, key: str) -> Exception:
    """What a status other than success means. Some endpoints say the key that they refuse: it is not said on."""
    if error.code == 429 or error.code >= 500:
        return _Busy(
            f"the endpoint is busy or broken (status {error.code})", _seconds(error.headers.get("Retry-After"))
        )
    try:
        said = " ".join(error.read(2000).decode("utf-8", "replace").split())
        said = (said.replace(key, "...") if key else said)[:200]
    except (OSError, http.client.HTTPException):
        said = ""
    if 300 <= error.code < 400:
        return Refused(f"{url}: redirects elsewhere (status {error.code}): give the final address")
    if error.code in (401, 402, 403, 404, 405):
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


def _usage(data: bytes) -> Usage | None:
    """The tokens that an answer says it took; None where it says nothing that can be used."""
    told = json.loads(data).get("usage")
    counts = [told.get(key) for key in ("prompt_tokens", "completion_tokens")] if isinstance(told, Mapping) else []
    if len(counts) != 2 or not all(type(count) is int and 0 <= count < 2**53 for count in counts):
        return None
    return Usage(read=counts[0], written=counts[1])


def tokens(said: Any) -> int:
    """Roughly how many tokens a text or a conversation has: characters / 4."""
    if isinstance(said, str):
        return -(-len(said) // 4)
    return sum(tokens(str(message.get("content", ""))) for message in said)


def _flags(data: bytes) -> str | None:
    """The categories that any of a moderation's results names."""
    try:
        results = json.loads(data)["results"]
        bad = [result for result in results if result["flagged"]]
        named = {str(name) for result in bad for name, found in (result.get("categories") or {}).items() if found}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Unanswered("the endpoint's answer is not a moderation") from error
    return ", ".join(sorted(named))[:200] or "flagged" if bad else None
