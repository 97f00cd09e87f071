"""`showtell scenes`: pictures of the world that the starters know, with the exact truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import console, options, outputs
from showtell.errors import OutputError, UsageError

if TYPE_CHECKING:
    from showtell.scenes import Case

ACTIONS = "recolour, replace, remove, add, resize, move, background, style"


def register(app: typer.Typer) -> None:
    app.command("scenes", epilog="Example: showtell scenes --seed 7 --count 4 --edits 2 -o scenes")(scenes)


def scenes(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for pictures, masks and JSON.")] = None,
    sheet: Annotated[Path | None, typer.Option("--sheet", help="Write one contact sheet (PNG).")] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=10_000, help="How many cases.")] = 1,
    edits: Annotated[int, typer.Option("--edits", min=1, max=4, help="Edits in each case.")] = 1,
    action: Annotated[
        list[str] | None, typer.Option("--action", help=f"Only these edits; may be repeated: {ACTIONS}.")
    ] = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Draw scenes: before, after, the mask of each edit, instructions and captions.

    The cases take the seeds SEED, SEED + 1, and so on. They are drawn from the held-out part of the world, which no
    model was trained on.
    """
    if out is None and sheet is None:
        raise UsageError("nothing to write: give a folder with -o DIR, or a contact sheet with --sheet FILE.png")
    _check(out, sheet, count, force=force)
    seed = options.draw_seed(seed)
    cases = _draw(seed, count, edits, action, as_json=as_json)
    contents = {name: data for number, case in cases.items() for name, data in _files(number, case).items()}
    described = [_describe(number, case) for number, case in cases.items()]
    if out is not None:
        outputs.write_folder(out, {**contents, "scenes.json": outputs.json_bytes(described)}, force=force)
    if sheet is not None:
        _write_sheet(sheet, cases, force=force)
    written = [str(path) for path in (out, sheet) if path is not None]
    text = "\n".join(
        [f"{d['seed']}: {'; '.join(d['instructions'])}" for d in described] + [f"wrote {', '.join(written)}"]
    )
    console.finish({"seed": seed, "written": written, "cases": described}, text, as_json=as_json)


def _check(out: Path | None, sheet: Path | None, count: int, *, force: bool) -> None:
    from showtell import files
    from showtell.cli.sheet import MOST

    if out is not None:
        outputs.check_folder(out, ["scenes.json"], force=force)
    if sheet is not None:
        if sheet.suffix.lower() != ".png":
            raise OutputError(f"{sheet}: the sheet is a PNG; the name must end in .png")
        if count > MOST:
            raise UsageError(f"--sheet holds at most {MOST} cases, not {count}: lower --count, or give -o DIR alone")
        files.check_output(sheet, force=force)


def _draw(seed: int, count: int, edits: int, actions: list[str] | None, *, as_json: bool) -> dict[int, Case]:
    from showtell import scenes as world

    cases = {}
    with console.progress("drawing", as_json=as_json) as tick:
        for i in range(count):
            cases[seed + i] = world.sample(seed + i, edits=edits, actions=actions)
            tick(i + 1, count)
    return cases


def _files(number: int, case: Case) -> dict[str, bytes]:
    pictures = {f"{number}-before.png": outputs.png(case.before), f"{number}-after.png": outputs.png(case.after)}
    if len(case.masks) == 1:
        return {**pictures, f"{number}-mask.png": outputs.mask_png(case.masks[0])}
    return pictures | {f"{number}-mask-{i}.png": outputs.mask_png(m) for i, m in enumerate(case.masks, 1)}


def _describe(number: int, case: Case) -> dict[str, Any]:
    return {
        "seed": number,
        "instructions": case.instructions,
        "keywords": case.keywords,
        "captions": {"before": case.captions[0], "after": case.captions[1]},
        "edits": [edit.to_dict() for edit in case.edits],
        "files": list(_files(number, case)),
    }


def _write_sheet(path: Path, cases: dict[int, Case], *, force: bool) -> None:
    from showtell import files
    from showtell.cli import sheet as drawing

    cards = [
        drawing.Card(title=", ".join(c.instructions), pictures=drawing.truth(c), note=f"seed {n}")
        for n, c in cases.items()
    ]
    files.write_atomic(path, outputs.png(drawing.draw("Scenes", cards)), force=force)
