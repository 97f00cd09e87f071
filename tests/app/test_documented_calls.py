"""The calls that README and docs/studio.md show, against a studio that runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("gradio")

from showtell import recipe
from tests.cli import pictures

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "studio.md"]
ADDRESS = "http://127.0.0.1:7860"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures.plain(96, 64).save("cat.jpg")
    return tmp_path


def shown(page: Path, kind: str, mark: str) -> str:
    """The block of a page that has ``mark`` in it."""
    blocks = re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    [block] = [block for block in blocks if mark in block]
    assert ADDRESS in block
    return block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_client_in_python(page, studio, here):
    names: dict[str, object] = {}
    text = shown(page, "python", "gradio_client").replace(ADDRESS, studio.address)
    exec(compile(text, page.name, "exec", dont_inherit=True), names)
    assert recipe.read(str(names["picture"])).seed == names["info"]["seed"] == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_curl(page, studio, here):
    text = shown(page, "sh", "/gradio_api/upload").replace(ADDRESS, studio.address)
    told = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], capture_output=True, text=True, timeout=60, check=True
    )
    assert "event: complete" in told.stdout
    path = re.findall(r'"path": *"([^"]+\.png)"', told.stdout)[-1]
    answer = studio.get(f"/gradio_api/file={path}")
    (here / "edited.png").write_bytes(answer.content)
    assert recipe.read(here / "edited.png").seed == 1
