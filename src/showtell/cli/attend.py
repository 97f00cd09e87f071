"""`showtell attend`: where in a picture each word of an instruction looks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import asked, console, options

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
    model: options.Model = "starter",
    seed: options.Seed = None,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Draw the cross-attention map of every word, in the first step of an edit by method foi. Nothing is edited.

    The words whose maps are concentrated can be keywords; the one that foi would take for each instruction has a frame.
    Concentration is in nats: 0 is a map that is the same everywhere.
    """
    from showtell import attending, edits, files, images, methods

    edits.check_picture_path(out, force=force)
    method = methods.resolve("foi")
    methods.settle(method, given={"strength": strength}, card={})
    request = asked.read(words or [], learned or [], None, methods=[method])
    opened = images.open_picture(picture)

    import showtell

    editor = showtell.load(model, device=device, dtype=dtype)
    found = attending.attend(
        editor, opened, request.instruction, learned=request.looks, seed=options.draw_seed(seed), strength=strength
    )
    found.notes[:0] = request.notes
    files.write_atomic(out, edits.encoded(found.sheet(), out), force=force)
    _report(found, out, model, as_json=as_json)


def _report(found: Attention, out: Path, model: str, *, as_json: bool) -> None:
    result = {
        "written": str(out),
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
    text = f"{table}\nwrote {out} (seed {found.seed})"
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
