"""The first stage of the data engine: (caption, instruction, edited caption), written as one file of JSON lines.

Beside ``triplets.jsonl`` lies ``triplets.recipe.json``: what it was made with, what was dropped for what, and its hash.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import files
from ..data.triplets import Triplet, written
from ..errors import OutputError
from ..recipe import versions
from .triplets_checks import Checks, sift
from .triplets_journal import Journal

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a run came to: the triplets of the file, how many were dropped for what, and the rows that failed, (id, what).

    ``kept`` rows were answered by an earlier run; ``usage`` and ``cost`` are of all runs.
    """

    triplets: tuple[Triplet, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    failed: tuple[tuple[str, str], ...] = ()
    kept: int = 0
    usage: Mapping[str, int] = field(default_factory=dict)
    cost: float | None = None

    def told(self) -> dict[str, Any]:
        """In figures, as JSON can hold them."""
        return {
            "triplets": len(self.triplets),
            "dropped": dict(self.dropped),
            "failed": [{"id": label, "what": what} for label, what in self.failed],
            "kept": self.kept,
            **({"usage": dict(self.usage)} if self.usage else {}),
            **({"cost": self.cost} if self.cost is not None else {}),
        }


def beside(out: str | os.PathLike[str], what: str) -> Path:
    """The path of what lies beside the file: ``triplets.recipe.json`` beside ``triplets.jsonl``."""
    return Path(out).with_suffix(f".{what}")


def check(out: str | os.PathLike[str], *, resume: bool = False, force: bool = False) -> Path:
    """The file, if it can be written. Raises ``OutputError``; one that exists needs ``resume`` or ``force``."""
    out = Path(out)
    if out.suffix.lower() != ".jsonl":
        raise OutputError(f"{out}: the file is .jsonl")
    journal = Journal(path=beside(out, "journal.jsonl"))
    for path in (out, beside(out, "recipe.json"), journal.path):
        begun = path == journal.path and path.is_file() and journal.is_empty()
        try:
            files.check_output(path, force=force or resume or begun)
        except OutputError as error:
            if not path.is_file() or force or resume:
                raise
            raise OutputError(f"{path}: exists already; go on with --resume, or use --force to begin anew") from error
    return out


def finish(
    out: Path,
    found: Iterable[Triplet],
    checks: Checks,
    *,
    recipe: Mapping[str, Any],
    dropped: Mapping[str, int] | None = None,
    **rest: Any,
) -> Made:
    """Sift what was found, write the file and its recipe, and tell what it came to. ``dropped`` were dropped before, ``rest``
    are further fields of ``Made``. Where nothing is left, nothing is written. Raises ``OutputError``.
    """
    kept, now = sift(found, checks)
    counts = {why: now[why] + (dropped or {}).get(why, 0) for why in sorted({*now, *(dropped or {})})}
    made = Made(triplets=tuple(kept), dropped=counts, **rest)
    if kept:
        data = written(kept)
        told = {
            "format": FORMAT, "command": "dataset triplets", **recipe,
            "made": {**made.told(), "sha256": hashlib.sha256(data).hexdigest()}, "versions": versions(),
        }  # fmt: skip
        files.write_atomic(out, data, force=True)
        text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
        files.write_atomic(beside(out, "recipe.json"), text.encode(), force=True)
    return made
