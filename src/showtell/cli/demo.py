"""`showtell demo`: edits by words and by showing, measured against the truth, on one contact sheet."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import console, options, outputs

if TYPE_CHECKING:
    from PIL import Image

    from showtell.cli.gallery import Exhibit
    from showtell.cli.shown import Lesson, Taught
    from showtell.editor import Editor
    from showtell.edits import Edit


BATCH = 6
"""Pictures that are edited at once."""


def register(app: typer.Typer) -> None:
    app.command("demo", epilog="Example: showtell demo --out demo")(demo)


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the sheet, the pictures and the figures.")
    ] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31, help="Seed of the scenes and of the edits.")] = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Edit pictures with the starter model: offline, in a minute or two on two cores.

    Two held-out scenes for each kind of edit, two with two instructions at once, a drawing made with another program,
    and a photograph. Then scenes with several instructions, each kept in its place (method foi), beside plain
    InstructPix2Pix; and one of which only is said what it is to show (method pti), beside plain DDIM inversion. Then two
    edits learned from one pair each: a style, on three new scenes and with words added, and a drawing in ink, on two other
    drawings. Writes sheet.png, figures.json, the learned files, and every input and edit; the edits carry their recipes.
    """
    from showtell.cli import described, focused, gallery, sheet, shown

    began = time.monotonic()
    exhibits = gallery.exhibits(seed, out)
    several = focused.exhibits(seed, out)
    targets = described.exhibits(seed, out)
    lessons = shown.lessons(seed, out)
    names = [name for item in (*exhibits, *targets, *lessons) for name in item.files]
    names += [name for exhibit in several for name in focused.files(exhibit)]
    outputs.check_folder(out, ["sheet.png", "figures.json", *names], force=force)

    import showtell

    editor = showtell.load("starter", device=device, dtype=dtype)
    edits = _edit(editor, exhibits, seed, as_json=as_json)
    with console.progress("editing in regions", as_json=as_json) as tick:
        kept = focused.edit(editor, several, seed=seed, tick=tick)
    base = showtell.load("starter-base", device=device, dtype=dtype)
    with console.progress("describing the result", as_json=as_json) as tick:
        made = described.edit(base, targets, seed=seed, tick=tick)
    taught = _teach(editor, lessons, out, seed, as_json=as_json)
    figures = gallery.figures(exhibits, edits)
    figures["focused"] = focused.figures(kept)
    figures["described"] = described.figures(made)
    figures["shown"] = shown.figures(taught)
    parts = [focused.page(kept, figures["focused"]), described.page(made, figures["described"])]
    parts.append(shown.page(taught, figures["shown"]))
    page = sheet.stack([gallery.page(exhibits, edits, figures), *parts])
    figures["seconds"] = round(time.monotonic() - began, 1)
    contents = {name: data for item in taught for name, data in shown.contents(item).items()}
    contents |= {name: data for item in (*kept, *made) for name, data in item.contents.items()}
    _write(out, exhibits, edits, contents, figures, page, force=force)
    text = "\n".join([_table(figures), "", _summary(figures), f"wrote {out / 'sheet.png'}"])
    console.finish({"written": str(out), **figures}, text, as_json=as_json)


def _edit(editor: Editor, exhibits: list[Exhibit], seed: int, *, as_json: bool) -> list[Edit]:
    """All edits in batches. An edit that fails ends the demo: everything here is meant to work."""
    edits: list[Edit] = []
    with console.progress("editing", as_json=as_json) as tick:
        for first in range(0, len(exhibits), BATCH):
            part = exhibits[first : first + BATCH]
            seeds = [seed + first + i for i in range(len(part))]
            for edit in editor.edit([e.picture for e in part], [list(e.words) for e in part], seed=seeds):
                if isinstance(edit, Exception):
                    raise edit
                edits.append(edit)
            tick(len(edits), len(exhibits))
    return edits


def _teach(editor: Editor, lessons: list[Lesson], out: Path, seed: int, *, as_json: bool) -> list[Taught]:
    from showtell.cli import shown

    taught = []
    for lesson in lessons:
        with console.progress(f"learning <{lesson.name}>", as_json=as_json) as tick:
            taught.append(shown.teach(editor, lesson, out, seed=seed, tick=tick))
    return taught


def _write(
    out: Path,
    exhibits: list[Exhibit],
    edits: list[Edit],
    contents: dict[str, bytes],
    figures: dict[str, Any],
    page: Image.Image,
    *,
    force: bool,
) -> None:
    contents |= {exhibit.files[0]: exhibit.data for exhibit in exhibits}
    contents |= {exhibit.files[1]: edit.png() for exhibit, edit in zip(exhibits, edits, strict=True)}
    contents |= {"sheet.png": outputs.png(page), "figures.json": outputs.json_bytes(console.plain(figures))}
    outputs.write_folder(out, contents, force=force)


def _table(figures: dict[str, Any]) -> str:
    rows = [
        [
            case["file"],
            "; ".join(case["words"]),
            *(["–", "–", "no truth known"] if case["right"] is None else _cells(case)),
        ]
        for case in (
            *figures["cases"],
            *figures["focused"]["cases"],
            *figures["described"]["cases"],
            *(case for lesson in figures["shown"]["lessons"] for case in lesson["cases"]),
        )
    ]
    return console.table(["file", "words", "error inside", "dB outside", "right"], rows)


def _cells(case: dict[str, Any]) -> list[str]:
    return [f"{case['edit_error']:.3f}", f"{case['outside_psnr']:.1f}", "yes" if case["right"] else "no"]


def _summary(figures: dict[str, Any]) -> str:
    shown, kept, made = figures["shown"], figures["focused"], figures["described"]
    right = [
        f"{figures['single_right']} of {figures['single']} single edits",
        f"{figures['double_right']} of {figures['double']} double ones",
        f"{kept['right']} of {kept['count']} of several in regions",
        f"{made['right']} of {made['count']} described",
        f"{shown['right']} of {shown['count']} learned ones",
    ]
    return (
        f"right: {', '.join(right)}, in {figures['seconds']} s. "
        "Right means: squared error inside the mask below a quarter of the unedited picture's, and at least 25 dB to the "
        "input outside it."
    )
