"""The README and the documentation are run: Python blocks as one program a page, console blocks line by line.

A block after a comment that begins with `<!-- not run` is left alone. The package's starters are used, or random ones
where they are not there; what a page leaves to their cards is done in fewer steps.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
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


FEWER = {"num_inference_steps": 4}
"""For every method that a card has settings of, learning apart."""
LEARNING = {"timesteps_per_step": 1, "check_timesteps": 2}


@pytest.fixture(scope="module")
def quick_starters(tmp_path_factory) -> Path:
    """The package's starters, with fewer steps in their cards."""
    root, shipped = tmp_path_factory.mktemp("quick") / "starters", loading.starters_dir()
    shutil.copytree(shipped / "cards", root / "cards")
    for part in shipped.iterdir():
        if part.name != "cards":
            (root / part.name).symlink_to(part.resolve())
    for path in (root / "cards").glob("*.json"):
        card = json.loads(path.read_text(encoding="utf-8"))
        for method, settings in card.get("defaults", {}).items():
            settings.update(LEARNING if method == "visii" else FEWER)
        path.write_text(json.dumps(card), encoding="utf-8")
    return root


@pytest.fixture
def some_starters(request, monkeypatch):
    """The package's starters, made quick, else random ones."""
    if loading.starters_dir().is_dir():
        monkeypatch.setenv("SHOWTELL_STARTERS", str(request.getfixturevalue("quick_starters")))
    else:
        request.getfixturevalue("starters")


@pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_what_a_page_shows_works(page, folder, some_starters, capfd):
    pictures.plain(96, 64).save("cat.jpg")
    names: dict[str, object] = {}
    for kind, text in blocks(page):
        if kind == "python":
            exec(compile(text, page.name, "exec", dont_inherit=True), names)
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
