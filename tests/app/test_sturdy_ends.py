"""A studio that is killed in the middle of a lesson: what was learned is there afterwards, and nothing else is left."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.app import asking
from tests.helpers.studio import running, upload

pytest.importorskip("gradio")

#: Steps of a lesson that goes on for far longer than there is between two checkpoints, here.
STEPS = 120
OFTEN = "import showtell.learning\nshowtell.learning._SAVE_EVERY = 0.1\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("place")
    for color in ("red", "blue"):
        Image.new("RGB", (32, 32), color).save(place / f"{color}.png")
    (place / "temp").mkdir()
    return place


def start(place: Path, starters: Path, **env: str) -> Any:
    return running(place / "library", starters=starters, env={"TMPDIR": str(place / "temp"), **env})


def scratch(place: Path) -> list[str]:
    """The scratch folders that there are."""
    return [path.name for path in (place / "temp").iterdir() if path.name.startswith("showtell-studio-")]


def begin(studio: Any, place: Path, name: str, data: dict[str, Any]) -> str:
    """Ask for something, and do not wait for it."""
    red, blue = upload(studio.address, [place / "red.png", place / "blue.png"])
    told = {key: {"red": red, "blue": blue}.get(str(value), value) for key, value in data.items()}
    told |= {key: [told[key]] for key in ("before", "after") if key in told}
    with httpx.Client(base_url=studio.address, timeout=asking.TIMEOUT) as http:
        return asking.start(http, name, told)


def wait_for(happened: Any, seconds: float = 60) -> Any:
    until = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def killed(place, tiny_starters):
    """A studio that was killed while it learned: the files of its library, as they were."""
    (place / "site").mkdir()
    (place / "site" / "sitecustomize.py").write_text(OFTEN)
    with start(place, tiny_starters, PYTHONPATH=str(place / "site")) as studio:
        begin(studio, place, "learn", {"before": "blue", "after": "red", "name": "first", "steps": 1})
        wait_for(lambda: list((place / "library").glob("library/first.*")))
        kept = {path.name: path.read_bytes() for path in (place / "library" / "library").iterdir()}
        begin(studio, place, "learn", {"before": "red", "after": "blue", "name": "second", "steps": STEPS, "seed": 3})
        wait_for(lambda: list((place / "library" / "unfinished").glob("*/progress.safetensors")))
        studio.kill()
    return kept


def test_killed_in_the_middle_of_a_lesson(place, killed, tiny_starters, starters, monkeypatch):
    """After a start on the same folder the library is as it was, and the lesson can be gone on with."""
    from showtell.app.library import Library
    from showtell.app.unfinished import Unfinished

    [left] = scratch(place)
    with start(place, tiny_starters) as studio:
        [new] = scratch(place)
        assert new != left  # the next start cleans up
        library, unfinished = Library(place / "library" / "library"), Unfinished(place / "library" / "unfinished")
        assert [entry.name for entry in library.list()] == ["first"] and not library.broken()
        assert {path.name: path.read_bytes() for path in library.folder.iterdir()} == killed
        [lesson] = unfinished.list()
        assert not unfinished.broken() and not lesson.running()
        assert lesson.name == "second" and 0 < lesson.steps_done() < STEPS
        studio.process.send_signal(signal.SIGTERM)
        assert studio.process.wait(timeout=20) == 0
        assert "Traceback" not in "".join(studio.said), "".join(studio.said)[-3000:]
    assert scratch(place) == []
    went_on = learned(library, unfinished, lesson)
    pair = [(place / "red.png", place / "blue.png")]
    again = unfinished.begin("again", pair, {"steps": STEPS, "seed": 3}, "starter")
    assert learned(library, unfinished, again).sha256 == went_on.sha256
    assert unfinished.list() == []


def learned(library: Any, unfinished: Any, lesson: Any) -> Any:
    """What a lesson gives, learned to its end in this process."""
    from showtell.app import showing
    from showtell.app.running import Run
    from showtell.app.workshop import Workshop

    entry, _ = showing.learn(Run(seconds=600), Workshop("starter", device="cpu"), library, unfinished, lesson)
    assert entry.steps == STEPS
    return entry
