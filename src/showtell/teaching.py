"""Teaching a model a word: opens the pictures, lays out the sentences, runs textual inversion, packs what it found."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from . import fitting, images, instruction, methods, models, networks, recipe, requested, schedulers
from .errors import ImageError, MethodError, ShowtellError, TextError
from .inversion import gradients, textual
from .inversion.denoising import Noising
from .inversion.progress import Progress
from .learning import Watch, checkpoint_path
from .tokens import LearnedToken, check_unknown, check_word

if TYPE_CHECKING:
    import torch

    from .editor import Editor

_TOO_MUCH = "out of memory: use gradient_checkpointing=True, a smaller batch_size, or dtype bfloat16"


def teach(
    editor: Editor,
    pictures: Any,
    word: str = "<toy>",
    *,
    init: str = "thing",
    method: textual.TextualInversion | None = None,
    fit: str = "fit",
    seed: int = 0,
    gradient_checkpointing: bool = False,
    callback: Callable[[int, int, float], None] | None = None,
    progress: bool = False,
    cancel: Callable[[], bool] | Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    **hyperparameters: Any,
) -> tuple[LearnedToken, list[str]]:
    """Learn a word from pictures of what it is to mean. Returns it, with notes on how that went.

    ``pictures``: one or a list, three to five are best, whatever ``images.open_picture`` takes. ``init``: words that come near
    it, where the learning begins; with as many tokens as the word has vectors, each begins at one of them, else all begin at
    their mean. ``method``: the hyper-parameters as a value; single ones may be given by name (``steps=500``): see
    ``TextualInversion``. The pipeline is not changed: ``install`` gives it the word. ``gradient_checkpointing`` computes twice
    instead of keeping: the same result with less memory, in more time.

    ``callback(i, n, loss)`` after each step; ``cancel``, an event or a function, is asked after each step.
    ``checkpoint``: a file in which the learning is kept every few seconds and at its end; with ``resume`` it goes on from
    there, with the same result to the last bit on the same machine with the same number of threads.

    A loss that is not finite ends the learning with what was good before it, and a note. Raises ``ImageError`` for pictures
    that are none or too small, ``TextError`` for a word that cannot be or is there already, ``MethodError``, ``ModelError``
    for a model that is not a base one, or offloaded, ``Cancelled``.
    """
    pipe = editor.pipe
    settings = _settings(editor, method, hyperparameters)
    if check_word(word) != word.lower():
        raise TextError(
            f"word {word!r} has capitals, which text encoders do not tell from others: call it {word.lower()}"
        )
    check_unknown(pipe, word)
    seed, opened = requested.checked_seed(seed), _opened(pictures, models.resolution(pipe))
    start, ids = _start(pipe, init, settings.num_vectors)
    if fit not in fitting.FITS:
        raise MethodError(f"fit={fit!r} is not known: choose one of {', '.join(fitting.FITS)}")
    watch = Watch(
        callback=callback, progress=progress, cancel=cancel, checkpoint=checkpoint_path(checkpoint, resume=resume)
    )
    how = _plan(editor, opened, settings, word=word, init=init, fit=fit, seed=seed)
    watch.what = _identity(how, opened, editor)
    begun = None
    if resume and watch.checkpoint is not None and watch.checkpoint.exists():
        begun = Progress.load(watch.checkpoint, what=watch.what, device=models.device_of(pipe))
    kept, checkpointed = gradients.kept, gradients.checkpointed(pipe, enabled=gradient_checkpointing)
    with models.memory_errors(_TOO_MUCH), kept(pipe.unet, pipe.text_encoder, pipe.vae), checkpointed:
        try:
            lesson = _lesson(pipe, opened, settings, placeholder=ids[0], fit=fit, seed=seed)
            begun = begun or Progress.of(start.clone(), words=init)
            with watch.run(settings.steps, begun.step) as observe:
                done = textual.learn(lesson, begun, observe=observe)
        finally:
            models.release(pipe)
    notes = [note for picture in opened for note in picture.notes] + _ending(done)
    if watch.checkpoint is not None:
        done.save(watch.checkpoint, what=watch.what)
    how |= {"steps_done": done.step, "checks": [[step, loss] for step, loss in done.checks]}
    return LearnedToken(word=word, vectors=done.tokens.detach().clone().cpu(), how=how), notes


def _settings(editor: Editor, method: textual.TextualInversion | None, given: dict[str, Any]) -> Any:
    """The hyper-parameters: the caller's, else the card's, else the published ones."""
    value = method if method is not None else textual.TextualInversion()
    models.require_kind(editor.pipe, ("base",), method="textual", model_id=editor.model_id)
    for part in ("unet", "text_encoder"):
        gradients.check_resting(getattr(editor.pipe, part), editor.model_id, needed="gradients flow through it here")
    card = editor.card.get("defaults", {}).get(textual.TextualInversion.name, {})
    return methods.settle(value, given=given, card=card, kind=editor.kind)[0]


def _opened(pictures: Any, resolution: int) -> list[images.Picture]:
    several = list(pictures) if isinstance(pictures, (list, tuple)) else [pictures]
    if not several:
        raise ImageError("there are no pictures to learn from: give three to five of what the word is to mean")
    opened = [one if isinstance(one, images.Picture) else images.open_picture(one) for one in several]
    least = resolution // 4
    for number, picture in enumerate(opened, start=1):
        if min(picture.size) < least:
            name = picture.path or f"picture {number}"
            wide, high = picture.size
            raise ImageError(
                f"{name}: is {wide}x{high}, too small to learn from: at least {least} pixels a side are needed"
            )
    return opened


def _start(pipe: Any, init: Any, vectors: int) -> tuple[torch.Tensor, list[int]]:
    """What the word's vectors (n, d) begin at, and the tokens of ``init``."""
    if not isinstance(init, str):
        raise TextError(f"init must be words that come near what is learned, not {type(init).__name__}")
    ids = instruction.tokenize(pipe, init)
    if not ids:
        raise TextError(f"init={init!r:.60} has no tokens to start from: give words that come near what is learned")
    table = pipe.text_encoder.get_input_embeddings().weight.detach()
    found = table[ids].float()
    return (found if len(ids) == vectors else found.mean(0, keepdim=True).repeat(vectors, 1)), ids


def _lesson(
    pipe: Any, opened: Sequence[images.Picture], settings: Any, *, placeholder: int, fit: str, seed: int
) -> textual.Lesson:
    device = models.device_of(pipe)
    latents = []
    for picture in opened:
        frame = fitting.frame_for(
            picture.size, fit=fit, resolution=models.resolution(pipe), multiple=models.size_multiple(pipe)
        )
        pixels = fitting.to_pixels([fitting.into_frame(picture.rgb, frame)]).to(device)
        for shown in (pixels, pixels.flip(-1)) if settings.mirror else (pixels,):
            latents.append(models.scaled(pipe, models.encode_image(pipe, shown))[0])
    sentences = textual.sentences(settings.templates)
    return textual.Lesson(
        settings=settings, network=networks.network(pipe), noising=Noising.of(pipe, device=device), latents=latents,
        spoken=textual.Spoken.of(pipe, sentences, settings.num_vectors, placeholder=placeholder), seed=seed,
    )  # fmt: skip


def _plan(
    editor: Editor, opened: Sequence[images.Picture], settings: Any, *, word: str, init: str, fit: str, seed: int
) -> dict[str, Any]:
    """How a word is to be learned, as JSON: all that decides the result but the machine."""
    pipe = editor.pipe
    scheduler = schedulers.fresh_scheduler(pipe.scheduler, pipe.scheduler.config)
    return {
        "method": "textual", **asdict(settings), "word": word, "init": init, "fit": fit, "seed": seed,
        "pictures": [asdict(recipe.record_of(picture)) for picture in opened],
        "model": {"id": recipe.readable(editor.model_id), "weights": models.weights_hash(pipe)},
        "dtype": str(models.dtype_of(pipe.unet)), "scheduler": schedulers.recorded(scheduler),
    }  # fmt: skip


def _identity(how: dict[str, Any], opened: Sequence[images.Picture], editor: Editor) -> str:
    """What must be the same for a learning to go on. Pictures count by what they show, not by their names."""
    told = {key: value for key, value in how.items() if key != "pictures"}
    shown = [picture.pixels_sha256 for picture in opened]
    text = json.dumps([told, shown, models.device_of(editor.pipe).type], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _ending(done: Progress) -> list[str]:
    """What a user should know of how a learning ended. Raises ``ShowtellError`` if nothing was learned."""
    first, last = done.checks[0][1], done.checks[-1][1]
    if math.isnan(first) or done.broke_at == 0:
        raise ShowtellError(
            "the loss is not a number from the start: use float32, or look at the model and the pictures"
        )
    if done.broke_at is not None:
        return [
            f"the learning broke at step {done.broke_at + 1}, where its numbers are not finite or far too large: it stopped "
            "there, with the word as it was before; use a smaller learning_rate, or float32"
        ]
    if not last < first:
        return [
            f"the word describes the pictures no better than where it began (loss {last:.4f}, {first:.4f} at the start): use "
            "another init, a smaller learning_rate, or more steps"
        ]
    return []
