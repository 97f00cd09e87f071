"""Textual inversion (Gal et al. 2022): pictures of a thing to a word for it.

Every network is frozen; only the vectors that the text encoder's table would hold for the word move, so that the
model denoises the pictures well under sentences with the word in them (the paper's equation 2).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .. import instruction, models
from ..errors import MethodError, TextError
from ..guidance import check_scale, check_whole, shown
from . import gradients
from .denoising import Noising
from .progress import Progress

if TYPE_CHECKING:
    import torch

    from ..networks import Network
    from ..types import Latents, PromptEmbeds

#: Sentences around a word for a thing, and for a style. They say little, so that the rest is left to the word.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "object": (
        "a picture of {}", "a photo of {}", "a picture of one {}", "a photo of the {}", "a picture with {} in it",
        "a view of {}", "here is {}", "{}", "a good picture of {}", "a small picture of {}", "a plain photo of {}",
        "a picture of {} from near",
    ),
    "style": (
        "a picture in the style of {}", "a painting in the style of {}", "a drawing in the style of {}", "{} style",
        "a scene in the style of {}", "the style of {}", "a view in the style of {}", "a work in the style of {}",
    ),
}  # fmt: skip
#: No text encoder has numbers in its table that come near this.
LARGEST = 1e4
_MOST_TEMPLATES, _CHECKED = 1000, 32


@dataclass(frozen=True, kw_only=True)
class TextualInversion:
    """Textual inversion's hyper-parameters. None takes the model card's value, else that of published code.

    ``steps`` (3000) of AdamW at ``learning_rate`` (2e-3) with ``weight_decay`` (0.01), each on ``batch_size`` (4) pictures,
    each mirrored or not at random where ``mirror`` (True): not for things that have a left and a right. ``num_vectors``
    (1) the word has. ``templates``: ``object``, ``style``, or sentences of one's own with ``{}`` where the word goes.

    These are the values of published code for Stable Diffusion. The paper's own are for another model: 5000 steps at 0.04
    (0.005 x 8) with batches of 8. Raises ``MethodError`` for values out of range, ``TextError`` for templates without
    ``{}``.
    """

    name: ClassVar[str] = "textual"
    PAPER: ClassVar[Mapping[str, Any]] = {
        "steps": 3000,
        "learning_rate": 2e-3,
        "weight_decay": 0.01,
        "batch_size": 4,
        "num_vectors": 1,
        "mirror": True,
        "templates": "object",
    }

    steps: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    batch_size: int | None = None
    num_vectors: int | None = None
    mirror: bool | None = None
    templates: Any = None

    def __post_init__(self) -> None:
        for name, most in (("steps", 100_000), ("batch_size", 256), ("num_vectors", 75)):
            check_whole(name, getattr(self, name), 1, most)
        for name, high in (("learning_rate", 1e3), ("weight_decay", 1e3)):
            if getattr(self, name) is not None:
                check_scale(name, getattr(self, name), least=0.0, most=high)
        if self.mirror not in (None, False, True):
            raise MethodError(f"mirror={shown(self.mirror)} is not known: it must be True or False")
        if self.templates is not None:
            sentences(self.templates)


def sentences(templates: Any) -> tuple[str, ...]:
    """The sentences of ``templates``: a name of :data:`TEMPLATES`, or texts with one ``{}`` each. Raises as above."""
    if isinstance(templates, str):
        if templates not in TEMPLATES:
            raise MethodError(
                f"templates={templates!r:.60} is not known: choose {' or '.join(TEMPLATES)}, or give a list"
            )
        return TEMPLATES[templates]
    if not isinstance(templates, (list, tuple)) or not 1 <= len(templates) <= _MOST_TEMPLATES:
        raise MethodError(f"templates must be {' or '.join(TEMPLATES)}, or a list of 1 to {_MOST_TEMPLATES} sentences")
    for text in templates:
        if not isinstance(text, str) or text.count("{}") != 1:
            raise TextError(f"template {shown(text)!r} has no place for the word: write {{}} once where it goes")
    return tuple(templates)


@dataclass(frozen=True, kw_only=True, eq=False)
class Spoken:
    """Sentences with room for a word of n vectors: ``ids`` (S, 77), and ``spans``, the word's (start, end) in each."""

    pipe: Any
    ids: torch.Tensor
    spans: Sequence[tuple[int, int]]

    @classmethod
    def of(cls, pipe: Any, templates: Sequence[str], vectors: int, *, placeholder: int) -> Spoken:
        """``placeholder``, the id of any word, keeps the room. Raises ``TextError`` for a sentence that is too long."""
        import torch

        rows, spans = [], []
        for text in templates:
            before, after = (instruction.Words(text=part.strip()) for part in text.split("{}"))
            word = instruction.Words(text="the word", ids=(placeholder,) * vectors)
            ids, found = instruction.lay_out(pipe, [before, word, after])
            rows.append(ids)
            spans.append(found[1])
        return cls(pipe=pipe, ids=torch.tensor(rows), spans=spans)

    def encode(self, vectors: torch.Tensor, chosen: torch.Tensor) -> PromptEmbeds:
        """Sentences ``chosen`` (B,) with the word's ``vectors`` (n, d) in them, (B, 77, d) float32; gradients flow."""
        import torch

        ids = self.ids[chosen]
        where = torch.zeros(ids.shape, dtype=torch.bool)
        for row, number in enumerate(chosen.tolist()):
            where[row, slice(*self.spans[number])] = True
        with filled(self.pipe, vectors.repeat(len(ids), 1), where):
            return models.hidden_of(self.pipe, ids)


@contextlib.contextmanager
def filled(pipe: Any, vectors: torch.Tensor, where: torch.Tensor) -> Iterator[None]:
    """Inside, the text encoder's table says ``vectors`` (the number of places, d) where ``where`` (B, 77) is true, one after
    another; for a call with B sequences. The table itself is not touched.
    """

    def fill(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        changed = output.clone()
        changed[where.to(output.device)] = vectors.to(output)
        return changed

    hook = pipe.text_encoder.get_input_embeddings().register_forward_hook(fill)
    try:
        yield
    finally:
        hook.remove()


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """Everything that stays as it is: ``settings`` with every value filled in; ``latents``, (C, h, w) of each picture, and
    of each mirrored where that is wanted, of any sizes; ``spoken`` the sentences; ``seed`` decides all that is drawn.
    """

    settings: Any
    network: Network
    noising: Noising
    latents: Sequence[Latents]
    spoken: Spoken
    seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    """B rows: numbers of the pictures and sentences (B,), timesteps (B,), and the noise of each."""

    pictures: torch.Tensor
    sentences: torch.Tensor
    t: torch.Tensor
    noise: list[torch.Tensor]

    @classmethod
    def drawn(cls, lesson: Lesson, step: int) -> _Batch:
        """That of a step. Each step has a generator of its own, so that a learning can be gone on with anywhere."""
        import torch

        generator = torch.Generator().manual_seed((lesson.seed * 1_000_003 + step) % 2**63)
        rows = (lesson.settings.batch_size,)
        pictures = torch.randint(len(lesson.latents), rows, generator=generator)
        said = torch.randint(len(lesson.spoken.ids), rows, generator=generator)
        t = torch.randint(len(lesson.noising), rows, generator=generator)
        noise = [torch.randn(lesson.latents[p].shape, generator=generator) for p in pictures.tolist()]
        return cls(pictures=pictures, sentences=said, t=t, noise=noise)

    @classmethod
    def fixed(cls, lesson: Lesson) -> _Batch:
        """What a learning is judged by: pictures and sentences in turn, timesteps spread evenly."""
        import torch

        generator = torch.Generator().manual_seed(lesson.seed ^ 0xC4EC)
        rows = torch.arange(_CHECKED)
        pictures, said = rows % len(lesson.latents), rows % len(lesson.spoken.ids)
        # Neighbouring timesteps go to different pictures, and each picture sees all of the schedule.
        t = ((rows + 0.5) * len(lesson.noising) / _CHECKED).long()
        noise = [torch.randn(lesson.latents[p].shape, generator=generator) for p in pictures.tolist()]
        return cls(pictures=pictures, sentences=said, t=t, noise=noise)

    def split(self, rows: int) -> Iterator[_Batch]:
        """The same in parts of at most ``rows``."""
        for at in range(0, len(self.t), rows):
            part = slice(at, at + rows)
            yield _Batch(
                pictures=self.pictures[part], sentences=self.sentences[part], t=self.t[part], noise=self.noise[part]
            )


def _loss(lesson: Lesson, vectors: torch.Tensor, batch: _Batch) -> torch.Tensor:
    """The mean over the rows. Pictures of one size go through the network together."""
    import torch

    embeds = lesson.spoken.encode(vectors, batch.sentences)
    sizes: dict[tuple[int, ...], list[int]] = {}
    for row, number in enumerate(batch.pictures.tolist()):
        sizes.setdefault(tuple(lesson.latents[number].shape), []).append(row)
    total = embeds.new_zeros(())
    for rows in sizes.values():
        z = torch.stack([lesson.latents[int(batch.pictures[row])] for row in rows])
        noise = torch.stack([batch.noise[row] for row in rows])
        loss = lesson.noising.loss(lesson.network, z, embeds[rows], batch.t[rows], noise)
        total = total + loss * (len(rows) / len(batch.t))
    return total


def _check(lesson: Lesson, vectors: torch.Tensor) -> float:
    import torch

    with torch.no_grad():
        parts = list(_Batch.fixed(lesson).split(lesson.settings.batch_size))
        return sum(float(_loss(lesson, vectors, part)) * len(part.t) for part in parts) / _CHECKED


def learn(
    lesson: Lesson,
    progress: Progress,
    *,
    observe: Callable[[Progress, float], None] = lambda progress, loss: None,
) -> Progress:
    """Go on from ``progress`` (a new one: ``Progress.of(vectors)``, (n, d)) to the last step, and return it.

    ``observe(progress, loss)`` after each step may raise to stop; what it saves can be gone on from, with the same result.
    The loss over fixed timesteps and noises is checked at the beginning and at the end. A loss or gradient that is not
    finite, or vectors beyond :data:`LARGEST`, end the learning with the vectors that were good before: ``progress.broke_at``
    says where.
    """
    import torch

    settings = lesson.settings
    optimiser = progress.optimiser(weight_decay=settings.weight_decay)
    optimiser.param_groups[0]["lr"] = settings.learning_rate
    if not progress.checks:
        progress.checked(_check(lesson, progress.tokens))
    good = progress.tokens.clone()
    while progress.step < settings.steps:
        loss = _loss(lesson, progress.parameter, _Batch.drawn(lesson, progress.step))
        gradient, loss = gradients.of(loss, progress.parameter), loss.detach()
        if not torch.isfinite(gradient).all() or not torch.isfinite(loss):
            progress.broke_at = progress.step
            break
        good = progress.tokens.clone()
        progress.parameter.grad = gradient
        optimiser.step()
        if not progress.tokens.abs().max() <= LARGEST:
            progress.broke_at = progress.step
            break
        progress.step += 1
        observe(progress, float(loss))
    if progress.broke_at is not None:  # the step before may be what broke it
        progress.parameter.data.copy_(good)
    if progress.checks[-1][0] != progress.step:
        progress.checked(_check(lesson, progress.tokens))
    return progress
