"""`showtell attend`: where in a picture each word of an instruction looks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import asked, console, options
from showtell.errors import OutputError

if TYPE_CHECKING:
    from showtell.attending import Attention, Word


def register(app: typer.Typer) -> None:
    app.command("attend", epilog='Example: showtell attend house.png "make the house blue" -o words.png --seed 1')(
        attend
    )


def attend(
    picture: Annotated[Path, typer.Argument(metavar="IN", help="The picture to look at.")],
    out: options.Out,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORDS]...", help="One or several instructions. <name> calls a learned file."),
    ] = None,
    learned: Annotated[
        list[Path] | None,
        typer.Option("--learned", help="A file of showtell learn; in words it has its name: <name>, or <name:0.5>."),
    ] = None,
    strength: Annotated[
        float | None, typer.Option("--strength", help="How much noise, above 0, at most 1; foi's own if not given.")
    ] = None,
    branches: Annotated[
        Path | None,
        typer.Option("--branches", help="Also write what each guidance branch predicts, from that noise (PNG)."),
    ] = None,
    model: options.Model = "starter",
    seed: options.Seed = None,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Draw the cross-attention map of every word, in the first step of an edit by method foi. Nothing is edited.

    The words whose maps are concentrated can be keywords; the one that foi would take for each instruction has a frame.
    Concentration is in nats: 0 is a map that is the same everywhere. With --branches a second sheet shows the picture that
    the model sees behind the noise by picture and words, by the picture alone, by the words alone and by nothing, and what
    the guidance of method ip2p makes of them.
    """
    from showtell import attending, edits, files, images, methods, predicting
    from showtell.cli import outputs

    edits.check_picture_path(out, force=force)
    _check_branches(branches, out, force=force)
    method = methods.resolve("foi")
    methods.settle(method, given={"strength": strength}, card={})
    request = asked.read(words or [], learned or [], None, methods=[method])
    opened = images.open_picture(picture)

    import showtell

    editor = showtell.load(model, device=device, dtype=dtype)
    found = attending.attend(
        editor, opened, request.instruction, learned=request.looks, seed=options.draw_seed(seed), strength=strength
    )
    contents = {out: edits.encoded(found.sheet(), out)}
    if branches is not None:
        told = {"learned": request.looks, "seed": found.seed, "strength": found.strength}
        predicted = predicting.predict(editor, opened, request.instruction, **told)
        contents[branches] = outputs.png(predicted.sheet())
        found.notes.extend(note for note in predicted.notes if note not in found.notes)
    found.notes[:0] = request.notes
    for path, data in contents.items():
        files.write_atomic(path, data, force=force)
    _report(found, out, branches, model, as_json=as_json)


def _check_branches(branches: Path | None, out: Path, *, force: bool) -> None:
    """Raise ``OutputError`` unless the sheet of the branches can be written, beside ``out``."""
    from showtell import files

    if branches is None:
        return
    if branches.suffix.lower() != ".png":
        raise OutputError(f"{branches}: the sheet of the branches is a PNG; the name must end in .png")
    files.check_output(branches, force=force)
    if branches.resolve() == out.resolve():
        raise OutputError(f"{branches}: is --out, too; give --branches another name")


def _report(found: Attention, out: Path, branches: Path | None, model: str, *, as_json: bool) -> None:
    result = {
        "written": str(out),
        "branches": None if branches is None else str(branches),
        "model": model,
        "seed": found.seed,
        "strength": found.strength,
        "instructions": list(found.instructions),
        "map_size": list(found.maps.shape[:0:-1]),
        "words": [_described(word) for word in found.words],
    }
    rows = [
        [
            str(word.part + 1),
            word.text,
            f"{word.concentration:.2f}",
            f"{word.peak[0]}, {word.peak[1]}",
            "keyword" if word.keyword else "",
        ]
        for word in found.words
    ]
    table = console.table(["instruction", "word", "concentration", "peak at", ""], rows)
    text = "\n".join([table, f"wrote {out} (seed {found.seed})", *([] if branches is None else [f"wrote {branches}"])])
    console.finish(result, text, as_json=as_json, notes=found.notes)


def _described(word: Word) -> dict[str, Any]:
    return {
        "word": word.text,
        "instruction": word.part + 1,
        "tokens": list(word.positions),
        "concentration": word.concentration,
        "peak": list(word.peak),
        "keyword": word.keyword,
    }
