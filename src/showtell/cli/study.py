"""`showtell study`: ask people which result they prefer, and count what they say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli import console, options, outputs

if TYPE_CHECKING:
    from showtell.study import Key, Tally

MAKE = "Example: showtell study make results --systems ip2p,foi --count 4 --checks 2 --seed 1 -o study.html"
TALLY = "Example: showtell study tally answers.json --key study.key.json -o preference.json"


def register(app: typer.Typer) -> None:
    study = typer.Typer(help="Ask people which result they prefer (FoI's Table 2).", epilog=MAKE)
    study.callback()(lambda: None)
    study.command("make", epilog=MAKE)(make)
    study.command("tally", epilog=TALLY)(tally)
    app.add_typer(study, name="study")


def make(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="A folder that `showtell evaluate` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write; its key is written beside it.")] = Path(
        "study.html"
    ),
    systems: Annotated[
        str | None, typer.Option("--systems", help="2 to 9 of the folder's systems, with commas; by default all.")
    ] = None,
    count: Annotated[
        int,
        typer.Option("--count", min=1, help="Rows to ask about, half of them with several instructions if there are."),
    ] = 40,
    checks: Annotated[
        int, typer.Option("--checks", min=0, help="Questions whose answer is known, to see who looks.")
    ] = 4,
    side: Annotated[int, typer.Option("--side", help="Longest side of the pictures, in pixels.")] = 512,
    title: Annotated[
        str | None, typer.Option("--title", help="The page's heading; it must not tell what is compared.")
    ] = None,
    consent: Annotated[
        str | None, typer.Option("--consent", help="What participants agree to, instead of the page's own words.")
    ] = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Make the page of a human preference study from results.

    For every row the page shows the picture before, what was to be changed, and the result of every system in random order, and
    asks which follows the instruction best and which keeps the rest best. It is one file that asks for nothing outside itself;
    what people choose stays in their browser until they save it as a file. The key, OUT.key.json, says which code is which
    system: keep it from participants.
    """
    from showtell import files
    from showtell.errors import OutputError

    if out.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{out}: name the page .html, for example study.html")
    key = out.with_suffix(".key.json")
    for path in (out, key):
        files.check_output(path, force=force)

    from showtell import study
    from showtell.study import making

    seed = options.draw_seed(seed)
    names = None if systems is None else [name.strip() for name in systems.split(",") if name.strip()]
    for text in (title, consent, systems):
        options.check_text(text or "")
    with console.progress("opening pictures", as_json=as_json) as tick:
        made = study.make(
            results,
            systems=names,
            count=count,
            checks=checks,
            seed=seed,
            side=side,
            title=title or making.TITLE,
            consent=consent or making.CONSENT,
            tick=lambda done, total: tick(done, total),
        )
    page = made.page.encode()
    contents = {key.name: outputs.json_bytes(made.key.described()), out.name: page}
    outputs.write_folder(out.parent, contents, force=force)
    result = {
        "written": str(out),
        "key": str(key),
        "study": made.key.study,
        "systems": [system.name for system in made.key.systems],
        "rows": list(made.rows),
        "questions": len(made.key.questions),
        "checks": sum(question.right is not None for question in made.key.questions),
        "bytes": len(page),
        "seed": seed,
    }
    text = (
        f"study {made.key.study}: {len(made.rows)} rows, {len(made.key.questions)} questions, {result['checks']} of them "
        f"attention checks (seed {seed})\nwrote {out} ({_size(len(page))})\nwrote {key}: keep it from participants"
    )
    console.finish(result, text, as_json=as_json, notes=made.notes)


def tally(
    answers: Annotated[list[Path], typer.Argument(metavar="ANSWERS...", help="The files that participants saved.")],
    key: Annotated[Path, typer.Option("--key", help="The key that was written beside the page.")],
    min_checks: Annotated[
        float, typer.Option("--min-checks", help="Share of the attention checks that a participant must pass, 0 to 1.")
    ] = 0.75,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write everything as JSON, too.")] = None,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Count the answers of a study: how often each system was chosen, with 95 % intervals, in the layout of FoI's Table 2.

    Files that are damaged, of another study, or a second one of the same participant are refused by name; the others are
    counted, and the exit code is 1. Participants who fail the attention checks are dropped. "95 %" is Wilson's interval over
    answers; "over people" draws the participants again, since answers of one person hang together.
    """
    from showtell import files

    if out is not None:
        files.check_output(out, force=force)

    from showtell import study
    from showtell.study import folder, plan

    opened = plan.read_key(folder.text(key), name=str(key))
    found = study.tally(answers, opened, min_checks=min_checks)
    if out is not None:
        files.write_atomic(out, outputs.json_bytes(found.described()), force=force)
    notes = [f"refused: {file.path}: {file.why}" for file in found.refused]
    if not as_json and out is not None:
        notes.append(f"wrote {out}")
    console.finish(found.described(), _text(found, opened), as_json=as_json, notes=notes)
    if found.refused:
        raise typer.Exit(1)


def _text(found: Tally, key: Key) -> str:
    from showtell.study import table

    parts = [*table.lines(found)]
    for each in table.tables(found, key):
        parts += ["", each.title, console.table(each.head, each.rows)]
    return "\n".join([*parts, "", table.NOTE])


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"
