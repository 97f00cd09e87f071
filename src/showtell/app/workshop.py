"""The models of the studio and the one device that they share: one piece of work at a time."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import loading, methods, models
from ..errors import MethodError, ModelError

if TYPE_CHECKING:
    from ..editor import Editor

#: The kinds of model that are told what to change, and those that are told what the result shows.
INSTRUCT, BASE = "instruct", "base"
_STARTERS = {"starter": "starter-base", "starter-base": "starter"}
#: Methods that ask for more than the studio's pages do.
_NOT_HERE = ("grid",)
#: How many times its own side a model may be shown a picture at.
_TIMES = 4
_FIRST = ("ip2p", "foi", "pti", "p2p", "ddim-edit", "diffedit", "sdedit")


class Workshop:
    """Editors by what they are told: ``instruct`` (a change) and ``base`` (the result).

    ``model`` is of either kind; ``other``, of the other kind, by default the starter beside ``model`` where that is a starter.
    On an accelerator the one that is not at work rests in main memory. Raises ``ModelError``.
    """

    def __init__(
        self, model: str = "starter", *, other: str | None = None, device: str = "auto", dtype: Any = None
    ) -> None:
        from ..editor import load

        self._lock = threading.Lock()
        self._place = loading.pick_device(device)
        self._editors: dict[str, Editor] = {}
        self._names: dict[str, str] = {}
        for name in (model, other or _STARTERS.get(model)):
            if name is None:
                continue
            editor = load(name, device=device, dtype=dtype)
            kind = _group(editor)
            if kind in self._editors:
                told = "is told what to change" if kind == INSTRUCT else "is told what the result shows"
                raise ModelError(f"{name}: {told}, as {model} is: give one model of each kind")
            self._editors[kind], self._names[kind] = editor, name
            self._move(editor, here=len(self._editors) == 1)

    @property
    def names(self) -> dict[str, str]:
        """Kind -> the model's name, for the kinds that there are."""
        return dict(self._names)

    def has(self, kind: str) -> bool:
        """Whether there is a model of this kind."""
        return kind in self._names

    def methods(self, kind: str) -> tuple[str, ...]:
        """The methods that a model of this kind serves here, that of first choice first."""
        if not self.has(kind):
            return ()
        own = self._editors[kind].kind
        found = [name for name in methods.names() if name not in _NOT_HERE and own in methods.resolve(name).kinds]
        return tuple(sorted(found, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST)))

    @contextlib.contextmanager
    def at_work(self, kind: str) -> Iterator[Editor]:
        """The editor of this kind, for one piece of work alone; others wait. Raises ``ModelError`` where there is none."""
        with self._lock:
            editor = self.editor(kind)
            for each in sorted(self._editors.values(), key=lambda each: each is editor):  # what rests makes room first
                self._move(each, here=each is editor)
            try:
                yield editor
            except BaseException:
                _free(editor)
                raise

    def rest(self, seconds: float) -> None:
        """Wait until the work at hand is done, at most so long: a process does not end well in the middle of a step."""
        if self._lock.acquire(timeout=seconds):
            self._lock.release()

    def editor(self, kind: str) -> Editor:
        """The editor of this kind; for its values, not for work. Raises ``ModelError`` where there is none."""
        if kind not in self._editors:
            raise ModelError(_MISSING[kind])
        return self._editors[kind]

    def defaults(self, kind: str, method: str) -> Any:
        """A method with every hyper-parameter as this model would have it. Raises ``ModelError``, ``MethodError``."""
        if method not in self.methods(kind):
            raise MethodError(f"method {method!r:.40} is not here: choose one of {', '.join(self.methods(kind))}")
        return self.editor(kind)._settle(method, {})[0]

    def largest(self, kind: str) -> int:
        """The longer side at which the model is shown a picture here, at most: one step of more would take minutes."""
        return _TIMES * models.resolution(self.editor(kind).pipe)

    def _move(self, editor: Editor, *, here: bool) -> None:
        """Bring a model to the device, or to rest; on a CPU they lie side by side, and offloaded ones move by themselves."""
        if self._place == "cpu" or models.offloaded(editor.pipe) or getattr(editor.pipe, "_all_hooks", None):
            return
        editor.pipe.to(self._place if here else "cpu")


_MISSING = {
    INSTRUCT: "the studio has no model that is told what to change: start it with --model, such as timbrooks/instruct-pix2pix",
    BASE: "the studio has no model that is told what the result shows: start it with --base, such as "
    "stable-diffusion-v1-5/stable-diffusion-v1-5",
}


def _group(editor: Editor) -> str:
    kinds = {"instruct": INSTRUCT, "control": INSTRUCT, "base": BASE}
    if editor.kind not in kinds:
        raise ModelError(f"{editor.model_id}: the studio takes instruct and base models, not inpainting ones")
    return kinds[editor.kind]


def _free(editor: Editor) -> None:
    """After what was stopped or failed: nothing of it stays in memory."""
    import torch

    gc.collect()
    if models.device_of(editor.pipe).type == "cuda":
        torch.cuda.empty_cache()
