"""Distillation of an instruct model: guidance into the network, and many steps into few.

Notation: v(x, t, c_I, c_T) is what a network says at x_t; the teacher's is guided, by the rule and scales that it is sampled
with. A student says as much in one evaluation, unguided. *Guidance* distillation (Meng et al. 2023, stage one) leaves the
number of steps alone. *Consistency* distillation (Song et al. 2023; in latents and guided, Luo et al. 2023) lets the student say
at any t where the teacher's way ends:

    f(x_t, t) = c_skip(t) x_t + c_out(t) x_0(x_t, t)
    loss = d(f(x_t, t), f-(x_s, s)),  s < t,  x_s the teacher's DDIM step from x_t,  f- without gradient

so that a few steps of ``LCMScheduler``, whose c_skip and c_out these are, draw a picture. The target f- is the student itself
(Song and Dhariwal 2024), not an average of it. Where the teacher goes all the way (s the clean latents), in several steps of
DPM-Solver++, there is no f-: slower for each sample, and steady from the first step.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from showtell import schedule
from showtell.errors import UsageError
from showtell.guidance import Guidance, TwoCondition

if TYPE_CHECKING:
    from showtell.training.instruct.settings import Config, Distill

SCHEDULER = "lcm"
"""What a few-step student is sampled with, by its short name."""
SIGMA_DATA, TIMESTEP_SCALING = 0.5, 10.0
"""``LCMScheduler``'s: c_skip and c_out bind f to the identity at t = 0, and are 0 and 1 but for t near it."""
_HUBER = 1e-3


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """What a student learns from: the network without its adapters, or a frozen copy of it from before any step; and how it is
    guided.
    """

    unet: Any
    frozen: Any
    rule: Guidance

    @contextlib.contextmanager
    def speaking(self) -> Iterator[Any]:
        """The teacher's network; None where it is the student's own, which then has no adapters for a while."""
        if self.frozen is not None:
            yield self.frozen
            return
        self.unet.disable_adapters()
        try:
            yield None
        finally:
            self.unet.enable_adapters()


def check(config: Config, kind: str) -> None:
    """Raise ``UsageError`` for a start that has nothing to distil."""
    if config.distill is not None and kind != "instruct":
        raise UsageError(
            f"{config.model}: does not follow instructions yet, so there is nothing to distil: train it first (showtell train "
            "instruct), or give an instruct model"
        )


def teacher(config: Config, unet: Any) -> Teacher | None:
    """The teacher of a network that is about to learn; None where nothing is distilled. Scales that the configuration leaves
    open are the start's card's, else the paper's (7.5 and 1.5).
    """
    if config.distill is None:
        return None
    frozen = None
    if config.lora is None:
        frozen = copy.deepcopy(unet).requires_grad_(False).eval()
        frozen.disable_gradient_checkpointing()
    return Teacher(unet=unet, frozen=frozen, rule=rule(config))


def rule(config: Config) -> Guidance:
    """How the teacher is guided."""
    s_T, s_I = scales(config)
    return TwoCondition(guidance_scale=s_T, image_guidance_scale=s_I)


def scales(config: Config) -> tuple[float, float]:
    """s_T and s_I of the teacher."""
    from showtell.loading import card_of
    from showtell.methods.instruct import InstructPix2Pix

    assert config.distill is not None
    tuned = {**InstructPix2Pix.PAPER, **card_of(config.model).get("defaults", {}).get("ip2p", {})}
    s_T, s_I = config.distill.guidance_scale, config.distill.image_guidance_scale
    return tuned["guidance_scale"] if s_T is None else s_T, tuned["image_guidance_scale"] if s_I is None else s_I


def sampled_with(distill: Distill) -> dict[str, Any]:
    """How a student is to be sampled: what its card says."""
    told: dict[str, Any] = {"guidance_scale": 1.0, "image_guidance_scale": 1.0}
    if distill.kind == "consistency":
        told |= {"num_inference_steps": distill.num_inference_steps, "scheduler": SCHEDULER}
    return told


def losses(
    network: Callable[..., Any],
    teacher: Teacher,
    distill: Distill,
    *,
    z: Tensor,
    image: Tensor,
    context: Tensor,
    empty: Tensor,
    noise: Tensor,
    u: Tensor,
    alphas: Tensor,
    prediction_type: str,
) -> Tensor:
    """Each sample's loss, (B,) float32.

    ``z`` (B, 4, h, w) scaled latents of the picture after, ``image`` the same shape, unscaled ones of the picture before;
    ``context`` (B, 77, d) the words and ``empty`` (77, d) their absence; ``u`` (B,) in [0, 1) decides the noise level; ``alphas``
    (T,). ``network(x, t, context, of=None)`` says v of another network where ``of`` is one.
    """
    t, s = levels(u, distill, len(alphas))
    level = alphas[t][:, None, None, None]
    x = level**0.5 * z + (1 - level) ** 0.5 * noise

    def says(x: Tensor, t: Tensor) -> Tensor:
        return network(torch.cat((x, image), 1), t, context, return_dict=False)[0].float()

    def guided(x: Tensor, t: Tensor) -> Tensor:
        return _guided(network, frozen, teacher.rule, x=x, t=t, image=image, context=context, empty=empty)

    with torch.no_grad(), teacher.speaking() as frozen:
        if distill.kind == "guidance":
            wanted = guided(x, t)
        else:
            x_s = _down(guided, x, t, s, distill.teacher_steps, alphas, prediction_type)
    if distill.kind == "guidance":
        return (says(x, t) - wanted).square().mean(dim=(1, 2, 3))
    with torch.no_grad():
        wanted, below = x_s, s.clamp(min=0)
        if distill.jump < distill.solver_steps:  # else all have come to the clean latents
            said = consistent(says(x_s, below), x_s, s, alphas[below][:, None, None, None], prediction_type)
            wanted = torch.where((s < 0)[:, None, None, None], x_s, said)
    error = consistent(says(x, t), x, t, level, prediction_type) - wanted
    return _distance(error, distill.distance)


def _down(
    guided: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    t: Tensor,
    s: Tensor,
    steps: int,
    alphas: Tensor,
    prediction_type: str,
) -> Tensor:
    """The teacher's way from x_t to x_s in ``steps``, evenly spread, of DPM-Solver++ (2M; Lu et al. 2022), whose first step is
    DDIM's; s = -1 is the clean latents, which the last step comes to as x_0.
    """
    before: tuple[Tensor, Tensor] | None = None
    for left in range(steps, 0, -1):
        following = t - (t - s) // left
        level, below = _level(alphas, t), _level(alphas, following)
        x_0 = schedule.to_sample(schedule.to_epsilon(guided(x, t.clamp(min=0)), x, level, prediction_type), x, level)
        h = _half_log_snr(below) - _half_log_snr(level)
        towards = x_0
        if before is not None:
            earlier, h_before = before
            ratio = torch.where(h_before > 0, h / (2 * h_before), 0.0)
            towards = x_0 + ratio * (x_0 - earlier)
        moved = ((1 - below) / (1 - level)) ** 0.5 * x - below**0.5 * torch.expm1(-h) * towards
        there = (following == t)[:, None, None, None]  # s is so near that it takes fewer steps
        x, t, before = torch.where(there, x, torch.where(below < 1, moved, x_0)), following, (x_0, h)
    return x


def _level(alphas: Tensor, t: Tensor) -> Tensor:
    """alpha_bar of timesteps (B,), (B, 1, 1, 1); 1 below the first."""
    return torch.where(t < 0, 1.0, alphas[t.clamp(min=0)])[:, None, None, None]


def _half_log_snr(level: Tensor) -> Tensor:
    """lambda = log(alpha / sigma); of the clean latents some number, which nothing uses."""
    level = level.clamp(max=1 - 1e-6)
    return 0.5 * torch.log(level / (1 - level))


def levels(u: Tensor, distill: Distill, count: int) -> tuple[Tensor, Tensor]:
    """Timesteps t (B,) and the s (B,) below that the teacher steps to, -1 for the clean latents. u (B,) in [0, 1).

    Consistency takes both from a grid of ``solver_steps`` timesteps, which has those that ``LCMScheduler`` stops at,
    ``jump`` apart. Guidance takes any t.
    """
    if distill.kind == "guidance":
        t = (u * count).long().clamp(max=count - 1)
        return t, t - 1
    n = (u * distill.solver_steps).long().clamp(max=distill.solver_steps - 1)
    stride = count // distill.solver_steps
    below = n - distill.jump
    return (n + 1) * stride - 1, torch.where(below < 0, -1, (below + 1) * stride - 1)


def consistent(output: Tensor, x: Tensor, t: Tensor, alpha_bar: Tensor, prediction_type: str) -> Tensor:
    """f(x_t, t) of what the student says there (all (B, 4, h, w), t (B,), alpha_bar (B, 1, 1, 1))."""
    x_0 = schedule.to_sample(schedule.to_epsilon(output, x, alpha_bar, prediction_type), x, alpha_bar)
    scaled = (t.float() * TIMESTEP_SCALING)[:, None, None, None]
    spread = scaled**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / spread * x + scaled / spread**0.5 * x_0


def _guided(
    network: Callable[..., Any],
    frozen: Any,
    rule: Guidance,
    *,
    x: Tensor,
    t: Tensor,
    image: Tensor,
    context: Tensor,
    empty: Tensor,
) -> Tensor:
    """The teacher's guided prediction, its branches in one batch."""
    absent = empty.expand_as(context)
    told = {"full": (image, context), "image": (image, absent), "none": (torch.zeros_like(image), absent)}
    rows = [told[branch] for branch in rule.branches]
    n = len(rows)
    seen, heard = (torch.cat(parts) for parts in zip(*rows, strict=True))
    output = network(torch.cat((x.repeat(n, 1, 1, 1), seen), 1), t.repeat(n), heard, of=frozen, return_dict=False)[0]
    return rule.combine(dict(zip(rule.branches, output.float().chunk(n), strict=True)))


def _distance(error: Tensor, distance: str) -> Tensor:
    """d, (B,): the mean of squares, or the pseudo-Huber metric of Luo et al. 2023."""
    if distance == "mse":
        return error.square().mean(dim=(1, 2, 3))
    return ((error.square() + _HUBER**2).sqrt() - _HUBER).mean(dim=(1, 2, 3))
