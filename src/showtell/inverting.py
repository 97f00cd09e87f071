"""Inverting a picture: what it came out of, as a value that can be kept and edited."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import files, fitting, jobs, methods, models, requested, runs, watching
from .edits import Edit
from .errors import MethodError, OutputError, ShowtellError, TextError
from .inversion import gradients, tuned_file
from .inversion.tuning import Tuned
from .inversions import MADE_FOR, Inversion
from .methods.reconstructions import DdimReconstruction, NullTextReconstruction, PromptTuningReconstruction

if TYPE_CHECKING:
    from .editor import Editor

#: Name -> what builds the inversion at its defaults.
INVERSIONS: dict[str, Callable[..., Any]] = {
    "ddim": DdimReconstruction,
    "nti": NullTextReconstruction,
    "pti": PromptTuningReconstruction,
}
# What is not taken over from the card's settings of the method that it is made for.
_NOT_FROM_CARD = {"ddim": {"guidance_scale"}, "nti": set(), "pti": {"start"}}
# A tuning that broke may go on with a smaller rate.
_CHANGEABLE = ("inner_steps", "learning_rate")
#: Seconds between two savings of a checkpoint.
_SAVE_EVERY = 5.0


def invert(
    editor: Editor,
    image: Any,
    target: str | None = None,
    *,
    method: str = "pti",
    source: str | None = None,
    start: str | None = None,
    negative_prompt: str | None = None,
    fit: str = "fit",
    sequential: bool = False,
    gradient_checkpointing: bool = False,
    callback: Callable[[int, int, Any], None] | None = None,
    on_phase: Callable[[str, int, int], None] | None = None,
    progress: bool = False,
    cancel: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    **hyperparameters: Any,
) -> Inversion:
    """Invert a picture by ``ddim``, ``nti`` or ``pti``: the reconstruction, its PSNR, and what edits go out from.

    ``source``: what the picture shows. ``start`` (of ``pti``): what the tuning starts from. With a ``target`` it is that
    one's embedding, the paper's way, and the inversion belongs to it; ``source`` or ``empty`` serve any target; by default
    ``source`` where it was told, else ``empty``. ``hyperparameters`` are those of the inversion's value in
    ``methods.reconstructions``; None takes the model card's, else the paper's.

    ``gradient_checkpointing`` computes twice instead of keeping, while it tunes: the same result with less memory, in more time.
    ``on_phase(name, i, n)`` is told of inverting and tuning, ``callback(i, n, latents)`` of the way back of ``ddim`` (a
    tuning takes it itself), and ``cancel`` is asked after each step. ``checkpoint``: a file in which the tuning is kept every
    few seconds and when it is stopped, to be removed by the caller; with ``resume`` it goes on from there, with the same
    result on the same machine with the same number of threads. A loss that is not finite ends it: what was tuned before is in
    the checkpoint. Raises ``ImageError``, ``TextError``, ``MethodError``, ``ModelError``, ``OutputError``, ``FileFormatError``,
    ``Cancelled``.
    """
    settled, origin = _settled(
        editor, method, target=target, source=source, start=start, fit=fit, given=hyperparameters
    )
    if requested.is_batch(image):
        raise MethodError("one picture is inverted at a time: give a picture, not a list, or use invert_many")
    (request,) = requested.requests(
        image, target if target is not None else "", negative_prompt=negative_prompt, mask=None, seed=0, generator=None,
        source=source,
    )  # fmt: skip
    job = jobs.prepare(
        dataclasses.replace(request, instruction=target, inversion=None), editor.pipe,
        lambda: models.weights_hash(editor.pipe), fit=fit,
        words="optional", describes=True,
    )  # fmt: skip
    what = "" if checkpoint is None else _what(editor, job, settled, target)
    tuned = _progress(checkpoint, what, resume=resume, device=models.device_of(editor.pipe))
    how = {name: getattr(settled, name) for name in _CHANGEABLE if hasattr(settled, name)}
    if tuned.embeds and tuned.how != how:
        job.notes.append(f"its first {len(tuned.embeds)} steps were tuned with {tuned.how}")
    tuned.how = how
    checkpointed = gradients.checkpointed(editor.pipe, enabled=gradient_checkpointing)
    with _kept(checkpoint, tuned, what) as keep, checkpointed:

        def watched(name: str, i: int, n: int) -> None:
            keep()
            if on_phase is not None:
                on_phase(name, i, n)

        watch = watching.Watch(callback=callback, progress=progress, cancel=cancel, on_phase=watched, tuned=tuned)
        (found,) = runs.run(
            editor.pipe,
            [job],
            model_id=editor.model_id,
            method=settled,
            origin=origin,
            sequential=sequential,
            watch=watch,
        )
    if isinstance(found, ShowtellError):
        raise found
    return _packed(
        editor.pipe, found, job, settled, target=target if getattr(settled, "start", None) == "target" else None
    )


def invert_many(
    editor: Editor,
    images: Sequence[Any],
    targets: Sequence[str] | None = None,
    *,
    method: str = "pti",
    source: Sequence[str] | None = None,
    start: str | None = None,
    negative_prompt: Any = None,
    fit: str = "fit",
    sequential: bool = False,
    gradient_checkpointing: bool = False,
    batch_size: int = 8,
    progress: bool = False,
    cancel: Any = None,
    **hyperparameters: Any,
) -> list[Inversion | ShowtellError]:
    """Invert a list of pictures in batches: an ``Inversion`` of each, or the ``ShowtellError`` of one that has none.

    ``targets`` and ``source``, where given, have one prompt for each picture. Everything else is as for :func:`invert`, whose
    results these equal: without tuning within 1e-4 on latents; tuned, only as far as Adam lets them, whose steps have the size
    of its rate however small a gradient is. Raises ``MethodError``, ``TextError``, ``ModelError``, ``Cancelled``.
    """
    for name, told in (("targets", targets), ("source", source)):
        if told is not None and (isinstance(told, str) or len(told) != len(images)):
            raise TextError(f"{name} has one prompt for each of the {len(images)} pictures, or is left out")
    settled, origin = _settled(
        editor, method, target=targets, source=source, start=start, fit=fit, given=hyperparameters
    )
    wanted = list(targets) if targets is not None else [None] * len(images)
    requests = requested.requests(
        list(images), [one or "" for one in wanted], negative_prompt=negative_prompt, mask=None, seed=0, generator=None,
        source=None if source is None else list(source),
    )  # fmt: skip
    found: list[Any] = jobs.prepare_all(
        [dataclasses.replace(one, instruction=told, inversion=None) for one, told in zip(requests, wanted, strict=True)],
        editor.pipe,
        fit=fit, words="optional", describes=True,
    )  # fmt: skip
    watch = watching.Watch(progress=progress, cancel=cancel)
    for part in jobs.same_size(found, most=batch_size):
        batch = [found[i] for i in part]
        with gradients.checkpointed(editor.pipe, enabled=gradient_checkpointing):
            edits = editor._run(batch, method=settled, origin=origin, sequential=sequential, watch=watch)
        for i, job, edit in zip(part, batch, edits, strict=True):
            own = wanted[i] if getattr(settled, "start", None) == "target" else None
            found[i] = edit if isinstance(edit, ShowtellError) else _packed(editor.pipe, edit, job, settled, target=own)
    return found


def etas(
    editor: Editor, inversion: Inversion, target: str, values: Any = (0, 0.2, 0.4, 0.6, 0.8, 0.9, 1), **options: Any
) -> list[Edit]:
    """One edit for each eta of ``values``, all from one inversion: from the reconstruction to the target.

    ``options`` are those of ``Editor.edit`` for method ``pti``. Raises as that does.
    """
    return [editor.edit(inversion, target, method="pti", eta=float(eta), **options) for eta in values]


def _settled(
    editor: Editor, method: str, *, target: Any, source: Any, start: Any, fit: str, given: dict[str, Any]
) -> tuple[Any, dict[str, str]]:
    """The inversion with every hyper-parameter filled in, and where each came from."""
    value = resolved(method, target=target, source=source, start=start, given=given)
    models.require_kind(editor.pipe, value.kinds, method=f"invert {value.name}", model_id=editor.model_id)
    # An inversion is made as the edit that goes out from it would make it.
    own = {f.name for f in dataclasses.fields(value)} - _NOT_FROM_CARD[value.name]
    tuned = editor.card.get("defaults", {}).get(MADE_FOR[value.name], {})
    card = {name: setting for name, setting in tuned.items() if name in own}
    if fit not in fitting.FITS:
        raise MethodError(f"fit={fit!r} is not known: choose one of {', '.join(fitting.FITS)}")
    settled, origin = methods.settle(value, given=given, card=card, kind=editor.kind)
    return editor._scheduled(settled, origin), origin


def resolved(method: str, *, target: Any, source: Any, start: Any, given: dict[str, Any]) -> Any:
    """The inversion as a value, started as what is told of the picture has it. Raises ``MethodError``, ``TextError``."""
    if method not in INVERSIONS:
        raise MethodError(f"inversion {method!r} is not known: choose one of {', '.join(INVERSIONS)}")
    if method != "pti":
        if target is not None or start is not None:
            name = "target" if target is not None else "start"
            raise MethodError(f"{name} is for inversion 'pti'; {method!r} is told source=, what the picture shows")
        return INVERSIONS[method]()
    if start is None:
        start = "target" if target is not None else "source" if source is not None else "empty"
    if start == "target" and target is None:
        raise TextError("start='target' needs a target, what the picture is to become")
    if start != "target" and target is not None:
        raise MethodError(f"start={start!r} serves any target: leave the target out, it is told when you edit")
    return INVERSIONS[method](start=start)


def _packed(pipe: Any, edit: Edit, job: jobs.Job, settled: Any, *, target: str | None) -> Inversion:
    assert edit.inverted is not None
    settings = {f.name: getattr(settled, f.name) for f in dataclasses.fields(settled) if f.name != "scheduler"}
    return Inversion(
        image=edit.image, psnr=_psnr(pipe, edit, job), method=settled.name, settings=settings, target=target,
        source=None if job.source is None else job.source.text, model=edit.recipe.model, picture=job.picture,
        negative_prompt=job.negative.text, scheduler=edit.recipe.scheduler,
        fit=job.frame.fit, frame=job.frame.frame, data=edit.inverted, seed=edit.seed, notes=edit.notes,
    )  # fmt: skip


def _psnr(pipe: Any, edit: Edit, job: jobs.Job) -> float:
    """Of the reconstruction and the picture as the model saw it, dB."""
    assert edit.latents is not None
    made = models.decode(pipe, edit.latents[None].to(models.device_of(pipe))).clamp(-1, 1).cpu()
    seen = fitting.to_pixels([fitting.into_frame(job.picture.rgb, job.frame)])
    error = float(((made - seen) / 2).square().mean())
    return -10 * math.log10(error) if error > 0 else math.inf


def _what(editor: Editor, job: jobs.Job, settled: Any, target: str | None) -> str:
    """What must be the same for a tuning to go on."""
    told = {
        "settings": {
            f.name: str(getattr(settled, f.name)) for f in dataclasses.fields(settled) if f.name not in _CHANGEABLE
        },
        "method": settled.name,
        "target": target,
        "source": None if job.source is None else job.source.text,
        "negative": job.negative.text,
        "picture": job.picture.pixels_sha256,
        "frame": [job.frame.fit, *job.frame.frame],
        "weights": models.weights_hash(editor.pipe),
        "dtype": str(models.dtype_of(editor.pipe.unet)),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _progress(checkpoint: Any, what: str, *, resume: bool, device: Any) -> Tuned:
    if checkpoint is None:
        return Tuned()
    path = files.check_output(checkpoint, force=True)
    if path.exists():
        if resume:
            return tuned_file.load(path, what=what, device=device)
        raise OutputError(f"{path}: holds an unfinished inversion; go on with it by resume=True, or remove it")
    return Tuned()


@contextlib.contextmanager
def _kept(checkpoint: Any, tuned: Tuned, what: str) -> Iterator[Callable[[], None]]:
    """Saves the tuning every few seconds, and whatever there is when it is stopped or breaks."""
    last = time.monotonic()

    def save() -> None:
        nonlocal last
        if checkpoint is not None and tuned.trajectory is not None:
            tuned_file.save(tuned, Path(checkpoint), what=what)
            last = time.monotonic()

    def keep() -> None:
        if time.monotonic() - last > _SAVE_EVERY:
            save()

    try:
        yield keep
    except BaseException:
        save()
        raise
