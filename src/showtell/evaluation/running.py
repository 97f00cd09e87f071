"""An evaluation: systems × rows × protocol into a folder, which goes on where it was stopped."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import edits, files, images
from ..errors import FileFormatError, ImageError, ShowtellError, UsageError
from ..metrics.protocol import Example, Meter, Protocol
from . import folder as layout
from . import making, table
from .folder import Folder
from .making import Editors, Opened
from .summary import summarise
from .systems import System, distinct

if TYPE_CHECKING:
    from PIL import Image

    from ..data import Dataset, Row

#: Told (pictures done, pictures in all, what is being done).
Tick = Callable[[int, int, str], None]
EQUAL = 100.0
"""dB: a PSNR is kept as at most this, so that equal pictures, whose PSNR is infinite, enter means and medians."""
_SHADE = 2.0
"""Of 255: the mean difference up to which a picture is the same."""
MODELS = {"instruct": "starter", "base": "starter-base"}


def run(
    dataset: Dataset,
    systems: Sequence[System],
    meter: Meter,
    out: Path,
    *,
    models: Mapping[str, str] | None = None,
    seed: int = 0,
    batch_size: int = 8,
    device: str = "auto",
    dtype: Any = None,
    shard: tuple[int, int] | None = None,
    tick: Tick = lambda done, total, what: None,
) -> dict[str, Any]:
    """Edit every row by every system, measure it, and return the summary (``summary.json``).

    Each picture and its figures are kept in ``out`` as soon as they are there (see ``folder`` and ``docs/evaluating.md``), so the
    same call goes on where an interrupted one stopped; what failed is tried again. ``models``: the ``instruct`` and the ``base``
    model, by default the starters. A row's seed is of its name and ``seed``. ``shard`` (i, n) does the rows i, i + n, ... alone,
    for several machines that share the folder; the summary is of whatever is there. A row whose picture does not open is
    counted as failed in every system, and the rest goes on.

    Raises ``UsageError`` for a shard out of range, ``FileFormatError`` for a folder that holds other results, ``OutputError`` for
    one that cannot be written, ``ModelError``.
    """
    chosen = distinct(systems)
    first, step = shard or (0, 1)
    if not 0 <= first < step:
        raise UsageError(f"shard {first}/{step}: the first number counts from 0 and is below the second")
    place, editors = Folder(out), Editors({**MODELS, **(models or {})}, device=device, dtype=dtype)
    for system in chosen:
        system.check()
    files.make_folder(out)  # before models are loaded
    told = {system.name: editors.described(system) for system in chosen}
    place.claim(dataset, chosen, told, meter.protocol, seed=seed)
    rows, done = dataset.rows[first::step], 0
    total = len(rows) * len(chosen)
    for start in range(0, len(rows), batch_size):
        block = rows[start : start + batch_size]
        opened: dict[str, Opened | ShowtellError] = {}
        for system in chosen:
            tick(done, total, system.name)
            _block(system, block, opened, place, editors, meter, seed=seed)
            done += len(block)
    tick(done, total, "summary")
    # Once more: another run may have brought systems of its own meanwhile, and neither must lose the other's.
    return finish(place, dataset, meter, place.claim(dataset, chosen, told, meter.protocol, seed=seed))


def finish(place: Folder, dataset: Dataset, meter: Meter, head: dict[str, Any]) -> dict[str, Any]:
    """The table and the summary of whatever is there, written and returned."""
    names = [one["name"] for one in head["systems"]]
    scores = place.scores(names, [row.id for row in dataset.rows])
    strangers = [one for one in scores if one.get("protocol") != meter.protocol.digest]
    if strangers:
        raise FileFormatError(
            f"{place.score(strangers[0]['system'], strangers[0]['id'])}: was measured by another protocol: name another folder"
        )
    layout.write(place.path / layout.ROWS, [_described(row, place) for row in dataset.rows])
    groups = {row.id: row.group for row in dataset.rows}
    table.write(place.path / layout.TABLE, scores, groups, meter.protocol)
    meter.use_reals(dataset.reals)
    summary = summarise(head, scores, groups, meter)
    if dataset.reals:
        summary["reals"] = {"groups": len(dataset.reals), "problems": list(meter.problems)}
    layout.write(place.path / layout.SUMMARY, summary)
    return summary


def _described(row: Row, place: Folder) -> dict[str, Any]:
    path = place.input(row.id)
    return {**row.described(), "size": _size(path) if path.exists() else None}


def _size(path: Path) -> list[int] | None:
    """Width and height, of the header alone: it is asked of every picture whenever a summary is made. None for a damaged one,
    which is no reason to have no summary.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as opened:
            return list(opened.size)
    except (OSError, SyntaxError, ValueError):
        return None


def _block(
    system: System,
    block: Sequence[Row],
    opened: dict[str, Opened | ShowtellError],
    place: Folder,
    editors: Editors,
    meter: Meter,
    *,
    seed: int,
) -> None:
    """What is missing of a block of rows under one system: pictures made, then measured, each kept."""
    due = [row for row in block if not _measured(place, system, row, meter)]
    for row in due:
        if row.id not in opened:
            opened[row.id] = _open(row, place, seed=seed)
    ready = [one for row in due if isinstance(one := opened[row.id], Opened)]
    unmade = [one for one in ready if not _opens(place.edit(system.name, one.row.id))]
    errors, seconds, notes = _make(system, unmade, place, editors)
    for row in due:
        if isinstance(broken := opened[row.id], ShowtellError):
            errors[row.id] = str(broken)
    examples: dict[str, Example] = {}
    for one in ready:
        if one.row.id not in errors:
            try:
                examples[one.row.id] = _example(one, place.edit(system.name, one.row.id))
            except ShowtellError as error:
                errors[one.row.id] = str(error)
    values = dict(zip(examples, meter.measure(list(examples.values())), strict=True)) if examples else {}
    features = dict(zip(examples, meter.features(list(examples.values())), strict=True)) if examples else {}
    for row in due:
        entry = {
            "id": row.id, "system": system.name, "seed": making.seed_of(seed, row.id),
            "seconds": seconds.get(row.id), "error": errors.get(row.id),
            "values": plain(values.get(row.id, {}), meter.protocol),
            "features": features.get(row.id, {}), "protocol": meter.protocol.digest, "notes": notes.get(row.id, []),
        }  # fmt: skip
        layout.write(place.score(system.name, row.id), entry)


def _make(
    system: System, due: Sequence[Opened], place: Folder, editors: Editors
) -> tuple[dict[str, str], dict[str, float], dict[str, list[str]]]:
    """Make and keep the pictures that are missing: the errors, the seconds and the notes of each, by row."""
    if not due:
        return {}, {}, {}
    started = time.perf_counter()
    found = making.make(system, editors, due, place)
    each = (time.perf_counter() - started) / len(due)
    errors: dict[str, str] = {}
    notes: dict[str, list[str]] = {
        one.row.id: [*getattr(made, "notes", [])] for one, made in zip(due, found, strict=True)
    }
    for one, made in zip(due, found, strict=True):
        path = place.edit(system.name, one.row.id)
        if isinstance(made, ShowtellError):
            errors[one.row.id] = str(made)
        else:
            files.make_folder(path.parent)
            files.write_atomic(path, made.png() if hasattr(made, "png") else png(made), force=True)
    return errors, {one.row.id: round(each, 4) for one in due}, notes


def _measured(place: Folder, system: System, row: Row, meter: Meter) -> bool:
    """Whether a row is done: measured, and not with an error."""
    path = place.score(system.name, row.id)
    if not path.exists():
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("error") is None and found.get("protocol") == meter.protocol.digest


def _opens(path: Path) -> bool:
    """Whether there is a picture, and it is whole."""
    try:
        return path.exists() and bool(images.open_picture(path))
    except ImageError:
        return False


def _open(row: Row, place: Folder, *, seed: int) -> Opened | ShowtellError:
    """The row with its picture open; what the report shows of it is kept at once, and is what later runs have to find."""
    try:
        before = row.before().convert("RGB")
        after = None if row.after is None else row.after()
        for path, picture in ((place.input(row.id), before), (place.truth(row.id), after)):
            if picture is not None and not _kept(path, picture):
                files.make_folder(path.parent)
                files.write_atomic(path, png(picture), force=True)
    except ShowtellError as error:
        return error
    return Opened(row=row, before=before, seed=making.seed_of(seed, row.id))


def _kept(path: Path, picture: Image.Image) -> bool:
    """Whether the folder has this picture. Raises ``ImageError`` if it has another one: results of both must not be mixed.

    Decoders of two machines may differ by a shade.
    """
    import numpy as np

    if not path.exists():
        return False
    try:
        found = images.open_picture(path).rgb
    except ImageError:
        return False
    if found.size == picture.size:
        a, b = (np.asarray(one.convert("RGB"), dtype=np.float32) for one in (found, picture))
        if np.abs(a - b).mean() <= _SHADE:
            return True
    raise ImageError(f"{path}: is not the picture that the data set has now: name another folder")


def _example(one: Opened, made: Path) -> Example:
    """What is measured. A true result or an edit of another size than the picture is brought to the picture's."""
    row = one.row
    return Example(
        before=one.before,
        result=making.sized(images.open_picture(made).rgb, one.before.size),
        after=one.after,
        mask=one.mask,
        source_caption=row.source_caption,
        target_caption=row.target_caption,
        pair=one.pair,
        group=row.group,
        truth=row.truth,
    )


def plain(values: Mapping[str, float | None], protocol: Protocol) -> dict[str, float | None]:
    """Values as JSON can hold them: a PSNR is at most ``EQUAL``, and what is not a finite number is no value, and is counted as
    such.
    """
    capped = {measure.name for measure in protocol.measures if measure.function in ("psnr", "outside_psnr")}
    known = {
        name: min(value, EQUAL) if name in capped and value is not None else value for name, value in values.items()
    }
    return {
        name: None if value is None or not math.isfinite(value) else round(float(value), 6)
        for name, value in known.items()
    }


def png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    return edits.encoded(picture.convert("RGB"), "picture.png")
