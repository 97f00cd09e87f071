"""What is asked of every row of a batch, and what a row is told of its own: together they are an item of work."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import comparing, loading, methods, recipe, requested
from ..data.reading import Unusable
from ..data.rows import safe_id
from ..errors import MethodError
from ..evaluation.making import seed_of
from ..learned import LearnedInstruction
from ..work import Item
from ..work.shards import sha256

STARTERS = {"instruct": "starter", "base": "starter-base"}
_UNFIT = re.compile(r"[\x00-\x1f\x7f\\]")
_LONGEST = 240
"""Bytes of a part of a result's path: a file's name holds 255, and an ending belongs to it."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What holds for every row that does not say otherwise.

    ``words`` are the instructions, or, for methods that describe the result, what it shows; ``source_caption`` is what the
    pictures show. ``settings`` are hyper-parameters, also ``num_inference_steps``, ``guidance_scale``,
    ``image_guidance_scale`` and ``scheduler``, as JSON can hold them; a row of another method takes those that its method has.
    ``model`` is for every method; ``base_model``, where it is given, for those that take a text-to-image model; without them
    the starter that a method takes. ``learned`` are files. ``pair`` shows the edit to method ``grid``. ``seed`` makes, with a
    row's name, the row's.
    """

    words: tuple[str, ...] = ()
    method: str = "ip2p"
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    base_model: str | None = None
    learned: tuple[str, ...] = ()
    source_caption: str | None = None
    negative: str | None = None
    pair: tuple[str, str] | None = None
    fit: str = "fit"
    sequential: bool = False
    seed: int = 0
    device: str = "auto"
    dtype: str | None = None
    offload: str = "none"
    vae_tiling: bool = False
    attention_slicing: bool = False
    gradient_checkpointing: bool = False
    compiled: bool = False

    def check(self) -> None:
        """Raise ``MethodError`` or ``UsageError`` for what no row could be made with, ``FileFormatError`` for a learned file."""
        requested.checked_seed(self.seed)
        value = methods.resolve(self.method)
        _settle(value, self.settings)
        if self.source_caption is not None and not getattr(value, "describes", False):
            raise MethodError(f"source is for methods that describe the result, and {self.method!r} does not")
        if hasattr(value, "pairs") != (self.pair is not None):
            what = "needs a pair that shows the edit" if self.pair is None else "takes no pair"
            raise MethodError(f"method {self.method!r} {what} (--before and --after)")
        hashes(self.learned)

    def model_of(self, method: str) -> str:
        """The model that a method's rows are made by."""
        kind = methods.resolve(method).kinds[0]
        if kind == "base" and self.base_model is not None:
            return self.base_model
        return self.model or STARTERS.get(kind, STARTERS["base"])

    def described(self) -> dict[str, Any]:
        """As the folder's recipe has it: all that results depend on."""
        return {
            "words": list(self.words), "method": self.method, "settings": dict(self.settings), "model": placed(self.model),
            "base_model": placed(self.base_model), "learned": hashes(self.learned), "source": self.source_caption,
            "negative": self.negative, "pair": None if self.pair is None else [sha256(Path(path)) for path in self.pair],
            "fit": self.fit, "sequential": self.sequential, "dtype": self.dtype, "seed": self.seed,
            **({"vae_tiling": True} if self.vae_tiling else {}),  # the others change no result
        }  # fmt: skip

    def everywhere(self) -> Asked:
        """The same for processes in another folder: paths from the root."""
        return replace(
            self, model=placed(self.model), base_model=placed(self.base_model),
            learned=tuple(os.path.abspath(path) for path in self.learned),
            pair=None if self.pair is None else (os.path.abspath(self.pair[0]), os.path.abspath(self.pair[1])),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Where a row's picture lies: a file, or ``size`` bytes from ``offset`` on of a shard. ``given`` is its path as the user
    wrote it; ``stat`` what changes when it does.
    """

    path: str
    given: str | None
    stat: Mapping[str, int]
    offset: int = 0
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a row says of itself; None or empty for what it leaves to ``Asked``. Paths are those of files that are there."""

    words: tuple[str, ...] = ()
    target: str = ""
    method: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    learned: tuple[str, ...] = ()
    source: str = ""
    negative: str | None = None
    mask: str | None = None
    seed: int | None = None


def item(asked: Asked, told: Told, picture: Picture, *, name: str, out: str, shard: int = 0) -> Item:
    """The item of a row. ``name`` makes its seed, ``out`` is the path of its result without the ending.

    Raises ``Unusable`` or ``MethodError`` for a row that cannot be made.
    """
    method = told.method or asked.method
    value = methods.resolve(method)
    describes = getattr(value, "describes", False)
    common = asked.settings
    if method != asked.method:
        common = {key: one for key, one in common.items() if comparing.takes(value, key)}
    settings = {**common, **told.settings}
    _settle(value, settings)
    learned = told.learned or asked.learned
    said = (told.target or told.words or asked.words) if describes else (told.words or asked.words)
    said = (said,) if isinstance(said, str) else said
    if not said and not learned and value.words == "required":
        what = "target (what the result shows)" if describes else "instruction"
        raise Unusable("missing words", f"has no {what}, and none was given for all")
    wanted = {
        "words": list(said), "method": method, "settings": settings, "learned": [*learned],
        "source": (told.source or asked.source_caption) if describes else None,
        "negative": asked.negative if told.negative is None else told.negative,
        "mask": told.mask, "seed": seed_of(asked.seed, recipe.readable(name)) if told.seed is None else told.seed,
    }  # fmt: skip
    check_out(out)
    return Item(
        id=safe_id(out), shard=shard,
        told={
            **wanted, "name": name, "out": out, "picture": vars(picture), "model": asked.model_of(method),
            "digest": _digest(wanted, name),
        },
    )  # fmt: skip


def told_of(record: Mapping[str, Any], file: Any) -> Told:
    """What a record of a manifest, or a shard's JSON, says of its row; ``file(text, what)`` finds a file that it names.

    Fields: ``instruction`` or ``instructions``, ``target`` or ``target_caption``, ``source`` or ``source_caption``, ``method``,
    ``learned``, ``negative``, ``mask``, ``seed``, ``set``. Raises ``Unusable``.
    """
    return Told(
        words=_words(record), target=_text(record, "target", "target_caption"),
        method=_text(record, "method") or None, settings=_set(record.get("set")),
        learned=tuple(str(file(one, "the learned instruction")) for one in _list(record.get("learned"))),
        source=_text(record, "source", "source_caption"),
        negative=None if record.get("negative") is None else _text(record, "negative"),
        mask=str(file(record["mask"], "the mask")) if record.get("mask") else None,
        seed=_seed(record.get("seed")),
    )  # fmt: skip


def placed(model: str | None) -> str | None:
    """A model's name, or its path from the root where it is a file or a folder."""
    return None if model is None else loading.anywhere(model)


def check_out(out: str) -> None:
    """Raise ``Unusable`` for a path that must not be written: absolute, climbing, hidden, or with a name that is too long."""
    parts = out.split("/")
    if any(not part or part[0] == "." or _UNFIT.search(part) for part in parts):
        raise Unusable(
            "path", f"{out[:200]!r} is no name for a result: it is a path below the folder, of visible names"
        )
    if any(len(part.encode("utf-8", "surrogateescape")) > _LONGEST for part in parts):
        raise Unusable("path", f"{out[:60]!r}... is too long a name for a result")


def hashes(learned: tuple[str, ...] | list[str]) -> list[str]:
    """Of learned files what they hold. Raises ``FileFormatError``."""
    return [_learned_hash(path, _changed(path)) for path in learned]


@functools.lru_cache(maxsize=256)
def _learned_hash(path: str, changed: tuple[int, int]) -> str:
    return LearnedInstruction.load(path).sha256


def _changed(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # what is wrong with it is told by who opens it
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _settle(value: Any, settings: Mapping[str, Any]) -> None:
    """Raise ``MethodError`` for a hyper-parameter that a method does not have, or out of range."""
    methods.settle(value, given=settings, card={})


def _digest(wanted: Mapping[str, Any], name: str) -> str:
    files = {"learned": hashes(wanted["learned"])}
    files["mask"] = sha256(Path(wanted["mask"])) if wanted["mask"] else None
    told = json.dumps({**wanted, **files, "name": name}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _words(record: Mapping[str, Any]) -> tuple[str, ...]:
    value = record.get("instructions") or record.get("instruction") or ()
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        raise Unusable("damaged", "instructions is neither text nor a list of texts")
    return tuple(_utf8(" ".join(part.split())) for part in parts if part.strip())


def _text(record: Mapping[str, Any], *keys: str) -> str:
    value = next((record[key] for key in keys if record.get(key) is not None), "")
    if not isinstance(value, (str, int, float)):
        raise Unusable("damaged", f"{keys[0]} is {type(value).__name__}, not text")
    return _utf8(" ".join(str(value).split()))


def _utf8(text: str) -> str:
    if recipe.readable(text) != text:
        raise Unusable("damaged", f"has half of a character in its words, {text!a:.100}")
    return text


def _list(value: Any) -> list[Any]:
    return [] if value in (None, "") else list(value) if isinstance(value, (list, tuple)) else [value]


def _seed(value: Any) -> int | None:
    if value is None or value == "":
        return None
    try:
        if isinstance(value, float) and not value.is_integer():
            raise ValueError
        return requested.checked_seed(value if isinstance(value, bool) else int(value))
    except (TypeError, ValueError, OverflowError, MethodError):
        raise Unusable("damaged", f"seed {value!r:.60} is not a whole number from 0 to 2^63 - 1") from None


def _set(value: Any) -> dict[str, Any]:
    """Hyper-parameters: an object, or text such as ``tau=0.3|gamma=2``, or an object as text."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = dict(_pair(part) for part in value.split("|"))
    if value in (None, ""):
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) and key.isidentifier() for key in value):
        raise Unusable("damaged", 'set is no object of hyper-parameters, such as {"guidance_scale": 5}')
    return {key: one for key, one in value.items() if one is not None}


def _pair(text: str) -> tuple[str, Any]:
    name, sign, value = (part.strip() for part in text.partition("="))
    if not (name and sign and value):
        raise Unusable("damaged", f"set {text!r:.60}: write NAME=VALUE, several with | between them")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value
