"""The editor: what people hold in their hands. It puts the layers below together and has no algorithm of its own."""

from __future__ import annotations

import dataclasses
import functools
import numbers
import os
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import (
    calling,
    compiling,
    fitting,
    inversions,
    jobs,
    loading,
    methods,
    models,
    requested,
    runs,
    schedulers,
    watching,
)
from .errors import Cancelled, MethodError, ShowtellError, ShowtellWarning, TextError
from .guidance import check_whole
from .inversion import gradients
from .inversion.tuning import NotFinite
from .methods.outside import Called

if TYPE_CHECKING:
    from .edits import Edit
    from .inversions import Inversion
    from .learned import LearnedInstruction
    from .tokens import LearnedToken
    from .types import StepCallback


#: The least and the greatest longer side at which a model may be shown a picture.
RESOLUTIONS = (32, 4096)


def load(
    name_or_path: str | os.PathLike[str],
    *,
    device: str = "auto",
    dtype: Any = None,
    offload: str = "none",
    vae_tiling: bool = False,
    attention_slicing: bool = False,
) -> Editor:
    """An editor around ``"starter"``, ``"starter-base"``, a hub id, a diffusers folder or a ``.safetensors`` file.

    ``device``: ``auto``, ``cpu``, ``cuda`` or ``mps``; ``dtype``: by default float32 for the starters and on a
    CPU, else float16. Only safetensors are read.

    To save memory: ``offload`` leaves whole networks (``"model"``) or every layer (``"sequential"``, much slower) in main memory
    while they are not used; ``vae_tiling`` encodes and decodes pictures larger than the autoencoder was made for in overlapping
    tiles, which changes them a little, and several one by one; ``attention_slicing`` computes attention in parts, for devices
    without an efficient kernel. Raises ``ModelError``; ``UsageError`` for a device or an offloading that cannot be.
    """
    loaded = loading.load_pipeline(
        name_or_path, device=device, dtype=dtype, offload=offload, vae_tiling=vae_tiling,
        attention_slicing=attention_slicing,
    )  # fmt: skip
    models.lay_out(loaded.pipe)
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
        weights: Any = None,
        masks: Any = None,
        source: Any = None,
        inversion: Any = None,
        fit: str = "fit",
        resolution: int | None = None,
        sequential: bool = False,
        gradient_checkpointing: bool = False,
        batch_size: int = 8,
        callback: StepCallback | None = None,
        progress: bool = False,
        cancel: Callable[[], bool] | Any = None,
        on_phase: Callable[[str, int, int], None] | None = None,
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
        seeds (within 1e-4 on latents; methods that tune by Adam magnify rounding, the more the more they iterate).

        ``method``: a name, or a value of ``showtell.methods``. Hyper-parameters left at None take the model
        card's value, else the paper's. ``scheduler``: a name, or a diffusers scheduler, class or configuration;
        built anew for each run. ``mask`` (H, W), light where the edit may happen: outside it the result is the
        input, exactly. For methods that keep each instruction in its own region: ``weights``, one for each instruction, 0 to
        10 (1); ``masks``, for each instruction a mask (H, W) that takes the place of the one that would be found, or
        None. For methods that describe the result (``sdedit``, ``ddim-edit``, ``diffedit``, ``pti``, ``p2p``, ``imagic``) the
        instruction is what the result shows; ``source``, what the picture shows, where a method uses it; ``inversion``, what
        ``invert`` gave or its file, which may also stand in the picture's place: the edit then goes out from it, by default
        with the method that it was made for.

        ``fit``: ``fit``, ``crop`` or ``pad`` (see ``fitting``); ``resolution``, the longer side at which the model sees the
        picture, 32 to 4096 pixels, by default the one that it was made for; the result has the input's own size.
        ``sequential`` runs guidance branches one by one to save memory, and ``gradient_checkpointing``, for methods that tune or
        learn, computes twice instead of keeping. ``callback(i, n, latents)`` after each step; ``on_phase(name, i, n)`` while a
        method inverts, tunes or looks for a mask before that; ``cancel``, an event or a function, is asked after each step of
        all of it.

        Raises ``MethodError``, ``ModelError``, ``ImageError``, ``TextError``, ``Cancelled``.
        """
        given = {
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "image_guidance_scale": image_guidance_scale,
            "scheduler": scheduler,
            **hyperparameters,
        }
        held = inversions.of(image, inversion)
        method = (inversions.default_method(held) or "ip2p") if method is None else method
        settled, origin = self._settle(method, given, held=held)
        if fit not in fitting.FITS:
            raise MethodError(f"fit={fit!r} is not known: choose one of {', '.join(fitting.FITS)}")
        if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
            raise MethodError(f"batch_size={batch_size} is out of range: it must be at least 1")
        check_whole("resolution", resolution, *RESOLUTIONS)
        if noise not in jobs.NOISES:
            raise MethodError(f"noise={noise!r} is not known: choose one of {', '.join(jobs.NOISES)}")
        requests = requested.requests(
            image, instruction, negative_prompt=negative_prompt, mask=mask, seed=seed, generator=generator,
            learned=learned, weights=weights, masks=masks, source=source,
            inversion=held if requested.is_batch(image) else held[0],
        )  # fmt: skip
        results = jobs.prepare_all(
            requests, self.pipe, fit=fit, words=settled.words, noise=noise, regions=getattr(settled, "regions", False),
            describes=getattr(settled, "describes", False), resolution=resolution,
        )  # fmt: skip
        run = functools.partial(self._run, method=settled, origin=origin, sequential=sequential)
        watch = watching.Watch(callback=callback, progress=progress, cancel=cancel, on_phase=on_phase)
        checkpointed = gradients.checkpointed(self.pipe, enabled=gradient_checkpointing)
        most = 1 if getattr(settled, "alone", False) else batch_size
        with checkpointed:
            for part in jobs.same_size(results, most=most):
                for index, edit in zip(part, run([results[i] for i in part], watch=watch), strict=True):
                    results[index] = edit
        for edit in results:
            for note in getattr(edit, "notes", ()):
                warnings.warn(note, ShowtellWarning, stacklevel=2)
        if requested.is_batch(image):
            return results
        if isinstance(results[0], ShowtellError):
            raise results[0]
        return results[0]

    def invert(self, image: Any, target: str | None = None, **options: Any) -> Inversion:
        """What a picture came out of: see :func:`showtell.inverting.invert` for the options."""
        from .inverting import invert

        return invert(self, image, target, **options)

    def imagine(self, source: Any, target: Any = None, **options: Any) -> Any:
        """Pictures out of noise, and what they become: see :func:`showtell.imagining.pair` for the options."""
        from .imagining import pair

        return pair(self, source, target, **options)

    def learn(self, pairs: Any, **options: Any) -> LearnedInstruction:
        """Learn the edit that before/after pairs show: see :func:`showtell.learning.learn` for the options."""
        from .learning import learn

        return learn(self, pairs, **options)

    def learn_token(self, images: Any, word: str = "<toy>", **options: Any) -> LearnedToken:
        """A word for what pictures show (textual inversion): see :func:`showtell.teaching.teach` for the options."""
        from .tokens import learn_token

        return learn_token(self, images, word, **options)

    def compare(self, image: Any, instructions: Any, **options: Any) -> dict[str, Edit]:
        """Several methods side by side, with one seed: see :func:`showtell.comparing.compare` for the options."""
        from .comparing import compare

        return compare(self, image, instructions, **options)

    def compile(self, what: str = "blocks", **options: Any) -> float:
        """Compile the networks; the seconds it took. See :func:`showtell.compiling.compile_editor` for the options."""
        return compiling.compile_editor(self, what, **options)

    def _settle(
        self, method: Any, given: dict[str, Any], *, held: Sequence[Inversion | None] = ()
    ) -> tuple[Any, dict[str, str]]:
        value = methods.resolve("ip2p" if method is None else method)
        models.require_kind(self.pipe, value.kinds, method=value.name, model_id=self.model_id)
        card = self.card.get("defaults", {}).get(value.name, {})
        taken = inversions.followed(held, given, value)
        settled, origin = methods.settle(value, given={**given, **taken}, card=card, kind=self.kind)
        settled = self._scheduled(settled, origin)
        if any(held):
            fresh = schedulers.fresh_scheduler(settled.scheduler, self.pipe.scheduler.config)
            own = inversions.scheduled(held, schedulers.recorded(fresh), given=origin["scheduler"] == "given")
            settled = dataclasses.replace(settled, scheduler=own or settled.scheduler)
            taken = {**taken, "scheduler": own}
        return settled, {**origin, **{name: "inversion" for name in taken if given.get(name) is None}}

    def _scheduled(self, settled: Any, origin: dict[str, str]) -> Any:
        """A method with the pipeline's own scheduler, where the user put that there and the method can take it."""
        mine, inverts = self.pipe.scheduler, hasattr(settled, "encoding_ratio")
        if origin.get("scheduler") not in ("card", "paper") or mine is self._stored_scheduler:
            return settled
        if inverts and "DDIM" not in type(mine).__name__:  # "ddim" of the pipeline's configuration it stays
            return settled
        origin["scheduler"] = "pipeline"
        return dataclasses.replace(settled, scheduler=mine)

    def _run(
        self, batch: list[jobs.Job], *, method: Any, origin: dict[str, str], sequential: bool, watch: watching.Watch
    ) -> list[Any]:
        """Edit pictures that share a frame's size, in one batch; lack of memory is the failure of all of them."""
        told: dict[str, Any] = {
            "model_id": self.model_id, "method": method, "origin": origin, "sequential": sequential, "watch": watch
        }  # fmt: skip
        before = [job.generator.get_state() for job in batch]
        try:
            return _runner(method)(self.pipe, batch, **told)
        except Cancelled:
            raise
        except ShowtellError as error:
            found: list[Any] = [error]
            if len(batch) > 1 and isinstance(error, (MethodError, TextError, NotFinite)):
                for job, state in zip(batch, before, strict=True):
                    job.generator.set_state(state)
                found = [self._alone(job, told) for job in batch]
            # What is wrong with every one of them is wrong with the call.
            if isinstance(error, MethodError) and len({str(each) for each in found}) == 1:
                raise
            return found if len(found) == len(batch) else found * len(batch)

    def _alone(self, job: jobs.Job, told: dict[str, Any]) -> Any:
        """One picture of a batch that failed."""
        try:
            return _runner(told["method"])(self.pipe, [job], **told)[0]
        except Cancelled:
            raise
        except ShowtellError as error:
            return error


def _runner(method: Any) -> Callable[..., list[Any]]:
    """What runs a method: the one loop, or for a function of another package a call for each picture."""
    return calling.run if isinstance(method, Called) else runs.run
