"""What each guidance branch predicts: the noised picture seen once with and without the words and the picture, nothing edited."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import drawing, fitting, images, jobs, models, networks, requested, runs, sampling, schedulers
from .conditioning import Conditioning, PromptConditioning, instructed
from .ddim import check_ratio
from .errors import MethodError, ModelError, ShowtellError, ShowtellWarning
from .guidance import BASE_BRANCHES, INSTRUCT_BRANCHES, ClassifierFree, Guidance, TwoCondition
from .schedule import SchedulerStep, to_epsilon, to_sample

if TYPE_CHECKING:
    from PIL import Image

    from .editor import Editor
    from .methods import Context
    from .types import ImageLatents, Latents

STRENGTH = 0.8
_TOLD = {
    "full": "picture and words", "image": "picture alone", "text": "words alone", "none": "nothing",
    "cond": "the words", "uncond": "no words",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The picture that a branch takes the noised one for. ``name``: of the branch, or "guided"; ``told``: what the branch was
    told, in plain words, or which branches the guidance combines; ``image`` RGB, of the picture's own size.
    """

    name: str
    told: str
    image: Image.Image


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The ``predictions`` of every branch, in the guidance's order, then "guided", all of the same ``noised`` picture.

    ``noised`` is the noised latents decoded, ``picture`` the input; ``instructions`` as they were told; ``seed`` and
    ``strength`` of the noise; ``image_guidance_scale`` None where the model has none; ``notes`` whatever a user may want to
    know.
    """

    predictions: list[Prediction]
    noised: Image.Image
    picture: Image.Image
    instructions: tuple[str, ...]
    seed: int
    strength: float
    guidance_scale: float
    image_guidance_scale: float | None = None
    notes: list[str] = field(default_factory=list)

    def sheet(self) -> Image.Image:
        """The picture, the same with noise, and what each branch makes of that; what the guidance makes has a frame."""
        tiles = [
            drawing.Tile(picture=self.picture, caption="the picture"),
            drawing.Tile(picture=self.noised, caption="noised", note="what every branch is shown"),
        ]
        for each in self.predictions:
            guided = each.name == "guided"
            tiles.append(drawing.Tile(picture=each.image, caption=each.name, note=each.told, marked=guided))
        scales = f"guidance_scale {self.guidance_scale:g}"
        if self.image_guidance_scale is not None:
            scales += f", image_guidance_scale {self.image_guidance_scale:g}"
        noise = f"noise of strength {self.strength:g}, seed {self.seed}"
        subtitle = f"the picture that each branch sees behind the noise, in one look ({noise}; {scales})"
        sections = [(", ".join(self.instructions), tiles)]
        return drawing.page("What each branch predicts", sections, subtitle=subtitle, cell=160, columns=7)


def predict(
    editor: Editor,
    image: Any,
    instructions: Any = None,
    *,
    strength: float | None = None,
    seed: Any = 0,
    learned: Any = None,
    **hyperparameters: Any,
) -> Predictions:
    """What every guidance branch, and then the guidance, takes a noised picture for, each in one look; nothing is edited.

    ``strength`` in (0, 1], 0.8: how much noise, as in ``SDEdit``; 1 is nearly nothing but noise. ``instructions`` as
    ``Editor.edit`` takes them; several are joined. ``hyperparameters`` are those of method ``ip2p``, for a base model of
    ``sdedit``: ``guidance_scale``, ``image_guidance_scale``, ``scheduler`` and ``num_inference_steps``, of which the timestep
    is one. What is left out is the card's value, else the paper's. Every branch is shown, also one that the guidance does
    not use. Raises ``ImageError``, ``TextError``, ``ModelError``, ``MethodError``, and ``ShowtellError`` for a prediction
    that is not finite or lack of memory.
    """
    strength = STRENGTH if strength is None else strength
    check_ratio(strength, "strength")
    settled = _settled(editor, hyperparameters)
    job, pipe = _job(editor, image, instructions, learned, seed), editor.pipe
    s_I = getattr(settled, "image_guidance_scale", None)
    guidance = _guidance(settled.guidance_scale, s_I)
    try:
        with runs.failures("out of memory: use dtype float16, or a smaller picture"):
            steps = SchedulerStep(
                schedulers.fresh_scheduler(settled.scheduler, pipe.scheduler.config),
                num_inference_steps=settled.num_inference_steps,
                device=models.device_of(pipe),
                generators=[job.generator],
            )
            t, _ = steps.last(strength)[0]
            noised, latents = _predicted(pipe, runs.context(pipe, job, steps, regions=False), guidance, t)
            shown, behind = _decoded(pipe, job, noised), {name: _decoded(pipe, job, z) for name, z in latents.items()}
    finally:
        models.release(pipe)
    told = {**_TOLD, "guided": f"{_listed(guidance.branches)}, guided"}
    notes = list(dict.fromkeys(job.notes))
    for note in notes:
        warnings.warn(note, ShowtellWarning, stacklevel=2)
    return Predictions(
        predictions=[Prediction(name=name, told=told[name], image=picture) for name, picture in behind.items()],
        noised=shown, picture=job.picture.rgb, instructions=job.told, seed=job.seed or 0, strength=float(strength),
        guidance_scale=settled.guidance_scale, image_guidance_scale=s_I, notes=notes,
    )  # fmt: skip


def _settled(editor: Editor, hyperparameters: dict[str, Any]) -> Any:
    if editor.kind == "inpaint":
        raise ModelError(
            f"{editor.model_id} is an inpainting model, whose branches are not shown: use an instruct or a base model, such "
            "as 'starter'"
        )
    settled, _ = editor._settle("sdedit" if editor.kind == "base" else "ip2p", hyperparameters)
    return settled


def _job(editor: Editor, image: Any, told: Any, learned: Any, seed: Any) -> jobs.Job:
    if requested.is_batch(image):
        raise MethodError("one picture is looked at at a time: give a picture, not a list")
    [request] = requested.requests(
        images.open_picture(image), told, negative_prompt=None, mask=None, seed=seed, generator=None, learned=learned
    )
    pipe = editor.pipe
    return jobs.prepare(request, pipe, lambda: models.weights_hash(pipe), fit="fit", describes=editor.kind == "base")


def _guidance(guidance_scale: float, image_guidance_scale: float | None) -> Guidance:
    if image_guidance_scale is None:
        return ClassifierFree(guidance_scale=guidance_scale)
    return TwoCondition(guidance_scale=guidance_scale, image_guidance_scale=image_guidance_scale)


def _predicted(pipe: Any, context: Context, guidance: Guidance, t: Any) -> tuple[Latents, dict[str, Latents]]:
    """x_t, and the clean latents f(x_t) of each branch's prediction and of all guided; (1, 4, h, w) each.

    x_t is what the network is handed, of variance 1 whatever space the scheduler counts in. Raises ``MethodError`` for a
    scheduler whose predictions are no epsilon, v or sample (EDM's), and where x_t is pure noise.
    """
    steps, image_latents = context.steps, models.encode_image(pipe, context.pixels)
    name, alpha_bar = type(steps.scheduler).__name__, steps.level(t)
    if "sigma_data" in steps.scheduler.config:
        raise MethodError(f"scheduler {name} reads predictions in a way of its own: choose another, such as ddim")
    if float(alpha_bar) == 0:
        raise MethodError(f"scheduler {name} begins in pure noise, behind which there is no picture: strength < 1")
    z = models.scaled(pipe, image_latents)
    x = steps.noised(z, context.noise(z.shape[1:], device=z.device), t)
    x_t = steps.scale_input(x, t)
    denoise = sampling.GuidedDenoiser(
        network=networks.network(pipe),
        conditioning=_conditioning(pipe, context, image_latents),
        guidance=guidance,
        scale_input=steps.scale_input,
    )
    branches = BASE_BRANCHES if models.kind(pipe) == "base" else INSTRUCT_BRANCHES
    kind = steps.scheduler.config.get("prediction_type", "epsilon")
    said = denoise.predicted(x, t, 0, branches)
    eps = {branch: to_epsilon(output, x_t, alpha_bar, kind) for branch, output in said.items()}
    eps["guided"] = guidance.combine(eps)
    return x_t, {branch: to_sample(each, x_t, alpha_bar) for branch, each in eps.items()}


def _conditioning(pipe: Any, context: Context, image_latents: ImageLatents) -> Conditioning:
    told, nothing = context.prompt_embeds, context.negative_prompt_embeds
    if models.kind(pipe) == "base":
        return PromptConditioning(prompt_embeds=told, negative_prompt_embeds=nothing)
    return instructed(pipe, told, nothing, pixels=context.pixels, image_latents=image_latents)


def _decoded(pipe: Any, job: jobs.Job, latents: Latents) -> Image.Image:
    """Latents (1, 4, h, w) as a picture of the input's own size."""
    pixels = models.decode(pipe, latents)
    if not bool(pixels.isfinite().all()):
        raise ShowtellError(runs.NO_PICTURE)
    [hidden], [image] = models.flagged(pipe, pixels), fitting.to_images(pixels)
    return runs.own_size(job, image, hidden)


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
