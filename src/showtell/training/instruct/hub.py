"""Pushing a trained editor to the Hugging Face hub: checked before the training, done after it."""

from __future__ import annotations

import os


def check(repo: str) -> None:
    """Raise ``UsageError`` before a training unless ``repo`` is a name that can be pushed to and a token is there."""
    raise NotImplementedError


def push(folder: str | os.PathLike[str], repo: str, *, private: bool = True) -> str:
    """Upload a model's folder and return its address.

    Raises ``ShowtellError``, one line that says where the model lies and how to push it later.
    """
    raise NotImplementedError
