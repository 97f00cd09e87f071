"""One studio on the shipped starters, for all tests of a worker that do not mind who was there before."""

from __future__ import annotations

import pytest

from tests.helpers import browser as browsers
from tests.helpers.rooms import Rooms
from tests.helpers.studio import running


@pytest.fixture(scope="module")  # Playwright runs once at a time in a process, and other tests have pages, too
def browser():
    with browsers.launch() as found:
        yield found


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    pytest.importorskip("gradio")
    with running(tmp_path_factory.mktemp("library")) as found:
        yield found


@pytest.fixture
def rooms(browser, studio):
    with browsers.page(browser, f"{studio.address}/") as tab:
        yield Rooms(tab)
