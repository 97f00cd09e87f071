"""A real browser for the tests of pages: Debian's chromium, driven by Playwright.

A test module asks for it with a fixture of its own, once a module::

    @pytest.fixture(scope="module")
    def browser():
        with launch() as running:
            yield running

Where there is none the tests are skipped, and the reason says so; with ``SHOWTELL_BROWSER=required`` they fail instead.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}


@contextlib.contextmanager
def launch() -> Iterator[Any]:
    """A running chromium (a Playwright ``Browser``), closed at the end."""
    place = os.environ.get("SHOWTELL_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
    if not Path(place).is_file():
        _missing(f"there is no chromium ({place})")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=place, args=list(FLAGS))
        try:
            yield running
        finally:
            running.close()


@contextlib.contextmanager
def page(
    browser: Any,
    place: Path | str,
    *,
    size: dict[str, int] = DESK,
    allow: tuple[str, ...] = (),
    quiet: bool = True,
    **options: Any,
) -> Iterator[Any]:
    """A fresh tab (its own storage) that shows a file or an address; ``options`` are those of ``Browser.new_context``.

    At the end it is asserted that nothing was asked for but that file or server, what it carries (``data:``, ``blob:``) and
    addresses that begin with one of ``allow``, and that no script failed; with ``quiet``, also that none complained.
    """
    context = browser.new_context(viewport=size, **options)
    asked: list[str] = []
    wrong: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    tab = context.new_page()
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" and quiet else None)
    tab.set_default_timeout(15_000)
    address = Path(place).resolve().as_uri() if isinstance(place, Path) else place
    try:
        tab.goto(address)
        yield tab
    finally:
        context.close()
    own = (address, "data:", "blob:", *allow)
    assert not [url for url in asked if not url.startswith(own)], asked
    assert not wrong, wrong


def _missing(why: str) -> None:
    if os.environ.get("SHOWTELL_BROWSER") == "required":
        pytest.fail(f"{why}, and SHOWTELL_BROWSER=required")
    pytest.skip(f"{why}: pages are not tried in a browser")
