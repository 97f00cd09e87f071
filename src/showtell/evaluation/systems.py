"""Systems: ways to make a picture out of a row, which an evaluation compares."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .. import methods
from ..errors import MethodError, UsageError
from ..methods.outside import Called

#: Systems beside the methods: what they do, and the kind of model that they take ("" for none).
SPECIAL: dict[str, str] = {
    "sequential": "instruct",
    "visii": "instruct",
    "reconstruct-ddim": "base",
    "reconstruct-nti": "base",
    "reconstruct-pti": "base",
    "autoencoder": "base",
    "input": "",
    "truth": "",
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,79}")
"""What a system may be called: it is the name of a folder."""


@dataclass(frozen=True, kw_only=True)
class System:
    """One way to make the pictures: a ``method`` with its ``settings``, under a ``name`` that is safe as a folder's.

    ``method`` is a method's name, also of another package, or one of ``SPECIAL``: ``sequential`` (InstructPix2Pix, one
    instruction after the other), ``visii`` (learns from the pair that shows the edit, and repeats it), ``reconstruct-…`` (the
    picture inverted and sampled back), ``autoencoder``, ``input`` and ``truth`` (the bounds). ``model`` takes the place of the
    evaluation's model for this system alone. ``curve`` is the line of a trade-off curve that it belongs to, and ``at`` the
    setting, name and value, that makes its point there.
    """

    name: str
    method: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    curve: str = ""
    at: tuple[str, Any] | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise UsageError(f"system {self.name!r:.100}: its name is of letters, digits and ._=-, at most 80")
        object.__setattr__(self, "method", self.method or self.name)
        object.__setattr__(self, "curve", self.curve or self.name)
        object.__setattr__(self, "settings", json.loads(json.dumps(dict(self.settings))))

    @property
    def kind(self) -> str:
        """The kind of model that it takes: ``instruct``, ``base``, or "" for none. Raises ``MethodError`` if it is not known."""
        if self.method in SPECIAL:
            return SPECIAL[self.method]
        return self.value.kinds[0]

    @cached_property
    def value(self) -> Any:
        """The method as a value; InstructPix2Pix for those of ``SPECIAL`` that edit with it, None for the others."""
        if self.method in ("sequential", "visii"):
            return methods.resolve("ip2p")
        return None if self.method in SPECIAL else methods.resolve(self.method)

    @property
    def outside(self) -> bool:
        """Whether another package's code makes its pictures."""
        return self.method not in SPECIAL and self.method not in methods.METHODS

    def check(self) -> None:
        """Raise ``MethodError`` or ``UsageError`` for a method that is not known, or settings that it does not have."""
        if self.method not in (*SPECIAL, *methods.names()):
            known = ", ".join((*methods.names(), *SPECIAL))
            raise UsageError(f"system {self.name!r}: method {self.method!r} is not known: choose from {known}")
        if self.method in ("input", "truth", "autoencoder") and self.settings:
            raise MethodError(f"system {self.name!r}: {self.method} has no settings")
        if (value := self.value) is not None:
            own, _ = parted(self)
            methods.settle(value, given=own, card={})

    def described(self, model: Mapping[str, str] | None) -> dict[str, Any]:
        """As ``evaluation.json`` has it; ``model`` says what made its pictures."""
        at = None if self.at is None else {"name": self.at[0], "value": self.at[1]}
        return {
            "name": self.name, "method": self.method, "settings": dict(self.settings), "model": model, "curve": self.curve,
            "at": at,
        }  # fmt: skip


def parted(system: System) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the editing, and for ``visii`` those of the learning, which are all that editing does not have."""
    value = system.value
    if value is None or system.method != "visii":
        return dict(system.settings), {}
    editing = {f.name for f in dataclasses.fields(value)} | {"noise"}
    own = {name: told for name, told in system.settings.items() if name in editing and name != "noise"}
    return own, {name: told for name, told in system.settings.items() if name not in editing}


def needs_model(system: System) -> bool:
    """Whether a model makes its pictures: not for the bounds, and not for a function of another package."""
    return system.kind != "" and not isinstance(system.value, Called)


def named(text: str) -> list[System]:
    """Systems of a list such as ``ip2p,foi,pti``. Raises ``UsageError``, ``MethodError``."""
    found = [System(name=name.strip()) for name in text.split(",") if name.strip()]
    for system in found:
        system.check()
    return found


def spec(text: str) -> System:
    """A system of a text such as ``wide=foi,gamma=0,tau=0.3`` or ``magicbrush=ip2p@folder``. Raises ``UsageError``."""
    name, found, rest = text.partition("=")
    if not found or not rest:
        raise UsageError(f"system {text!r:.100}: write it as NAME=METHOD[@MODEL][,SETTING=VALUE...]")
    head, *settings = rest.split(",")
    method, _, model = head.partition("@")
    system = System(
        name=name.strip(), method=method.strip(), model=model.strip() or None,
        settings=dict(_setting(one, text) for one in settings),
    )  # fmt: skip
    system.check()
    return system


def swept(text: str) -> list[System]:
    """The systems of a sweep such as ``foi.guidance_scale=1.5,2,3``: one a value, on one curve. Raises ``UsageError``."""
    head, found, values = text.partition("=")
    method, dot, setting = head.strip().rpartition(".")
    if not (found and dot and values.strip()):
        raise UsageError(f"sweep {text!r:.100}: write it as METHOD.SETTING=VALUE,VALUE,...")
    systems = [
        System(
            name=f"{method}-{setting}={one.strip()}", method=method, settings={setting: read(one.strip())}, curve=method,
            at=(setting, read(one.strip())),
        )
        for one in values.split(",")
    ]  # fmt: skip
    for system in systems:
        system.check()
    return systems


def distinct(systems: Sequence[System]) -> list[System]:
    """The systems, each once. Raises ``UsageError`` for none, or for two that differ under one name."""
    found: dict[str, System] = {}
    for system in systems:
        if found.setdefault(system.name, system) != system:
            raise UsageError(f"two systems are called {system.name!r}: give each its own name")
    if not found:
        raise UsageError("no system to evaluate: name some with --methods, such as ip2p,foi")
    return list(found.values())


def _setting(text: str, whole: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found or not name.strip():
        raise UsageError(f"system {whole!r:.100}: {text!r} is no SETTING=VALUE")
    return name.strip(), read(value.strip())


def read(text: str) -> Any:
    """A number, true, false or null, else the text itself. What JSON cannot hold (``NaN``, ``Infinity``) is text, too."""
    try:
        found = json.loads(text)
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError):
        return text
    return found
