"""The folder of a batch's results: what belongs to it, what is not to be touched, and the list of all rows.

OUT/recipe.json      what was asked; a folder of another recipe is refused
OUT/results.jsonl    one line a row, in the input's order
OUT/.showtell/       the journal, and what killed runs left
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files, models, recipe
from ..errors import FileFormatError, OutputError, UsageError
from ..work import Item
from ..work.folder import OWN, FolderStore
from . import shards
from .asked import Asked, placed
from .inputs import Input

if TYPE_CHECKING:
    from ..editor import Editor
    from .packed import PackedStore

FORMAT = 1
RECIPE, RESULTS = "recipe.json", "results.jsonl"


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Sees that every worker, also on other machines and in later runs, has the models that the folder's results are of."""

    folder: Path

    def model(self, name: str, editor: Editor) -> None:
        """Raise ``FileFormatError`` for a model of that name with other weights or in another precision."""
        told = {
            "id": editor.model_id, "weights": models.weights_hash(editor.pipe),
            "dtype": str(models.dtype_of(editor.pipe.unet)).removeprefix("torch."),
        }  # fmt: skip
        digest = hashlib.sha256(str(placed(name)).encode("utf-8", "replace")).hexdigest()
        path = self.folder / OWN / f"model-{digest[:16]}.json"
        files.make_folder(path.parent)
        try:
            files.write_atomic(path, json.dumps(told).encode())
        except OutputError:
            if not path.exists():
                raise
        found = read_json(path)
        if differs := [key for key in ("weights", "dtype") if found.get(key) != told[key]]:
            raise FileFormatError(
                f"{self.folder}: holds results of {name} with {differs[0]} {found.get(differs[0])}, and it has "
                f"{told[differs[0]]} now: name another folder, or make all of them again with --force (force=True)"
            )

    def forget(self) -> None:
        """Whatever models there are from now on, they are the right ones."""
        for path in (self.folder / OWN).glob("model-*.json"):
            path.unlink(missing_ok=True)


def described(asked: Asked, found: Input, *, replaces: bool) -> dict[str, Any]:
    """The recipe of the folder. ``replaces``: files that something else wrote are replaced, also when the batch goes on later."""
    told = {
        "format": FORMAT, "command": "batch", "settings": asked.described(), "seed": asked.seed,
        "source": {"kind": found.kind, "path": recipe.readable(str(Path(found.source).absolute()))},
        "versions": recipe.versions(), "replaces": replaces,
    }  # fmt: skip
    return json.loads(json.dumps(told))


def check(folder: Path, told: Mapping[str, Any]) -> dict[str, Any] | None:
    """The folder's recipe, None where it has none, or nothing was made by it. Raises ``FileFormatError`` for one that differs."""
    path = folder / RECIPE
    if not path.exists() or not any((folder / OWN).rglob("*.jsonl")):
        return None
    old = read_json(path)
    if differs := list(_differing(old, told)):
        raise FileFormatError(
            f"{folder}: holds results of another {', '.join(differs)}: name another folder, or make all of them again "
            "with --force (force=True)"
        )
    return old


def claim(folder: Path, told: Mapping[str, Any]) -> None:
    """Make the folder this batch's. Raises ``OutputError``."""
    Claims(folder=folder).forget()
    path = files.make_folder(folder) / RECIPE
    files.write_atomic(path, (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode(), force=True)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[str]:
    """The names of what two recipes differ in."""
    if old.get("command") != "batch" or old.get("format") != FORMAT or not isinstance(old.get("settings"), dict):
        yield "command"
        return
    settings = old["settings"]
    both = {**new["settings"], **settings}
    yield from (key.replace("_", " ") for key in both if settings.get(key) != new["settings"].get(key))
    if old.get("source") != new["source"]:
        yield f"input ({(old.get('source') or {}).get('path')})"


def same(item: Item, record: Mapping[str, Any]) -> bool:
    """Whether a picture is the one that a result was made of: of its size and time, else of its content."""
    told, kept = item.told["picture"], record.get("input")
    if not isinstance(kept, dict) or kept.get("bytes") != told["stat"]["bytes"]:
        return False
    if kept.get("mtime_ns") == told["stat"]["mtime_ns"]:
        return True
    try:
        size = told["stat"]["bytes"] if told["size"] is None else told["size"]
        return hashlib.sha256(shards.read(told["path"], told["offset"], size)).hexdigest() == kept.get("sha256")
    except OSError:
        return False


def strangers(store: FolderStore, items: Sequence[Item]) -> list[Item]:
    """The items whose result's name is taken by a file that this batch did not make."""
    store.pending(())
    return [one for one in items if not store.knows(one) and _strange(store.path(one, "png"), one)]


def _strange(path: Path, item: Item) -> bool:
    """Whether a file is there and not this row's: after a power cut the journal may lack a row that is."""
    if not path.exists() or not path.stat().st_size:
        return False
    try:
        made = recipe.read(path)
    except UsageError:
        return True
    told = item.told
    return (made.seed, made.method.name) != (told["seed"], told["method"]) or (
        bool(told["words"]) and list(made.instructions) != told["words"]
    )


def write_results(
    folder: Path, found: Input, store: FolderStore | PackedStore, skipped: Iterable[str]
) -> list[tuple[str, str]]:
    """Write ``results.jsonl``; return the rows that failed, as (name, what)."""
    store.pending(())
    left, lines, failed = set(skipped), [], []
    for item in found.items:
        line = store.line(item) or {"error": None, "record": {}}
        if line["error"] is not None:
            failed.append((_name(item, found), line["error"]))
        lines.append(_result(item, found, line, skipped=item.id in left))
    for name, what in found.problems:
        failed.append((name, what))
        lines.append({"row": name, "output": None, "error": what})
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    files.write_atomic(folder / RESULTS, text.encode("utf-8", "replace"), force=True)
    return failed


def _result(item: Item, found: Input, line: Mapping[str, Any], *, skipped: bool) -> dict[str, Any]:
    told, record = item.told, line["record"]
    made = bool(line.get("files"))
    place = {"output": f"{told['out']}.png" if made else None}
    if found.kind == "shards":
        place = {"output": found.shards[item.shard].name if made else None}
    if skipped:
        return {"row": _name(item, found), **place, "skipped": True, "error": None}
    return {
        "row": _name(item, found), **place, "words": told["words"], "method": told["method"], "seed": told["seed"],
        "seconds": record.get("seconds"), "error": line["error"], "notes": record.get("notes", []),
    }  # fmt: skip


def _name(item: Item, found: Input) -> str:
    name = item.told["name"]
    return f"{found.shards[item.shard].name}: {name}" if found.kind == "shards" else name


def forget(folder: Path) -> None:
    """Forget what was made, so that all of it is made again; results stay until they are replaced."""
    Claims(folder=folder).forget()
    shutil.rmtree(folder / OWN, ignore_errors=True)


def read_json(path: Path) -> dict[str, Any]:
    """A file of ours. Raises ``FileFormatError``."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: cannot be read ({error}): remove it, or name another folder") from error
    if not isinstance(found, dict):
        raise FileFormatError(f"{path}: does not hold an object: remove it, or name another folder")
    return found
