"""Learning an instruction from before/after pairs: opens the pairs, runs the inversion, and packs what it found."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import files, lessons, methods, models
from .errors import Cancelled, MethodError, ShowtellError, ShowtellWarning
from .inversion import visii
from .inversion.draws import Draws
from .inversion.progress import Progress
from .learned import LearnedFor, LearnedInstruction
from .learned_file import MOST_THUMBNAILS, small
from .pairs import Pairs
from .recipe import readable
from .starts import RecordedNoise

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from .editor import Editor

#: Seconds between two savings of a checkpoint.
_SAVE_EVERY = 5.0


@dataclass(kw_only=True)
class Learnt:
    """What a learning leaves beside the instruction: its ``checks``, (step, L_mse), the whole embedding at each, and notes."""

    look: LearnedInstruction
    checks: list[tuple[int, float]]
    snapshots: list[LearnedInstruction]
    notes: list[str] = field(default_factory=list)


def learn(editor: Editor, pairs: Any, **options: Any) -> LearnedInstruction:
    """The edit that before/after pairs show, as a value that edits other pictures (VISII).

    Takes what :func:`study` takes, and returns its ``look``; the notes become warnings, and a ``checkpoint`` is removed.
    """
    found = study(editor, pairs, **options)
    if (checkpoint := options.get("checkpoint")) is not None:
        Path(checkpoint).unlink(missing_ok=True)
    for note in found.notes:
        warnings.warn(note, ShowtellWarning, stacklevel=3)
    return found.look


def study(
    editor: Editor,
    pairs: Any,
    *,
    init: str | None = None,
    name: str = "learned",
    method: visii.VisualInstructionInversion | None = None,
    clip: Any = None,
    caption_steps: int = 3000,
    fit: str = "fit",
    seed: int = 0,
    record_noise: bool = False,
    callback: Callable[[int, int, float], None] | None = None,
    progress: bool = False,
    cancel: Callable[[], bool] | Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    **hyperparameters: Any,
) -> Learnt:
    """Learn an instruction, and tell how it went.

    ``pairs``: (before, after) pictures, one pair or a list of them. ``init``: words to start from; ``"caption"``, a
    caption of the first "after" picture (PEZ, ``num_tokens`` tokens, ``caption_steps`` steps); None, nothing. ``method``: the
    hyper-parameters as a value; single ones may be given by name (``steps=300``): see ``VisualInstructionInversion``. ``clip``:
    the CLIP of the direction loss and the caption, a name, a folder or a ``Clip``; by default the one whose text tower the
    pipeline has. ``record_noise`` keeps the noises in the file, for ``edit(..., noise="recorded")``.

    ``callback(i, n, loss)`` after each step; ``cancel``, an event or a function, is asked after each step.
    ``checkpoint``: a file in which the learning is kept every few seconds and at its end, so that nothing is lost until
    the caller has saved what was found and removes it; with ``resume`` it goes on from there, with the same result to the
    last bit.

    A loss that is not finite ends the learning with the best tokens so far, and a note. Raises ``ImageError`` for pairs
    that cannot teach, ``TextError`` for words that leave no room, ``MethodError``, ``ModelError``, ``Cancelled``.
    """
    settings = _settings(editor, method, hyperparameters)
    shown = Pairs.of(pairs)
    if resume and checkpoint is None:
        raise MethodError("resume=True needs the checkpoint to go on from: give checkpoint=FILE")
    pipe = editor.pipe
    with _failures():
        ready = lessons.prepare(
            editor, shown, settings, init=init, clip=clip, fit=fit, seed=seed, caption_steps=caption_steps
        )
    lesson = ready.lesson
    draws = Draws.of(
        steps=settings.steps, timesteps_per_step=settings.timesteps_per_step, pairs=len(lesson.shown),
        total=len(lesson.alphas_cumprod), seed=seed,
    )  # fmt: skip
    what = _identity(ready, shown, editor)
    saved = Path(checkpoint) if checkpoint is not None else None
    begun = Progress.of(lesson.tokens)
    if saved is not None and resume and saved.exists():
        begun = Progress.load(saved, what=what, device=lesson.embeds.device)
    watch = _Watch(callback=callback, progress=progress, cancel=cancel, checkpoint=saved, what=what)
    try:
        with _frozen(pipe), watch.run(settings.steps, begun.step) as observe, _failures():
            done = visii.learn(lesson, draws, begun, observe=observe)
    finally:
        models.release(pipe)
    if saved is not None:
        done.save(saved, what=what)
    return _packed(editor, shown, ready, draws, done, name=name, record_noise=record_noise)


def _settings(editor: Editor, method: visii.VisualInstructionInversion | None, given: dict[str, Any]) -> Any:
    """The hyper-parameters: the caller's, else the card's, else the paper's."""
    value = method if method is not None else visii.VisualInstructionInversion()
    models.require_kind(editor.pipe, ("instruct", "control"), method="visii", model_id=editor.model_id)
    card = editor.card.get("defaults", {}).get("visii", {})
    settled, _ = methods.settle(value, given=given, card=card)
    if editor.kind == "control" and settled.image_guidance_scale != 1 and "image_guidance_scale" not in given:
        settled, _ = methods.settle(settled, given={"image_guidance_scale": 1.0}, card={})
    return settled


@contextlib.contextmanager
def _frozen(pipe: Any) -> Iterator[None]:
    """No network collects gradients of its own; afterwards each parameter is as it was."""
    parts = [getattr(pipe, part, None) for part in ("unet", "controlnet")]
    learning = [p for part in parts if part is not None for p in part.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ShowtellError(
            "out of memory: use fewer timesteps_per_step, dtype bfloat16, or smaller pictures"
        ) from error


def _identity(ready: lessons.Prepared, shown: Pairs, editor: Editor) -> str:
    """What must be the same for a learning to go on: settings, words, seed, pixels and weights."""
    pixels = [(p.before.pixels_sha256, p.after.pixels_sha256) for p in shown.items]
    told = {key: value for key, value in ready.how.items() if key != "pairs"}
    text = json.dumps([told, pixels, models.weights_hash(editor.pipe)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class _Watch:
    """What looks on while an instruction is learned: a callback, a bar, a way to stop, and a file to go on from."""

    def __init__(self, *, callback: Any, progress: bool, cancel: Any, checkpoint: Path | None, what: str) -> None:
        self.callback, self.progress, self.checkpoint, self.what = callback, progress, checkpoint, what
        self.cancelled = cancel.is_set if hasattr(cancel, "is_set") else cancel

    @contextlib.contextmanager
    def run(self, total: int, begun: int) -> Iterator[Callable[[Progress, float], None]]:
        from time import monotonic

        from tqdm import tqdm

        if self.checkpoint is not None:
            files.check_output(self.checkpoint, force=True)
        saved = monotonic()
        with tqdm(total=total, initial=begun, disable=not self.progress, desc="learning", leave=False) as bar:

            def observe(done: Progress, loss: float) -> None:
                nonlocal saved
                bar.update()
                bar.set_postfix(loss=f"{loss:.4f}")
                try:
                    if self.callback is not None:
                        self.callback(done.step, total, loss)
                    if self.cancelled is not None and self.cancelled():
                        raise Cancelled(f"stopped after step {done.step} of {total}")
                except BaseException:
                    self._save(done)
                    raise
                if monotonic() - saved > _SAVE_EVERY:
                    self._save(done)
                    saved = monotonic()

            yield observe

    def _save(self, done: Progress) -> None:
        if self.checkpoint is not None:
            done.save(self.checkpoint, what=self.what)


def _packed(
    editor: Editor,
    shown: Pairs,
    ready: lessons.Prepared,
    draws: Draws,
    done: Progress,
    *,
    name: str,
    record_noise: bool,
) -> Learnt:
    lesson, (best_step, best_loss) = ready.lesson, done.best_check
    how = {
        **ready.how, "steps_done": done.step, "kept_step": best_step, "kept_loss": best_loss,
        "checks": [[step, loss] for step, loss in done.checks],
    }  # fmt: skip
    model = LearnedFor(
        id=readable(editor.model_id), weights=models.weights_hash(editor.pipe),
        text_encoder=models.weights_hash(editor.pipe, parts=("text_encoder",)),
    )  # fmt: skip

    def packed(tokens: torch.Tensor) -> LearnedInstruction:
        return LearnedInstruction(
            name=name, embeds=lesson.whole(tokens.to(lesson.embeds)).detach().cpu(), how=how, model=model,
            empty_embeds=lesson.empty_embeds.cpu(), ids=ready.ids, span=lesson.span, thumbnails=_thumbnails(shown),
            noise=_noise(lesson, draws, done) if record_noise else None,
        )  # fmt: skip

    notes = [*shown.notes(), *_ending(done, lesson.settings.steps)]
    growth = [packed(tokens) for tokens in done.snapshots]
    return Learnt(look=packed(done.best), checks=done.checks, snapshots=growth, notes=notes)


def _ending(done: Progress, steps: int) -> list[str]:
    """What a user should know of how a learning ended. Raises ``ShowtellError`` if nothing was learned."""
    best_step, best_loss = done.best_check
    if math.isnan(best_loss):
        raise ShowtellError(
            "the loss is not a number from the start: use float32, or look at the model and the pictures"
        )
    if done.broke_at is not None:
        return [
            f"the loss was not a number at step {done.broke_at + 1}: the learning stopped there, and the best tokens, of "
            f"step {best_step}, were kept"
        ]
    if done.step < steps:
        return [f"the learning stopped early, after step {done.step}: nothing was better than step {best_step}"]
    return []


def _noise(lesson: visii.Lesson, draws: Draws, done: Progress) -> RecordedNoise:
    """The noises of the timesteps that were visited, for the first pair's shape."""
    import torch

    timesteps = torch.unique(draws.timesteps[: max(1, done.step)])
    values = draws.noise(lesson.shown[0].after.shape[1:])[timesteps]
    return RecordedNoise(timesteps=timesteps, values=values)


def _thumbnails(shown: Pairs) -> tuple[tuple[Image.Image, Image.Image], ...]:
    return tuple((small(p.before.rgb), small(p.after.rgb)) for p in shown.items[:MOST_THUMBNAILS])
