"""Write docs/cli.md from the commands themselves; with --check, only say whether it is up to date.

python tools/cli_reference.py [--check]
"""

from __future__ import annotations

import argparse
import inspect
import sys
from pathlib import Path
from typing import Any

from typer.main import get_command

from showtell.cli.app import everything

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
HEAD = """# Command line

*This page is made from the commands themselves by `tools/cli_reference.py`.*

Results go to stdout, notes and progress to stderr; there are progress bars on a terminal and none in a pipe. With
`--json` a command prints one JSON object. Exit codes: 0 success, 1 a failure that is not your doing, 2 wrong use, 130
stopped by Ctrl-C. An error is one line on stderr. `--seed`, `--device` and `--dtype` are there where they mean
something: `replay` takes its seed from the recipe, and what draws no random numbers has none.

Nothing is overwritten without `--force`, and a file is either whole
or not there. Set `SHOWTELL_DEBUG=1` to see where an unexpected error comes from, and
`SHOWTELL_STARTERS` to use other starter models.
"""


def reference() -> str:
    """The whole page."""
    sections = [HEAD]
    for path, command in leaves(get_command(everything()), "showtell"):
        sections.append(section(path, command))
    return "\n".join(sections)


def leaves(command: Any, path: str) -> list[tuple[str, Any]]:
    """Every command that does something, with its full name."""
    children = getattr(command, "commands", None)
    if not children:
        return [(path, command)]
    return [leaf for name, child in children.items() for leaf in leaves(child, f"{path} {name}")]


def section(path: str, command: Any) -> str:
    """One command: its help, its example, its parameters."""
    parameters = [p for p in command.params if p.name != "help"]
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    usage = " ".join([path, *(p.metavar or p.name.upper() for p in arguments), "[OPTIONS]"])
    example = command.epilog.removeprefix("Example: ")
    lines = [
        f"## {path}",
        "",
        inspect.cleandoc(command.help),
        "",
        "```sh",
        f"{usage}",
        "",
        "# for example",
        example,
        "```",
    ]
    rows = [row(p) for p in parameters]
    return "\n".join([*lines, "", "| | | default |", "| --- | --- | --- |", *rows, ""])


def row(parameter: Any) -> str:
    """One parameter as a row of the table."""
    if parameter.param_type_name == "argument":
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    else:
        names = ", ".join(f"`{name}`" for name in parameter.opts)
    default = "needed" if parameter.required else parameter.default
    shown = "" if default in (None, False) or default == [] else f"`{default}`" if default != "needed" else default
    text = (parameter.help or "").replace("][", "]\\[")  # which Markdown takes for a link
    return f"| {names} | {text} | {shown} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if the page is out of date")
    text = reference()
    if parser.parse_args().check:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
            return 0
        print(f"{PAGE.name} is out of date: run python tools/cli_reference.py", file=sys.stderr)
        return 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
