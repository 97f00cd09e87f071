"""Making an edit again from the recipe in its PNG."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from . import images, loading, methods, models, recipe, wording
from . import tokens as learned_words
from .editor import Editor, load
from .edits import Edit
from .errors import FileFormatError, ImageError, MethodError, TextError, UsageError
from .inversions import Inversion
from .inverting import INVERSIONS
from .learned import LearnedInstruction
from .pairs import Pairs


def replay(
    png: str | os.PathLike[str],
    input: Any = None,
    *,
    mask: Any = None,
    masks: Any = None,
    learned: Any = None,
    pairs: Any = None,
    tokens: Any = None,
    editor: Editor | None = None,
    device: str | None = None,
    dtype: Any = None,
    **watching: Any,
) -> Edit:
    """Edit again as the recipe in ``png`` says.

    On the same machine, with the same versions and number of threads, the pixels are the same; those of a picture that
    was edited in a batch, within 1/255, since it is now edited alone.

    ``input``, ``mask``, ``masks`` (for each instruction a mask or None), ``learned`` (one or several) and ``pairs`` (as
    ``Pairs.of`` takes them) stand for the files that the recipe names, where they have moved; ``tokens`` are files of
    learned words (textual inversion), which no recipe names. An edit that went out from an inversion has it made again.
    ``editor`` is used instead of loading the recipe's model; ``device`` and ``dtype`` are the recipe's unless given.
    ``watching``: ``callback``, ``on_phase``, ``progress``, ``cancel``. The result's ``notes`` begin with whatever differs
    from the recipe, and whether the pixels came out the same. Raises ``FileFormatError``, ``ImageError``, ``MethodError``,
    ``ModelError``.
    """
    made = recipe.read(png)
    if made.seed is None:
        raise FileFormatError(f"{png}: was made with a used generator, whose seed is not known; it cannot be replayed")
    shown, others = _pairs(made, Path(png), pairs)
    method = _method(made, png, shown)
    picture = images.open_picture(input if input is not None else _find(made.input, Path(png), "input"))
    if made.mask is not None and mask is None:
        mask = _find(made.mask, Path(png), "mask")
    if mask is not None:
        images.open_mask(mask, size=picture.size)
    own, strays = _masks(made, Path(png), masks, picture.size)
    if editor is None:
        editor = load(
            made.model.id, device=device or _device(made), dtype=dtype or made.model.dtype, vae_tiling=made.vae_tiling
        )
    learned_words.installed(editor, tokens or [])
    looks, strange = _learned(made, Path(png), learned)
    back, other = _inverted(made, str(png), editor, picture, watching)
    differs = [*_differences(made, editor, picture, mask), *strange, *others, *strays, *other]
    edit = editor.edit(
        picture,
        list(made.instructions) or None,
        method=method,
        learned=looks,
        noise=made.noise,
        seed=made.seed,
        scheduler=made.scheduler or None,  # a function of another package has none
        negative_prompt=made.negative_prompt,
        mask=mask,
        weights=list(made.weights) or None,
        masks=own,
        source=made.source,
        inversion=back,
        fit=made.fit,
        resolution=made.resolution,
        sequential=made.sequential,
        **watching,
    )
    edit.notes[:0] = [*differs, _verdict(edit, png)]
    return edit


def _method(made: recipe.Recipe, png: str | os.PathLike[str], shown: Pairs | None) -> Any:
    """The method with the recipe's hyper-parameters: all of them, and nothing else. ``shown`` are its pairs, if any."""
    given = {**made.method.parameters, **({} if shown is None else {"pairs": shown})}
    method, origin = methods.settle(methods.resolve(made.method.name), given=given, card={})
    since = getattr(method, "SINCE", {})
    asked = [name for name in origin if name != "scheduler" and since.get(name, 1) <= made.format]
    missing = [name for name in asked if name not in given or (name == "pairs" and shown is None)]
    if missing:
        raise FileFormatError(f"{png}: its recipe is damaged (method.parameters: {', '.join(missing)} is missing)")
    return method


def _inverted(
    made: recipe.Recipe, png: str, editor: Editor, picture: images.Picture, watching: dict[str, Any]
) -> tuple[Inversion | None, list[str]]:
    """The inversion that the edit went out from, made again, and whether it is another one."""
    told = made.inversion
    if told is None:
        return None, []
    if told.method not in INVERSIONS:
        raise FileFormatError(f"{png}: its recipe is damaged (inversion.method: {told.method!r:.40} is not known)")
    names = {field.name for field in dataclasses.fields(INVERSIONS[told.method]())} - {"scheduler"}
    if wrong := names.symmetric_difference(told.settings):
        raise FileFormatError(f"{png}: its recipe is damaged (inversion.settings: {', '.join(sorted(wrong)):.100})")
    try:
        found = editor.invert(
            picture, told.target, method=told.method, source=told.source, negative_prompt=told.negative_prompt or None,
            fit=made.fit, sequential=made.sequential, scheduler=told.scheduler or made.scheduler, **told.settings,
            **{name: watching[name] for name in ("on_phase", "progress", "cancel") if name in watching},
        )  # fmt: skip
    except (MethodError, TextError) as error:
        raise FileFormatError(f"{png}: its recipe is damaged (inversion: {error})") from error
    same = found.sha256 == told.sha256
    return found, [] if same else ["the inversion was made again, and is not quite the one that was used"]


def _masks(made: recipe.Recipe, png: Path, given: Any, size: tuple[int, int]) -> tuple[list[Any] | None, list[str]]:
    """The user's mask of each instruction, opened, None where there was none; and which are not those that were used."""
    if not getattr(methods.resolve(made.method.name), "regions", False):
        if made.weights or made.masks:
            raise FileFormatError(f"{png}: its recipe is damaged (weights: method {made.method.name!r:.40} takes none)")
        if given is not None:
            raise MethodError(
                f"{png}: its method, {made.method.name!r:.40}, has no masks of instructions: leave them out"
            )
        return None, []
    recorded = made.masks or (None,) * len(made.instructions)
    told = list(given) if isinstance(given, (list, tuple)) else [given] if given is not None else [None] * len(recorded)
    if len(told) != len(recorded):
        raise MethodError(
            f"{png}: masks has {len(told)} items for {len(recorded)} instructions: give one for each, or None"
        )
    found, strange = [], []
    for number, (record, new) in enumerate(zip(recorded, told, strict=True), start=1):
        if record is None:
            if new is not None:
                raise MethodError(f"{png}: instruction {number} had no mask of yours: leave its mask out")
            found.append(None)
            continue
        place = _find(record, png, f"mask of instruction {number}") if new is None else images.mask_like(new)
        opened = images.open_picture(place)
        images.open_mask(opened, size=size)
        if opened.pixels_sha256 != record.pixels_sha256:
            strange.append(f"the mask of instruction {number} is not the one that was used (its pixels differ)")
        found.append(opened)
    return found if any(one is not None for one in found) else None, strange


def _find(record: recipe.FileRecord, png: Path, what: str) -> Path:
    """The file of a recipe: where it was, else beside the PNG."""
    hows = {"before": "--before and --after (pairs=...)", "after": "--before and --after (pairs=...)"}
    how = hows.get(what, f"--{what} ({what}=...)")
    if what.startswith("mask of instruction "):
        how = f"--mask-for {what.rpartition(' ')[2]}=FILE (masks=...)"
    if record.path is None:
        raise ImageError(f"{png}: its {what} was a picture in memory: give it with {how}")
    if (place := _place(record.path, png)) is not None:
        return place
    raise ImageError(f"{record.path:.100}: the {what} of {png} is not there any more: give it with {how}")


def _place(path: str, png: Path) -> Path | None:
    places = [Path(path), png.parent / path, png.parent / Path(path).name]
    # unlike Path.is_file, it takes a name of any length
    return next((place for place in places if os.path.isfile(place)), None)


def _learned(made: recipe.Recipe, png: Path, given: Any) -> tuple[dict[str, LearnedInstruction], list[str]]:
    """What the names in the instructions stand for, and what is not as it was."""
    known = {look.sha256: look for look in wording.named(given).values()}
    wanted = {part.sha256 for record in made.learned for part in record.parts}
    spare = [look for sha256, look in known.items() if sha256 not in wanted]
    looks, strange = {}, []
    for record in made.learned:
        parts = []
        for part in record.parts:
            look = known.get(part.sha256) or _read(part, png, spare)
            if look.sha256 != part.sha256:
                strange.append(f"{look.name}: is not the learned instruction that was used")
            parts.append(look * part.weight)
        looks[record.name] = sum(parts[1:], start=parts[0]).renamed(record.name)
    return looks, [*strange, *(f"{look.name}: was given, and the recipe has no use for it" for look in spare)]


def _read(part: recipe.PartRecord, png: Path, spare: list[LearnedInstruction]) -> LearnedInstruction:
    """The file of a part, as it was; else one that was given and is in no recipe; else the file as it is now."""
    place = _place(part.path, png) if part.path is not None else None
    found = LearnedInstruction.load(place) if place is not None else None
    if spare and (found is None or found.sha256 != part.sha256):
        return spare.pop(0)
    if found is not None:
        return found
    what = part.path if part.path is not None else "in memory"
    raise FileFormatError(
        f"{png}: its learned instruction ({what:.100}) is not there: give its file with --learned (learned=...)"
    )


def _pairs(made: recipe.Recipe, png: Path, given: Any) -> tuple[Pairs | None, list[str]]:
    """The pairs that the method was shown, if it was, and which of their pictures are not those that were used."""
    recorded = recipe.shown_pairs(made, name=str(png))
    if recorded is None:
        if given is not None:
            raise MethodError(f"{png}: its method, {made.method.name!r:.40}, was shown no pair: leave pairs out")
        return None, []
    if given is None:
        given = [(_find(pair.before, png, "before"), _find(pair.after, png, "after")) for pair in recorded]
    shown = Pairs.of(given)
    if len(shown) != len(recorded):
        raise ImageError(f"{png}: was shown {len(recorded)} pairs, and {len(shown)} were given")
    return shown, [
        f"{new.path or f'the {side} of the pair'}: is not the picture that was shown (its pixels differ)"
        for old, pair in zip(recorded, shown.items, strict=True)
        for side, was, new in (("before", old.before, pair.before), ("after", old.after, pair.after))
        if was.pixels_sha256 != new.pixels_sha256
    ]


def _device(made: recipe.Recipe) -> str:
    try:
        return loading.pick_device(made.model.device)
    except UsageError:
        return "auto"


def _differences(made: recipe.Recipe, editor: Editor, picture: images.Picture, mask: Any) -> list[str]:
    found = []
    if picture.pixels_sha256 != made.input.pixels_sha256:
        found.append(f"{picture.path or 'the input'}: is not the picture that was edited (its pixels differ)")
    if made.mask is not None and images.open_picture(images.mask_like(mask)).pixels_sha256 != made.mask.pixels_sha256:
        found.append("the mask is not the one that was used (its pixels differ)")
    # Layer by layer offloaded, weights tell no fingerprint.
    known = made.model.weights and not models.offloaded(editor.pipe)
    if known and models.weights_hash(editor.pipe) != made.model.weights:
        found.append(f"{editor.model_id}: its weights are not those that were used")
    if made.vae_tiling != models.tiled(editor.pipe):
        found.append(
            f"the picture was edited with{'' if made.vae_tiling else 'out'} vae_tiling, and this model is not so"
        )
    ran = {
        "device": models.device_of(editor.pipe).type,
        "dtype": str(models.dtype_of(editor.pipe.unet)).removeprefix("torch."),
    }
    found += recipe.differences({"device": made.model.device, "dtype": made.model.dtype}, ran)
    return found + _machine(made) + recipe.differences(made.versions, recipe.versions())


def _machine(made: recipe.Recipe) -> list[str]:
    """What differs in how the work was divided, which may change the last bit of a pixel."""
    import torch

    found = []
    if made.threads is not None:
        found = recipe.differences({"threads": str(made.threads)}, {"threads": str(torch.get_num_threads())})
    if made.batch is not None and made.batch > 1:
        found.append(f"the picture was edited in a batch of {made.batch}, now alone: pixels may differ by 1/255")
    return found


def _verdict(edit: Edit, png: str | os.PathLike[str]) -> str:
    before = images.open_picture(png)
    after = images.open_picture(edit.image)
    if before.size != after.size:
        return f"the size differs from {png}: {after.size} instead of {before.size}"
    gap = np.abs(np.asarray(before.rgb, dtype=np.int16) - np.asarray(after.rgb, dtype=np.int16)).max()
    return f"the pixels are the same as in {png}" if gap == 0 else f"the pixels differ from {png} by up to {gap}/255"
