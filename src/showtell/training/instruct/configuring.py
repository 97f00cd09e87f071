"""A training's configuration from YAML, presets and overrides, and what two configurations differ in.

A key that is not known is an error that names it and its neighbours; values are checked for type and range.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from showtell.errors import UsageError
from showtell.training.instruct.settings import Config, Data, Distill, Lora, Save, Train, Validate

SECTIONS: dict[str, Any] = {
    "data": Data,
    "train": Train,
    "lora": Lora,
    "distill": Distill,
    "validate": Validate,
    "save": Save,
}
_FREE = {"data.options", "data.held_out_options"}
"""Keys whose own keys are a loader's."""


def configure(*parts: Mapping[str, Any]) -> Config:
    """A configuration from nested mappings; a later one wins over an earlier one, key by key.

    Raises ``UsageError`` for an unknown key, which it names with its neighbours, or for a value of the wrong type or range.
    """
    from pydantic import TypeAdapter, ValidationError

    told: dict[str, Any] = {}
    for part in parts:
        _check_keys(part, Config, "")
        _merge(told, part)
    if isinstance(told.get("train"), dict) and told["train"].get("precision") is False:
        told["train"]["precision"] = "no"  # which YAML reads as false
    try:
        return TypeAdapter(Config).validate_python(told)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"] if not str(part)[:1].isupper())
        raise UsageError(f"{key} is {first['input']!r:.80}: {first['msg']}") from error


def _merge(into: dict[str, Any], part: Mapping[str, Any], path: str = "") -> None:
    for key, value in part.items():
        below = into.get(key)
        if isinstance(value, Mapping) and isinstance(below, dict) and f"{path}{key}" not in _FREE:
            _merge(below, value, f"{path}{key}.")
        else:
            into[key] = copy.deepcopy(dict(value) if isinstance(value, Mapping) else value)


def _check_keys(told: Any, kind: Any, path: str) -> None:
    if not isinstance(told, Mapping):
        raise UsageError(
            f"{path.rstrip('.') or 'the configuration'} is {told!r:.80}: name its keys, such as {_first(kind)}"
        )
    known = [one.name for one in dataclasses.fields(kind)]
    for key, value in told.items():
        if key not in known:
            raise UsageError(f"{path}{key!s:.80} is not a key of the configuration: there is {', '.join(known)}")
        if kind is Config and key in SECTIONS and not (key in ("lora", "distill") and value is None):
            _check_keys(value, SECTIONS[key], f"{key}.")


def _first(kind: Any) -> str:
    return dataclasses.fields(kind)[0].name


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A YAML file as nested mappings, for :func:`configure`. Raises ``UsageError``."""
    import yaml

    try:
        told = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file: give a configuration in YAML") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    if told is None:
        return {}
    if not isinstance(told, dict):
        raise UsageError(f"{path}: holds {type(told).__name__} where the keys of a configuration belong")
    return told


def overrides(texts: Sequence[str]) -> dict[str, Any]:
    """``["train.steps=100", "lora.rank=8"]`` as nested mappings; values are read as YAML. Raises ``UsageError``."""
    import yaml

    told: dict[str, Any] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        *above, last = path.strip().split(".")
        if not equals or not last or not all(above):
            raise UsageError(f"--set {text!r}: write KEY=VALUE, such as train.steps=1000")
        here = told
        for key in above:
            here = here.setdefault(key, {})
            if not isinstance(here, dict):
                raise UsageError(f"--set {text!r}: {key} has a value of its own already")
        try:
            here[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {text!r}: its value is not YAML") from error
    return told


#: What may change between a run and its resumption: it changes nothing of what is learned but rounding.
_MAY_CHANGE = (
    "validate.",
    "save.",
    "data.workers",
    "data.check_pictures",
    "train.micro_batch",
    "train.gradient_checkpointing",
)


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys in which two configurations (as ``as_dict`` gives them) learn something else. A run with a constant
    rate may be given more steps."""
    a, b = flat(old), flat(new)
    names = [key for key in {**a, **b} if a.get(key) != b.get(key) and not key.startswith(_MAY_CHANGE)]
    constant = a.get("train.schedule") == b.get("train.schedule") == "constant"
    return [key for key in names if not (key == "train.steps" and constant)]


def told_apart(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What :func:`differing` finds, in words, or nothing: "seed (was 0, is 3)"."""
    a, b = flat(old), flat(new)
    keys = differing(old, new)
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return ", ".join(f"{key} (was {a.get(key)!r:.60}, is {b.get(key)!r:.60})" for key in keys[:5]) + more


def flat(told: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested keys as ``section.name``."""
    found: dict[str, Any] = {}
    for key, value in told.items():
        if isinstance(value, Mapping) and f"{path}{key}" not in _FREE:
            found |= flat(value, f"{path}{key}.")
        else:
            found[f"{path}{key}"] = value
    return found
