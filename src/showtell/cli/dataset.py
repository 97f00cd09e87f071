"""`showtell dataset`: is a data set whole, and files of instructions made by asking a model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import console, filtering, imagined, options, triplets
from showtell.errors import UsageError

if TYPE_CHECKING:
    from showtell.data import Dataset, Problem, Row

EPILOG = 'Example: showtell dataset check folder . --option instruction="make it red" --open'
FOI_EPILOG = "Example: showtell dataset foi house.png -o foi.json --endpoint http://localhost:8000/v1 --model NAME"
SHOWN = 20
"""Problems that are listed one by one on a terminal; ``--json`` has them all."""
Option = Annotated[
    list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="An option of the data set; may be repeated.")
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Data sets: check one, make one.", epilog=EPILOG)
    group.command("check", epilog=EPILOG)(check)
    group.command("foi", epilog=FOI_EPILOG)(foi)
    group.command("pictures", epilog=imagined.EPILOG)(imagined.pictures)
    group.command("filter", epilog=filtering.EPILOG)(filtering.sieve)
    triplets.register(group)
    app.add_typer(group, name="dataset")


def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The data set: pie-bench, magicbrush, ip2p, folder ...")],
    path: Annotated[Path | None, typer.Argument(metavar="PATH", help="Where it lies; scenes has no path.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first rows.")] = None,
    option: Option = None,
    opened: Annotated[bool, typer.Option("--open", help="Open every picture and every mask, too.")] = False,
    as_json: options.Json = False,
) -> None:
    """Read a data set as an evaluation would: count its rows and groups, and name whatever is wrong.

    The exit code is 0 if nothing is wrong, 1 if some rows cannot be used (the others can), 2 if none can. docs/datasets.md
    tells each data set's layout and options.
    """
    from showtell import data
    from showtell.data.options import parse

    found = data.load(name, path, limit=limit, **parse(option or ()))
    problems = list(found.problems)
    if opened:
        problems += _open_all(found, as_json=as_json)
    bad = {problem.id for problem in problems}
    result = _described(found, problems, good=sum(row.id not in bad for row in found.rows))
    console.finish(result, _report(result, found), as_json=as_json)
    if problems:
        raise typer.Exit(1)


def _open_all(found: Dataset, *, as_json: bool) -> list[Problem]:
    from showtell.data import Problem
    from showtell.errors import ShowtellError

    problems = []
    with console.progress("opening", as_json=as_json) as tick:
        for number, row in enumerate(found.rows, start=1):
            for kind, opens in _parts(row):
                try:
                    opens()
                except ShowtellError as error:
                    problems.append(Problem(id=row.id, kind=kind, what=str(error)))
                    break
            tick(number, len(found.rows))
    return problems


def _parts(row: Row) -> list[tuple[str, Callable[[], Any]]]:
    """What a row has to open, and how a failure there is called."""
    pictures = [("picture", one) for one in (row.before, row.after, row.pair, *row.more_pairs) if one is not None]
    return pictures if row.mask is None else [*pictures, ("mask", row.mask)]


def _described(found: Dataset, problems: list[Problem], *, good: int) -> dict[str, Any]:
    return {
        "name": found.name,
        "source": found.source,
        "settings": dict(found.settings),
        "fingerprint": found.fingerprint,
        "rows": len(found.rows),
        "usable": good,
        "has": {
            "instructions": sum(bool(row.instructions) for row in found.rows),
            "source captions": sum(bool(row.source_caption) for row in found.rows),
            "target captions": sum(bool(row.target_caption) for row in found.rows),
            "true results": sum(row.after is not None for row in found.rows),
            "masks": sum(row.mask is not None for row in found.rows),
            "pairs": sum(row.pair is not None for row in found.rows),
        },
        "groups": dict(sorted(Counter(row.group for row in found.rows if row.group).items())),
        "kinds": dict(Counter(problem.kind for problem in problems).most_common()),
        "problems": [{"id": problem.id, "kind": problem.kind, "what": problem.what} for problem in problems],
    }


def _report(result: dict[str, Any], found: Dataset) -> str:
    lines = [f"{found.name}: {result['rows']} rows, {len(result['problems'])} problems ({result['fingerprint']})"]
    lines.append("with " + ", ".join(f"{count} {what}" for what, count in result["has"].items() if count))
    if result["groups"]:
        lines += ["", console.table(["group", "rows"], [[group, str(n)] for group, n in result["groups"].items()])]
    if result["problems"]:
        lines += ["", console.table(["problem", "count"], [[kind, str(n)] for kind, n in result["kinds"].items()]), ""]
        lines += [console.one_line(f"{one['id']}: {one['what']}") for one in result["problems"][:SHOWN]]
        if (rest := len(result["problems"]) - SHOWN) > 0:
            lines.append(f"... and {rest} more (--json lists all)")
    return "\n".join(lines)


def foi(
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURES...", help="Pictures, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, .json or .jsonl, beside the pictures.")],
    endpoint: Annotated[str, typer.Option("--endpoint", help="Base address of an OpenAI-compatible endpoint.")],
    model: Annotated[str, typer.Option("--model", help="The vision-language model's name there.")],
    key_env: Annotated[
        str, typer.Option("--key-env", help="The environment variable that holds the key; it may be unset.")
    ] = "OPENAI_API_KEY",
    attempts: Annotated[int, typer.Option("--attempts", min=1, max=10, help="Questions a picture at most.")] = 3,
    retries: Annotated[
        int, typer.Option("--retries", min=0, max=20, help="Repetitions when the endpoint is busy.")
    ] = 5,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait for an answer.")] = 120.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with OUT: ask only about what is not in it.")] = False,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Ask a vision-language model for two to four instructions a picture, with keywords and captions, as a data set.

    The pictures are sent to the endpoint, scaled down to 1024 pixels. OUT is whole after every picture. The exit code is 1 if
    some pictures got no answer that could be used; --resume asks about those again.
    """
    from showtell.data import foi_maker, openers
    from showtell.data.asking import Endpoint

    for text in (endpoint, model):
        options.check_text(text)
    listed = [file for path in pictures for file in (openers.pictures_in(path) if path.is_dir() else [path])]
    if not listed:
        raise UsageError(f"{pictures[0]}: holds no picture")
    asked = Endpoint(url=endpoint, model=model, key=os.environ.get(key_env, ""), timeout=timeout, retries=retries)
    with console.progress("asking", as_json=as_json) as tick:
        made = foi_maker.make(listed, out, asked, attempts=attempts, resume=resume, force=force, told=tick)
    problems = [{"id": one.id, "kind": one.kind, "what": one.what} for one in made.problems]
    result = {"written": str(out), "entries": len(made.entries), "kept": made.kept, "problems": problems}
    lines = [f"{out}: {len(made.entries)} pictures ({made.kept} from before), {len(problems)} failed"]
    lines += [console.one_line(f"{one['id']}: {one['what']}") for one in problems]
    console.finish(result, "\n".join(lines), as_json=as_json)
    if problems:
        raise typer.Exit(1)
