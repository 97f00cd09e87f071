"""A work in a thread of its own: what it tells, how it is stopped, and when it has had its time."""

from __future__ import annotations

import threading
import time

import pytest

from showtell.app.running import Ended, Run, Update, stream
from showtell.errors import Cancelled, MethodError, ShowtellError


def test_what_a_work_tells_and_gives():
    def work(run: Run) -> str:
        run.begin()
        run.phase("looking", 1, 2)
        time.sleep(0.05)
        run.tell(Update(phase="looking", done=2, total=2, shown="it"))
        return "done"

    told = list(stream(Run(seconds=5), work))
    assert told[-1] == Ended(value="done")
    assert told[0].phase == "looking" and told[-2].shown == "it"


def test_errors_come_to_whoever_asked():
    def work(run: Run) -> None:
        raise MethodError("seed=-1 is out of range")

    with pytest.raises(MethodError, match="out of range"):
        list(stream(Run(seconds=5), work))


def test_a_work_that_is_stopped_ends_after_the_step_at_hand():
    run, steps = Run(seconds=60), []

    def work(run: Run) -> None:
        run.begin()
        for i in range(1000):
            steps.append(i)
            time.sleep(0.01)
            if run.cancelled():
                raise Cancelled(f"stopped after step {i}")

    threading.Timer(0.1, run.stop).start()
    with pytest.raises(Cancelled, match="stopped after step"):
        list(stream(run, work))
    assert len(steps) < 100


def test_whoever_looks_away_stops_it():
    ended = threading.Event()

    def work(run: Run) -> None:
        try:
            for i in range(1000):
                run.phase("step", i, 1000)
                time.sleep(0.01)
                if run.cancelled():
                    raise Cancelled("stopped")
        finally:
            ended.set()

    updates = stream(Run(seconds=60), work)
    next(updates)
    updates.close()
    assert ended.wait(5)


def test_a_work_has_its_time_and_not_more():
    def work(run: Run) -> None:
        run.begin()
        while not run.cancelled():
            time.sleep(0.01)
        raise Cancelled("stopped")

    with pytest.raises(ShowtellError, match=r"longer than the 0.2 seconds") as error:
        list(stream(Run(seconds=0.2), work))
    assert not isinstance(error.value, Cancelled)


def test_the_time_counts_from_the_device_on():
    def work(run: Run) -> str:
        time.sleep(0.3)  # in line
        run.begin()
        return "done"

    assert list(stream(Run(seconds=0.2), work))[-1] == Ended(value="done")


def test_a_silent_work_is_heard_of_every_second():
    started = time.monotonic()
    updates = stream(Run(seconds=60), lambda run: time.sleep(1.3))
    assert next(updates) == Update()
    assert time.monotonic() - started < 1.25
    assert isinstance(list(updates)[-1], Ended)


def test_previews_are_pictures_and_cost_little(editor, picture):
    run, seen = Run(seconds=60), []

    def work(run: Run) -> None:
        run.begin()
        editor.edit(picture(), "make it red", seed=0, num_inference_steps=12, callback=run.steps(editor))

    for told in stream(run, work):
        if isinstance(told, Update) and told.preview is not None and (not seen or told.preview is not seen[-1]):
            seen.append(told.preview)
    assert seen and len(seen) < 12
    assert all(each.size == (32, 32) for each in seen)
