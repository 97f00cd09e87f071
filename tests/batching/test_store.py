"""Ten thousand rows in a folder: killed again and again, nothing is lost, doubled or half there."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from showtell import work
from showtell.errors import OutputError
from showtell.work import Done, Item
from showtell.work.folder import OWN, FolderStore, Journal

ROOT = Path(__file__).parents[2]
MANY = 10_000


def rows(count: int, *, digest: str = "a") -> list[Item]:
    """Rows in a hundred folders."""
    return [
        Item(id=f"r{n:05d}", told={"n": n, "out": f"{n % 100:02d}/{n:05d}", "digest": digest}) for n in range(count)
    ]


def content(n: int) -> bytes:
    return b"%d." % n * (1 + n % 7)


def make(items):
    """Results that follow from the row; one row in a thousand fails until it is healed."""
    bad = not os.environ.get("HEALED")
    return [
        Done(id=one.id, error="is bad")
        if bad and one.told["n"] % 1000 == 7
        else Done(id=one.id, record={"n": one.told["n"]}, files={"png": content(one.told["n"])})
        for one in items
    ]


def go(folder, count=10, **told):
    return work.run(rows(count, **told), lambda: make, FolderStore(folder), batch_size=3)


RUN = """
import sys
from pathlib import Path
from showtell import work
from showtell.work.folder import FolderStore
from tests.batching.test_store import make, rows

items, asked = rows(int(sys.argv[2])), open(sys.argv[3], "a")
def worker(items):
    asked.write("".join(item.id + "\\n" for item in items))
    asked.flush()
    return make(items)
report = work.run(
    items, lambda: worker, FolderStore(Path(sys.argv[1])), batch_size=32, tick=lambda done, total: print(done, flush=True)
)
print(report.made, report.before, len(report.failed))
"""


def start(folder: Path, asked: Path, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, str(folder), str(MANY), str(asked)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **environment})


def test_ten_thousand_rows_killed_at_random_moments(tmp_path):
    folder, asked, chance = tmp_path / "out", tmp_path / "asked", random.Random(7)
    kills = 3
    for kill in range(kills):
        process = start(folder, asked)
        until = chance.randrange(MANY // (kills + 1) * kill, MANY // (kills + 1) * (kill + 1))
        assert any(int(line) >= until for line in process.stdout)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        there = list(folder.rglob("*/*.png"))
        assert all(path.read_bytes() == content(int(path.stem)) for path in chance.sample(there, min(200, len(there))))
    out, _ = start(folder, asked).communicate()
    made, before, failed = map(int, out.splitlines()[-1].split())
    assert made + before + failed == MANY and failed == 10
    out, _ = start(folder, asked, HEALED="1").communicate()
    assert out.splitlines()[-1] == f"10 {MANY - 10} 0"
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("*/*.png")}
    assert found == {f"{row.told['out']}.png": content(row.told["n"]) for row in rows(MANY)}
    # A kill costs no more than the batch that it falls into; ten rows failed in several runs.
    times = len(asked.read_text().splitlines())
    assert MANY <= times <= MANY + kills * 32 + 10 * (kills + 2)


class Killed(BaseException):
    """What no code of ours catches."""


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_move_or_line(tmp_path, monkeypatch, after):
    go(tmp_path / "whole")
    moves = [(os, "replace"), (Journal, "add"), (os, "unlink")]
    for module, name in moves:
        real = getattr(module, name)
        for point in range(0, 12, 2):
            folder, seen = tmp_path / f"{name}{point}", []

            def killing(*told, real=real, seen=seen, point=point, **named):
                seen.append(told)
                if len(seen) == point + 1:
                    with contextlib.suppress(OSError):
                        if after:
                            real(*told, **named)
                    raise Killed
                return real(*told, **named)

            with monkeypatch.context() as patch:
                patch.setattr(module, name, killing)
                try:
                    go(folder)
                    assert len(seen) <= point
                except Killed:
                    pass
            FolderStore(folder).tidy()
            go(folder)
            assert results(folder) == results(tmp_path / "whole")
            assert not list(folder.rglob("*.part"))
            assert go(folder).before == 9  # one always fails


def results(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("*/*.png")}


def test_what_is_not_whole_or_not_asked_for_any_more_is_made_again(tmp_path):
    go(tmp_path, 6)
    (tmp_path / "03/00003.png").write_bytes(b"3")
    (tmp_path / "04/00004.png").unlink()
    assert go(tmp_path, 6).made == 2
    assert go(tmp_path, 6, digest="b").made == 6  # another instruction, say
    assert go(tmp_path, 6, digest="b").before == 6
    [first, *_] = sorted((tmp_path / OWN / "journal").glob("*.jsonl"))
    first.write_bytes(first.read_bytes()[:-5] + b'\n\xff{"torn\n[1]\n')
    assert go(tmp_path, 6).made in (0, 1, 6)
    assert results(tmp_path).keys() == {f"{n:02d}/{n:05d}.png" for n in range(6)}


def test_a_store_goes_to_other_processes(tmp_path):
    import pickle

    store = FolderStore(tmp_path)
    store.keep(rows(1)[0], make(rows(1))[0])
    other = pickle.loads(pickle.dumps(store))  # noqa: S301
    assert [item.id for item in other.pending(rows(2))] == ["r00001"]
    other.keep(rows(2)[1], make(rows(2))[1])
    assert store.pending(rows(2)) == []  # what another process wrote is seen
    assert len(list((tmp_path / OWN / "journal").glob("*.jsonl"))) == 2


FULL = """
import resource, signal, sys
from pathlib import Path
from showtell import work
from showtell.errors import OutputError
from showtell.work import Done
from showtell.work.folder import FolderStore
from tests.batching.test_store import rows
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
large = lambda items: [Done(id=item.id, files={"png": b"x" * 400 * item.told["n"]}) for item in items]
try:
    work.run(rows(10), lambda: large, FolderStore(Path(sys.argv[1])), batch_size=2)
except OutputError as error:
    print(error.exit_code, error)
"""


@pytest.mark.parametrize("limit", [500, 2000])  # the journal, and a picture
def test_a_disk_that_fills_up_leaves_nothing_corrupt(tmp_path, limit):
    told = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(limit)], capture_output=True, text=True, cwd=ROOT
    )
    assert told.stdout.startswith("1 ") and "cannot be written" in told.stdout, told
    assert not list(tmp_path.rglob("*.part"))
    assert all(path.read_bytes() in [b"x" * 400 * n for n in range(10)] for path in tmp_path.glob("*/*.png"))
    assert go(tmp_path).before >= 1
    assert len(results(tmp_path)) == 9
    lines = [line for path in tmp_path.rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert sum(json.loads(line)["error"] is None for line in lines if line.endswith("}")) >= 9


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "00").write_bytes(b"a file where a folder belongs")
    with pytest.raises(OutputError, match="00: is a file"):
        go(tmp_path, 2)
