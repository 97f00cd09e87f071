"""Asking a studio as programs do, by plain HTTP: an endpoint by its name, or a handler of the page by its number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

TIMEOUT = 60


class Refused(Exception):
    """What an endpoint says instead of an answer."""


def start(http: httpx.Client, name: str, data: list[Any] | dict[str, Any]) -> str:
    """Begin a request, its parameters in a list or by their names; the id of its event."""
    named = isinstance(data, dict)
    url = f"/gradio_api/call/{'v2/' if named else ''}{name}"
    answer = http.post(url, content=json.dumps(data if named else {"data": data}), headers=JSON)
    if answer.status_code != 200:
        raise Refused(line_of(answer))
    return answer.json()["event_id"]


JSON = {"content-type": "application/json"}


def line_of(answer: httpx.Response) -> str:
    """What a refusal says."""
    try:
        told = answer.json()
    except ValueError:
        return answer.text.strip()
    return str(told.get("detail", told.get("error", told)))


def events(http: httpx.Client, name: str, event: str) -> Iterator[tuple[str, Any]]:
    """The stream of a request: (what, data)."""
    with http.stream("GET", f"/gradio_api/call/{name}/{event}", timeout=TIMEOUT) as stream:
        what = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                what = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield what, json.loads(line.removeprefix("data: "))


def ask(http: httpx.Client, name: str, data: list[Any] | dict[str, Any]) -> list[Any]:
    """What an endpoint answers. Raises ``Refused`` with its line."""
    for what, told in events(http, name, start(http, name, data)):
        if what == "complete":
            return told
        if what == "error":
            raise Refused(told["error"] if isinstance(told, dict) else str(told))
    raise Refused("the stream ended without an answer")


def refusal(http: httpx.Client, name: str, data: list[Any] | dict[str, Any]) -> str:
    """The line that refuses a request; an error if it is answered."""
    try:
        answer = ask(http, name, data)
    except Refused as refused:
        return str(refused)
    raise AssertionError(f"it was answered: {answer!r:.300}")
