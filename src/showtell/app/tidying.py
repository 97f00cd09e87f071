"""Keeping folders small: what is oldest goes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

#: Of a folder that has grown too large this share stays, so that it is not tidied again at once.
_STAYS = 0.75


def trim(folder: Path, most: int, *, keep: Collection[Path] = (), skip: Collection[Path] = ()) -> None:
    """Where the files below ``folder`` are more than ``most`` bytes, remove the oldest, except those in ``keep``.

    What is in the folders ``skip`` does not count. Nothing is raised for a file that goes or cannot go.
    """
    found = sorted(_files(folder, {str(path) for path in skip}))
    left = sum(size for _, size, _ in found)
    if left <= most:
        return
    kept = {str(path) for path in keep}
    for _, size, path in found:
        if left <= _STAYS * most:
            return
        if path not in kept:
            try:
                os.unlink(path)
            except OSError:
                continue
            left -= size


def _files(folder: Path, skip: Collection[str]) -> Iterator[tuple[float, int, str]]:
    """(when it was written, size, path) of every file."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if os.path.join(root, name) not in skip]
        for name in names:
            path = os.path.join(root, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue
            yield status.st_mtime, status.st_size, path
