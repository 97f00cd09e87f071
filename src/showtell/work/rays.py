"""Rows of work on Ray Data: a pool of actors, each with a worker of its own, that keep what they make themselves.

Only the numbers of the rows and their errors come back. A batch is one row of Ray's, so batches are the same as without Ray.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from .. import errors
from ..errors import Cancelled, ShowtellError, UsageError
from .rows import Done, Factory, Item, Store, attempt

LOCAL = "local"
"""The address of a Ray that is started for the run, and stopped after it."""
DIED = "the process that made it died each time: has it memory enough?"
_TRIES = 2
"""How often a batch is begun; after that its rows are tried one by one, each once."""
_STORE_BYTES = 256 * 2**20
"""Of the local Ray's object store: only names and words pass through it."""
_MOST_BLOCKS = 1000
_PATIENCE = 10.0
"""Seconds within which a cluster has to answer."""


def on_ray(
    pending: Sequence[Item],
    factory: Factory,
    store: Store,
    *,
    address: str = LOCAL,
    batch_size: int = 8,
    actors: int = 1,
    gpus: float = 0.0,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[tuple[Item, str | None]]:
    """Each item as soon as it is kept, with the error of one that failed.

    ``address``: ``LOCAL``, or that of a cluster (``auto`` finds it) whose machines see the store's folder under the same path.
    Each of ``actors`` takes ``gpus`` GPUs, or a share of one. Where an actor's process dies another takes its place, and what it
    had not kept is made again, then row by row; a row whose process dies each time is a failed one.

    Raises ``UsageError`` if Ray is not there or no cluster answers, ``Cancelled``, and what is wrong with the whole job.
    """
    if actors < 1 or gpus < 0:
        raise UsageError(
            f"--actors {actors} --gpus {gpus:g}: there is at least one actor, and no negative share of a GPU"
        )
    with _joined(address, actors=actors, gpus=gpus) as cores:
        _check_gpus(gpus)
        left, begun = dict(enumerate(pending)), _counter()
        for size, tries in ((batch_size, _TRIES), (1, 1)):
            numbers = list(left)
            batches = [numbers[first : first + size] for first in range(0, len(numbers), size)]
            rows = [{"batch": json.dumps([(n, asdict(left[n])) for n in batch])} for batch in batches]
            with_them = (factory, store, begun, tries)
            for number, told in _flow(rows, with_them, actors=actors, gpus=gpus, cores=cores) if rows else ():
                if "fault" in told:
                    raise _raised(told["fault"])
                if "died" not in told:
                    yield left.pop(number), told["error"]
                if cancel is not None and cancel():
                    raise Cancelled("cancelled; what was made is kept: give the same command to go on")
        for item in left.values():
            store.keep(item, Done(id=item.id, error=DIED))
            yield item, DIED


def _counter() -> Any:
    import ray

    return ray.remote(num_cpus=0)(_Begun).remote()


def _flow(
    rows: list[dict[str, str]], told: tuple[Any, ...], *, actors: int, gpus: float, cores: float
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number of each row, and what an actor told of it."""
    import ray.data

    flow = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS)).flat_map(
        _Actor, fn_constructor_args=told, num_cpus=cores, num_gpus=gpus or None,
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(rows))),
    )  # fmt: skip
    flow.context.enable_progress_bars = False
    for found in flow.iter_rows():  # once: each look at the flow would run all of it
        yield found["number"], json.loads(found["told"])


class _Begun:
    """How often each batch was begun: it outlives the processes that die of one."""

    def __init__(self) -> None:
        self._times: dict[tuple[int, int], int] = {}

    def count(self, batch: tuple[int, int]) -> int:
        """This time included; a batch is named by its first row and how often it may be tried."""
        self._times[batch] = self._times.get(batch, 0) + 1
        return self._times[batch]


class _Actor:
    """Builds its worker once, when the first batch is there, makes what is not kept yet, and keeps it."""

    def __init__(self, factory: Factory, store: Store, begun: Any, tries: int) -> None:
        self._factory, self._store, self._worker = factory, store, None
        self._begun, self._tries = begun, tries

    def __call__(self, row: dict[str, str]) -> list[dict[str, Any]]:
        import ray

        batch = [(number, Item(**told)) for number, told in json.loads(row["batch"])]
        times = ray.get(self._begun.count.remote((batch[0][0], self._tries)))
        if times > self._tries:
            return [_answer(number, {"died": True}) for number, _ in batch]
        try:
            # What is kept of it was kept by a process that died. To look each time would be to read all journals each time.
            found = self._made([item for _, item in batch], look=times > 1 or self._tries == 1)
        except Exception as error:  # noqa: BLE001 - it is raised where the run was started
            fault = {"kind": type(error).__name__, "what": str(error), "exit_code": getattr(error, "exit_code", 1)}
            return [_answer(number, {"fault": fault}) for number, _ in batch]
        return [_answer(number, {"error": found.get(item.id)}) for number, item in batch]

    def _made(self, items: list[Item], *, look: bool) -> dict[str, str | None]:
        """The error of each row that was made now, None if there is none. ``look``: some may be there already."""
        due = self._store.pending(items) if look else items
        if not due:
            return {}
        self._worker = self._worker or self._factory()
        found: dict[str, str | None] = {}
        for item, done in zip(due, attempt(self._worker, due), strict=True):
            self._store.keep(item, done)
            found[item.id] = done.error
        return found


def _answer(number: int, told: dict[str, Any]) -> dict[str, Any]:
    return {"number": number, "told": json.dumps(told)}


def _raised(fault: dict[str, Any]) -> Exception:
    """What an actor met, as the error that it was there."""
    kind = getattr(errors, fault["kind"], None)
    if kind is errors.OutputError:
        return errors.OutputError(fault["what"], exit_code=fault["exit_code"])
    if isinstance(kind, type) and issubclass(kind, ShowtellError):
        return kind(fault["what"])
    return ShowtellError(f"a worker on Ray failed: {fault['kind']}: {fault['what']}"[:500])


@contextlib.contextmanager
def _joined(address: str, *, actors: int, gpus: float) -> Iterator[float]:
    """A Ray to work on, and the CPU cores that each actor gets of it. One that this process has joined already is used."""
    for name, value in _HOW.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError('Ray Data is not installed: pip install "showtell[ray]"') from error
    with _hushed():
        if ray.is_initialized():
            yield 1.0
            return
        told: dict[str, Any] = {"address": address, "logging_level": logging.CRITICAL, "log_to_driver": False}
        cores = max(actors, os.cpu_count() or 1)
        if address == LOCAL:
            told |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
            told |= {"_node_ip_address": "127.0.0.1"}
        _check(address)
        try:
            with _no_stderr():  # it says there that it was told to say nothing
                ray.init(**told)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            what = " ".join(str(error).split())
            raise UsageError(f"--ray {address}: there is no Ray to work on ({what:.300})") from error
        try:
            yield 1.0 if gpus or address != LOCAL else float(cores // actors)
        finally:
            with contextlib.redirect_stdout(io.StringIO()):  # it says now what it has not said yet
                ray.shutdown()


def _check_gpus(gpus: float) -> None:
    """Raise ``UsageError`` where no actor would ever get its share: Ray itself would wait for ever."""
    import ray

    there = max((node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["Alive"]), default=0.0)
    if there < gpus:
        raise UsageError(f"--gpus {gpus:g}: no machine of this Ray has that many GPUs (at most {there:g})")


def _check(address: str) -> None:
    """Raise ``UsageError`` for a HOST:PORT where nobody listens: Ray itself would wait for minutes, and then abort."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UsageError(f"--ray {address}: there is no Ray to work on ({error}); write HOST:PORT, or auto") from error


_HOW = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # or it listens on every interface
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # or whatever else runs on the machine goes before the work
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
}
"""What Ray reads when it is imported or started; what a user has set wins."""


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without what a thread of Ray's prints on stdout when a process dies: stdout is for results."""
    before = sys.stdout
    sys.stdout = _Hush(before)
    try:
        yield
    finally:
        sys.stdout = before


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Without what a library's C++ writes to the process's own stderr."""
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


class _Hush:
    """A stream that leaves out what threads of Ray's write."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if threading.current_thread().name.startswith("ray_") else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
