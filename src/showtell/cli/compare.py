"""What `showtell edit --compare` adds: several methods, a sheet, and a file for each result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.cli import console
from showtell.errors import UsageError

if TYPE_CHECKING:
    from showtell.edits import Edit
    from showtell.inversions import Inversion


def methods(method: str | None, compare: str | None, held: Inversion | None = None) -> dict[str, Any]:
    """Name -> method: the one of ``--method``, else the one that an inversion was made for, else ``ip2p``; or those of
    ``--compare``. Raises ``MethodError``.
    """
    from showtell import comparing, inversions
    from showtell import methods as known

    if compare is None:
        name = method or inversions.default_method([held]) or "ip2p"
        return {name: known.resolve(name)}
    if method is not None:
        raise UsageError("--method and --compare do not go together: name all methods in --compare")
    return comparing.chosen([name.strip() for name in compare.split(",")])


def check(found: Mapping[str, Any], settings: Mapping[str, Any], *, together: bool) -> None:
    """Raise ``MethodError`` for a hyper-parameter that is unknown or out of range; compared methods take what is theirs."""
    from showtell import comparing
    from showtell import methods as known

    if together:
        comparing.check_options(found, settings)
    for value in found.values():
        own = {name: told for name, told in settings.items() if not together or comparing.takes(value, name)}
        known.settle(value, given=own, card={})


def check_files(out: Path, compared: Mapping[str, Any], *, masks: int, force: bool) -> None:
    """Raise ``OutputError`` unless everything that will lie beside ``out`` can be written. ``masks``: how many, if any."""
    from showtell import edits, files

    results = [path_of(out, name) for name in compared]
    for path in (
        *results,
        *(path for each in results or [out] for path in edits.mask_paths(each.with_suffix(""), masks)),
    ):
        files.check_output(path, force=force)


def path_of(out: Path, name: str) -> Path:
    """Where the result of a method is written, beside the sheet."""
    return Path(f"{out.with_suffix('')}.{name}.png")


def finish(
    found: Mapping[str, Edit], out: Path, *, notes: Sequence[str], save_masks: bool, as_json: bool, force: bool
) -> None:
    """Write the results, then the sheet, and say so."""
    from showtell import comparing, edits, files
    from showtell.cli.edit import described

    heading = ", ".join(max((edit.recipe.instructions for edit in found.values()), key=len))
    sheet = edits.encoded(comparing.sheet(found, heading=heading), out)
    told, lines = {}, []
    for name, edit in found.items():
        place = path_of(out, name)
        edit.save(place, force=force)
        masks = [str(path) for path in edit.save_masks(place.with_suffix(""), force=force)] if save_masks else []
        told[name] = {**described(edit, place, masks), "notes": edit.notes}
        lines += [f"wrote {path}" for path in (place, *masks)]
    files.write_atomic(out, sheet, force=force)
    seed = next(iter(found.values())).seed
    result = {"written": str(out), "seed": seed, "methods": told}
    text = "\n".join([*lines, f"wrote {out} (seed {seed})"])
    console.finish(result, text, as_json=as_json, notes=[*notes, *_notes(found)])


def _notes(found: Mapping[str, Edit]) -> list[str]:
    """What was said of all results once, and the rest with the method's name."""
    shared = [note for note in next(iter(found.values())).notes if all(note in edit.notes for edit in found.values())]
    own = [f"{name}: {note}" for name, edit in found.items() for note in edit.notes if note not in shared]
    return [*shared, *own]
