"""showtell edits pictures by showing or by telling.

``showtell.load(name)`` gives an editor; ``editor.edit(image, "make it a watercolor")`` edits. Everything is
imported when it is first asked for, so that ``import showtell`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import inverting as inverting
    from . import memory as memory
    from . import methods as methods
    from . import metrics as metrics
    from . import recipe as recipe
    from . import scenes as scenes
    from .editor import Editor as Editor
    from .editor import load as load
    from .edits import Edit as Edit
    from .inversions import Inversion as Inversion
    from .learned import LearnedInstruction as LearnedInstruction
    from .loading import export as export
    from .replaying import replay as replay
    from .tokens import LearnedToken as LearnedToken

__version__ = "0.8.0"

_LAZY = {
    "Edit": "edits",
    "Editor": "editor",
    "Inversion": "inversions",
    "LearnedInstruction": "learned",
    "LearnedToken": "tokens",
    "export": "loading",
    "load": "editor",
    "replay": "replaying",
}
_MODULES = ("errors", "inverting", "memory", "methods", "metrics", "models", "recipe", "scenes")

__all__ = ["__version__", *_LAZY, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
