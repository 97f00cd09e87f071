"""Threads that ask at the same time, and can be told to stop without losing what they have begun."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_TICK = 0.25  # seconds: how long Ctrl-C may go unheard where waiting cannot be interrupted


class Crew(Generic[T, R]):
    """Calls ``work`` on each of ``things``, ``size`` at a time. Iterating gives (thing, result) as they come, in no order.

    Whatever ``work`` raises stops the crew, and is raised once the others have ended what they had begun. The threads do not
    keep the process alive.
    """

    def __init__(self, things: Sequence[T], work: Callable[[T], R], *, size: int) -> None:
        self._todo, self._work = iter(things), work
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._done: queue.SimpleQueue[tuple[T, R] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._live, self._size = 0, min(size, len(things))

    def stop(self) -> None:
        """Begin nothing further. Iterating goes on until what was begun has ended."""
        self._stop.set()

    def __iter__(self) -> Iterator[tuple[T, R]]:
        while self._live < self._size:  # here, where Ctrl-C finds a crew that can be told to stop
            self._live += 1
            threading.Thread(target=self._labour, daemon=True).start()
        yield from self._results(None)
        if self._error is not None:
            raise self._error

    def rest(self, seconds: float) -> Iterator[tuple[T, R]]:
        """Stop, and give what ends within so many seconds."""
        self.stop()
        yield from self._results(time.monotonic() + seconds)

    def _results(self, deadline: float | None) -> Iterator[tuple[T, R]]:
        while self._live and (deadline is None or time.monotonic() < deadline):
            try:
                result = self._done.get(timeout=_TICK)
            except queue.Empty:
                continue
            if result is None:
                self._live -= 1
            else:
                yield result

    def _labour(self) -> None:
        try:
            while not self._stop.is_set():
                with self._lock:
                    try:
                        thing = next(self._todo)
                    except StopIteration:
                        break
                self._done.put((thing, self._work(thing)))
        except BaseException as error:  # noqa: BLE001 - it is raised where the results are awaited
            self._error = self._error or error
            self._stop.set()
        finally:
            self._done.put(None)
