"""What keeps the studio's folders small, and where each account's files lie."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from showtell.app.accounts import is_open, part_of
from showtell.app.limits import Limits
from showtell.app.running import Run, stream
from showtell.app.sessions import Sessions
from showtell.app.studio import Studio
from showtell.app.tidying import trim


def file(path: Path, size: int, age: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def test_the_oldest_go(tmp_path):
    files = [file(tmp_path / "a" / str(age), 100, age) for age in range(10)]
    trim(tmp_path, 1000)
    assert all(path.exists() for path in files)
    trim(tmp_path, 900, keep=[files[9]])
    assert [path.exists() for path in files] == [True] * 5 + [False] * 4 + [True]


def test_what_is_skipped_does_not_count(tmp_path):
    kept = [file(tmp_path / "of" / "one" / str(age), 100, 50 + age) for age in range(5)]
    files = [file(tmp_path / "up" / str(age), 100, age) for age in range(5)]
    trim(tmp_path, 500, skip=[tmp_path / "of" / "one"])
    assert all(path.exists() for path in [*kept, *files])
    trim(tmp_path, 400, skip=[tmp_path / "of" / "one"])
    assert all(path.exists() for path in kept) and [path.exists() for path in files] == [True] * 3 + [False] * 2


def test_a_folder_that_is_not_there(tmp_path):
    trim(tmp_path / "nothing", 1)


def test_a_session_keeps_its_results_and_few_other_files(tmp_path):
    limits = Limits(session_bytes=1000)
    session = Sessions(tmp_path, limits).of("tab", "anna")
    made = session.remember_image(Image.new("RGB", (4, 4)))
    os.utime(made, (0, 0))
    loose = [file(session.file("safetensors"), 300, age) for age in (30, 20, 10, 0)]
    session.grid = []
    session.end(session.begin())
    assert [path.exists() for path in loose] == [False, False, True, True]


def test_uploads_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("showtell.app.studio._TIDY_EVERY", 0.0)
    studio = Studio(None, limits=Limits(scratch_bytes=1000), home=tmp_path / "home", scratch=tmp_path / "scratch")
    own = file(studio.session("tab", None).file("png"), 5000, 100)
    uploads = [file(tmp_path / "scratch" / str(age) / "x.png", 300, age) for age in range(5)]
    studio.session("tab", None)
    assert own.exists() and [path.exists() for path in uploads] == [True, True, False, False, False]


def test_each_account_has_its_part(tmp_path):
    sessions = Sessions(tmp_path, Limits())
    anna, bert, nobody = (sessions.of("tab", user) for user in ("anna", "bert", None))
    for session, user in ((anna, "anna"), (bert, "bert"), (nobody, None)):
        assert session.folder.parent == part_of(tmp_path, user) and session.folder.is_dir()
    assert len({each.folder.parent for each in (anna, bert, nobody)}) == 3
    assert sorted(sessions.folders()) == sorted(each.folder for each in (anna, bert, nobody))


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/", True), ("/login", True), ("/login/", True), ("/assets/x.js", True), ("/config", True), ("/gradio_api/info", False),
        ("/gradio_api/cancel", False), ("/gradio_api/heartbeat/x", False), ("/gradio_api/file=/assets/x", False), ("//", True),
        ("/gradio_api/startup-events/x", False),
    ],
)  # fmt: skip
def test_what_is_open_to_all(path, told):
    assert is_open(path) is told


def test_whoever_leaves_does_not_wait_for_the_step_at_hand():
    """That may be the server's own loop, which serves everybody."""
    begun, done = threading.Event(), threading.Event()

    def work(run: Run) -> None:
        run.begin()
        run.phase("step", 1, 2)
        begun.set()
        time.sleep(0.5)
        done.set()

    run = Run(seconds=60)
    looking = stream(run, work)
    next(looking)
    assert begun.wait(5)
    looking.close()
    assert run.cancelled() and not done.is_set()
    assert done.wait(5)
