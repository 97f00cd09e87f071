"""A result folder, read strictly: what the report and the plots are made from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data import safe_id
from ...errors import FileFormatError, UsageError
from ..folder import HEAD, ROWS, SUMMARY, Folder, check, is_score

BOUNDS = ("input", "truth")
_PER_PICTURE = ("mean", "median")

#: A score file's content, or None for a picture that has not been measured yet.
Score = Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a result folder says: ``rows`` and every system's ``scores`` are in the data set's order."""

    folder: Path
    evaluation: Mapping[str, Any]
    summary: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    scores: Mapping[str, Sequence[Score]]

    @property
    def measures(self) -> list[Mapping[str, Any]]:
        """The protocol's measures, each as ``metrics.protocol.Measure`` describes itself."""
        return self.evaluation["protocol"]["measures"]

    @property
    def systems(self) -> list[str]:
        """The names, in the evaluation's order."""
        return [system["name"] for system in self.evaluation["systems"]]

    @property
    def labels(self) -> dict[str, str]:
        """How each system is called."""
        return labels(self.evaluation, self.summary)


def read(folder: Path) -> Results:
    """The whole folder but its pictures.

    Raises ``UsageError`` if it is no result folder, and ``FileFormatError``, which names the file, for one that is damaged, of a
    later format, of another protocol than the evaluation's, or that holds a name which is not safe as a file's.
    """
    place, head = Folder(folder), folder / HEAD
    if not head.is_file():
        raise UsageError(f"{folder}: is no result folder (it has no {HEAD}): give one that `showtell evaluate` wrote")
    evaluation = _json(head, dict)
    check(head, evaluation)
    rows, summary = _json(folder / ROWS, list), _json(folder / SUMMARY, dict)
    for row in rows:
        found = row.get("id") if isinstance(row, dict) else None
        if not isinstance(found, str) or not found or safe_id(found) != found:
            raise FileFormatError(f"{folder / ROWS}: {found!r:.60} is not safe as a file's name: the file is damaged")
        if not _is_row(row):
            raise FileFormatError(f"{folder / ROWS}: does not say what {found!r} is: the file is damaged")
    names = [system["name"] for system in evaluation["systems"]]
    if strangers := {line["system"] for line in lines(folder / SUMMARY, summary)} - set(names):
        raise FileFormatError(
            f"{folder / SUMMARY}: has the system {min(strangers)!r:.60}, which {HEAD} has not: evaluate again"
        )
    digest = evaluation["protocol"].get("digest")
    scores = {name: [_score(place, name, row["id"], digest) for row in rows] for name in names}
    return Results(folder=folder, evaluation=evaluation, summary=summary, rows=rows, scores=scores)


def lines(path: Path, summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A summary's lines, one a system; its groups' are checked too. Raises ``FileFormatError`` for another form."""
    rows, groups = summary.get("rows"), summary.get("groups") or {}
    good = isinstance(rows, list) and all(_is_line(line) for line in rows)
    if not good or not isinstance(groups, dict) or not all(_is_group(group) for group in groups.values()):
        raise FileFormatError(f"{path}: has no list of rows with figures: it is not a summary of an evaluation")
    return summary["rows"]


def _is_group(group: Any) -> bool:
    return isinstance(group, dict) and all(_are_figures(figures) for figures in group.values())


def _is_line(line: Any) -> bool:
    """Whether it names a system, and everything that a table shows of it is a number or missing."""
    if not isinstance(line, dict) or not isinstance(line.get("system"), str):
        return False
    return _are_numbers(line, "count", "failed", "seconds") and _are_figures(line.get("measures"))


def _are_figures(figures: Any) -> bool:
    return isinstance(figures, dict) and all(
        isinstance(one, dict) and _are_numbers(one, "value", "low", "high", "count", "invalid")
        for one in figures.values()
    )


def _are_numbers(of: Mapping[str, Any], *keys: str) -> bool:
    told = [of[key] for key in keys if of.get(key) is not None]
    return all(isinstance(one, (int, float)) and math.isfinite(one) for one in told)


def labels(evaluation: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, str]:
    """How charts and tables call each system: its label in the summary; a point of a sweep, which has none of its own, by its
    curve and value alone where that says which it is.
    """
    given = {line["system"]: str(line.get("label") or line["system"]) for line in summary["rows"]}
    found = {}
    for system in evaluation["systems"]:
        name, at = system["name"], system.get("at")
        plain = given.get(name, name)
        found[name] = f"{system.get('curve')} {at.get('value')}" if isinstance(at, dict) and plain == name else plain
    twice = {label for label in found.values() if list(found.values()).count(label) > 1}
    return {name: given.get(name, name) if label in twice else label for name, label in found.items()}


def best(values: Sequence[float | None], *, lower: bool) -> float | None:
    """The best of what has a value; None where there are not two different ones to choose from."""
    known = {value for value in values if value is not None}
    return None if len(known) < 2 else min(known) if lower else max(known)


def bound(system: Mapping[str, Any]) -> str:
    """``input`` or ``truth`` for a system that makes no picture but stands for one: it is never marked as the best. Else ""."""
    method = system.get("method")
    return method if method in BOUNDS else ""


def per_picture(measures: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns that have a value for each picture: all but the figures of a whole set."""
    return [measure["name"] for measure in measures if measure.get("reduction", "mean") in _PER_PICTURE]


def value(score: Score, column: str) -> float | None:
    """A picture's figure, None where it has none: not measured, failed, undefined."""
    found = None if score is None else (score.get("values") or {}).get(column)
    return float(found) if isinstance(found, (int, float)) and math.isfinite(found) else None


def _is_row(row: Mapping[str, Any]) -> bool:
    told, size = row.get("instructions") or [], row.get("size") or [1]
    return isinstance(told, list) and isinstance(size, list) and all(isinstance(one, int) for one in size)


def _score(place: Folder, system: str, row: str, digest: Any) -> Score:
    """What a picture was measured as, without the features, which only figures of the set are made of."""
    path = place.score(system, row)
    if not path.is_file():
        return None
    found = _json(path, dict)
    if found.get("protocol") != digest:
        raise FileFormatError(
            f"{path}: was measured by protocol {found.get('protocol')!r}, the folder's is {digest!r}: measure again"
        )
    if not is_score(found, system, row):
        raise FileFormatError(f"{path}: is not what {row!r} was measured as: remove it and evaluate again")
    return {**found, "features": {}}


def _json(path: Path, kind: type) -> Any:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileFormatError(f"{path}: is missing: the evaluation did not end; run it again, it goes on") from error
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(found, kind):
        raise FileFormatError(f"{path}: holds a {type(found).__name__} where a {kind.__name__} belongs")
    return found
