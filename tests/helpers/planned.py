"""A run taken apart: its plan, and the loop over it."""

from __future__ import annotations

from showtell import jobs, methods, models, networks, requested, runs, sampling, schedulers
from showtell.schedule import SchedulerStep


def context(pipe, image, told, method, *, seed=0, fit="fit", **request):
    """What the editor would hand a method for one picture, and the method, settled."""
    settled, _ = methods.settle(method, given={}, card={}, kind=models.kind(pipe))
    asked = requested.requests(image, told, negative_prompt=None, mask=None, seed=seed, generator=None, **request)
    (job,) = jobs.prepare_all(asked, pipe, fit=fit, regions=settled.regions)
    assert isinstance(job, jobs.Job), job
    steps = SchedulerStep(
        schedulers.fresh_scheduler(settled.scheduler, pipe.scheduler.config),
        num_inference_steps=settled.num_inference_steps,
        device=models.device_of(pipe),
        generators=[job.generator],
    )
    return runs._context(pipe, [job], steps, regions=True), settled


def latents(given, plan, *, guidance=None, attended=True, sequential=False):
    """Every step's latents of a plan; with ``attended=False`` without its attention and its mask."""
    denoise = sampling.GuidedDenoiser(
        network=networks.network(given.pipe),
        conditioning=plan.conditioning,
        guidance=guidance or plan.guidance,
        scale_input=given.steps.scale_input,
        sequential=sequential,
        attend=plan.attend if attended else None,
        text_mask=plan.text_mask if attended else None,
    )
    seen = []
    with plan.attention:
        sampling.sample(
            denoise, plan.start, plan.schedule, given.steps.step, observe=lambda i, x: seen.append(x.clone())
        )
    return seen
