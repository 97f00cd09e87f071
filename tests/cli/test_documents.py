"""The README and the documentation are run: Python blocks as one program a page, console blocks line by line.

A block after a comment that begins with `<!-- not run` is left alone. The package's starters are used, or random ones
where they are not there.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from showtell import loading
from showtell.cli import main
from tests.cli import pictures

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?P<skip><!-- not run[^\n]*-->\n)?^```(?P<kind>python|console)\n(?P<text>.*?)^```$", re.M | re.S)


def blocks(page: Path) -> list[tuple[str, str]]:
    """The blocks of a page that are to be run, in order."""
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [(match["kind"], match["text"]) for match in found if not match["skip"]]


@pytest.fixture
def some_starters(request):
    """The package's starters, else random ones."""
    if not loading.starters_dir().is_dir():
        request.getfixturevalue("starters")


@pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_what_a_page_shows_works(page, folder, some_starters, capfd):
    pictures.plain(96, 64).save("cat.jpg")
    names: dict[str, object] = {}
    for kind, text in blocks(page):
        if kind == "python":
            exec(compile(text, page.name, "exec"), names)
            continue
        for line in text.splitlines():
            if line.startswith("$ showtell "):
                assert main(shlex.split(line)[2:]) == 0, f"{line}\n{capfd.readouterr().err}"


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_no_page_is_left_out_of_the_navigation():
    told = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name in told, f"{page.name} is not in mkdocs.yml"
