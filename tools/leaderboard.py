"""Write docs/leaderboard.md from the committed results in docs/results/leaderboard; with --check, only say whether it is up to
date; with add, make a committed result out of an evaluation's summary.

python tools/leaderboard.py [--check]
python tools/leaderboard.py add OUT/summary.json --name "..." --by "..." --command "showtell evaluate ..." [--url https://...]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from showtell import files
from showtell.data import safe_id
from showtell.errors import FileFormatError, ShowtellError, UsageError
from showtell.evaluation.report import reading
from showtell.evaluation.report.embedded import decimals

ROOT = Path(__file__).resolve().parent.parent
PAGE, ENTRIES = ROOT / "docs" / "leaderboard.md", ROOT / "docs" / "results" / "leaderboard"
#: An entry's number, the entry, and one of its lines.
Row = tuple[int, Mapping[str, Any], Mapping[str, Any]]
HEAD = """# Leaderboard

*This page is made from the files in `docs/results/leaderboard` by `tools/leaderboard.py`.*

One board for each data set and protocol. Every figure stands with its 95 % interval, the pictures that it is of, the model, the
machine and the command that makes it again. Figures of another protocol, or of another choice of pictures, are another
board: they are never mixed.

## Adding a row

Evaluate your method, also one of [another package](extending.md), on the same data set with the same protocol, and commit what
`add` makes of the summary:

```sh
showtell evaluate --dataset scenes --protocol starter --methods mine --out mine
python tools/leaderboard.py add mine/summary.json --name "My method" --by "Me" --url https://example.org/paper \\
  --command "showtell evaluate --dataset scenes --protocol starter --methods mine --out mine"
python tools/leaderboard.py
```

Every system of the summary is a row (`--systems a,b` takes some alone). `make docs` fails while this page is older than the
files, and a file that is damaged, or whose protocol was changed by hand, is refused by its name.
"""
NONE = "\n## No results yet\n\nThe first file in `docs/results/leaderboard` makes the first board.\n"


# -- entries ---------------------------------------------------------------------------------------------------------------


def slim(summary: Mapping[str, Any], path: Path, systems: Sequence[str] = ()) -> dict[str, Any]:
    """What a board needs of a summary: no groups. Raises ``FileFormatError``, ``UsageError`` for a system that is not there."""
    evaluation, lines = summary.get("evaluation"), reading.lines(path, summary)
    if not isinstance(evaluation, dict):
        raise FileFormatError(f"{path}: does not say what was evaluated: it is not a summary of an evaluation")
    reading.check(path, evaluation)
    names = [line["system"] for line in lines]
    if missing := [name for name in systems if name not in names]:
        raise UsageError(f"{path}: has no system {missing[0]!r}: choose from {', '.join(names)}")
    known = {system["name"]: system for system in evaluation["systems"]}
    if strangers := [name for name in names if name not in known]:
        raise FileFormatError(f"{path}: does not say what the system {strangers[0]!r} is")
    chosen = [line for line in lines if not systems or line["system"] in systems]
    keys = ("format", "version", "seed", "protocol")
    data = {key: evaluation["dataset"].get(key) for key in ("name", "fingerprint", "count", "settings")}
    return {
        "evaluation": {
            **{key: evaluation.get(key) for key in keys},
            "dataset": data,
            "systems": [known[line["system"]] for line in chosen],
        },
        "machine": str(summary.get("machine") or ""),
        "rows": chosen,
    }


def entry(path: Path) -> dict[str, Any]:
    """A committed result, checked. Raises ``FileFormatError``, which names the file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path.name}: cannot be read as JSON ({error})") from error
    return checked(found, path)


def checked(found: Any, path: Path) -> dict[str, Any]:
    """What a file of that name holds, if it is a result. Raises ``FileFormatError``."""
    told = found.get("entry", {}) if isinstance(found, dict) else None
    if not isinstance(told, dict) or any(
        not isinstance(told.get(key, ""), str) for key in ("name", "by", "url", "command")
    ):
        raise FileFormatError(f"{path.name}: is not a result as `tools/leaderboard.py add` writes it")
    kept = slim(found, Path(path.name))
    protocol = kept["evaluation"]["protocol"]
    if protocol.get("digest") != digest(protocol):
        raise FileFormatError(
            f"{path.name}: its protocol is not the one of its digest: it was changed by hand; add it again"
        )
    listing = kept["evaluation"]["dataset"].get("fingerprint")
    if not isinstance(listing, str) or not listing or not kept["rows"]:
        raise FileFormatError(f"{path.name}: says no data set or has no rows; add it again")
    _check_url(told.get("url", ""), path.name)
    return {**kept, "entry": {"name": path.stem, "by": "", "url": "", "command": "", **told}}


def digest(protocol: Mapping[str, Any]) -> str:
    """What a described protocol's digest has to be (``showtell.metrics.protocol.Protocol.digest``)."""
    told = json.dumps([protocol.get("name"), protocol["measures"]], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _check_url(url: str, where: str) -> None:
    if url and not re.fullmatch(r"https?://[A-Za-z0-9._~:/?#@!$&*+,;=%-]+", url):
        raise FileFormatError(f"{where}: {url!r:.80} is not an address that begins with https://")


# -- the page --------------------------------------------------------------------------------------------------------------


def page(folder: Path) -> str:
    """The whole page. Raises ``FileFormatError`` for an entry that is broken."""
    boards: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        one = entry(path)
        dataset, protocol = one["evaluation"]["dataset"], one["evaluation"]["protocol"]
        key = (str(dataset["name"]), dataset["fingerprint"], protocol["digest"])
        boards.setdefault(key, []).append({**one, "file": path.name})
    parts = [HEAD, *(board(boards[key]) for key in sorted(boards))]
    return "".join(parts if boards else [HEAD, NONE])


def board(entries: Sequence[dict[str, Any]]) -> str:
    """One table: a row for each system of the entries, best first by the protocol's first measure."""
    evaluation = entries[0]["evaluation"]
    dataset, protocol = evaluation["dataset"], evaluation["protocol"]
    measures = protocol["measures"]
    rows = [(number, one, line) for number, one in enumerate(entries, 1) for line in one["rows"]]
    rows.sort(key=lambda row: _rank(row, measures))
    rated = [row for row in rows if not _bound(row)] or rows
    known = {m["name"]: [v for _, _, line in rated if (v := _value(line, m["name"])) is not None] for m in measures}
    heads = ["System", "Model", *(_head(m) for m in measures), "Pictures", "Result"]
    body = []
    for row in rows:
        number, one, line = row
        system, mark = _system(row), not _bound(row)
        cells = [_cell(line["measures"].get(m["name"]) or {}, m, known[m["name"]], mark=mark) for m in measures]
        body.append([_named(row), _model(system), *cells, _counts(line, dataset), f"{number}"])
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *body))
    note = f" {plain(protocol['note'])}" if protocol.get("note") else ""
    about = (
        f"{plain(dataset['count'])} pictures (listing {plain(dataset['fingerprint'])}); digest of the protocol "
        f"{plain(protocol['digest'])}.{note}"
    )
    made = "\n".join(f"{number}. {_made(one)}" for number, one in enumerate(entries, 1))
    told = dataset.get("settings") if isinstance(dataset.get("settings"), dict) else {}
    chosen = ", ".join(f"{key} = {value}" for key, value in told.items() if value is not None)
    title = (
        f"{plain(dataset['name'])}{' ' + plain(f'({chosen})') if chosen else ''}, protocol {plain(protocol['name'])}"
    )
    return f"\n## {title}\n\n{about}\n\n{table}\n\nThe results:\n\n{made}\n"


def _system(row: Row) -> Mapping[str, Any]:
    return next(system for system in row[1]["evaluation"]["systems"] if system["name"] == row[2]["system"])


def _bound(row: Row) -> bool:
    """Whether a row is a bound (the input, the truth): those stand last and are not marked as the best."""
    return bool(reading.bound(_system(row)))


def _rank(row: Row, measures: Sequence[Mapping[str, Any]]) -> tuple[bool, bool, float, str]:
    value = _value(row[2], measures[0]["name"]) if measures else None
    sign = 1 if measures and measures[0].get("better") == "lower" else -1
    return _bound(row), value is None, sign * (value or 0.0), row[2]["system"]


def _value(line: Mapping[str, Any], column: str) -> float | None:
    return (line["measures"].get(column) or {}).get("value")


def _head(measure: Mapping[str, Any]) -> str:
    return f"{plain(measure.get('label') or measure['name'])} {'↓' if measure.get('better') == 'lower' else '↑'}"


def _cell(figure: Mapping[str, Any], measure: Mapping[str, Any], known: Sequence[float], *, mark: bool) -> str:
    value, low, high = (figure.get(key) for key in ("value", "low", "high"))
    if value is None:
        return "–"
    places = decimals(known or [value])
    best = reading.best(known, lower=measure.get("better") == "lower")
    text = f"**{value:.{places}f}**" if mark and value == best else f"{value:.{places}f}"
    if low is not None and high is not None:
        text += f"<br><small>{low:.{places}f}&nbsp;to&nbsp;{high:.{places}f}</small>"
    if figure.get("invalid"):
        text += f"<br><small>{int(figure['invalid'])} without</small>"
    return text


def _named(row: Row) -> str:
    system, labels = _system(row), reading.labels(row[1]["evaluation"], row[1])
    told = ", ".join(f"{key} = {value}" for key, value in (system.get("settings") or {}).items())
    return plain(labels[system["name"]]) + (f"<br><small>{plain(told)}</small>" if told else "")


def _model(system: Mapping[str, Any]) -> str:
    model = system.get("model") or {}
    weights = f"<br><small>{plain(str(model['weights'])[:12])}</small>" if model.get("weights") else ""
    return (plain(model["id"]) if model.get("id") else "none") + weights


def _counts(line: Mapping[str, Any], dataset: Mapping[str, Any]) -> str:
    count, failed, whole = line.get("count"), line.get("failed") or 0, dataset.get("count")
    text = f"{count}" if count == whole else f"{count} of {plain(whole)}"
    return text + (f"<br><small>{failed} failed</small>" if failed else "")


def _made(one: Mapping[str, Any]) -> str:
    """Who made a result, on what, and how."""
    told, evaluation = one["entry"], one["evaluation"]
    name = f"[{plain(told['name'])}]({told['url']})" if told["url"] else plain(told["name"])
    by = f" by {plain(told['by'])}" if told["by"] else ""
    rest = [
        f"showtell {plain(evaluation.get('version'))}",
        f"seed {plain(evaluation.get('seed'))}",
        plain(one["machine"]),
    ]
    command = f": <code>{plain(told['command'])}</code>" if told["command"] else ""
    return (
        f"{name}{by} ({'; '.join(part for part in rest if part)}; [file](results/leaderboard/{one['file']})){command}"
    )


def plain(value: Any) -> str:
    """Text from a file as it may stand anywhere in Markdown: one line, nothing of it markup."""
    text = " ".join(str("" if value is None else value).split()).encode("utf-8", "replace").decode()
    return re.sub(r"[\\`*_{}\[\]()#|~^$:!]", lambda found: f"&#{ord(found[0])};", escape(text, quote=False))


# -- commands --------------------------------------------------------------------------------------------------------------


def add(options: argparse.Namespace, folder: Path) -> Path:
    """Write an entry. Raises ``ShowtellError`` for what is wrong with the summary or the words beside it."""
    path = Path(options.summary)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(found, dict):
        raise FileFormatError(f"{path}: is not a summary of an evaluation")
    systems = [name.strip() for name in options.systems.split(",")] if options.systems else []
    _check_url(options.url, "--url")
    told = {key: getattr(options, key) for key in ("name", "by", "url", "command")}
    kept = {"entry": told, **slim(found, path, systems)}
    out = folder / f"{safe_id(options.name.lower().replace(' ', '-'))}.json"
    checked(kept, out)
    return files.write_atomic(out, f"{json.dumps(kept, indent=1)}\n".encode(), force=options.force)


def main(arguments: Sequence[str] | None = None, *, page_path: Path = PAGE, folder: Path = ENTRIES) -> int:
    """0 if all is well, 1 if the page is out of date, 2 for what was given wrongly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if the page is out of date")
    adding = parser.add_subparsers(dest="what").add_parser("add", help="make a committed result out of a summary")
    adding.add_argument("summary", help="summary.json of an evaluation")
    adding.add_argument("--name", required=True, help="how the result is called; its file is named after it")
    adding.add_argument("--by", required=True, help="who made it")
    adding.add_argument("--command", required=True, help="the command that makes it again")
    adding.add_argument("--url", default="", help="where more about it stands")
    adding.add_argument("--systems", default="", help="the systems to take, with commas; all by default")
    adding.add_argument("--force", action="store_true", help="replace a result of the same name")
    options = parser.parse_args(arguments)
    try:
        if options.what == "add":
            print(add(options, folder))
            return 0
        text = page(folder)
    except ShowtellError as error:
        print(error, file=sys.stderr)
        return 2
    if not options.check:
        page_path.write_text(text, encoding="utf-8")
        return 0
    if page_path.is_file() and page_path.read_text(encoding="utf-8") == text:
        return 0
    print(f"{page_path.name} is out of date: run python tools/leaderboard.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
