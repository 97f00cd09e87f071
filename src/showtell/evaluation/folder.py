"""The folder of an evaluation: what belongs to it, and every entry whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__, files
from ..errors import FileFormatError
from .systems import NAME, System

if TYPE_CHECKING:
    from ..data import Dataset
    from ..metrics.protocol import Protocol

FORMAT = 1
HEAD, ROWS, TABLE, SUMMARY, REPORT = "evaluation.json", "rows.json", "results.parquet", "summary.json", "report.html"
_OWN = (ROWS, TABLE, SUMMARY, REPORT, "inputs", "truths", "edits", "scores", "learned", "plots")


class Folder:
    """Where everything of an evaluation lies below ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def input(self, row: str) -> Path:
        """The picture before."""
        return self.path / "inputs" / f"{row}.png"

    def truth(self, row: str) -> Path:
        """The true result."""
        return self.path / "truths" / f"{row}.png"

    def edit(self, system: str, row: str) -> Path:
        """What a system made."""
        return self.path / "edits" / system / f"{row}.png"

    def score(self, system: str, row: str) -> Path:
        """What it was measured as."""
        return self.path / "scores" / system / f"{row}.json"

    def learned(self, system: str, shown: str) -> Path:
        """What a system learned from the pairs of that hash."""
        return self.path / "learned" / system / f"{shown}.safetensors"

    @property
    def head(self) -> dict[str, Any]:
        """What the folder holds. Raises ``FileFormatError`` if it is no evaluation's, or a later version's, or damaged."""
        found = read_json(self.path / HEAD)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise FileFormatError(f"{self.path / HEAD}: is not an evaluation that this version reads")
        check(self.path / HEAD, found)
        return found

    def claim(
        self, dataset: Dataset, systems: Sequence[System], models: Mapping[str, Any], protocol: Protocol, *, seed: int
    ) -> dict[str, Any]:
        """What the folder holds from now on: what it held, and these systems.

        Raises ``FileFormatError`` where it holds results of another data set, protocol or seed, or of a system of the same name
        with other settings or another model, or files of such names and no word of what they are: those are refused, not mixed.
        """
        told = {
            "format": FORMAT,
            "version": __version__,
            "dataset": {
                "name": dataset.name, "source": dataset.source, "fingerprint": dataset.fingerprint,
                "count": len(dataset.rows),
                "settings": json.loads(json.dumps(dict(dataset.settings))),
                "problems": [vars(one) for one in dataset.problems],
            },
            "protocol": protocol.describe(),
            "seed": seed,
            "systems": [system.described(models.get(system.name)) for system in systems],
        }  # fmt: skip
        if (self.path / HEAD).exists():
            told["systems"] = self._joined(self.head, told)
        elif strangers := [name for name in _OWN if (self.path / name).exists()]:
            raise FileFormatError(
                f"{self.path}: has {strangers[0]} but no {HEAD} that says of what: name another folder"
            )
        write(self.path / HEAD, told)
        return told

    def _joined(self, old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
        """The systems of both. Raises ``FileFormatError`` for what cannot stand in one table."""
        for what, key in (("data set", "fingerprint"), ("protocol", "digest")):
            part = what.replace(" ", "")
            if old[part].get(key) != new[part][key]:
                raise FileFormatError(
                    f"{self.path}: holds results of another {what} ({old[part].get('name')}, {key} {old[part].get(key)}; "
                    f"asked for: {new[part]['name']}, {new[part][key]}): name another folder"
                )
        if old.get("seed") != new["seed"]:
            raise FileFormatError(
                f"{self.path}: holds results of seed {old.get('seed')}: name another folder, or give that seed"
            )
        found = {one["name"]: one for one in old["systems"]}
        for one in new["systems"]:
            kept = found.setdefault(one["name"], one)
            for key, what in (("method", "method"), ("settings", "settings"), ("model", "model")):
                if kept.get(key) != one[key]:
                    raise FileFormatError(
                        f"{self.path}: holds results of {one['name']!r} with another {what} ({kept.get(key)}; asked for: "
                        f"{one[key]}): give the system another name, or name another folder"
                    )
        return list(found.values())

    def scores(self, systems: Sequence[str], rows: Sequence[str]) -> list[dict[str, Any]]:
        """Every entry that is there, in the order of ``systems`` and ``rows``. Raises ``FileFormatError`` for a damaged one."""
        found = []
        for system in systems:
            for row in rows:
                path = self.score(system, row)
                if path.exists():
                    found.append(read_json(path))
                    if not is_score(found[-1], system, row):
                        raise FileFormatError(f"{path}: is not what {row!r} was measured as: remove it and run again")
        return found


def is_score(found: Any, system: str, row: str) -> bool:
    """Whether a file holds what a picture was measured as."""
    if not isinstance(found, dict) or (found.get("system"), found.get("id")) != (system, row):
        return False
    values, seconds = found.get("values"), found.get("seconds")
    return (
        isinstance(values, dict)
        and all(one is None or _is_number(one) for one in (*values.values(), seconds))
        and isinstance(found.get("features"), dict)
        and (found.get("error") is None or isinstance(found["error"], str))
        and (found.get("seed") is None or isinstance(found["seed"], int))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def check(path: Path, evaluation: Mapping[str, Any]) -> None:
    """Raise ``FileFormatError`` if ``path`` does not hold what evaluation.json does, or a name that is no folder's."""
    if evaluation.get("format") != FORMAT:
        raise FileFormatError(
            f"{path}: has format {evaluation.get('format')!r}, not {FORMAT}: read it with another showtell"
        )
    for key, kind in (("dataset", dict), ("protocol", dict), ("systems", list)):
        if not isinstance(evaluation.get(key), kind):
            raise FileFormatError(f"{path}: has no {key}: it is damaged")
    measures = evaluation["protocol"].get("measures")
    if not isinstance(measures, list) or not all(
        isinstance(m, dict) and isinstance(m.get("name"), str) and _is_number(m.get("scale", 1)) for m in measures
    ):
        raise FileFormatError(f"{path}: its protocol lists no measures: it is damaged")
    problems = evaluation["dataset"].get("problems") or []
    if not isinstance(problems, list) or not all(isinstance(one, dict) for one in problems):
        raise FileFormatError(f"{path}: its data set lists no problems: it is damaged")
    for system in evaluation["systems"]:
        name = system.get("name") if isinstance(system, dict) else None
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise FileFormatError(f"{path}: {name!r:.60} is not safe as a folder's name: the file is damaged")
        if not all(isinstance(system.get(key) or {}, dict) for key in ("settings", "model", "at")):
            raise FileFormatError(f"{path}: does not say what {name!r} is: the file is damaged")
    names = [system["name"] for system in evaluation["systems"]]
    if len(set(names)) < len(names):
        raise FileFormatError(f"{path}: a system is there twice: the file is damaged")


def write(path: Path, value: Any) -> None:
    """JSON, whole or not at all; what is there is replaced."""
    files.make_folder(path.parent)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"
    files.write_atomic(path, text.encode("utf-8", "replace"), force=True)  # a file's name may be no UTF-8


def read_json(path: Path) -> Any:
    """What a file of the folder holds. Raises ``FileFormatError``, naming it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileFormatError(f"{path.parent}: is not the folder of an evaluation ({path.name} is missing)") from error
    except (OSError, ValueError) as error:
        raise FileFormatError(
            f"{path}: cannot be read ({' '.join(str(error).split())}): remove it and run again"
        ) from error
