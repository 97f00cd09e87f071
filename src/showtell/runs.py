"""Running a batch: a method's plan through the one loop, and each result back in its picture's own shape."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from . import blending, fitting, instruction, jobs, layout, methods, models, networks, recipe, sampling, schedulers
from .caching import constant_text
from .edits import Edit
from .errors import MethodError, ShowtellError
from .inversion.inverted import Inverted
from .schedule import SchedulerStep
from .watching import Watch

if TYPE_CHECKING:
    import torch


NO_PICTURE = (
    "the result is not finite: a learned instruction of extreme strength, or numbers too large for float16 (use dtype "
    "float32 or bfloat16)"
)
_TOO_MUCH = (
    "out of memory: use sequential=True, a smaller batch_size, dtype float16, gradient_checkpointing=True where a method "
    "tunes, or load with offload='model' or vae_tiling=True ('showtell models fit' tells what fits)"
)


def run(
    pipe: Any,
    batch: list[jobs.Job],
    *,
    model_id: str,
    method: Any,
    origin: dict[str, str],
    sequential: bool,
    watch: Watch,
) -> list[Edit | ShowtellError]:
    """Edit the pictures of a batch with a method whose values are all filled in; ``origin`` says where each came from.

    A picture whose latents or pixels are not finite gets a ``ShowtellError`` instead of an edit. Raises ``MethodError``,
    ``Cancelled``, or ``ShowtellError`` for lack of memory.
    """
    import torch

    fresh = schedulers.fresh_scheduler(method.scheduler, pipe.scheduler.config)
    config = schedulers.recorded(fresh)
    with failures(), _released(pipe), constant_text(pipe.unet, getattr(pipe, "controlnet", None)):
        steps, plan = _planned(pipe, batch, method, fresh, sequential=sequential, watch=watch)
        denoise = sampling.GuidedDenoiser(
            network=plan.network or networks.network(pipe),
            conditioning=plan.conditioning,
            guidance=plan.guidance,
            scale_input=steps.scale_input if plan.step is None else sampling.unscaled,
            sequential=sequential,
            attend=plan.attend,
            text_mask=plan.text_mask,
        )
        with plan.attention, watch.run(len(plan.schedule)) as observe:
            rows = sampling.sample(
                denoise, plan.start, plan.schedule, plan.step or steps.step, blend=plan.blend, observe=observe
            )
        latents = plan.latents(rows)
        whole = _finite(latents)
        pixels = plan.picture(models.decode(pipe, torch.where(whole[:, None, None, None], latents, 0)))
        whole = whole & _finite(pixels)
        pixels = torch.where(whole[:, None, None, None], pixels, -1)
        flags = models.flagged(pipe, pixels)
    shared = shared_record(
        pipe, batch, model_id=model_id, method=method, origin=origin, scheduler=config, sequential=sequential
    )
    pictures = zip(batch, fitting.to_images(pixels), latents.cpu(), flags, whole.tolist(), strict=True)
    regions = plan.regions() if plan.regions is not None else [None] * len(batch)
    apart = getattr(method, "regions", False)
    edits: list[Any] = [
        finish(job, own_size(job, result, hidden), shared, latents=z, found=found, apart=apart)
        if good
        else ShowtellError(NO_PICTURE)
        for (job, result, z, hidden, good), found in zip(pictures, regions, strict=True)
    ]
    if plan.inverted is not None and getattr(method, "inverts", False):
        for b, edit in enumerate(edits):
            if isinstance(edit, Edit):
                edit.inverted = plan.inverted.rows([b]).to("cpu")
    return edits


@contextlib.contextmanager
def _released(pipe: Any) -> Iterator[None]:
    """Offloaded networks go back where they rest, whatever happens."""
    try:
        with models.in_place(pipe):
            yield
    finally:
        models.release(pipe)


def check(pipe: Any, batch: list[jobs.Job], *, method: Any) -> None:
    """Plan a run and leave it there, so that what is wrong is known before a long one. The jobs are used up by it.

    Raises ``MethodError``, or ``ShowtellError`` for lack of memory.
    """
    try:
        with failures():
            fresh = schedulers.fresh_scheduler(method.scheduler, pipe.scheduler.config)
            _, plan = _planned(pipe, batch, method, fresh, sequential=False, watch=Watch())
            with plan.attention:  # which may not fit the pipeline
                pass
    finally:
        models.release(pipe)


def _planned(
    pipe: Any, batch: list[jobs.Job], method: Any, fresh: Any, *, sequential: bool, watch: Watch
) -> tuple[SchedulerStep, methods.Plan]:
    steps = SchedulerStep(
        fresh,
        num_inference_steps=method.num_inference_steps,
        device=models.device_of(pipe),
        generators=[job.generator for job in batch],
    )
    told = _context(pipe, batch, steps, regions=getattr(method, "regions", False))
    return steps, method.plan(dataclasses.replace(told, phase=watch.phase, tuned=watch.tuned, sequential=sequential))


def context(pipe: Any, job: jobs.Job, steps: SchedulerStep, *, regions: bool = True) -> methods.Context:
    """What a method, with regions or without, is told of one picture."""
    return _context(pipe, [job], steps, regions=regions)


def _finite(values: torch.Tensor) -> torch.Tensor:
    """Of each sample, whether it is finite: (B, ...) to (B,), bool."""
    return values.flatten(1).isfinite().all(dim=1)


def _context(pipe: Any, batch: list[jobs.Job], steps: SchedulerStep, *, regions: bool) -> methods.Context:
    device = models.device_of(pipe)
    framed = [fitting.into_frame(job.picture.rgb, job.frame) for job in batch]
    masks = [_framed_mask(job.mask, job.frame) for job in batch]
    mask = None
    if any(job.mask is not None for job in batch):
        mask = blending.Mask.from_arrays(masks)
    return methods.Context(
        pipe=pipe,
        pixels=fitting.to_pixels(framed).to(device),
        instructions=[job.instructions for job in batch],
        prompt_embeds=instruction.assemble_all(pipe, [job.segments for job in batch]),
        negative_prompt_embeds=instruction.assemble_all(pipe, [[job.negative] for job in batch]),
        generators=[job.generator for job in batch],
        steps=steps,
        recorded=_recorded_start(batch, steps),
        mask=mask,
        layouts=[layout.lay_out(pipe, job.instructions) for job in batch] if regions else (),
        weights=[job.weights for job in batch],
        own_masks=[[None if m is None else _framed_mask(m, job.frame) for m in job.masks] for job in batch],
        source_embeds=_source_embeds(pipe, batch),
        sources=[job.source for job in batch],
        inverted=_inverted(batch, device),
        note=lambda b, text: batch[b].notes.append(text),
    )


def _source_embeds(pipe: Any, batch: list[jobs.Job]) -> Any:
    """Of what the pictures show, (B, 77, d); None where that was not told."""
    words = [[job.source_words] for job in batch if job.source_words is not None]
    return instruction.assemble_all(pipe, words) if len(words) == len(batch) else None


def _inverted(batch: list[jobs.Job], device: Any) -> Inverted | None:
    held = [job.inversion.data for job in batch if job.inversion is not None]
    return Inverted.joined(held).to(device) if len(held) == len(batch) else None


def _model_record(pipe: Any, model_id: str) -> recipe.ModelRecord:
    return recipe.ModelRecord(
        id=recipe.readable(model_id),
        weights="" if models.offloaded(pipe) else models.weights_hash(pipe),
        device=models.device_of(pipe).type,
        dtype=str(models.dtype_of(pipe.unet)).removeprefix("torch."),
    )


@contextlib.contextmanager
def failures(too_much: str = _TOO_MUCH) -> Iterator[None]:
    """What torch and the schedulers raise while running, as errors with one line."""
    try:
        with models.memory_errors(too_much):
            yield
    except NotImplementedError as error:
        raise MethodError(f"this scheduler cannot be used with this model ({error})") from error


def _recorded_start(batch: list[jobs.Job], steps: SchedulerStep) -> Any:
    """The start noise (B, C, h, w) of jobs whose noise was recorded, None of others; their steps take it from there, too."""
    import torch

    kept = [job.recorded for job in batch if job.recorded is not None]
    if not kept:
        return None
    arrivals = [float(t_next) for _, t_next in steps.schedule if t_next is not None]
    steps.replay(
        [torch.stack(row).to(steps.device) for row in zip(*(noise.along(arrivals) for noise in kept), strict=True)]
    )
    return torch.stack([noise.start() for noise in kept]).to(steps.device)


def _framed_mask(mask: np.ndarray | None, frame: fitting.Frame) -> np.ndarray:
    """A user's mask in the model's frame, float32 in [0, 1]; without one, the whole frame."""
    if mask is None:
        return np.ones(frame.frame[::-1], dtype=np.float32)
    whole = Image.fromarray(mask.astype(np.uint8) * 255)
    framed = fitting.into_frame(whole, frame, resample=Image.Resampling.BOX)
    return np.asarray(framed, dtype=np.float32) / 255


def _masks(job: jobs.Job, found: Any, *, apart: bool) -> list[np.ndarray]:
    """Where each instruction was followed, (H, W) bool in the picture's own shape; without regions, the user's mask."""
    if found is None:
        return [] if job.mask is None else [job.mask]
    masks = []
    for region, own in zip(found, job.masks if apart else [None] * len(found), strict=True):
        if own is not None:
            masks.append(own)
            continue
        small = Image.fromarray((region.mask.cpu().numpy() * 255).round().astype(np.uint8))
        framed = small.resize(job.frame.frame, Image.Resampling.NEAREST)
        nothing = Image.new("L", job.frame.size)
        whole = fitting.out_of_frame(framed, job.frame, nothing, resample=Image.Resampling.NEAREST)
        found_here = np.asarray(whole) > 127
        masks.append(found_here if apart or job.mask is None else found_here & job.mask)
    return masks


def own_size(job: jobs.Job, result: Image.Image, hidden: bool) -> Image.Image:
    """The result in the input's own shape."""
    if hidden:
        job.notes.append("the pipeline's safety checker blacked out this picture")
        result = Image.new("RGB", result.size)
    return fitting.out_of_frame(result, job.frame, job.picture.rgb)


def finish(job: jobs.Job, image: Image.Image, shared: dict[str, Any], *, latents: Any, found: Any, apart: bool) -> Edit:
    """The edit with its recipe: the input's pixels outside a mask, its alpha channel and colour profile."""
    if job.mask is not None:
        image = blending.paste(image, job.picture.rgb, job.mask)
    if job.picture.alpha is not None:
        image.putalpha(job.picture.alpha)
    if job.picture.icc_profile is not None:
        image.info["icc_profile"] = job.picture.icc_profile
    return Edit(
        image=image,
        masks=_masks(job, found, apart=apart),
        keywords=[region.keyword.text if region.keyword else None for region in found or ()],
        source=job.picture.rgb,
        notes=job.notes,
        latents=latents,
        recipe=recipe.Recipe(
            input=recipe.record_of(job.picture),
            instructions=job.told,
            learned=job.learned,
            noise="random" if job.recorded is None else "recorded",
            negative_prompt=job.negative.text,
            seed=job.seed,
            mask=job.mask_record,
            weights=job.weights if apart else (),
            masks=job.mask_records if apart else (),
            source=None if job.source is None else job.source.text,
            inversion=None if job.inversion is None else job.inversion.record(),
            fit=job.frame.fit,
            resolution=job.resolution,
            size=job.picture.size,
            model_size=job.frame.frame,
            **shared,
        ),
    )


def shared_record(
    pipe: Any,
    batch: list[jobs.Job],
    *,
    model_id: str,
    method: Any,
    origin: dict[str, str],
    scheduler: dict[str, Any],
    sequential: bool,
) -> dict[str, Any]:
    """What the recipes of a batch have in common."""
    import torch

    return {
        "method": _method_record(method, origin), "scheduler": scheduler, "sequential": sequential,
        "vae_tiling": models.tiled(pipe),
        "threads": torch.get_num_threads(), "batch": len(batch), "versions": recipe.versions(),
        "model": _model_record(pipe, model_id),
    }  # fmt: skip


def _method_record(method: Any, origin: dict[str, str]) -> recipe.MethodRecord:
    values = {f.name: getattr(method, f.name) for f in dataclasses.fields(method) if f.name != "scheduler"}
    # Pictures are recorded as the files that they came from.
    values = {name: value.record() if hasattr(value, "record") else value for name, value in values.items()}
    return recipe.MethodRecord(name=method.name, parameters=values, origin=origin)
