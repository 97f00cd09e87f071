"""Visual Instruction Inversion (Nguyen, Li, Ojha and Lee 2023): before/after pairs to the instruction between them.

Every network is frozen; only the embeddings between the start and the end of the text move. Notation: E (77, d) the
instruction's embedding, c_I the before picture, z = E(after), eps the noise of a timestep, which is the same each
time that the timestep comes up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import MethodError
from ..guidance import TwoCondition, check_scale, check_whole, shown
from ..objectives import alignment, reconstruction
from ..schedule import to_target
from . import gradients, guarded

if TYPE_CHECKING:
    import torch

    from ..conditioning import Conditioning
    from ..networks import Network
    from ..types import Latents, PromptEmbeds, Span
    from .draws import Draws
    from .progress import Progress

SCHEDULES = ("constant", "cosine")
_CHECKED = 2**12  # latents of a check that the network is given at once, of each branch
_MOST, _LARGEST = 100_000, 1e30  # beyond, float32 itself overflows
_WHOLE = {
    "steps": (1, _MOST), "timesteps_per_step": (1, 256), "num_tokens": (1, 75), "check_every": (1, _MOST),
    "check_timesteps": (1, 1000), "patience": (0, _MOST),
}  # fmt: skip
_LEAST = {
    "learning_rate": 0.0, "weight_decay": 0.0, "mse_weight": 0.0, "clip_weight": 0.0, "clip_ceiling": -1.0,
    "guidance_scale": 1.0, "image_guidance_scale": 0.0,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class VisualInstructionInversion:
    """VISII's hyper-parameters. None takes the model card's tuned value, else the paper's.

    ``steps`` (1000) of ``timesteps_per_step`` (1) timesteps each: with the paper's values every timestep comes up once.
    ``learning_rate`` (1e-3) of AdamW with ``weight_decay`` (0.01), ``learning_rate_schedule`` ``constant`` or
    ``cosine`` (falling to zero). The loss is ``mse_weight`` (4) L_mse + ``clip_weight`` (0.1) L_clip, whose cosine
    earns nothing above ``clip_ceiling`` (0.5); at ``clip_weight`` 0 no CLIP is needed. ``guidance_scale`` (7.5) and
    ``image_guidance_scale`` (1.5) are those of the prediction inside L_mse; at 1 and 1 it is the conditional branch
    alone. ``num_tokens`` (10) are learned where the start is a caption or nothing. ``mirror`` (False) shows every pair
    mirrored, too, so that where a thing stands is not taken for a part of the edit; not for edits that tell left from
    right. Every ``check_every`` (50) steps L_mse is taken over ``check_timesteps`` (16) fixed timesteps, and the best
    tokens so far are kept; after ``patience`` checks without a better one the learning stops (0: never).

    The paper names no weight decay (AdamW's own is taken), mirrors nothing and has no such checks. Raises
    ``MethodError`` for values out of range.
    """

    name: ClassVar[str] = "visii"
    PAPER: ClassVar[Mapping[str, Any]] = {
        "steps": 1000,
        "timesteps_per_step": 1,
        "learning_rate": 1e-3,
        "learning_rate_schedule": "constant",
        "weight_decay": 0.01,
        "mse_weight": 4.0,
        "clip_weight": 0.1,
        "clip_ceiling": 0.5,
        "guidance_scale": 7.5,
        "image_guidance_scale": 1.5,
        "num_tokens": 10,
        "mirror": False,
        "check_every": 50,
        "check_timesteps": 16,
        "patience": 0,
    }
    #: A ControlNet's picture is followed by plain guidance on the text: both branches see it.
    PAPER_FOR: ClassVar[Mapping[str, Mapping[str, Any]]] = {"control": {"image_guidance_scale": 1.0}}

    steps: int | None = None
    timesteps_per_step: int | None = None
    learning_rate: float | None = None
    learning_rate_schedule: str | None = None
    weight_decay: float | None = None
    mse_weight: float | None = None
    clip_weight: float | None = None
    clip_ceiling: float | None = None
    guidance_scale: float | None = None
    image_guidance_scale: float | None = None
    num_tokens: int | None = None
    mirror: bool | None = None
    check_every: int | None = None
    check_timesteps: int | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        for name, (least, most) in _WHOLE.items():
            check_whole(name, getattr(self, name), least, most)
        for name, low in _LEAST.items():
            if getattr(self, name) is not None:
                check_scale(name, getattr(self, name), least=low)
                if getattr(self, name) > _LARGEST:
                    raise MethodError(f"{name}={shown(getattr(self, name))} is out of range: at most {_LARGEST:g}")
        if self.learning_rate_schedule not in (None, *SCHEDULES):
            raise MethodError(
                f"learning_rate_schedule={self.learning_rate_schedule!r} is not known: choose {' or '.join(SCHEDULES)}"
            )
        if self.mirror not in (None, False, True):
            raise MethodError(f"mirror={shown(self.mirror)} is not known: it must be True or False")
        if self.mse_weight == 0 and self.clip_weight == 0:
            raise MethodError("mse_weight and clip_weight are both 0: there is nothing to learn from")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One pair, encoded: ``after`` z (1, 4, h, w), and how the network is told the before picture: a conditioning for
    prompt embeddings and their absence, (k, 77, d) each.
    """

    after: Latents
    condition: Callable[[PromptEmbeds, PromptEmbeds], Conditioning]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Everything that stays as it is while an instruction is learned.

    ``settings`` with every value filled in. ``embeds`` (77, d) of the initial text, ``empty_embeds`` of the empty one,
    float32; ``span`` what is learned. ``alphas_cumprod`` (T,) and ``prediction_type`` are the scheduler's. ``feature``
    takes the mean token (d,) to CLIP's space, and ``direction`` (p,) is that of the pairs there; both None without L_clip.
    All tensors are on one device.
    """

    settings: Any
    network: Network
    shown: Sequence[Shown]
    embeds: PromptEmbeds
    empty_embeds: PromptEmbeds
    span: Span
    alphas_cumprod: torch.Tensor
    prediction_type: str
    direction: torch.Tensor | None = None
    feature: Callable[[torch.Tensor], torch.Tensor] | None = None
    # Of each pair, number of timesteps and branches: what the network is told in the branches without the words.
    _constant: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def guidance(self) -> TwoCondition:
        """That of the prediction inside L_mse."""
        settings = self.settings
        return TwoCondition(guidance_scale=settings.guidance_scale, image_guidance_scale=settings.image_guidance_scale)

    def constant(self, shown: Shown, k: int, branches: Sequence[str]) -> tuple[torch.Tensor, Sequence[Any]]:
        """What the network is told of k timesteps of a pair in ``branches`` that do not hear the words: the same tensors each
        time, so that what is made of them need not be made again.
        """
        import torch

        key = (id(shown), k, tuple(branches))
        if key not in self._constant:
            empty = self.empty_embeds.expand(k, -1, -1)
            conditioning = shown.condition(empty, empty)
            told, beside = zip(*(conditioning.told(branch, 0) for branch in branches), strict=True)
            self._constant[key] = torch.cat(told), beside
        return self._constant[key]

    @property
    def tokens(self) -> torch.Tensor:
        """What the learning starts from, (n, d)."""
        return self.embeds[self.span[0] : self.span[1]]

    def whole(self, tokens: torch.Tensor) -> PromptEmbeds:
        """The sequence (77, d) with these tokens (n, d) in the span: the rest is the initial text's, bit for bit."""
        import torch

        start, end = self.span
        return torch.cat([self.embeds[:start], tokens, self.embeds[end:]])

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        settings = self.settings
        if settings.learning_rate_schedule == "constant":
            return settings.learning_rate
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / settings.steps))


def mse_at(lesson: Lesson, tokens: torch.Tensor, shown: Shown, t: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """L_mse (equation 2) of tokens (n, d) for one pair at timesteps ``t`` (k,) with their noises (k, C, h, w).

    The prediction is guided as in sampling. Only the branch with picture and words depends on the tokens, so only that one
    is differentiated: the others are constants of the loss, and the gradient is the same.
    """
    import torch

    guidance, k = lesson.guidance, len(t)
    alpha_bar = lesson.alphas_cumprod[t].view(-1, 1, 1, 1)
    x = alpha_bar**0.5 * shown.after + (1 - alpha_bar) ** 0.5 * noise
    conditioning = shown.condition(*(e.expand(k, -1, -1) for e in (lesson.whole(tokens), lesson.empty_embeds)))
    outputs = {}
    # Before the branch with gradients, and not while what that one keeps is held.
    if constant := [branch for branch in guidance.branches if branch != "full"]:
        n = len(constant)
        with torch.no_grad():
            output = lesson.network(x.repeat(n, 1, 1, 1), t.repeat(n), *lesson.constant(shown, k, constant))
        outputs = dict(zip(constant, output.chunk(n), strict=True))
    told, beside = conditioning.told("full", 0)
    outputs["full"] = lesson.network(x, t, told, [beside])
    target = to_target(shown.after, noise, alpha_bar, lesson.prediction_type)
    return reconstruction(guidance.combine(outputs), target)


def loss_at(lesson: Lesson, tokens: torch.Tensor, shown: Shown, t: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """mse_weight L_mse + clip_weight L_clip (VISII, section 3.4)."""
    settings = lesson.settings
    loss = settings.mse_weight * mse_at(lesson, tokens, shown, t, noise)
    if lesson.direction is not None and lesson.feature is not None:
        feature = lesson.feature(lesson.whole(tokens).mean(0))
        loss = loss + settings.clip_weight * alignment(lesson.direction, feature, ceiling=settings.clip_ceiling)
    return loss


def learn(
    lesson: Lesson,
    draws: Draws,
    progress: Progress,
    *,
    observe: Callable[[Progress, float], None] = lambda progress, loss: None,
    checked: Callable[[Progress], None] = lambda progress: None,
    look_every: int | None = None,
) -> Progress:
    """Go on from ``progress`` (a new one: ``Progress.of(lesson.tokens)``) to the last step, and return it.

    ``observe(progress, loss)`` is called after every ``look_every`` steps and each check, ``checked(progress)`` before it after
    each check. Both may raise to stop; what they save can be gone on from, with the same result to the last bit. A loss or
    gradient that is not finite ends the learning: ``progress.broke_at`` says where. Between the looks nothing waits for the
    device; by default they are 1 step apart on a CPU, else ``guarded.EVERY``.
    """
    settings, device, begun = lesson.settings, progress.tokens.device, progress.step
    look_every = look_every or (1 if device.type == "cpu" else guarded.EVERY)
    shapes = [tuple(shown.after.shape[1:]) for shown in lesson.shown]
    noises = {shape: draws.noise(shape).to(device) for shape in dict.fromkeys(shapes)}
    pairs, timesteps = draws.pairs.tolist(), draws.timesteps.to(device)
    # Published code clips at the largest value of the initial embedding.
    guard = guarded.Guarded(
        progress.optimiser(weight_decay=settings.weight_decay), progress.parameter, clip=lesson.embeds.max()
    )
    if not progress.checks:
        progress.checked(_check(lesson, draws, progress.tokens))
        checked(progress)
    while progress.step < settings.steps and not progress.over(settings.patience):
        pair, t = pairs[progress.step], timesteps[progress.step]
        guard.optimiser.param_groups[0]["lr"] = lesson.rate(progress.step)
        loss = loss_at(lesson, progress.parameter, lesson.shown[pair], t, noises[shapes[pair]][t].float())
        guard.step(loss, gradients.of(loss, progress.parameter))
        progress.step += 1
        due = progress.step % settings.check_every == 0 or progress.step == settings.steps
        if not due and progress.step % look_every:
            continue
        moved, told = guard.look()
        if begun + moved < progress.step:
            progress.step = progress.broke_at = begun + moved
            break
        if due:
            progress.checked(_check(lesson, draws, progress.tokens))
            checked(progress)
        observe(progress, told)
    return progress


def _check(lesson: Lesson, draws: Draws, tokens: torch.Tensor) -> float:
    """L_mse over a fixed set of timesteps and noises, all pairs: what the best tokens are chosen by.

    A single step's L_mse depends mostly on its timestep, so that single steps cannot be compared.
    """
    import torch

    total, count = 0.0, 0
    with torch.no_grad():
        for number, shown in enumerate(lesson.shown):
            t, noise = draws.check(number, shown.after.shape[1:], lesson.settings.check_timesteps)
            # As many at once as need little beside a step that keeps a gradient.
            rows = max(1, min(8, _CHECKED // math.prod(shown.after.shape[-2:])))
            for some, its in zip(t.split(rows), noise.split(rows), strict=True):
                loss = mse_at(lesson, tokens, shown, some.to(tokens.device), its.to(tokens.device))
                total, count = total + float(loss) * len(some), count + len(some)
    return total / count
