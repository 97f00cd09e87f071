"""One run at a time in a folder: a second one would work for nothing, and each would be in the other's way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import UsageError

try:
    import fcntl
except ImportError:  # not on Windows: there, nobody is kept out
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder that is there, until the block or the process ends. Nothing is left in the folder.

    Raises ``UsageError`` where another run works on it. A file system without locks keeps nobody out.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # whoever writes there says why
        yield
        return
    try:
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(
                    f"{folder}: another run works on it: wait for its end, or name another folder"
                ) from error
            except OSError:
                pass
        yield
    finally:
        os.close(handle)


def taken(folder: Path) -> bool:
    """Whether a run works on a folder at this moment. Whoever begins one just then finds it taken, too, and may try again."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
