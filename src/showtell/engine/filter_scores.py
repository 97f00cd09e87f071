"""Scoring candidates with a CLIP, here or on Ray: each once, its figures kept in a journal that a kill leaves whole."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .. import files, models
from ..data import safe_id
from ..errors import UsageError
from ..metrics import clip as on_features
from ..work import Done, Item, Worker
from . import filter_candidates
from .filter_candidates import Candidate
from .filter_choose import TESTS, Scores

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ..metrics.clip import Clip

_REMEMBERED = 4096
_PLACES = 5


def identity(clip: Clip) -> dict[str, str]:
    """What scores depend on: the CLIP's name, and a fingerprint of its weights."""
    return {"id": clip.name, "weights": models.weights_hash(SimpleNamespace(model=clip.model), parts=("model",))}


def item(candidate: Candidate) -> Item:
    """A candidate as a row of work."""
    words = {key: str(candidate.record.get(key) or "") for key in ("source_caption", "target_caption")}
    pictures = {key: filter_candidates.placed(getattr(candidate, key)) for key in ("before", "after")}
    return Item(id=candidate.name, told={**words, **pictures})


def worker(name: str, device: str, clip: Clip | None = None) -> Worker:
    """What scores a batch of candidates; the CLIP is loaded here unless it is there."""
    return partial(_scored, clip or on_features.Clip.load(name, device=device), {})


def _scored(clip: Clip, known: dict[str, torch.Tensor], items: Sequence[Item]) -> list[Done]:
    opened: dict[str, tuple[Image.Image, Image.Image]] = {}
    errors: dict[str, str] = {}
    for one in items:
        try:
            _check_words(one)
            first, second = (filter_candidates.opener(one.told[key])() for key in ("before", "after"))
            opened[one.id] = (first, second)
        except UsageError as error:
            errors[one.id] = str(error)
    good = [one for one in items if one.id in opened]
    captions = [[str(one.told[key]) for one in good] for key in ("source_caption", "target_caption")]
    scores = score(clip, list(opened.values()), captions[0], captions[1], known) if good else []
    told = {one.id: {"scores": found.told()} for one, found in zip(good, scores, strict=True)}
    return [Done(id=one.id, record=told.get(one.id, {}), error=errors.get(one.id)) for one in items]


def _check_words(one: Item) -> None:
    for key in ("source_caption", "target_caption"):
        if not str(one.told[key]).strip():
            raise UsageError(f"has no {key}: scores need both captions")


def score(
    clip: Clip,
    pictures: Sequence[tuple[Image.Image, Image.Image]],
    sources: Sequence[str],
    targets: Sequence[str],
    known: dict[str, torch.Tensor] | None = None,
) -> list[Scores]:
    """The scores of pairs of pictures with their captions. ``known`` remembers the features of texts from call to call."""
    import torch

    known = {} if known is None else known
    new = [text for text in dict.fromkeys([*sources, *targets]) if text not in known]
    if len(known) + len(new) > _REMEMBERED:
        known.clear()
        new = list(dict.fromkeys([*sources, *targets]))
    if new:
        known.update(zip(new, clip.text_features(new), strict=True))
    before, after = (clip.image_features([pair[side] for pair in pictures]) for side in (0, 1))
    source, target = (torch.stack([known[text] for text in texts]) for texts in (sources, targets))
    figures = {
        "image": on_features.clip_i(before, after),
        "direction": on_features.clip_d(before, after, source, target, unit=True),
        "before": on_features.clip_i(before, source),
        "after": on_features.clip_i(after, target),
    }
    columns = [
        [round(value, _PLACES) if math.isfinite(value) else math.nan for value in figures[n].tolist()] for n in TESTS
    ]
    return [Scores(**dict(zip(TESTS, row, strict=True))) for row in zip(*columns, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Journal:
    """A store of scores: JSON lines in ``folder``, a file for each process that scores. The last line of one that was killed may
    be half a line, and is then no line at all.
    """

    folder: Path

    @classmethod
    def begin(cls, folder: Path) -> Journal:
        """The journal in a folder, which is made. Raises ``OutputError``."""
        return cls(folder=files.make_folder(folder))

    def pending(self, items: Sequence[Item]) -> list[Item]:
        """See ``Store``."""
        there = self.read()
        return [one for one in items if one.id not in there]

    def keep(self, item: Item, done: Done) -> None:
        """See ``Store``."""
        told = {"id": item.id, **done.record, **({"error": done.error} if done.error is not None else {})}
        path = self.folder / f"{safe_id(platform.node() or 'here')}-{os.getpid()}.jsonl"
        try:
            with path.open("ab+") as file:
                if file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    whole = file.read(1) == b"\n"  # not so where a process of the same number was killed
                    file.write(b"" if whole else b"\n")
                file.write(f"{json.dumps(told)}\n".encode())
        except OSError as error:
            raise files.output_error(path, error) from error

    def close(self, shard: int, items: Sequence[Item]) -> None:
        """See ``Store``: a journal has no shards."""

    def finish(self) -> None:
        """See ``Store``."""

    def read(self) -> dict[str, Scores]:
        """The scores of every candidate that has some."""
        found: dict[str, Scores] = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_bytes().splitlines():
                name, scores = _line(line)
                if scores is not None:
                    found[name] = scores
        return found


def _line(line: bytes) -> tuple[str, Scores | None]:
    try:
        told: Mapping[str, Any] = json.loads(line)
        return str(told["id"]), Scores.read(told.get("scores"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return "", None
