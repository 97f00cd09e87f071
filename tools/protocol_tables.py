"""Write the tables of docs/metrics.md from the protocols themselves; with --check, only say whether they are up to date.

python tools/protocol_tables.py [--check]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from showtell.metrics import PROTOCOLS, Measure, Protocol

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
START, END = "<!-- from tools/protocol_tables.py -->", "<!-- to here -->"
HEAD = (
    "| column | function | model | against | pixels | range | one figure | better |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def tables() -> str:
    """Every protocol: its note, its measures, and how pictures become a network's input."""
    return "\n\n".join(section(protocol) for protocol in PROTOCOLS.values())


def section(protocol: Protocol) -> str:
    """One protocol."""
    rows = [HEAD, *(line(measure) for measure in protocol.measures)]
    inputs: dict[str, list[str]] = {}
    for measure in protocol.measures:
        if measure.model:
            inputs.setdefault(measure.input, []).append(f"`{measure.name}`")
    notes = [f"- Input of {', '.join(names)}: {told}." for told, names in inputs.items()]
    return "\n".join([f"### `{protocol.name}`", "", protocol.note, "", *rows, *([""] if notes else []), *notes])


def line(measure: Measure) -> str:
    """One measure as a table's row."""
    options = ", ".join(f"{name}={value}" for name, value in measure.options)
    cells = [
        f"`{measure.name}`", f"`{measure.function}`{f' ({options})' if options else ''}",
        f"`{measure.model}`" if "/" in measure.model or "-clip" in measure.model else measure.model or "none",
        measure.against, measure.where, measure.range, "of the set" if measure.reduction == "set" else measure.reduction,
        measure.better,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def page(text: str) -> str:
    """The page with its tables made anew."""
    head, rest = text.split(START)
    return f"{head}{START}\n\n{tables()}\n\n{END}{rest.split(END)[1]}"


def main() -> int:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="Only compare; exit 1 if the page is out of date.")
    check = parser.parse_args().check
    text = PAGE.read_text(encoding="utf-8")
    made = page(text)
    if check:
        if text != made:
            print(f"{PAGE}: out of date: run python tools/protocol_tables.py", file=sys.stderr)
        return int(text != made)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
