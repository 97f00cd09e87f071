"""Learnings that are stopped in the middle: kept, told apart from those that run, gone on from, and nothing else believed."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from datetime import datetime, timezone

import pytest
import torch
from PIL import ImageOps

from showtell import learning
from showtell.app.unfinished import MOST_PAIRS, Unfinished
from showtell.errors import Cancelled, FileFormatError, ImageError, MethodError, TextError, UsageError
from showtell.work.alone import alone, taken

OPTIONS = {"steps": 30, "timesteps_per_step": 2, "learning_rate": 0.05, "num_tokens": 3, "clip_weight": 0.0, "seed": 3}


@pytest.fixture
def unfinished(tmp_path):
    return Unfinished(tmp_path / "kept" / "unfinished")


def encoded(picture) -> bytes:
    with io.BytesIO() as file:
        picture.save(file, "PNG")
        return file.getvalue()


@pytest.fixture
def pair(picture, tmp_path):
    """A before as a file, an after as bytes."""
    path = tmp_path / "before.png"
    picture().save(path)
    return path, encoded(ImageOps.invert(picture()))


@pytest.fixture
def lesson(unfinished, pair):
    return unfinished.begin("my night", [pair], OPTIONS, "tiny")


def refused(kind, words, call) -> None:
    with pytest.raises(kind, match=words) as caught:
        call()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


# --- kept ----------------------------------------------------------------------------------------------------------


def test_what_was_begun_is_there_until_it_is_finished(unfinished, lesson, pair):
    assert stat.S_IMODE(unfinished.folder.stat().st_mode) == 0o700
    assert (lesson.name, lesson.model, dict(lesson.options)) == ("my-night", "tiny", OPTIONS)
    [(before, after)] = lesson.pairs
    assert before.read_bytes() == pair[0].read_bytes() and after.read_bytes() == pair[1]
    assert abs((datetime.now(timezone.utc) - lesson.begun).total_seconds()) < 60
    assert lesson.steps_done() is None and not lesson.running() and not lesson.checkpoint.exists()
    assert Unfinished(unfinished.folder).list() == [lesson] == [unfinished.get(lesson.id)]
    second = unfinished.begin("other", [pair], {}, "tiny")
    assert [each.id for each in unfinished.list()] == [second.id, lesson.id] and unfinished.broken() == []
    unfinished.finish(lesson.id)
    unfinished.discard(second.id)
    assert unfinished.list() == [] and os.listdir(unfinished.folder) == []
    for call in (unfinished.get, unfinished.finish, unfinished.discard):
        refused(TextError, "names no unfinished learning", lambda call=call: call(lesson.id))
    with pytest.raises(TextError, match="names no unfinished"), unfinished.running(lesson):
        pass


def test_a_seed_is_kept(unfinished, pair):
    assert unfinished.begin("x", [pair], {}, "tiny").options == {"seed": 0}
    drawn = unfinished.begin("x", [pair], {"seed": None}, "tiny").options["seed"]
    assert isinstance(drawn, int) and unfinished.list()[0].options["seed"] == drawn


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"check_every": 3}, MethodError), ({"cancel": 1}, MethodError), ({"steps": 0}, MethodError),
        ({"learning_rate": float("nan")}, MethodError), ({"fit": "squash"}, MethodError), ({"fit": ["fit"]}, MethodError),
        ({"record_noise": 1}, MethodError), ({"seed": -1}, MethodError), ({"seed": "x"}, MethodError),
        ({"init": 5}, TextError), ({"init": "x" * 5000}, TextError), ({"mirror": "yes"}, MethodError),
    ],
)  # fmt: skip
def test_options_that_no_learning_takes(unfinished, pair, options, error):
    refused(error, " ", lambda: unfinished.begin("x", [pair], options, "tiny"))
    assert not unfinished.folder.exists()


def test_pairs_that_cannot_teach(unfinished, pair, tmp_path):
    for pairs, words in (
        ([], "there are none"), ([pair] * (MOST_PAIRS + 1), "9 pairs are too many: at most 8"),
        ([(pair[0], pair[0])], "the same picture"), ([(pair[0], b"none")], "is not a picture"),
        ([(pair[0], tmp_path / "none.png")], "none.png: no such file"), ([(tmp_path, pair[1])], "no such file"),
    ):  # fmt: skip
        refused(ImageError, words, lambda pairs=pairs: unfinished.begin("x", pairs, {}, "tiny"))
    refused(TextError, "a name is made of", lambda: unfinished.begin("..", [pair], {}, "tiny"))
    assert not unfinished.folder.exists()
    assert len(unfinished.begin("x", [pair] * MOST_PAIRS, {}, "tiny").pairs) == MOST_PAIRS


@pytest.mark.parametrize(
    "id", ["", ".", "..", "../x", "/etc", "0" * 15, "0" * 17, "G" * 16, "A" * 16, "0" * 16 + "\n", "\0", None, 5]
)
def test_an_id_is_hex_and_nothing_else(unfinished, lesson, id):
    for call in (unfinished.get, unfinished.finish, unfinished.discard):
        refused(TextError, "names no unfinished learning", lambda call=call: call(id))
    assert unfinished.list() == [lesson]


# --- damaged -------------------------------------------------------------------------------------------------------

DAMAGE = {
    "format": 2, "kind": "recipe", "name": "../x", "options": {"check_every": 1}, "pairs": 9, "begun": "yesterday",
    "model": 3,
}  # fmt: skip


@pytest.mark.parametrize("field", [*DAMAGE, "seed", "begin", "json", "gone", "long", "picture", "link", "checkpoint"])
def test_a_damaged_lesson_is_skipped_and_named(unfinished, lesson, pair, tmp_path, field):
    whole = unfinished.begin("whole", [pair], OPTIONS, "tiny")
    path = lesson.folder / "lesson.json"
    told = json.loads(path.read_text())
    if field in DAMAGE:
        path.write_text(json.dumps(told | {field: DAMAGE[field]}))
    elif field == "seed":
        path.write_text(json.dumps(told | {"options": {"seed": None}}))
    elif field == "begin":
        path.write_text(json.dumps(told | {"begun": "0001-01-01T00:00:00"}))
    elif field == "json":
        path.write_bytes(b"\xff{")
    elif field == "gone":
        path.unlink()
    elif field == "long":
        path.write_text(json.dumps(told) + " " * 2**17)
    elif field == "picture":
        (lesson.folder / "after0").unlink()
    elif field == "link":
        (lesson.folder / "after0").unlink()
        (lesson.folder / "after0").symlink_to(pair[0])
    elif field == "checkpoint":
        lesson.checkpoint.symlink_to(tmp_path / "elsewhere")
    fresh = Unfinished(unfinished.folder)
    if field != "begin":  # which some zones can tell
        refused(FileFormatError, f"{lesson.id}: ", lambda: fresh.get(lesson.id))
        assert [each.id for each in fresh.list()] == [whole.id] and fresh.broken() == [lesson.id]
    fresh.discard(lesson.id)
    assert fresh.broken() == [] and fresh.list() == [whole] and pair[0].exists()


def test_what_else_lies_there_is_left_alone(unfinished, lesson, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("x")
    (unfinished.folder / ("0" * 16)).symlink_to(tmp_path / "outside")
    (unfinished.folder / ("1" * 16)).write_text("a file")
    (unfinished.folder / ".showtell.x.part").mkdir()
    assert unfinished.list() == [lesson] and unfinished.broken() == []
    for id in ("0" * 16, "1" * 16):
        refused(TextError, "names no", lambda id=id: unfinished.discard(id))
    unfinished.finish(lesson.id)
    assert (tmp_path / "outside" / "precious").exists()
    assert Unfinished(tmp_path / "nowhere").list() == []


# --- running -------------------------------------------------------------------------------------------------------


def test_a_lesson_that_is_running_is_told_apart(unfinished, lesson, pair):
    other = unfinished.begin("other", [pair], {}, "tiny")
    again = Unfinished(unfinished.folder)
    with unfinished.running(lesson):
        assert lesson.running() and again.get(lesson.id).running() and taken(lesson.folder) and not other.running()
        refused(UsageError, "is being learned at this moment", lambda: again.discard(lesson.id))
        with pytest.raises(UsageError, match="is being learned"), again.running(lesson):
            pass
        assert lesson.running() and again.list()[1] == lesson
    assert not lesson.running()
    with pytest.raises(ZeroDivisionError), unfinished.running(lesson):
        raise ZeroDivisionError
    with again.running(lesson):
        again.finish(lesson.id)
    assert unfinished.list() == [other] and not lesson.running()


def test_whoever_only_asks_keeps_nobody_out(unfinished, lesson):
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            lesson.running()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert not lesson.running()
        for _ in range(30):
            with unfinished.running(lesson):
                pass
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_lock_of_another_process_is_seen(unfinished, lesson, monkeypatch):
    from showtell.app import unfinished as module

    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    with alone(lesson.folder):  # as another process would hold it
        assert lesson.running()
        refused(UsageError, "is being learned", lambda: unfinished.discard(lesson.id))
        with pytest.raises(UsageError, match="is being learned"), unfinished.running(lesson):
            pass
    assert not lesson.running() and not taken(lesson.folder / "nowhere")


# --- gone on from --------------------------------------------------------------------------------------------------


def go_on(editor, lesson, pairs=None, **more):
    return learning.study(
        editor, pairs or list(lesson.pairs), name=lesson.name, checkpoint=lesson.checkpoint, resume=lesson.checkpoint.exists(),
        **lesson.options, **more,
    )  # fmt: skip


def told(look) -> dict:
    """How it was learned, but for where the pictures were."""
    pairs = [{side: {**record, "path": None} for side, record in pair.items()} for pair in look.how["pairs"]]
    return {**look.how, "pairs": pairs}


def same(a: learning.Learnt, b: learning.Learnt) -> None:
    """Both came to the same bits."""
    assert a.look.sha256 == b.look.sha256 and a.checks == b.checks and told(a.look) == told(b.look)
    assert all(torch.equal(x.embeds, y.embeds) for x, y in zip(a.snapshots, b.snapshots, strict=True))


def test_stopped_and_gone_on_from(editor, unfinished, pair):
    options = {**OPTIONS, "steps": 6, "mirror": True, "record_noise": True, "fit": "pad", "init": "make the circle red"}
    whole = learning.study(editor, [pair], name="x", **{**options, "num_tokens": None})
    lesson = unfinished.begin("x", [pair], {**options, "num_tokens": None}, editor.model_id)
    assert lesson.shown() == [(pair[0].read_bytes(), pair[1])]
    with pytest.raises(Cancelled), unfinished.running(lesson):
        go_on(editor, lesson, cancel=lambda: True)
    assert lesson.steps_done() == 1 and not lesson.running()
    lesson = Unfinished(unfinished.folder).get(lesson.id)
    with unfinished.running(lesson):
        same(whole, go_on(editor, lesson))
    assert lesson.steps_done() == 6  # what was learned is kept until it is finished
    found = go_on(editor, lesson, pairs=lesson.shown())
    same(whole, found)
    assert {record["path"] for pair in found.look.how["pairs"] for record in pair.values()} == {None}
    unfinished.finish(lesson.id)


SERVER = """
    import sys, time
    import torch
    torch.set_num_threads(1)
    import showtell
    from showtell import learning
    from showtell.app.unfinished import Unfinished
    from tests.helpers import tiny

    learning._SAVE_EVERY = 0.0
    unfinished = Unfinished(sys.argv[1])
    [lesson] = unfinished.list()

    def callback(i, n, loss):
        print("step", i, flush=True)
        time.sleep(0.02 if i < 20 else 30)  # what ends it comes before

    with unfinished.running(lesson):
        learning.study(
            showtell.Editor(tiny.pipeline("instruct")), list(lesson.pairs), name=lesson.name, checkpoint=lesson.checkpoint,
            resume=lesson.checkpoint.exists(), callback=callback, **lesson.options,
        )
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_server_that_is_killed_in_the_middle(editor, unfinished, lesson, pair):
    whole = learning.study(editor, [pair], name=lesson.name, **OPTIONS)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVER), str(unfinished.folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        for step in range(1, random.randrange(3, OPTIONS["steps"] - 10)):
            assert process.stdout.readline() == f"step {step}\n"
        assert lesson.running()
        refused(UsageError, "is being learned", lambda: unfinished.discard(lesson.id))
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=60) == -signal.SIGKILL
    finally:
        process.kill()
        process.communicate()
    [found] = Unfinished(unfinished.folder).list()
    done = found.steps_done()
    assert found == lesson and not found.running() and done is not None and 1 <= done < OPTIONS["steps"]
    steps = []
    with unfinished.running(found):
        same(whole, go_on(editor, found, callback=lambda i, n, loss: steps.append(i)))
    assert steps == list(range(done + 1, OPTIONS["steps"] + 1))
    unfinished.finish(found.id)
    assert os.listdir(unfinished.folder) == []
