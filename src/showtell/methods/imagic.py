"""Imagic: the model is taught the picture, and then asked for what is between the picture and the words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .. import models, networks
from ..conditioning import PromptConditioning
from ..errors import MethodError
from ..guidance import ClassifierFree, check_scale, check_whole
from ..inversion import gradients, imagic
from ..inversion.denoising import Noising
from ..sampling import keep
from .base import Context, Plan, check_steps
from .described import encoded, limited

if TYPE_CHECKING:
    import torch

_MOST_STEPS = 100_000


@dataclass(frozen=True, kw_only=True)
class Imagic:
    """Imagic (Kawar et al. 2022), with the settings that published code has for Stable Diffusion.

    Three stages. A: the embedding e_tgt of the words is tuned for ``embedding_steps`` (500; 0 leaves it) of Adam at
    ``embedding_lr`` (1e-3) until it describes the picture, e_opt. B: a copy of the UNet is fine-tuned under e_opt for
    ``model_steps`` (1000; 0 leaves it) at ``model_lr`` (2e-6). C: from noise, the copy draws what ``alpha`` e_tgt + (1 -
    ``alpha``) e_opt says, with ``guidance_scale`` (7.5) in ``num_inference_steps`` (50) of ``scheduler`` (DDIM).

    ``alpha`` is the paper's eta (its equation 3): 0 is the picture, 1 the words. The paper takes it from 0 to 1, best
    between 0.6 and 0.8 for Imagen; published code for Stable Diffusion goes on beyond the words, to 1.2. The tuned
    embedding hardly moves, so that the picture is kept mostly by the fine-tuned model. ``timesteps_per_step`` (1) timesteps
    are looked at in each step of A and B.

    One picture at a time, and slow: A and B are run anew for every picture and target. The fine-tuning takes four times the
    memory of a UNet in float32; the pipeline's own networks stay as they are. The start's noise, and timesteps and noises of
    A and B, follow from the picture's seed. None takes the model card's value, else the published one. Raises
    ``MethodError`` for values out of range.
    """

    name: ClassVar[str] = "imagic"
    kinds: ClassVar[tuple[str, ...]] = ("base",)
    words: ClassVar[str] = "required"
    describes: ClassVar[bool] = True
    alone: ClassVar[bool] = True
    PAPER: ClassVar[Mapping[str, Any]] = {
        "embedding_steps": 500,
        "embedding_lr": 1e-3,
        "model_steps": 1000,
        "model_lr": 2e-6,
        "timesteps_per_step": 1,
        "alpha": 1.2,
        "guidance_scale": 7.5,
        "num_inference_steps": 50,
        "scheduler": "ddim",
    }

    embedding_steps: int | None = None
    embedding_lr: float | None = None
    model_steps: int | None = None
    model_lr: float | None = None
    timesteps_per_step: int | None = None
    alpha: float | None = None
    guidance_scale: float | None = None
    num_inference_steps: int | None = None
    scheduler: Any = None

    def __post_init__(self) -> None:
        check_steps(self.num_inference_steps)
        for name, least, most in (
            ("embedding_steps", 0, _MOST_STEPS), ("model_steps", 0, _MOST_STEPS), ("timesteps_per_step", 1, 256),
        ):  # fmt: skip
            check_whole(name, getattr(self, name), least, most)
        for name, most in (("embedding_lr", 1e3), ("model_lr", 1e3), ("alpha", 10.0), ("guidance_scale", None)):
            if getattr(self, name) is not None:
                check_scale(name, getattr(self, name), least=0.0, most=most)

    def plan(self, context: Context) -> Plan:
        if len(context.pixels) != 1:
            raise MethodError(f"method {self.name!r} edits one picture at a time (got {len(context.pixels)})")
        settings = self._settled()
        if any(source is not None for source in context.sources):
            context.note(0, "source was not used: imagic learns from the picture itself what it shows")
        steps = context.steps
        z = encoded(context)
        noise = context.noise(z.shape[1:], device=z.device)
        tuned, unet = self._tuned(context, z)
        between = settings.alpha * context.prompt_embeds.to(tuned) + (1 - settings.alpha) * tuned
        return Plan(
            start=noise * steps.init_noise_sigma,
            schedule=steps.schedule,
            conditioning=PromptConditioning(
                prompt_embeds=between, negative_prompt_embeds=context.negative_prompt_embeds
            ),
            guidance=ClassifierFree(guidance_scale=settings.guidance_scale),
            # Outside the mask the latents are the picture's, at the noise level that the step arrives at.
            blend=limited(context, keep, lambda i: steps.noised(z, noise, steps.schedule[i][1])),
            network=networks.Network(unet=unet),
        )

    def _settled(self) -> Any:
        """Itself, if every value is filled in."""
        if any(getattr(self, name) is None for name in self.PAPER):
            raise MethodError(
                f"method {self.name!r} is not settled: fill its hyper-parameters with methods.settle first"
            )
        return self

    def _tuned(self, context: Context, z: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Stages A and B for latents z (1, C, h, w): e_opt (1, 77, d), and the fine-tuned copy in the model's own dtype."""
        pipe, settings = context.pipe, self._settled()
        draws = {"timesteps_per_step": settings.timesteps_per_step, "generator": _draws(context.generators[0])}
        with gradients.kept(pipe.unet):
            unet = imagic.copied(pipe.unet, models.name_of(pipe))
            z, target = z.clone(), context.prompt_embeds.clone()  # the caller may be in inference mode
            noising = Noising.of(pipe, device=z.device)
            with context.phase("tuning the embedding", settings.embedding_steps) as observe:
                tuned = imagic.tune_embedding(
                    networks.network(pipe), noising, z, target, steps=settings.embedding_steps,
                    learning_rate=settings.embedding_lr, observe=observe, **draws,
                )  # fmt: skip
            with context.phase("fine-tuning the model", settings.model_steps) as observe:
                imagic.fine_tune(
                    unet, noising, z, tuned, steps=settings.model_steps, learning_rate=settings.model_lr,
                    observe=observe, **draws,
                )  # fmt: skip
        return tuned, imagic.cast(unet, models.dtype_of(pipe.unet))


def _draws(generator: Any) -> torch.Generator:
    """What timesteps and noises are drawn from: it follows from the picture's generator, which is not drawn from."""
    import torch

    behind = torch.Generator(device=generator.device)
    behind.set_state(generator.get_state())
    seed = int(torch.randint(2**62, (1,), generator=behind, device=generator.device))
    return torch.Generator().manual_seed(seed)
