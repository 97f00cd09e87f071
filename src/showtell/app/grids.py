"""Many edits of one picture: over seeds, and over two settings crossed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from .. import drawing
from ..errors import Cancelled, MethodError, UsageError
from . import telling
from .running import Update

if TYPE_CHECKING:
    from ..images import Picture
    from .library import Library
    from .limits import Limits
    from .running import Run
    from .sessions import Made, Session
    from .telling import Wish
    from .workshop import Workshop

#: What an axis may vary: the name for people, and what it is called elsewhere.
AXES = {
    "seed": "seed",
    "steps": "num_inference_steps",
    "closeness to the words": "guidance_scale",
    "closeness to the picture": "image_guidance_scale",
    "weight of line 1": "weight",
    "strength of the noise": "strength",
    "eta": "eta",
}
_WHOLE = ("seed", "num_inference_steps")


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A setting and its values, in order; without a name there is one value, None, that changes nothing."""

    name: str = ""
    values: tuple[Any, ...] = (None,)

    def on(self, wish: Wish, value: Any) -> Wish:
        """The wish with this value of the setting."""
        field = AXES.get(self.name, "")
        if not field:
            return wish
        if field == "weight":
            return dataclasses.replace(wish, weights=(value, *wish.weights[1:]))
        if field in ("strength", "eta"):
            return dataclasses.replace(wish, more={**wish.more, field: value})
        return dataclasses.replace(wish, **{field: value})

    def label(self, value: Any) -> str:
        """The value as a heading of a row or a column."""
        return f"{self.name} {value:g}" if self.name and not isinstance(value, int) else f"{self.name} {value}".strip()


def axis(name: str, values: str) -> Axis:
    """An axis from a setting's name and its values, with commas between them. Raises ``UsageError``."""
    if not name or name == "nothing":
        return Axis()
    if name not in AXES:
        raise UsageError(f"{name!r:.40} cannot be varied: choose one of {', '.join(AXES)}")
    number = int if AXES[name] in _WHOLE else float
    try:
        found = tuple(number(value) for value in values.split(",") if value.strip())
    except ValueError:
        kind = "whole numbers" if number is int else "numbers"
        raise UsageError(f"values of {name}: write {kind} with commas between them, such as 1, 2, 3") from None
    if not found:
        raise UsageError(f"values of {name}: write some, with commas between them, such as 1, 2, 3")
    if len(set(found)) != len(found):
        raise UsageError(f"values of {name}: one of them stands there twice")
    return Axis(name=name, values=found)


def seeds(first: int, count: int) -> Axis:
    """``count`` seeds from ``first`` on."""
    return Axis(name="seed", values=tuple(range(first, first + count)))


def check(wish: Wish, across: Axis, down: Axis, method: Any, limits: Limits) -> None:
    """Raise one line for a grid that is too large, varies one thing twice or what the method has not, or goes over a limit."""
    if across.name and across.name == down.name:
        raise UsageError(f"both axes vary {across.name}: choose two different settings")
    count = len(across.values) * len(down.values)
    if count > limits.tiles:
        raise UsageError(f"{count} pictures are too many for one grid: at most {limits.tiles}")
    names = {field.name for field in dataclasses.fields(method)}
    for one in (across, down):
        field = AXES.get(one.name, "seed")
        if field == "weight" and not getattr(method, "regions", False):
            raise MethodError(f"method {method.name!r} has no weights: choose foi to vary the weight of a line")
        if field not in ("seed", "weight") and field not in names:
            raise MethodError(f"method {method.name!r} has no {one.name} ({field}): vary something else")
    for one in (across, down):
        for value in one.values:
            one.on(wish, value).check(limits)


def make(
    run: Run,
    workshop: Workshop,
    library: Library,
    session: Session,
    picture: Picture,
    wish: Wish,
    across: Axis,
    down: Axis,
) -> list[Made]:
    """One edit after the other, row by row, each kept as a result; those that were made stay when it is stopped.

    Raises as an edit does, and ``Cancelled`` where nothing was made.
    """
    made: list[Made] = []
    session.grid = made
    count = len(across.values) * len(down.values)
    for number in range(count):
        row, column = divmod(number, len(across.values))
        here = down.on(across.on(wish, across.values[column]), down.values[row])
        run.where = f"picture {number + 1} of {count}, "
        try:
            edit, seconds = telling.tell(run, workshop, library, picture, here)
        except Cancelled:
            if made:
                return made
            raise
        label = ", ".join(filter(None, (across.label(across.values[column]), down.label(down.values[row]))))
        made.append(session.keep(edit, caption=label or wish.caption, seconds=seconds, masks=wish.painted))
        run.tell(Update(phase=run.where, done=number + 1, total=count, shown=tuple(made)))
    return made


def sheet(across: Axis, down: Axis, made: list[Made], heading: str) -> Image.Image:
    """The grid as one picture, with what differs written under each and before each row."""
    columns = len(across.values)
    sections = []
    for row in range(0, len(made), columns):
        tiles = [
            drawing.Tile(picture=_opened(each), caption=across.label(across.values[column]) or each.caption)
            for column, each in enumerate(made[row : row + columns])
        ]
        sections.append((down.label(down.values[row // columns]), tiles))
    return drawing.page(heading, sections, cell=160, columns=columns)


def _opened(made: Made) -> Image.Image:
    with Image.open(made.path) as picture:
        return picture.convert("RGB")
