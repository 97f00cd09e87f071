"""The editor: what people hold in their hands. It puts the layers below together and has no algorithm of its own."""

from __future__ import annotations

import contextlib
import functools
import numbers
import os
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from . import blending, fitting, instruction, jobs, loading, methods, models, networks, recipe, sampling, schedulers
from .edits import Edit
from .errors import Cancelled, MethodError, ShowtellError, ShowtellWarning
from .schedule import SchedulerStep

if TYPE_CHECKING:
    from .learned import LearnedInstruction
    from .types import StepCallback

_TOO_MUCH = "out of memory: use sequential=True, a smaller batch_size, or dtype float16"


def load(name_or_path: str | os.PathLike[str], *, device: str = "auto", dtype: Any = None) -> Editor:
    """An editor around ``"starter"``, ``"starter-base"``, a hub id, a diffusers folder or a ``.safetensors`` file.

    ``device``: ``auto``, ``cpu``, ``cuda`` or ``mps``; ``dtype``: by default float32 for the starters and on a
    CPU, else float16. Only safetensors are read. Raises ``ModelError``.
    """
    loaded = loading.load_pipeline(name_or_path, device=device, dtype=dtype)
    editor = Editor(loaded.pipe, model_id=loaded.model_id, card=loaded.card)
    editor._stored_scheduler = loaded.pipe.scheduler
    return editor


class Editor:
    """Edits pictures with a diffusers pipeline: ``Editor(pipe)``, or :func:`load`.

    ``pipe`` is used as it is configured (LoRA, offloading, quantisation, compilation);
    ``card["defaults"][method]`` holds tuned hyper-parameters. Attributes: ``pipe``, ``model_id``, ``kind``
    (see ``models.kind``), ``card``. Raises ``ModelError`` if the pipeline is of no known kind.
    """

    def __init__(self, pipe: Any, *, model_id: str | None = None, card: dict[str, Any] | None = None) -> None:
        self.kind = models.kind(pipe)
        self.pipe = pipe
        self.model_id = model_id or models.name_of(pipe)
        self.card = card or {}
        # A scheduler that the user put into the pipeline is a choice; the one that was stored with weights is not.
        self._stored_scheduler: Any = None

    def edit(
        self,
        image: Any,
        instruction: Any = None,
        *,
        method: Any = None,
        learned: Any = None,
        noise: str = "random",
        seed: Any = None,
        generator: Any = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        image_guidance_scale: float | None = None,
        negative_prompt: Any = None,
        scheduler: Any = None,
        mask: Any = None,
        fit: str = "fit",
        sequential: bool = False,
        batch_size: int = 8,
        callback: StepCallback | None = None,
        progress: bool = False,
        cancel: Callable[[], bool] | Any = None,
        **hyperparameters: Any,
    ) -> Any:
        """Edit one picture, or a list of them.

        An instruction is words, a learned instruction, or both: ``look``, ``look + "a squirrel"``, or ``"<look> a
        squirrel"`` with ``learned``: learned instructions or their files, which words call by ``<name>``; alone, one is
        the instruction. ``noise="recorded"`` takes the noises that it was learned with, which keep more of the picture,
        instead of random ones.

        One picture with a list of instructions is one edit of several instructions. A list of pictures needs a list of
        the same length, whose items may be lists, or one learned instruction; it returns a list whose items are
        ``Edit``, or the ``ShowtellError`` of a picture that could not be edited: failure is local. ``seed``,
        ``generator``, ``mask`` and ``negative_prompt`` may be lists too. A batch equals the single edits with the same
        seeds (within 1e-4 on latents).

        ``method``: a name, or a value of ``showtell.methods``. Hyper-parameters left at None take the model
        card's value, else the paper's. ``scheduler``: a name, or a diffusers scheduler, class or configuration;
        built anew for each run. ``mask`` (H, W), light where the edit may happen: outside it the result is the
        input, exactly. ``fit``: ``fit``, ``crop`` or ``pad`` (see ``fitting``). ``sequential`` runs guidance
        branches one by one to save memory. ``callback(i, n, latents)`` after each step; ``cancel``, an event or a
        function, is asked after each step.

        Raises ``MethodError``, ``ModelError``, ``ImageError``, ``TextError``, ``Cancelled``.
        """
        given = {
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "image_guidance_scale": image_guidance_scale,
            "scheduler": scheduler,
            **hyperparameters,
        }
        settled, origin = self._settle(method, given)
        if fit not in fitting.FITS:
            raise MethodError(f"fit={fit!r} is not known: choose one of {', '.join(fitting.FITS)}")
        if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
            raise MethodError(f"batch_size={batch_size} is out of range: it must be at least 1")
        if noise not in jobs.NOISES:
            raise MethodError(f"noise={noise!r} is not known: choose one of {', '.join(jobs.NOISES)}")
        requests = jobs.requests(
            image, instruction, negative_prompt=negative_prompt, mask=mask, seed=seed, generator=generator,
            learned=learned,
        )  # fmt: skip
        results = jobs.prepare_all(requests, self.pipe, fit=fit, words=settled.words, noise=noise)
        run = functools.partial(self._run, method=settled, origin=origin, sequential=sequential)
        watch = _Watch(callback=callback, progress=progress, cancel=cancel)
        for part in jobs.same_size(results, most=batch_size):
            for index, edit in zip(part, run([results[i] for i in part], watch=watch), strict=True):
                results[index] = edit
        for edit in results:
            for note in getattr(edit, "notes", ()):
                warnings.warn(note, ShowtellWarning, stacklevel=2)
        if jobs.is_batch(image):
            return results
        if isinstance(results[0], ShowtellError):
            raise results[0]
        return results[0]

    def learn(self, pairs: Any, **options: Any) -> LearnedInstruction:
        """Learn the edit that before/after pairs show: see :func:`showtell.learning.learn` for the options."""
        from .learning import learn

        return learn(self, pairs, **options)

    def _settle(self, method: Any, given: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        value = methods.resolve("ip2p" if method is None else method)
        models.require_kind(self.pipe, value.kinds, method=value.name, model_id=self.model_id)
        card = self.card.get("defaults", {}).get(value.name, {})
        own_scheduler = self.pipe.scheduler is not self._stored_scheduler
        settled, origin = methods.settle(value, given=given, card=card, kind=self.kind)
        if origin.get("scheduler") in ("card", "paper") and own_scheduler:
            settled, _ = methods.settle(settled, given={"scheduler": self.pipe.scheduler}, card={})
            origin["scheduler"] = "pipeline"
        return settled, origin

    def _run(
        self, batch: list[jobs.Job], *, method: Any, origin: dict[str, str], sequential: bool, watch: _Watch
    ) -> list[Any]:
        """Edit pictures that share a frame's size, in one batch; lack of memory is the failure of all of them."""
        try:
            return self._edits(batch, method, origin, sequential, watch)
        except (MethodError, Cancelled):
            raise
        except ShowtellError as error:
            return [error] * len(batch)

    def _edits(
        self, batch: list[jobs.Job], method: Any, origin: dict[str, str], sequential: bool, watch: _Watch
    ) -> list[Edit]:
        import torch

        pipe, device = self.pipe, models.device_of(self.pipe)
        fresh = schedulers.fresh_scheduler(method.scheduler, pipe.scheduler.config)
        config = schedulers.recorded(fresh)
        with _failures():
            steps = SchedulerStep(
                fresh,
                num_inference_steps=method.num_inference_steps,
                device=device,
                generators=[job.generator for job in batch],
            )
            plan = method.plan(self._context(batch, steps))
            denoise = sampling.GuidedDenoiser(
                network=networks.network(pipe),
                conditioning=plan.conditioning,
                guidance=plan.guidance,
                scale_input=steps.scale_input,
                sequential=sequential,
                attend=plan.attend,
                text_mask=plan.text_mask,
            )
            try:
                with plan.attention, watch.run(len(plan.schedule)) as observe:
                    latents = sampling.sample(
                        denoise, plan.start, plan.schedule, steps.step, blend=plan.blend, observe=observe
                    )
                pixels = plan.picture(models.decode(pipe, latents))
                flags = models.flagged(pipe, pixels)
            finally:
                models.release(pipe)
        record = {"method": _method_record(method, origin), "scheduler": config, "sequential": sequential}
        machine = {"threads": torch.get_num_threads(), "batch": len(batch), "versions": recipe.versions()}
        shared = {**record, **machine, "model": self._model_record()}
        pictures = zip(batch, fitting.to_images(pixels), latents.cpu(), flags, strict=True)
        return [_finish(job, result, z, hidden, shared) for job, result, z, hidden in pictures]

    def _context(self, batch: list[jobs.Job], steps: SchedulerStep) -> methods.Context:
        import torch

        device = models.device_of(self.pipe)
        framed = [fitting.into_frame(job.picture.rgb, job.frame) for job in batch]
        masks = [_framed_mask(job) for job in batch]
        mask = None
        if any(job.mask is not None for job in batch):
            mask = blending.Mask.from_arrays(masks)
        return methods.Context(
            pipe=self.pipe,
            pixels=fitting.to_pixels(framed).to(device),
            instructions=[job.instructions for job in batch],
            prompt_embeds=torch.stack([instruction.assemble(self.pipe, job.segments)[0] for job in batch]),
            negative_prompt_embeds=torch.stack([instruction.assemble(self.pipe, [job.negative])[0] for job in batch]),
            generators=[job.generator for job in batch],
            steps=steps,
            recorded=_recorded_start(batch, steps),
            mask=mask,
            note=lambda b, text: batch[b].notes.append(text),
        )

    def _model_record(self) -> recipe.ModelRecord:
        return recipe.ModelRecord(
            id=recipe.readable(self.model_id),
            weights=models.weights_hash(self.pipe),
            device=models.device_of(self.pipe).type,
            dtype=str(models.dtype_of(self.pipe.unet)).removeprefix("torch."),
        )


class _Watch:
    """What looks on while the loop runs: a callback, a progress bar, a way to stop."""

    def __init__(self, *, callback: StepCallback | None, progress: bool, cancel: Any) -> None:
        self.callback, self.progress = callback, progress
        self.cancelled = cancel.is_set if hasattr(cancel, "is_set") else cancel

    @contextlib.contextmanager
    def run(self, total: int) -> Iterator[Callable[[int, Any], None]]:
        """An observer for a run of ``total`` steps."""
        from tqdm import tqdm

        with tqdm(total=total, disable=not self.progress, desc="editing", leave=False) as bar:

            def observe(i: int, latents: Any) -> None:
                bar.update()
                if self.callback is not None:
                    self.callback(i, total, latents)
                if self.cancelled is not None and self.cancelled():
                    raise Cancelled(f"stopped after step {i + 1} of {total}")

            yield observe


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """What torch and the schedulers raise while running, as errors with one line."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ShowtellError(_TOO_MUCH) from error
    except NotImplementedError as error:
        raise MethodError(f"this scheduler cannot be used with this model ({error})") from error
    except RuntimeError as error:
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):
            raise ShowtellError(_TOO_MUCH) from error
        raise


def _recorded_start(batch: list[jobs.Job], steps: SchedulerStep) -> Any:
    """The start noise (B, C, h, w) of jobs whose noise was recorded, None of others; their steps take it from there, too."""
    import torch

    kept = [job.recorded for job in batch if job.recorded is not None]
    if not kept:
        return None
    arrivals = [float(t_next) for _, t_next in steps.schedule if t_next is not None]
    device = steps.schedule[0][0].device
    steps.replay([torch.stack(row).to(device) for row in zip(*(noise.along(arrivals) for noise in kept), strict=True)])
    return torch.stack([noise.start() for noise in kept]).to(device)


def _framed_mask(job: jobs.Job) -> np.ndarray:
    """The user's mask in the model's frame; without one, the whole frame."""
    if job.mask is None:
        return np.ones(job.frame.frame[::-1], dtype=np.float32)
    whole = Image.fromarray(job.mask.astype(np.uint8) * 255)
    framed = fitting.into_frame(whole, job.frame, resample=Image.Resampling.BOX)
    return np.asarray(framed, dtype=np.float32) / 255


def _finish(job: jobs.Job, result: Image.Image, latents: Any, hidden: bool, shared: dict[str, Any]) -> Edit:
    """The result at the input's own size, the input's pixels outside a mask, its alpha channel and colour profile."""
    if hidden:
        job.notes.append("the pipeline's safety checker blacked out this picture")
        result = Image.new("RGB", result.size)
    image = fitting.out_of_frame(result, job.frame, job.picture.rgb)
    if job.mask is not None:
        image = blending.paste(image, job.picture.rgb, job.mask)
    if job.picture.alpha is not None:
        image.putalpha(job.picture.alpha)
    if job.picture.icc_profile is not None:
        image.info["icc_profile"] = job.picture.icc_profile
    return Edit(
        image=image,
        masks=[] if job.mask is None else [job.mask],
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
            fit=job.frame.fit,
            size=job.picture.size,
            model_size=job.frame.frame,
            **shared,
        ),
    )


def _method_record(method: Any, origin: dict[str, str]) -> recipe.MethodRecord:
    import dataclasses

    values = {f.name: getattr(method, f.name) for f in dataclasses.fields(method) if f.name != "scheduler"}
    # Pictures are recorded as the files that they came from.
    values = {name: value.record() if hasattr(value, "record") else value for name, value in values.items()}
    return recipe.MethodRecord(name=method.name, parameters=values, origin=origin)
