"""Several methods side by side: the same picture, instructions and seed."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import drawing, images, instruction, inversions, jobs, methods, models, overlays, requested, runs, wording
from .edits import Edit
from .errors import MethodError, ShowtellWarning, TextError
from .learned import Hybrid, LearnedInstruction
from .methods.outside import Called

if TYPE_CHECKING:
    from PIL import Image

    from .editor import Editor

#: What is compared where nothing else is asked for.
COMPARED = ("ip2p", "sequential", "foi")
#: InstructPix2Pix, one instruction after the other: no method of its own, but a name beside theirs.
SEQUENTIAL = "sequential"
#: Options that every method takes, and those of methods that keep each instruction in its own region.
_SHARED = (
    "learned", "noise", "negative_prompt", "mask", "fit", "resolution", "sequential", "gradient_checkpointing", "callback",
    "progress", "cancel", "on_phase",
)  # fmt: skip
#: Options of the methods that are told what the result shows.
_DESCRIBES = ("source", "inversion")
_REGIONS = ("weights", "masks")


def compare(
    editor: Editor,
    image: Any,
    instructions: Any,
    *,
    methods: Sequence[Any] = COMPARED,
    seed: Any = None,
    **options: Any,
) -> dict[str, Edit]:
    """Edit one picture by each of ``methods``, with the same seed: name -> ``Edit``, in that order.

    ``methods``: names or values of ``showtell.methods`` that take this model, and ``"sequential"`` (see
    :func:`sequential`). ``options`` are those of ``Editor.edit``, without ``generator``: ``weights`` and ``masks`` go to
    the methods that keep each instruction in its own region, ``source`` and ``inversion`` to those that are told what the
    result shows, and a hyper-parameter to the methods that have it. Whatever
    is wrong is found before the first edit is run. Raises as ``Editor.edit`` does, and ``MethodError`` for an option that
    none of the methods takes.
    """
    told, picture = _told(instructions, options.get("learned")), _picture(image)
    seed = requested.checked_seed(seed)
    wanted = chosen(methods)
    check_options(wanted, options)
    ready: dict[str, Callable[[], Edit]] = {}
    for name, value in wanted.items():
        own = {key: option for key, option in options.items() if takes(value, key)}
        steps = _in_turn(told, own) if name == SEQUENTIAL else [_Step(told=told, options=own)]
        for step in steps:
            _check(editor, picture, step, value, seed)
        ready[name] = functools.partial(_run, editor, picture, steps, value, seed)
    return {name: run() for name, run in ready.items()}


def sequential(
    editor: Editor, image: Any, instructions: Any, *, method: Any = "ip2p", seed: Any = None, **options: Any
) -> Edit:
    """Edit one picture by one instruction after the other, each time what the last left; the same seed serves all.

    ``options`` are those of ``Editor.edit``. The result's recipe is that of the last edit, whose input was in memory, so
    that it cannot be replayed alone, and a note says so. Raises as ``Editor.edit`` does, before the first edit is run.
    """
    told, picture = _told(instructions, options.get("learned")), _picture(image)
    seed, value = requested.checked_seed(seed), methods.resolve(method)
    steps = _in_turn(told, options)
    for step in steps:
        _check(editor, picture, step, value, seed)
    return _run(editor, picture, steps, value, seed)


def sheet(edits: Mapping[str, Edit], *, heading: str = "") -> Image.Image:
    """The input and the result of each method side by side, and which regions were found, with a legend."""
    from PIL import Image

    source = next(edit.source for edit in edits.values() if edit.source is not None)
    tiles = [drawing.Tile(picture=source, caption="before")]
    keys = []
    for name, edit in edits.items():
        tiles.append(drawing.Tile(picture=edit.image, caption=name))
        if edit.masks and edit.keywords:  # found, and not only the user's mask
            tiles.append(drawing.Tile(picture=overlays.tinted(source, edit.masks, side=256), caption=f"{name}: where"))
            if edit.recipe.weights:  # one region is where the words are; several need a legend
                keys.append(edit.legend())
    page = drawing.page(heading or "One picture, several methods", [("", tiles)], cell=256, columns=6)
    parts = [page, *(overlays.key(legend, width=page.width, left=drawing.MARGIN) for legend in keys)]
    whole = Image.new("RGB", (page.width, sum(part.height for part in parts)), drawing.PAPER)
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


def chosen(names: Sequence[Any]) -> dict[str, Any]:
    """Name -> method, for names and values. Raises ``MethodError``."""
    if isinstance(names, str) or not names:
        raise MethodError("methods: give a list of those to be compared, such as ['ip2p', 'sequential', 'foi']")
    found: dict[str, Any] = {}
    for each in names:
        if isinstance(each, str) and each not in (*methods.names(), SEQUENTIAL):
            choices = ", ".join((*methods.names(), SEQUENTIAL))
            raise MethodError(f"method {each!r} is not known: choose from {choices}")
        value = methods.resolve("ip2p" if each == SEQUENTIAL else each)
        name = SEQUENTIAL if each == SEQUENTIAL else value.name
        if name in found:
            raise MethodError(f"method {name!r} is named twice: name each once")
        found[name] = value
    return found


def check_options(wanted: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raise ``MethodError`` for an option that none of the methods takes."""
    regions = any(getattr(value, "regions", False) for value in wanted.values())
    jobs.check_regions(weights=options.get("weights"), masks=options.get("masks"), regions=regions)
    if not any(getattr(value, "describes", False) for value in wanted.values()):
        jobs.check_described({name: options.get(name) for name in _DESCRIBES})
    for name, value in options.items():
        if (
            value is not None
            and name not in (*_REGIONS, *_DESCRIBES)
            and not any(takes(method, name) for method in wanted.values())
        ):
            raise MethodError(f"{name!r} is not a hyper-parameter of any of these methods: {', '.join(wanted)}")


def takes(method: Any, option: str) -> bool:
    """Whether a method takes an option of ``Editor.edit``."""
    if option in _REGIONS:
        return getattr(method, "regions", False)
    if option in _DESCRIBES:
        return getattr(method, "describes", False)
    return option in _SHARED or option in {f.name for f in dataclasses.fields(method)}


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One call of ``Editor.edit``."""

    told: Any
    options: dict[str, Any] = field(default_factory=dict)


def _told(instructions: Any, learned: Any) -> list[Any]:
    if instructions is None and learned is not None:
        return [wording.only(wording.named(learned))]
    told = list(instructions) if isinstance(instructions, (list, tuple)) else [instructions]
    if not told or None in told:
        raise TextError(f"the instruction is missing: {wording.EXAMPLE}")
    return told


def _picture(image: Any) -> images.Picture:
    if requested.is_batch(image):
        raise MethodError("one picture is compared at a time: give a picture, not a list")
    return images.open_picture(image)


def _in_turn(told: Sequence[Any], options: Mapping[str, Any]) -> list[_Step]:
    """A step for each instruction, with the learned instructions that its words call."""
    looks = wording.named(options.get("learned"))
    wording.check_called(list(told), looks)
    steps = []
    for one in told:
        called = instruction.names_in(one) if isinstance(one, str) else []
        own = {name: looks[name] for name in called if name in looks}
        shown = own or isinstance(one, (LearnedInstruction, Hybrid))
        noise = options.get("noise", "random") if shown else "random"
        steps.append(_Step(told=one, options={**options, "learned": own or None, "noise": noise}))
    return steps


def _check(editor: Editor, picture: images.Picture, step: _Step, method: Any, seed: int) -> None:
    """Whatever can be known to be wrong before the step is run."""
    own = {name: step.options.get(name) for name in (*_SHARED, *_REGIONS, *_DESCRIBES)}
    [held] = inversions.of(picture, own["inversion"])
    given = {name: value for name, value in step.options.items() if name not in own}
    settled, _ = editor._settle(method, given, held=[held])
    [request] = requested.requests(
        picture, step.told, negative_prompt=own["negative_prompt"], mask=own["mask"], seed=seed, generator=None,
        learned=own["learned"], weights=own["weights"], masks=own["masks"], source=own["source"],
        inversion=held,
    )  # fmt: skip
    job = jobs.prepare(
        request, editor.pipe, lambda: models.weights_hash(editor.pipe), fit=own["fit"] or "fit", words=settled.words,
        noise=own["noise"] or "random", regions=getattr(settled, "regions", False),
        describes=getattr(settled, "describes", False), resolution=own["resolution"],
    )  # fmt: skip
    # The planning of methods that describe is the longer part of the work; a function has none.
    if not getattr(settled, "describes", False) and not isinstance(settled, Called):
        runs.check(editor.pipe, [job], method=settled)


def _run(editor: Editor, picture: images.Picture, steps: Sequence[_Step], method: Any, seed: int) -> Edit:
    notes: list[str] = []
    shown, edit = picture, None
    for step in steps:
        edit = editor.edit(shown, step.told, method=method, seed=seed, **step.options)
        # The transparency goes beside the picture, not into it, so that it is laid over white only once.
        shown = dataclasses.replace(picture, rgb=edit.image.convert("RGB"), path=None, sha256=None, notes=())
        notes += [note for note in edit.notes if note not in notes]
    assert edit is not None
    if len(steps) > 1:
        notes.append(
            f"made in {len(steps)} edits, one after the other: its recipe is that of the last, whose input was in memory, so "
            "that it cannot be replayed alone"
        )
        warnings.warn(notes[-1], ShowtellWarning, stacklevel=3)
    edit.notes, edit.source = notes, picture.rgb
    return edit
