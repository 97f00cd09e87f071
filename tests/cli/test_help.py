"""Help is quick, complete, and its examples work; the reference page is what the commands say."""

from __future__ import annotations

import importlib.util
import inspect
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import pictures
from tests.helpers import datasets
from tests.study import answering

ROOT = Path(__file__).resolve().parents[2]


def reference():
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "tools" / "cli_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands() -> dict[str, object]:
    from typer.main import get_command

    from showtell.cli.app import everything

    return dict(reference().leaves(get_command(everything()), "showtell"))


LONG = {
    "showtell train starter",
    "showtell bench starter",
    "showtell bench visii",
    "showtell bench foi",
    "showtell bench inversion",
    "showtell bench ip2p",
    "showtell demo",
}
"""Examples that take minutes, or that random weights cannot serve."""
ELSEWHERE = {"showtell dataset foi", "showtell app"}
"""Examples that ask a model on another machine, or serve until they are stopped; tests of their own run them."""


@pytest.mark.parametrize("name", commands())
def test_every_command_has_help_with_an_example_and_json(name, cli):
    result = cli(*name.split()[1:], "--help")
    assert result.code == 0 and f"Example: {name}" in " ".join(result.out.split())
    assert "--json" in result.out


@pytest.mark.parametrize("name", [name for name in commands() if name not in LONG | ELSEWHERE])
def test_the_examples_of_the_help_work(name, cli, folder):
    for picture in ("house.png", "before.png"):
        pictures.plain().save(picture)
    assert cli("edit", "house.png", "make it red", "-o", "blue.png", "--steps", "1").code == 0
    if name.startswith("showtell study "):
        answering.example(finished=name.endswith(" tally"))
    if name == "showtell dataset filter":
        datasets.candidates(folder / "candidates", count=1)
    if name == "showtell dataset pictures":
        assert cli("dataset", "triplets", "--from", "scenes", "--count", "2", "-o", "triplets.jsonl").code == 0
    example = commands()[name].epilog.removeprefix("Example: ")
    args = shlex.split(example)[1:]
    result = cli(*args, *(["--force"] if name == "showtell edit" else []))
    assert result.code == 0, result.err


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LONG))
def test_the_long_examples_work(name, folder, capfd):
    from showtell import loading
    from showtell.cli import main

    if name != "showtell train starter" and not loading.starters_dir().is_dir():
        pytest.skip("the starter models are not here")
    example = commands()[name].epilog.removeprefix("Example: ")
    assert main(shlex.split(example)[1:]) == 0, capfd.readouterr().err


def test_no_command_at_all_prints_the_help(cli):
    assert cli().out == cli("--help").out


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_before_a_command_is_the_help_of_all(flag):
    from showtell.cli import app

    assert app.named([flag, "edit"]) is None and app.named(["edit", flag]) == "edit"


def test_the_version_is_the_packages(cli):
    import showtell

    assert cli("--version").out == f"showtell {showtell.__version__}\n"


def test_the_list_of_commands_says_what_their_own_help_says():
    from typer.main import get_command

    from showtell.cli import app

    own = {name: each.help for name, each in get_command(app.everything()).commands.items()}
    listed = {name: summary for name, (_, summary) in app.COMMANDS.items()}
    assert listed == {name: inspect.cleandoc(text).split("\n\n")[0] for name, text in own.items()}


HEAVY = {"torch", "diffusers", "transformers", "numpy", "PIL"}


@pytest.mark.parametrize(
    ("args", "more"),
    [
        (["--version"], {"typer", "rich", "pydantic"}),
        (["--help"], {"pydantic", "showtell.cli.edit"}),
        (["edit", "--help"], {"showtell.cli.train"}),
    ],
)
def test_help_imports_nothing_heavy(args, more):
    code = (
        f"import sys; from showtell.cli import main; main({args!r}); "
        f"heavy = {HEAVY | more} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_reference_page_is_up_to_date():
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == reference().reference()
