"""The same batches on Ray: one local Ray for all, on two cores."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest

from showtell import work
from showtell.errors import Cancelled, ModelError, UsageError
from showtell.work import Item
from showtell.work.folder import FolderStore
from showtell.work.rays import DIED
from tests.batching import making
from tests.batching.making import pictures, results, run
from tests.batching.trouble import build, no_model, rows

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module", autouse=True)
def cluster(tiny_starters):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOWTELL_STARTERS", str(tiny_starters))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        patch.setenv("RAY_worker_niceness", "0")
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )  # fmt: skip
        yield
        ray.shutdown()


def go(folder: Path, items: list[Item], **told):
    factory = functools.partial(build, folder)
    return work.run(items, factory, FolderStore(folder / "out"), batch_size=4, ray="local", **told)


def test_a_row_is_not_lost_by_whatever_happens_to_its_neighbours(tmp_path, capfd):
    items = rows(10, r01="dies once", r06="raises", r07="fails")
    ticks = []
    report = go(tmp_path, items, tick=lambda done, total: ticks.append((done, total)))
    assert dict(report.failed) == {"r06": "RuntimeError: no such thing", "r07": "is bad"}
    assert report.made == 8 and ticks == [(n, 10) for n in range(11)]
    assert (tmp_path / "died").exists() and capfd.readouterr().out == ""
    # The process that took the other's place built its worker once, and took the other batches, too.
    assert len(list(tmp_path.glob("built-*"))) == 2
    there = {path.stem for path in (tmp_path / "out").glob("*.txt")}
    assert there == {item.id for item in items} - {"r06", "r07"}
    store = FolderStore(tmp_path / "out")
    assert [item.id for item in store.pending(rows(10))] == ["r06", "r07"]


@pytest.mark.slow
def test_a_row_whose_process_always_dies_is_a_failed_row(tmp_path):
    report = go(tmp_path, rows(12, r05="dies", r11="dies once"), actors=2)
    assert report.failed == (("r05", DIED),) and report.made == 11
    assert go(tmp_path, rows(12)).before == 11  # and it is tried again


@pytest.mark.slow
def test_what_is_wrong_with_the_job_is_raised_here(tmp_path):
    store = FolderStore(tmp_path / "out")
    with pytest.raises(ModelError, match="there is no such model"):
        work.run(rows(2), functools.partial(no_model, tmp_path), store, ray="local")
    with pytest.raises(Cancelled, match="what was made is kept"):
        go(tmp_path, rows(8), cancel=lambda: True)
    assert len(store.pending(rows(8))) < 8


def test_a_batch_on_ray_has_the_bytes_of_one_without(tmp_path):
    source = making.folder(tmp_path / "in")
    (source / "broken.png").write_bytes(b"nonsense")
    run(source, out=tmp_path / "here", batch_size=2)
    done = run(source, out=tmp_path / "there", batch_size=2, ray="local")
    assert done.made == 3 and [row for row, _ in done.failed] == ["broken"]
    assert pictures(tmp_path / "there") == pictures(tmp_path / "here")
    ours, theirs = results(tmp_path / "here"), results(tmp_path / "there")
    assert [{**line, "seconds": 0} for line in ours.values()] == [
        {**line, "seconds": 0 if line["seconds"] else 0} for line in theirs.values()
    ]


def test_where_there_is_no_ray(tmp_path, monkeypatch):
    store = FolderStore(tmp_path)
    with pytest.raises(UsageError, match="--actors 0"):
        work.run(rows(1), no_model, store, ray="local", actors=0)
    with pytest.raises(UsageError, match="--gpus 64: no machine of this Ray has that many"):
        work.run(rows(1), no_model, store, ray="local", gpus=64)
    with monkeypatch.context() as patch:
        patch.setattr(ray, "is_initialized", lambda: False)
        for address in ("127.0.0.1:1", "127.0.0.1:ray"):
            with pytest.raises(UsageError, match=f"--ray {address}: there is no Ray to work on"):
                work.run(rows(1), no_model, store, ray=address)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"""pip install "showtell\[ray\]"""):
        work.run(rows(1), no_model, store, ray="local")
