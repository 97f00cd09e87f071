"""`showtell models looks`: the learned instructions in a folder, and what each was learned from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import console, options
from showtell.cli.learn import UNFINISHED
from showtell.errors import OutputError, ShowtellError, UsageError

if TYPE_CHECKING:
    from PIL import Image

    from showtell.cli.sheet import Card
    from showtell.learned import LearnedInstruction

EPILOG = "Example: showtell models looks . -o sheet.png"


def looks(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with files of showtell learn.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write a contact sheet of their pairs (PNG).")] = None,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """List the learned instructions in a folder, with a contact sheet of the pairs that they were learned from.

    Every .safetensors file in it is looked at, not those in its subfolders. Files that are no learned instructions are
    listed with the reason.
    """
    paths = _check(folder, out, force=force)

    from showtell.learned import LearnedInstruction

    rows: list[dict[str, Any]] = []
    others: list[dict[str, str]] = []
    cards: list[Card] = []
    for path in paths:
        try:
            look = LearnedInstruction.load(path)
        except ShowtellError as error:
            others.append({"file": path.name, "reason": _reason(path, error)})
            continue
        # Only this is kept: with its noises, a file may take half a gigabyte.
        rows.append(_described(path, look))
        cards.append(_card(look, rows[-1]))
    notes = [f"{other['file']}: {other['reason']}" for other in others]
    if out is not None and not rows:
        notes.append(f"{out} was not written: there is nothing to show")
        out = None
    if out is not None:
        _write_sheet(out, folder, cards, force=force)
    result = {"folder": str(folder), "looks": rows, "others": others, "written": None if out is None else str(out)}
    console.finish(result, _text(folder, rows, out), as_json=as_json, notes=notes)


def _check(folder: Path, out: Path | None, *, force: bool) -> list[Path]:
    from showtell import files
    from showtell.cli.sheet import MOST

    try:
        names = sorted(os.listdir(folder))
    except NotADirectoryError as error:
        raise UsageError(f"{folder}: is a file; name a folder with learned instructions in it") from error
    except (OSError, ValueError) as error:
        reason = "no such folder" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise UsageError(f"{folder!s:.200}: {reason}") from error
    paths = [folder / name for name in names if name.lower().endswith(".safetensors")]
    paths = [path for path in paths if not path.is_dir()]
    if out is not None:
        if out.suffix.lower() != ".png":
            raise OutputError(f"{out}: the sheet is a PNG; the name must end in .png")
        if len(paths) > MOST:
            raise UsageError(f"{folder}: holds {len(paths)} files, and a sheet shows at most {MOST}: leave out -o")
        files.check_output(out, force=force)
    return paths


def _reason(path: Path, error: ShowtellError) -> str:
    if path.name.lower().endswith(UNFINISHED):
        return "is an unfinished learning; go on with it by showtell learn --resume"
    return str(error).removeprefix(f"{path}: ")


def _described(path: Path, look: LearnedInstruction) -> dict[str, Any]:
    how, pairs = look.how, look.how.get("pairs")
    return {
        "file": path.name, "name": look.name, "tokens": len(look.token_ids), "model": _plain(look.model.id),
        "init": _plain(how.get("init_words")), "steps_done": _count(how.get("steps_done")),
        "kept_step": _count(how.get("kept_step")), "kept_loss": _number(how.get("kept_loss")),
        "pairs": len(pairs) if isinstance(pairs, list) else None, "noise": look.noise is not None,
        "bytes": path.stat().st_size, "mixed": isinstance(how.get("mixed"), list), "sha256": look.sha256,
    }  # fmt: skip


def _plain(value: Any) -> str:
    """A file's own text on one short line; nothing, if it is no text."""
    return console.one_line(value[:80]) if isinstance(value, str) else ""


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**53 else None


def _number(value: Any) -> float | None:
    """A number that a float can hold: a file may also say 1e400, NaN or ten to the thousandth."""
    return float(value) if type(value) in (int, float) and abs(value) < 2**53 else None


def _text(folder: Path, rows: list[dict[str, Any]], out: Path | None) -> str:
    if not rows:
        return f"{folder}: no learned instructions"
    head = ["name", "tokens", "model", "from", "steps", "loss", "pairs", "noise", "size"]
    cells = [
        [
            row["name"], str(row["tokens"]), row["model"], row["init"] or "-", _shown(row["steps_done"]),
            _shown(row["kept_loss"]), _shown(row["pairs"]), "kept" if row["noise"] else "-", _size(row["bytes"]),
        ]
        for row in rows
    ]  # fmt: skip
    return "\n".join([console.table(head, cells), *([f"wrote {out}"] if out is not None else [])])


def _shown(value: int | float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"


def _write_sheet(path: Path, folder: Path, cards: list[Card], *, force: bool) -> None:
    from showtell import files
    from showtell.cli import outputs, sheet

    page = sheet.draw("Learned instructions", cards, subtitle=str(folder), columns=4)
    files.write_atomic(path, outputs.png(page), force=force)


def _card(look: LearnedInstruction, row: dict[str, Any]) -> Card:
    from showtell.cli import sheet

    pictures: list[tuple[str, Image.Image]] = [("no picture", sheet.blank())]
    if look.thumbnails:
        pictures = list(zip(("before", "after"), look.thumbnails[0], strict=True))
    loss = "" if row["kept_loss"] is None else f", loss {row['kept_loss']:.4f}"
    count = row["pairs"] or 0
    pairs = "" if count < 2 else f", {count} pairs"
    return sheet.Card(
        title=f"<{look.name}>", pictures=pictures, note=f"{row['tokens']} tokens{loss}{pairs}, {row['model']}"
    )
