"""Preparing a lesson: pairs encoded, the initial text laid out, CLIP's direction found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from . import conditioning, fitting, instruction, loading, models, networks, schedulers
from .errors import ModelError, TextError
from .inversion import pez, visii
from .metrics.clip import Clip
from .objectives import edit_direction
from .pairs import Pair, Pairs

if TYPE_CHECKING:
    import torch

    from .editor import Editor

#: ``init`` for a caption of the "after" picture.
CAPTION = "caption"
# The CLIP whose text tower a pipeline's text encoder is, by its width.
_CLIPS = {768: "openai/clip-vit-large-patch14", 1024: "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A lesson, the 77 ``ids`` of its initial text, and ``how`` it was made, as JSON."""

    lesson: visii.Lesson
    ids: tuple[int, ...]
    how: dict[str, Any]


def prepare(
    editor: Editor,
    shown: Pairs,
    settings: visii.VisualInstructionInversion,
    *,
    init: str | None,
    clip: Any,
    fit: str,
    seed: int,
    caption_steps: int = 3000,
) -> Prepared:
    """Everything that a learning needs. ``settings`` with every value filled in; the rest as in ``learning.study``."""
    import torch

    pipe = editor.pipe
    wanted = bool(settings.clip_weight) or init == CAPTION
    judge = _clip(pipe, editor.model_id, clip) if wanted else None
    words, caption = init or "", None
    if init == CAPTION:
        assert judge is not None and settings.num_tokens is not None
        caption = pez.caption(
            shown.items[0].after.rgb, clip=judge, num_tokens=settings.num_tokens, seed=seed, steps=caption_steps
        )
        words = caption.text
    ids, span = _initial(pipe, words, settings.num_tokens if not words else None)
    device = models.device_of(pipe)
    embeds = models.encode_ids(pipe, torch.tensor([ids]))[0]
    empty = instruction.assemble(pipe, [instruction.Words(text="")])[0]
    taught = [_shown(pipe, pair, fit) for pair in shown.items]
    if settings.mirror:
        taught += [_shown(pipe, pair, fit, mirror=True) for pair in shown.items]
    direction = feature = None
    if judge is not None and settings.clip_weight:
        direction, feature = _aim(judge, shown, device)
        feature(embeds.mean(0))  # a CLIP of another width is found out before the work
    scheduler = schedulers.fresh_scheduler(pipe.scheduler, pipe.scheduler.config)
    lesson = visii.Lesson(
        settings=settings, network=networks.network(pipe), shown=taught, embeds=embeds, empty_embeds=empty, span=span,
        alphas_cumprod=scheduler.alphas_cumprod.to(device, torch.float32),
        prediction_type=scheduler.config.prediction_type, direction=direction, feature=feature,
    )  # fmt: skip
    how = {
        "method": "visii", **asdict(settings), "num_tokens": span[1] - span[0], "init": init, "init_words": words,
        "seed": seed, "fit": fit, "pairs": shown.record(),
    }  # fmt: skip
    return Prepared(lesson=lesson, ids=tuple(ids), how=how)


def _initial(pipe: Any, words: str, tokens: int | None) -> tuple[list[int], tuple[int, int]]:
    """The 77 ids of the initial text, and the span that will be learned: all of the words, or ``tokens`` of padding."""
    if words:
        if not instruction.tokenize(pipe, words):
            raise TextError(f"{words!r} has no tokens to start from: give other words, or none")
        ids, spans = instruction.lay_out(pipe, [instruction.Words(text=words)])
    else:
        assert tokens is not None
        filler = instruction.Words(text="nothing", ids=(pipe.tokenizer.pad_token_id,) * tokens)
        ids, spans = instruction.lay_out(pipe, [filler])
    return ids, spans[0]


def _shown(pipe: Any, pair: Pair, fit: str, *, mirror: bool = False) -> visii.Shown:
    frame = fitting.frame_for(
        pair.before.size, fit=fit, resolution=models.resolution(pipe), multiple=models.size_multiple(pipe)
    )
    device = models.device_of(pipe)
    before, after = (fitting.to_pixels([picture]).to(device) for picture in pair.framed(frame))
    if mirror:
        before, after = before.flip(-1), after.flip(-1)
    c_I = models.encode_image(pipe, before)

    def condition(embeds: torch.Tensor, negative: torch.Tensor) -> conditioning.Conditioning:
        rows = (len(embeds), -1, -1, -1)
        return conditioning.instructed(
            pipe, embeds, negative, pixels=before.expand(rows), image_latents=c_I.expand(rows)
        )

    return visii.Shown(after=models.scaled(pipe, models.encode_image(pipe, after)), condition=condition)


def _clip(pipe: Any, model_id: str, clip: Any) -> Clip:
    if isinstance(clip, Clip):
        return clip
    if clip is None and model_id in loading.STARTERS:
        clip = "starter-clip"
    if clip is None:
        width = pipe.text_encoder.config.hidden_size
        if width not in _CLIPS:
            raise ModelError(
                f"{model_id}: no CLIP is known whose text tower is {width} wide: name it with clip, or set clip_weight to 0"
            )
        clip = _CLIPS[width]
    return Clip.load(clip)


def _aim(judge: Clip, shown: Pairs, device: Any) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """The direction of the pairs in CLIP's space, and what takes a mean token there."""
    before = judge.image_features([pair.before.rgb for pair in shown.items])
    after = judge.image_features([pair.after.rgb for pair in shown.items])
    return edit_direction(before, after).to(device), lambda mean: judge.project_text(mean)
