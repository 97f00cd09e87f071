"""Making the pictures of a system for a block of rows."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .. import files, fitting, inverting, methods, models
from ..errors import ImageError, ModelError, ShowtellError, ShowtellWarning, TextError
from ..pairs import Pairs
from .folder import Folder
from .systems import System, needs_model, parted

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from ..data import Row
    from ..editor import Editor

#: A picture, or why there is none.
Made = Any


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """A row with its picture open, and the seed of everything that is drawn for it. What results are measured against is opened
    when the first system asks, and then kept; it raises ``ImageError`` where that fails.
    """

    row: Row
    before: Image.Image
    seed: int

    @cached_property
    def after(self) -> Image.Image | None:
        """The true result, brought to the picture's size."""
        return None if self.row.after is None else sized(self.row.after(), self.before.size)

    @cached_property
    def mask(self) -> np.ndarray | None:
        """Where the edit belongs. One of another size than the picture is an ``ImageError``."""
        found, (width, height) = None if self.row.mask is None else self.row.mask(), self.before.size
        if found is not None and found.shape != (height, width):
            raise ImageError(
                f"{self.row.id}: its mask is {found.shape[1]}×{found.shape[0]} and its picture {width}×{height}"
            )
        return found

    @cached_property
    def pair(self) -> tuple[Image.Image, Image.Image] | None:
        """The first pair that shows the edit."""
        return None if self.row.pair is None else self.row.pair()


def sized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture as RGB of that size."""
    from PIL import Image

    picture = picture.convert("RGB")
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def seed_of(seed: int, row: str) -> int:
    """The seed of a row: of its name and the evaluation's seed alone, so that order, shards and retries change nothing."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{row}".encode()).digest()[:4], "big")


class Editors:
    """The models of an evaluation, loaded when the first system asks."""

    def __init__(self, names: dict[str, str], *, device: str = "auto", dtype: Any = None) -> None:
        self.names, self.device, self.dtype = names, device, dtype
        self._loaded: dict[str, Editor] = {}

    def of(self, system: System) -> Editor:
        """The editor that makes a system's pictures. Raises ``ModelError``."""
        from ..editor import load

        name = system.model or self.names.get(system.kind or "instruct", "")
        if not name:
            raise ModelError(f"system {system.name!r} takes a model of the kind {system.kind!r}, and none is named")
        if name not in self._loaded:
            self._loaded[name] = load(name, device=self.device, dtype=self.dtype)
        return self._loaded[name]

    def described(self, system: System) -> dict[str, str] | None:
        """What makes a system's pictures; None where no model does."""
        if not needs_model(system):
            return None
        editor = self.of(system)
        return {
            "id": editor.model_id,
            "weights": models.weights_hash(editor.pipe),
            "dtype": str(models.dtype_of(editor.pipe.unet)).removeprefix("torch."),
            "device": models.device_of(editor.pipe).type,
        }


def make(system: System, editors: Editors, rows: Sequence[Opened], folder: Folder) -> list[Made]:
    """For each row an ``Edit``, a picture, or the ``ShowtellError`` of one that has none."""
    import torch

    makers: dict[str, Callable[..., list[Made]]] = {
        "input": _input, "truth": _truth, "autoencoder": _autoencoder, "sequential": _sequential, "visii": _visii,
    }  # fmt: skip
    maker = makers.get(system.method)
    if maker is None:
        maker = _reconstruct if system.method.startswith("reconstruct-") else _method
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ShowtellWarning)
        try:
            return maker(system, editors, rows, folder)
        except ShowtellError as error:  # what is wrong with all of them
            failed = error
        except (Exception, SystemExit) as error:
            if not system.outside or isinstance(error, (MemoryError, torch.OutOfMemoryError)):
                raise
            failed = methods.outside.failure(system.method, error)
        if len(rows) == 1:
            return [failed]
        return [one for row in rows for one in make(system, editors, [row], folder)]


def _input(system: System, editors: Editors, rows: Sequence[Opened], folder: Folder) -> list[Made]:
    return [one.before for one in rows]


def _truth(system: System, editors: Editors, rows: Sequence[Opened], folder: Folder) -> list[Made]:
    return [one.row.after() if one.row.after else _lacks(one, "true result") for one in rows]


def _autoencoder(system: System, editors: Editors, rows: Sequence[Opened], folder: Folder) -> list[Made]:
    pipe, found = editors.of(system).pipe, []
    for one in rows:
        frame = fitting.frame_for(
            one.before.size, fit="fit", resolution=models.resolution(pipe), multiple=models.size_multiple(pipe)
        )
        pixels = fitting.to_pixels([fitting.into_frame(one.before, frame)]).to(models.device_of(pipe))
        decoded = models.decode(pipe, models.scaled(pipe, models.encode_image(pipe, pixels)))
        found.append(fitting.out_of_frame(fitting.to_images(decoded)[0], frame, one.before))
    return found


def _reconstruct(system: System, editors: Editors, rows: Sequence[Opened], folder: Folder) -> list[Made]:
    told = [one.row.source_caption for one in rows]
    found = inverting.invert_many(
        editors.of(system), [one.before for one in rows], method=system.method.removeprefix("reconstruct-"), source=told,
        batch_size=len(rows), **system.settings,
    )  # fmt: skip
    return [one if isinstance(one, ShowtellError) else one.image for one in found]


def _method(system: System, editors: Editors, rows: Sequence[Opened], folder: Folder) -> list[Made]:
    value, editor = system.value, editors.of(system)
    describes = getattr(value, "describes", False)
    ready = [one for one in rows if _told(one.row, describes=describes)]
    options: dict[str, Any] = dict(system.settings)
    if describes and ready and all(one.row.source_caption for one in ready):
        options["source"] = [one.row.source_caption for one in ready]
    if hasattr(value, "pairs"):  # one edit that is shown at a time
        found = [_shown(editor, system, one) for one in ready]
    else:
        found = [] if not ready else editor.edit(
            [one.before for one in ready],
            [one.row.target_caption if describes else list(one.row.instructions) for one in ready],
            method=system.method, seed=[one.seed for one in ready], batch_size=len(ready), **options,
        )  # fmt: skip
    made = iter(found)
    lacking = "caption of the result" if describes else "instruction"
    return [next(made) if _told(one.row, describes=describes) else _lacks(one, lacking) for one in rows]


def _told(row: Row, *, describes: bool) -> bool:
    return bool(row.target_caption if describes else row.instructions)


def _shown(editor: Editor, system: System, one: Opened) -> Made:
    try:
        return editor.edit(one.before, method=system.method, pairs=_pairs(one, 1), seed=one.seed, **system.settings)
    except ShowtellError as error:
        return error


def _sequential(system: System, editors: Editors, rows: Sequence[Opened], folder: Folder) -> list[Made]:
    editor = editors.of(system)
    found: list[Made] = [one.before if one.row.instructions else _lacks(one, "instruction") for one in rows]
    for number in range(max(len(one.row.instructions) for one in rows)):
        due = [
            i for i, one in enumerate(rows)
            if number < len(one.row.instructions) and not isinstance(found[i], ShowtellError)
        ]  # fmt: skip
        edits = editor.edit(
            [getattr(found[i], "image", found[i]) for i in due], [[rows[i].row.instructions[number]] for i in due],
            seed=[rows[i].seed for i in due], batch_size=len(due), **system.settings,
        )  # fmt: skip
        for i, edit in zip(due, edits, strict=True):
            found[i] = edit
    # The recipe would be that of the last edit alone.
    return [getattr(one, "image", one) for one in found]


def _visii(system: System, editors: Editors, rows: Sequence[Opened], folder: Folder) -> list[Made]:
    """Learn from each row's pairs (the first ``pairs`` of them), keep what was learned, and repeat it on the row's picture; rows
    that are shown the same share it. ``init="instruction"`` starts from the row's own words.
    """
    from ..learned import LearnedInstruction

    editor = editors.of(system)
    own, learning = parted(system)
    told = {name: value for name, value in learning.items() if name != "pairs"}
    noise = system.settings.get("noise", "random")
    found: list[Made] = []
    for one in rows:
        try:
            shown = _pairs(one, learning.get("pairs", 1))
            name = _hash(shown)
            if learning.get("init") == "instruction":
                told["init"] = ", ".join(one.row.instructions).replace("[", "").replace("]", "")
                name = hashlib.sha256(f"{name} {told['init']}".encode()).hexdigest()[:16]
            path = folder.learned(system.name, name)
            if not path.exists():
                options = {"record_noise": True, **told} if noise == "recorded" else told
                look = editor.learn(shown, seed=seed_of(0, name), **options)
                files.make_folder(path.parent)
                look.save(path)
            found.append(editor.edit(one.before, LearnedInstruction.load(path), seed=one.seed, noise=noise, **own))
        except ShowtellError as error:
            found.append(error)
    return found


def _hash(shown: Pairs) -> str:
    told = "".join(pair.before.pixels_sha256 + pair.after.pixels_sha256 for pair in shown.items)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _pairs(one: Opened, count: int) -> Pairs:
    """The first ``count`` pairs that show a row's edit. Raises ``TextError`` for a row that has fewer."""
    shown = [] if one.row.pair is None else [one.row.pair, *one.row.more_pairs]
    if len(shown) < count:
        raise _lacks(one, "pair that shows the edit" if count == 1 else f"{count} pairs that show the edit")
    return Pairs.of([opens() for opens in shown[:count]])


def _lacks(one: Opened, what: str) -> ShowtellError:
    return TextError(f"{one.row.id}: the data set has no {what} for this row")
