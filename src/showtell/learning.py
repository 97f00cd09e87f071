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

from . import files, lessons, methods, models, requested
from .caching import constant_text
from .errors import Cancelled, MethodError, OutputError, ShowtellError, ShowtellWarning, TextError
from .inversion import gradients, visii
from .inversion.draws import Draws
from .inversion.progress import Progress
from .learned import NAME, LearnedInstruction
from .pairs import Pairs
from .starts import RecordedNoise

if TYPE_CHECKING:
    from .editor import Editor

#: Seconds between two savings of a checkpoint.
_SAVE_EVERY = 5.0
_TOO_MUCH = (
    "out of memory: use gradient_checkpointing=True, fewer timesteps_per_step, dtype bfloat16, or offload='model' "
    "('showtell models fit' tells what fits)"
)


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
    gradient_checkpointing: bool = False,
    callback: Callable[[int, int, float], None] | None = None,
    on_check: Callable[[int, float, LearnedInstruction], None] | None = None,
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
    ``gradient_checkpointing`` computes twice instead of keeping: the same result with less memory, in more time.

    ``callback(i, n, loss)`` after each step; ``cancel``, an event or a function, is asked after each step, or on a GPU, where
    nobody is told the loss, after every tenth: to look at it is to wait for the device.
    ``on_check(step, L_mse, look)`` after each new check, also the one before the first step, with the look as it is then;
    it may edit pictures with this editor, and leaves the learning's result as it would be without it.
    ``checkpoint``: a file in which the learning is kept every few seconds and at its end, so that nothing is lost until
    the caller has saved what was found and removes it; with ``resume`` it goes on from there, with the same result to the
    last bit on the same machine with the same number of threads.

    A loss that is not finite ends the learning with the best tokens so far, and a note. Raises ``ImageError`` for pairs
    that cannot teach, ``TextError`` for words that leave no room, ``MethodError``, ``ModelError``, ``Cancelled``.
    """
    settings = _settings(editor, method, hyperparameters)
    seed, shown = requested.checked_seed(seed), Pairs.of(pairs)
    _check(name, init)
    saved = checkpoint_path(checkpoint, resume=resume)
    watch = Watch(callback=callback, progress=progress, cancel=cancel, checkpoint=saved)
    notes = [*shown.notes(), *_unused(settings, init, clip, hyperparameters)]
    checkpointed = gradients.checkpointed(editor.pipe, enabled=gradient_checkpointing)
    with models.memory_errors(_TOO_MUCH), _gradients(editor.pipe), checkpointed:
        judge = lessons.judge(editor, settings, init=init, clip=clip)
        how = lessons.plan(
            editor, shown, settings, init=init, clip=judge, fit=fit, seed=seed, caption_steps=caption_steps
        )
        watch.what = _identity(how, shown, editor)
        begun = _begun(saved, watch.what, device=models.device_of(editor.pipe)) if resume else None
        words = begun.words if begun is not None else init or ""
        if begun is None and init == lessons.CAPTION and judge is not None:
            found = lessons.caption(
                shown, settings, clip=judge, seed=seed, steps=caption_steps, cancelled=watch.cancelled
            )
            words = found.text
            notes += [] if found.fits else [f"no caption of {settings.num_tokens} tokens was found; this one has more"]
        try:
            lesson, ids = lessons.prepare(editor, shown, settings, words=words, clip=judge, fit=fit)
            draws = Draws.of(
                steps=settings.steps, timesteps_per_step=settings.timesteps_per_step, pairs=len(lesson.shown),
                total=len(lesson.alphas_cumprod), seed=seed,
            )  # fmt: skip
            begun = begun or Progress.of(lesson.tokens, words=words)
            how |= {"num_tokens": lesson.span[1] - lesson.span[0], "init_words": words}
            packing = lessons.Packing.of(editor, shown, lesson, ids, how, name=name)
            constant = constant_text(editor.pipe.unet, getattr(editor.pipe, "controlnet", None))
            with constant, watch.run(settings.steps, begun.step) as observe:
                done = visii.learn(
                    lesson, draws, begun, observe=observe, checked=watch.checking(on_check, packing),
                    look_every=1 if callback is not None or progress else None,
                )  # fmt: skip
        finally:
            models.release(editor.pipe)
    notes += _ending(done, settings.steps)
    if saved is not None:
        done.save(saved, what=watch.what)
    noise = _noise(lesson, draws, done) if record_noise else None
    return _packed(packing, done, noise=noise, notes=notes)


def _check(name: str, init: Any) -> None:
    """What can be wrong is found before the work."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise TextError(f"name={name!r:.60} cannot name a learned instruction: use letters, digits, - and _")
    if init is not None and not isinstance(init, str):
        raise TextError(f"init must be words, {lessons.CAPTION!r} or None, not {type(init).__name__}")


def checkpoint_path(checkpoint: Any, *, resume: bool) -> Path | None:
    """Where a learning is to be kept, if that can be. Raises ``MethodError`` or ``OutputError``."""
    if checkpoint is None:
        if resume:
            raise MethodError("resume=True needs the checkpoint to go on from: give checkpoint=FILE")
        return None
    path = files.check_output(checkpoint, force=True)
    if path.exists() and not resume:
        raise OutputError(f"{path}: exists already; go on from it with resume=True, or remove it")
    return path


def _unused(settings: Any, init: str | None, clip: Any, given: dict[str, Any]) -> list[str]:
    """What the user gave and nothing needed."""
    notes = []
    if clip is not None and not settings.clip_weight and init != lessons.CAPTION:
        notes.append("clip was not used: clip_weight is 0, and the start is no caption")
    if given.get("num_tokens") is not None and init and init != lessons.CAPTION:
        notes.append("num_tokens was not used: as many tokens are learned as the words have")
    return notes


def _begun(saved: Path | None, what: str, *, device: Any) -> Progress | None:
    return Progress.load(saved, what=what, device=device) if saved is not None and saved.exists() else None


def _settings(editor: Editor, method: visii.VisualInstructionInversion | None, given: dict[str, Any]) -> Any:
    """The hyper-parameters: the caller's, else the card's, else the paper's."""
    value = method if method is not None else visii.VisualInstructionInversion()
    models.require_kind(editor.pipe, ("instruct", "control"), method="visii", model_id=editor.model_id)
    card = editor.card.get("defaults", {}).get("visii", {})
    return methods.settle(value, given=given, card=card, kind=editor.kind)[0]


def _gradients(pipe: Any) -> contextlib.AbstractContextManager[None]:
    """Gradients are kept, but by no network of a pipeline."""
    return gradients.kept(*(getattr(pipe, part, None) for part in ("unet", "controlnet", "text_encoder", "vae")))


def _identity(how: dict[str, Any], shown: Pairs, editor: Editor) -> str:
    """What must be the same for a learning to go on: all that was asked, the pixels, the weights, and where it runs."""
    pixels = [(p.before.pixels_sha256, p.after.pixels_sha256) for p in shown.items]
    told = {key: value for key, value in how.items() if key != "pairs"}
    where = models.device_of(editor.pipe).type
    text = json.dumps([told, pixels, models.weights_hash(editor.pipe), where], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Watch:
    """What looks on while an instruction is learned: a callback, a bar, a way to stop, and a file to go on from."""

    def __init__(self, *, callback: Any, progress: bool, cancel: Any, checkpoint: Path | None) -> None:
        self.callback, self.progress, self.checkpoint, self.what = callback, progress, checkpoint, ""
        self.cancelled = cancel.is_set if hasattr(cancel, "is_set") else cancel

    @contextlib.contextmanager
    def run(self, total: int, begun: int) -> Iterator[Callable[[Progress, float], None]]:
        from time import monotonic

        from tqdm import tqdm

        saved = monotonic()
        with tqdm(total=total, initial=begun, disable=not self.progress, desc="learning", leave=False) as bar:

            def observe(done: Progress, loss: float) -> None:
                nonlocal saved
                bar.update(done.step - bar.n)
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

    def checking(self, on_check: Any, packing: lessons.Packing) -> Callable[[Progress], None]:
        """What tells ``on_check`` of the newest check: it may draw from torch's generators, and wants no gradients."""
        import torch

        def checked(done: Progress) -> None:
            if on_check is None:
                return
            check, device = done.checks[-1], done.tokens.device
            try:
                look = packing.look(done.snapshots[-1], packing.how_at(done, check))
                with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
                    on_check(*check, look)
            except BaseException:
                self._save(done)
                raise

        return checked

    def _save(self, done: Progress) -> None:
        if self.checkpoint is not None:
            done.save(self.checkpoint, what=self.what)


def _packed(packing: lessons.Packing, done: Progress, *, noise: RecordedNoise | None, notes: list[str]) -> Learnt:
    how = packing.how_at(done, done.best_check)
    growth = [packing.look(tokens, how) for tokens in done.snapshots]
    return Learnt(look=packing.look(done.best, how, noise), checks=done.checks, snapshots=growth, notes=notes)


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
