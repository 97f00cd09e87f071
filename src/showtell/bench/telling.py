"""Scenes edited by any method: each on a model that it takes, and told what it wants to be told."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from showtell import methods, models
from showtell.errors import ModelError, ShowtellError, ShowtellWarning

if TYPE_CHECKING:
    from showtell.editor import Editor
    from showtell.edits import Edit
    from showtell.scenes import Case

#: What stands in where a bench's own model is of a kind that a method does not take.
STARTERS = {"instruct": "starter", "base": "starter-base"}


class Models:
    """The models that a bench's systems run on: the ``editor`` that it was given, and others on the same device and in the same
    precision, loaded when they are first wanted. ``others``: kind (``instruct`` or ``base``) -> the model of that kind.
    """

    def __init__(self, editor: Editor, others: dict[str, str] | None = None) -> None:
        self.editor, self.others = editor, {**STARTERS, **(others or {})}
        self._loaded: dict[str, Editor] = {}

    def named(self, name: str) -> Editor:
        """A model by its name."""
        from showtell.editor import load

        if name not in self._loaded:
            pipe = self.editor.pipe
            self._loaded[name] = load(name, device=pipe.device.type, dtype=models.dtype_of(pipe.unet))
        return self._loaded[name]

    def for_method(self, method: Any) -> Editor:
        """The editor that a method runs on. Raises ``ModelError`` where there is none of its kind."""
        value = methods.resolve(method)
        if self.editor.kind in value.kinds:
            return self.editor
        name = next((self.others[kind] for kind in value.kinds if kind in self.others), None)
        if name is None:
            raise ModelError(
                f"method {value.name!r} takes a model of kind {' or '.join(value.kinds)}: none is given here"
            )
        return self.named(name)


def edited(
    editor: Editor, cases: Sequence[Case], *, method: Any, seeds: Sequence[int], batch_size: int, **options: Any
) -> list[Edit]:
    """The cases, each edited with its own seed: methods that describe are told both captions, all others the instructions.

    An edit that fails ends the measurement.
    """
    describes = getattr(methods.resolve(method), "describes", False)
    told: list[Any] = [case.captions[1] if describes else case.instructions for case in cases]
    source = [case.captions[0] for case in cases] if describes else None
    with quiet():
        edits = editor.edit(
            [case.before for case in cases], told, method=method, source=source, seed=list(seeds), batch_size=batch_size,
            **options,
        )  # fmt: skip
    return whole(edits)


def whole(results: Sequence[Any]) -> list[Any]:
    """The results, of which none may be an error."""
    for one in results:
        if isinstance(one, ShowtellError):
            raise one
    return list(results)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the notes that edits give."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ShowtellWarning)
        yield
