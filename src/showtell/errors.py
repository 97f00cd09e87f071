"""Every exception that a user can meet.

A message is one line that names the culprit and the mend. ``exit_code`` is what the
command line returns: 1 for a failure that is not the user's doing, 2 for wrong use,
130 for an interruption.
"""

from __future__ import annotations


class ShowtellError(Exception):
    """A failure that is not the user's doing (exit code 1)."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(" ".join(str(message).split()))


class UsageError(ShowtellError):
    """The user's input is wrong (exit code 2)."""

    exit_code = 2


class ImageError(UsageError):
    """A picture or a mask that cannot be used: missing, broken, empty, too large."""


class TextError(UsageError):
    """An instruction or prompt that cannot be used: empty, or over the text encoder's length."""


class ModelError(UsageError):
    """A model that is unknown, unreadable, of the wrong kind or of another shape."""


class MethodError(UsageError):
    """An unknown method, or a hyper-parameter outside its range."""


class FileFormatError(UsageError):
    """A file of ours that is not one: truncated, altered, or from a newer version."""


class OutputError(UsageError):
    """A file that cannot be written. ``exit_code`` is 1 where the disk is at fault, 2 otherwise."""

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Cancelled(ShowtellError):
    """The caller, or Ctrl-C, stopped the run (exit code 130)."""

    exit_code = 130


class ShowtellWarning(UserWarning):
    """A note about an edit, also in ``edit.notes``: text that was cut, frames that were left out."""
