"""Editing rows: a worker that loads each model once, and edits together what one call can edit."""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import images, methods, models
from ..errors import Cancelled, ImageError, OutputError, ShowtellError, ShowtellWarning
from ..images import Picture
from ..pairs import Pairs
from ..work import Done, Item
from . import shards
from .asked import Asked

if TYPE_CHECKING:
    from ..editor import Editor
    from .outputs import Claims


def build(asked: Asked, wanted: Mapping[str, tuple[str, ...]], claims: Claims) -> Editing:
    """The worker of a batch; ``wanted`` are its models, with the methods that each serves, and ``claims`` sees that they are the
    ones that the folder's results were made by. Raises ``ModelError``, ``FileFormatError``.
    """
    from ..editor import load

    editors = {}
    for name, served in wanted.items():
        editor = load(
            name, device=asked.device, dtype=asked.dtype, offload=asked.offload, vae_tiling=asked.vae_tiling,
            attention_slicing=asked.attention_slicing,
        )  # fmt: skip
        for method in served:
            kinds = methods.resolve(method).kinds
            models.require_kind(editor.pipe, kinds, method=method, model_id=editor.model_id)
        claims.model(name, editor)
        if asked.compiled:  # as the pictures come, whose sizes nobody knows yet
            editor.compile(warm_up=False)
        editors[name] = editor
    return Editing(asked, editors)


def group(item: Item) -> str:
    """What rows have in common that one call can edit."""
    told = item.told
    same = [told["model"], told["method"], told["settings"], told["learned"], bool(told["words"])]
    return json.dumps(same, sort_keys=True)


class Editing:
    """Edits items; the failure of one is its own."""

    def __init__(self, asked: Asked, editors: Mapping[str, Editor]) -> None:
        self._asked, self._editors = asked, editors

    def __call__(self, items: Sequence[Item]) -> list[Done]:
        found: dict[str, Done] = {}
        groups: dict[str, list[tuple[Item, Picture]]] = {}
        for item in items:
            try:
                row = (item, _open(item))
                groups.setdefault(group(item), []).append(row)
            except ImageError as error:
                place = item.told["picture"]
                found[item.id] = Done(
                    id=item.id, error=str(error).replace(place["path"], place["given"] or item.told["name"])
                )
        for rows in groups.values():
            found.update((done.id, done) for done in self._group(rows))
        return [found[item.id] for item in items]

    def _group(self, rows: list[tuple[Item, Picture]]) -> list[Done]:
        started = time.perf_counter()
        try:
            edits = self._edit(rows)
        except (OutputError, Cancelled):
            raise
        except ShowtellError as error:  # what is wrong with all of them
            edits = [error] * len(rows)
        if len(rows) > 1 and isinstance(edits[0], ShowtellError) and all(one is edits[0] for one in edits):
            return [done for row in rows for done in self._group([row])]
        each = round((time.perf_counter() - started) / len(rows), 4)
        return [_done(item, picture, edit, each) for (item, picture), edit in zip(rows, edits, strict=True)]

    def _edit(self, rows: list[tuple[Item, Picture]]) -> list[Any]:
        first, told = rows[0][0].told, [item.told for item, _ in rows]
        value = methods.resolve(first["method"])
        options: dict[str, Any] = dict(first["settings"])
        if getattr(value, "describes", False):
            options["source"] = [one["source"] for one in told]
        if self._asked.pair is not None and hasattr(value, "pairs"):
            options["pairs"] = Pairs.of([self._asked.pair])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ShowtellWarning)
            return self._editors[first["model"]].edit(
                [picture for _, picture in rows], [_said(one["words"]) for one in told] if first["words"] else None,
                method=first["method"], learned=first["learned"] or None, seed=[one["seed"] for one in told],
                negative_prompt=[one["negative"] for one in told], mask=[one["mask"] for one in told],
                fit=self._asked.fit, sequential=self._asked.sequential,
                gradient_checkpointing=self._asked.gradient_checkpointing, batch_size=len(rows), **options,
            )  # fmt: skip


def _said(words: Sequence[str]) -> Any:
    return list(words) if len(words) > 1 else words[0]


def _open(item: Item) -> Picture:
    """The row's picture, under the name that the user gave it."""
    told = item.told["picture"]
    if told["size"] is None:
        return dataclasses.replace(images.open_picture(Path(told["path"])), path=told["given"])
    try:
        return images.open_picture(shards.read(told["path"], told["offset"], told["size"]))
    except OSError as error:
        raise ImageError(f"{told['path']}: cannot be read ({error.strerror or error})") from error


def _done(item: Item, picture: Picture, edit: Any, seconds: float) -> Done:
    told = item.told
    record = {"seconds": seconds, "input": {**told["picture"]["stat"], "sha256": picture.sha256}}
    if isinstance(edit, ShowtellError):
        return Done(id=item.id, record=record, error=str(edit) or type(edit).__name__)
    made = {"png": edit.png()}
    record["notes"] = list(edit.notes)
    if "json" in told:
        beside = {"seed": edit.seed, "seconds": seconds, "notes": edit.notes, "recipe": edit.recipe.to_dict()}
        made["json"] = json.dumps({**told["json"], "edit": beside}, ensure_ascii=False).encode("utf-8", "replace")
    return Done(id=item.id, record=record, files=made)
