"""Preparing a lesson: pairs encoded, the initial text laid out, CLIP's direction found. And packing what it teaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from . import conditioning, fitting, instruction, loading, models, networks, schedulers
from .errors import Cancelled, ModelError, TextError
from .inversion import pez, visii
from .learned import LearnedFor, LearnedInstruction
from .learned_file import MOST_THUMBNAILS, small
from .metrics.clip import Clip
from .objectives import edit_direction
from .pairs import Pair, Pairs
from .recipe import readable

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from .editor import Editor
    from .inversion.progress import Progress
    from .starts import RecordedNoise

#: ``init`` for a caption of the "after" picture.
CAPTION = "caption"
# The CLIP whose text tower a pipeline's text encoder is, by its width.
_CLIPS = {768: "openai/clip-vit-large-patch14", 1024: "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"}


def judge(editor: Editor, settings: Any, *, init: str | None, clip: Any) -> Clip | None:
    """The CLIP of the direction loss and of the caption; None where neither is wanted. Raises ``ModelError``."""
    if not settings.clip_weight and init != CAPTION:
        return None
    if isinstance(clip, Clip):
        return clip
    pipe = editor.pipe
    if clip is None and editor.model_id in loading.STARTERS:
        clip = "starter-clip"
    if clip is None:
        width = pipe.text_encoder.config.hidden_size
        if width not in _CLIPS:
            raise ModelError(
                f"{editor.model_id}: no CLIP is known whose text tower is {width} wide: name it with clip, or set "
                "clip_weight to 0"
            )
        clip = _CLIPS[width]
    return Clip.load(clip, device=str(models.device_of(pipe)))


def plan(
    editor: Editor,
    shown: Pairs,
    settings: Any,
    *,
    init: str | None,
    clip: Clip | None,
    fit: str,
    seed: int,
    caption_steps: int,
) -> dict[str, Any]:
    """How an instruction is to be learned, as JSON: all that decides the result but the machine."""
    pipe = editor.pipe
    scheduler = schedulers.fresh_scheduler(pipe.scheduler, pipe.scheduler.config)
    how = {"method": "visii", **asdict(settings), "init": init, "fit": fit, "seed": seed, "pairs": shown.record()}
    if init == CAPTION:
        how["caption_steps"] = caption_steps
    if clip is not None:
        how["clip"] = {"id": readable(clip.name), "weights": models.weights_hash(clip, parts=("model",))}
    return how | {"dtype": str(models.dtype_of(pipe.unet)), "scheduler": schedulers.recorded(scheduler)}


def caption(
    shown: Pairs, settings: Any, *, clip: Clip, seed: int, steps: int, cancelled: Callable[[], bool] | None
) -> pez.Caption:
    """A caption of the first "after" picture. Raises ``Cancelled``."""

    def asked(i: int, n: int, best: float) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled(f"stopped while looking for a caption, after step {i + 1} of {n}")

    after = shown.items[0].after.rgb
    return pez.caption(after, clip=clip, num_tokens=settings.num_tokens, seed=seed, steps=steps, callback=asked)


def prepare(
    editor: Editor, shown: Pairs, settings: Any, *, words: str, clip: Clip | None, fit: str
) -> tuple[visii.Lesson, tuple[int, ...]]:
    """The lesson that starts from ``words`` ("": from nothing), and the 77 ids of that start.

    Raises ``TextError`` for words that have no tokens or too many, ``ModelError`` for a CLIP of another width.
    """
    import torch

    pipe = editor.pipe
    ids, span = _initial(pipe, words, settings.num_tokens)
    device = models.device_of(pipe)
    embeds = models.encode_ids(pipe, torch.tensor([ids]))[0]
    empty = instruction.assemble(pipe, [instruction.Words(text="")])[0]
    taught = [_shown(pipe, pair, fit) for pair in shown.items]
    if settings.mirror:
        taught += [_shown(pipe, pair, fit, mirror=True) for pair in shown.items]
    direction = feature = None
    if clip is not None and settings.clip_weight:
        direction, feature = _aim(clip, shown, device)
        feature(embeds.mean(0))  # a CLIP of another width is found out before the work
    scheduler = schedulers.fresh_scheduler(pipe.scheduler, pipe.scheduler.config)
    lesson = visii.Lesson(
        settings=settings, network=networks.network(pipe), shown=taught, embeds=embeds, empty_embeds=empty, span=span,
        alphas_cumprod=scheduler.alphas_cumprod.to(device, torch.float32),
        prediction_type=scheduler.config.prediction_type, direction=direction, feature=feature,
    )  # fmt: skip
    return lesson, tuple(ids)


def _initial(pipe: Any, words: str, tokens: int) -> tuple[list[int], tuple[int, int]]:
    """The 77 ids of the initial text, and the span that will be learned: all of the words, or ``tokens`` of padding."""
    if words:
        if not instruction.tokenize(pipe, words):
            raise TextError(f"{words!r} has no tokens to start from: give other words, or none")
        ids, spans = instruction.lay_out(pipe, [instruction.Words(text=words)])
    else:
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


def _aim(clip: Clip, shown: Pairs, device: Any) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """The direction of the pairs in CLIP's space, and what takes a mean token there."""
    before = clip.image_features([pair.before.rgb for pair in shown.items])
    after = clip.image_features([pair.after.rgb for pair in shown.items])
    return edit_direction(before, after).to(device), clip.project_text


@dataclass(frozen=True, kw_only=True)
class Packing:
    """What all looks of one learning have in common: everything but their tokens, and how far they had come."""

    name: str
    lesson: visii.Lesson
    ids: tuple[int, ...]
    how: dict[str, Any]
    model: LearnedFor
    thumbnails: tuple[tuple[Image.Image, Image.Image], ...]

    @classmethod
    def of(
        cls, editor: Editor, shown: Pairs, lesson: visii.Lesson, ids: tuple[int, ...], how: dict[str, Any], *, name: str
    ) -> Packing:
        """The packing of what ``lesson`` teaches, called ``name``."""
        model = LearnedFor(
            id=readable(editor.model_id), weights=models.weights_hash(editor.pipe),
            text_encoder=models.weights_hash(editor.pipe, parts=("text_encoder",)),
        )  # fmt: skip
        thumbnails = tuple((small(p.before.rgb), small(p.after.rgb)) for p in shown.items[:MOST_THUMBNAILS])
        return cls(name=name, lesson=lesson, ids=ids, how=how, model=model, thumbnails=thumbnails)

    def how_at(self, done: Progress, kept: tuple[int, float]) -> dict[str, Any]:
        """How it was learned, with the checks so far; ``kept`` is the step and the loss of the tokens."""
        checks = [list(check) for check in done.checks]
        return {**self.how, "steps_done": done.step, "kept_step": kept[0], "kept_loss": kept[1], "checks": checks}

    def look(self, tokens: torch.Tensor, how: dict[str, Any], noise: RecordedNoise | None = None) -> LearnedInstruction:
        """These tokens (n, d) as a learned instruction."""
        lesson = self.lesson
        return LearnedInstruction(
            name=self.name, embeds=lesson.whole(tokens.to(lesson.embeds)).detach().cpu(), how=how, model=self.model,
            empty_embeds=lesson.empty_embeds.cpu(), ids=self.ids, span=lesson.span, thumbnails=self.thumbnails, noise=noise,
        )  # fmt: skip
