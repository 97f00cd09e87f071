"""Files that are either whole or not there: checked before the work, written beside, moved into place."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import OutputError

_DISK_AT_FAULT = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}


def check_output(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """The path, if it can be written. Call it before long work.

    Raises ``OutputError`` if it exists and ``force`` is not set, if it is a folder, a device or another thing that is
    no regular file, if its name is too long, or if its folder is missing or not writable.
    """
    path = Path(path)
    folder = path.parent
    mode = mode_of(path)
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path}: is a folder; name a file")
    if not stat.S_ISDIR(mode_of(folder)):
        raise OutputError(f"{path}: the folder {folder} does not exist; make it first")
    if mode and not stat.S_ISREG(mode):
        raise OutputError(f"{path}: is not a regular file and is not replaced; name another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: the folder {folder} cannot be written")
    if os.path.lexists(path) and not force:  # also a link that leads nowhere
        raise OutputError(f"{path}: exists already; use --force (force=True) to overwrite it")
    return path


def mode_of(path: str | os.PathLike[str]) -> int:
    """The ``st_mode`` of what a path leads to, 0 if there is nothing. Raises ``OutputError`` for a path that no file
    can have, such as one that is too long.
    """
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise output_error(path, error) from error
    except ValueError as error:  # a null character
        raise OutputError(f"{path!s:.200}: cannot be written ({error})") from error


def make_folder(path: str | os.PathLike[str], *, mode: int = 0o777) -> Path:
    """The folder, made with those above it where it is not there. Raises ``OutputError`` if it is a file, or cannot be made.

    ``mode`` is that of a new folder, not of those above it; the umask takes its part.
    """
    path = Path(path)
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"{path}: is a file; name a folder") from error
    except NotADirectoryError as error:
        raise OutputError(f"{path}: lies below a file; name another folder") from error
    except OSError as error:
        raise output_error(path, error) from error
    except ValueError as error:  # a null character
        raise OutputError(f"{path!s:.200}: cannot be written ({error})") from error
    return path


def write_atomic(path: str | os.PathLike[str], data: bytes, *, force: bool = False) -> Path:
    """Write bytes so that the file is either whole or as it was before.

    A temporary file in the same folder is written, synced and moved into place; it is removed whatever happens.
    Raises ``OutputError`` (exit code 1 where the disk is full or failing, 2 otherwise).
    """
    path = check_output(path, force=force)
    # Not named after the file, whose name may be as long as a name can be.
    with _temporary(path, ".showtell.") as temporary:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        move(temporary, path, force=force)
    return path


@contextlib.contextmanager
def _temporary(path: Path, prefix: str) -> Iterator[Path]:
    """An empty file in the folder of ``path``, which is removed unless the block moves it away. Raises ``OutputError``."""
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=path.parent)
        os.close(handle)
        yield Path(temporary)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


@contextlib.contextmanager
def beside(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """A temporary file that takes the place of ``path`` if the block ends well, and vanishes if not.

    What killed runs left of the same file is removed first: it may be large. Without ``sync`` a power cut may take the file's
    end. Raises ``OutputError``.
    """
    mark = f".showtell.{path.name[:60]}."
    for left in path.parent.glob(f"{glob.escape(mark)}*.part") if sync else ():
        with contextlib.suppress(OSError):
            left.unlink()
    with _temporary(path, mark) as temporary:
        yield temporary
        if sync:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)


@contextlib.contextmanager
def folder_atomic(path: str | os.PathLike[str], *, marker: str, force: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``path`` that becomes ``path`` if the block ends well, and vanishes if not.

    An empty folder at ``path`` is replaced; one with something in it only with ``force``, and only if it holds a file
    called ``marker``: so no force replaces a folder that was never ours. Raises ``OutputError``.
    """
    path = Path(path)
    mode = mode_of(path)
    if mode and not stat.S_ISDIR(mode):
        raise OutputError(f"{path}: is a file; name a folder")
    full = bool(mode) and any(path.iterdir())
    if full and not force:
        raise OutputError(f"{path}: exists already and is not empty; use --force (force=True) to replace it")
    if full and not (path / marker).is_file():
        raise OutputError(f"{path}: was not written by showtell (it has no {marker}) and is not replaced; name another")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; make it first")
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".showtell.", suffix=".part", dir=path.parent))
        new = temporary / "new"
        new.mkdir()
        yield new
        _swap(new, path, aside=temporary / "old")
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, path: Path, *, aside: Path) -> None:
    """Put a folder in the place of another, which is kept aside until the new one is there."""
    old = path.is_dir()
    if old:
        os.replace(path, aside)
    try:
        os.replace(new, path)
    except OSError:
        if old:
            os.replace(aside, path)
        raise


def sha256(path: Path) -> str:
    """The hash of a file's bytes, 64 hexadecimal digits. Raises ``OSError`` for one that cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """A file's size in bytes, -1 where there is none."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1


def output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """What a failed write of ``path`` is called: exit code 1 where the disk is at fault, else 2."""
    reason = error.strerror or str(error)
    if error.errno == errno.ENAMETOOLONG:
        return OutputError(f"{os.fspath(path):.60}...: the name is too long; choose a shorter one")
    if error.errno in _DISK_AT_FAULT:
        return OutputError(f"{path}: cannot be written ({reason}); free some space and try again", exit_code=1)
    return OutputError(f"{path}: cannot be written ({reason})")


def move(old: Path, path: Path, *, force: bool = False) -> None:
    """Give a file another name on its disk. Raises ``OutputError`` where that is taken and ``force`` is not set, ``OSError``."""
    if force:
        os.replace(old, path)
        return
    try:
        # A link fails where a file has appeared meanwhile; a rename would overwrite it.
        os.link(old, path)
    except FileExistsError as error:
        raise OutputError(f"{path}: exists already; use --force (force=True) to overwrite it") from error
    except OSError:
        os.replace(old, path)
        return
    os.unlink(old)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
