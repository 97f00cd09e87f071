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


class Page:
    """The studio's page without a browser: its controls by their ids, and what pressing them changes."""

    def __init__(self, http: httpx.Client, session: str) -> None:
        self.http, self.session = http, session
        config = http.get("/config").raise_for_status().json()
        self.names = {each["id"]: each["props"].get("elem_id") for each in config["components"]}
        self.values = {each["id"]: each["props"].get("value") for each in config["components"]}
        self.handlers = [each for each in config["dependencies"] if each["backend_fn"]]

    def set(self, **values: Any) -> None:
        """What somebody would type or drop; dashes in ids are written as _."""
        for number, name in self.names.items():
            if name is not None and name.replace("-", "_") in values:
                self.values[number] = values[name.replace("-", "_")]

    def do(self, name: str, event: str = "click", *, of: Any = None) -> dict[str, Any]:
        """What happens at an event, and what happens after that: id of a control -> all its values, one after the other."""
        found: dict[str, Any] = {}
        for control, value in self.seen(name, event, of=of):
            found.setdefault(control, []).append(value)
        return found

    def seen(self, name: str, event: str = "click", *, of: Any = None) -> Iterator[tuple[str, Any]]:
        """The same, as it happens."""
        [target] = [number for number, other in self.names.items() if other == name]
        waiting = [each for each in self.handlers if [target, event] in each["targets"]]
        while waiting:
            handler = waiting.pop(0)
            for values in self._run(handler, of):
                for number, value in zip(handler["outputs"], values, strict=True):
                    if value != {"__type__": "update"}:
                        yield self.names[number] or str(number), value
            follow = [each for each in self.handlers if each.get("trigger_after") == handler["id"]]
            waiting += [each for each in follow if not each["trigger_only_on_failure"]]

    def _run(self, handler: dict[str, Any], of: Any) -> Iterator[list[Any]]:
        body = {
            "data": [self.values.get(each) for each in handler["inputs"]], "fn_index": handler["id"],
            "session_hash": self.session, "event_data": of, "trigger_id": None,
        }  # fmt: skip
        answer = self.http.post("/gradio_api/queue/join", content=json.dumps(body), headers=JSON)
        if answer.status_code != 200:
            raise Refused(line_of(answer))
        for told in messages(self.http, self.session):
            if told["msg"] in ("process_generating", "process_completed"):
                if not told["success"]:
                    raise Refused(told["output"]["error"])
                yield told["output"]["data"]


def messages(http: httpx.Client, session: str) -> Iterator[dict[str, Any]]:
    """What a session is told, until there is nothing more to tell."""
    with http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}, timeout=TIMEOUT) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))
