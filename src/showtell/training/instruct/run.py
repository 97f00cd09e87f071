"""A training of an instruction editor from beginning to end: begun, resumed, stopped, and saved as a model."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from showtell import files, models
from showtell.errors import Cancelled, ShowtellError, UsageError
from showtell.memory import free_memory
from showtell.training import curves
from showtell.training.instruct import (
    beginning,
    checkpoint,
    hub,
    loss,
    network,
    planning,
    preflight,
    rows,
    saving,
    trackers,
)
from showtell.training.instruct.beginning import Stop
from showtell.training.instruct.buckets import Order
from showtell.training.instruct.checkpoint import State
from showtell.training.instruct.latents import Cache, Words
from showtell.training.instruct.network import Average
from showtell.training.instruct.settings import Config, rate
from showtell.training.instruct.stepping import Material, backward, chunks, reading, update
from showtell.training.instruct.told import Lines, Result, notes_of
from showtell.training.loop import Report, quiet

if TYPE_CHECKING:
    from accelerate import Accelerator
    from PIL import Image

    from showtell.data.rows import Row

Validation = Callable[[Any, int], tuple[dict[str, float], "Image.Image | None"]]
Validator = Callable[[Config, Sequence["Row"]], Validation]
LOG, MODEL = "log.jsonl", "model"
_TOO_MUCH = (
    "out of memory: use a smaller train.micro_batch (the batch stays as it is), train.gradient_checkpointing: true, lora, or "
    "a smaller data.resolution"
)


def train(
    config: Config,
    out: str | Path,
    *,
    resume: bool = False,
    device: str = "auto",
    validate: Validator | None = None,
    report: Report = quiet,
) -> Result:
    """Train into the folder ``out``, or go on with the run that is there, and return what it leaves.

    Every random draw is keyed by the seed, the step and the sample's place in the batch: a run that was killed at any moment
    and resumed is the uninterrupted one, on a CPU to the bit; micro batches and processes change rounding alone. Under
    ``torchrun`` each process calls this; the first one writes. ``validate`` is told the configuration and the held-out rows,
    and gives what is called with the pipeline and the step. Raises ``UsageError`` and its kin for wrong use, ``ShowtellError``
    for a loss that is not finite, ``Cancelled`` for Ctrl-C, ``OutputError`` for a full disk; the last checkpoint stays.
    """
    out = Path(out)
    beginning.check(config)
    accelerator = beginning.accelerator(device)
    if accelerator.num_processes > config.train.batch_size:
        raise UsageError(
            f"train.batch_size is {config.train.batch_size} for {accelerator.num_processes} processes: each needs a row"
        )
    new = accelerator.is_main_process and not files.mode_of(out)
    if accelerator.is_main_process:
        beginning.begin(config, out, resume=resume)
    accelerator.wait_for_everyone()
    try:
        with beginning.stopping() as stop, models.memory_errors(_TOO_MUCH):
            return _Run(config, out, accelerator, validate, report, stop).go()
    except KeyboardInterrupt as error:
        kept = f"the run is kept: give the same command with --resume to go on in {out}"
        begun = (out / beginning.CONFIG).exists()
        raise Cancelled(f"interrupted; {kept if begun else 'nothing was written'}") from error
    finally:
        if new:
            with contextlib.suppress(OSError):  # what could not begin leaves no folder behind
                out.rmdir()


class _Run:
    """One process of a training."""

    def __init__(
        self,
        config: Config,
        out: Path,
        accelerator: Accelerator,
        validate: Validator | None,
        report: Report,
        stop: Stop,
    ) -> None:
        self.config, self.out, self.accelerator, self.stop = config, out, accelerator, stop
        self.first = accelerator.is_main_process
        self.report = report if self.first else quiet
        world = accelerator.num_processes
        device = accelerator.device
        fit = preflight.estimate(config, world_size=world, device=device.type)
        fit.check(free_memory(str(device)))
        source = rows.read(config)  # before the model, which takes longer
        self.net = network.load(config, device=str(device))
        self.examples = planning.examples_of(config, self.net, source, self.report)
        self.told = {"config": config.as_dict(), "model": self.net.weights, "data": self.examples.fingerprint}
        self.state = self._state()
        if self.state.step > config.train.steps:
            raise UsageError(f"{out}: is at step {self.state.step} already: train.steps must be that or more")
        beginning.agree(accelerator, self.told, self.state.step)
        if self.first:
            beginning.write_config(config, out)
        self.material = self._material()
        self.validation = self._validation(validate)
        self.log = Lines(out / LOG, self.state.step if self.first else None)
        self.checks = Lines(out / "validation.jsonl", self.state.step if self.first else None)
        self.trackers = (
            trackers.Trackers(config.save.trackers, out / "trackers", config, step=self.state.step)
            if self.first and config.save.trackers
            else None
        )
        last = self.log.kept[-1] if self.log.kept else {}
        self.figures = {key: value for key, value in last.items() if key not in ("step", "seconds")}

    def _state(self) -> State:
        learned, train = self.net.learned, self.config.train
        state = State(
            learned=learned,
            average=Average(learned, train.ema),
            optimiser=network.optimiser_for(train, learned),
            scaler=torch.amp.GradScaler(self.accelerator.device.type) if train.precision == "fp16" else None,
        )
        if (found := checkpoint.newest(self.out)) is not None:
            checkpoint.load(state, found, self.told)
        return state

    def _material(self) -> Material:
        config, pipe, examples, accelerator = self.config, self.net.pipe, self.examples, self.accelerator
        alphas, kind = loss.schedule_of(pipe)
        cache = None
        if config.data.cache == "latents":
            cache = Cache(self.out, pipe, examples, flip=config.data.flip, half=config.train.precision != "no")
            cache.fill(
                pipe,
                rank=accelerator.process_index,
                world=accelerator.num_processes,
                tick=lambda done, total: self.report("latents", done, total, {}),
            )
            accelerator.wait_for_everyone()
        return Material(
            config=config,
            pipe=pipe,
            examples=examples,
            order=Order(
                bucket=tuple(one.frame for one in examples.train),
                batch_size=config.train.batch_size,
                seed=config.seed,
                kind=config.data.order,
                shard=tuple(one.shard for one in examples.train),
            ),
            words=Words(pipe, examples.train, tick=lambda done, total: self.report("words", done, total, {})),
            cache=cache,
            alphas=alphas.to(accelerator.device),
            prediction_type=kind,
            teacher=self.net.teacher,
        )

    def _validation(self, validate: Validator | None) -> Validation | None:
        wanted = self.config.validate.every is not None and self.examples.held_out
        return validate(self.config, self.examples.held_out) if validate and wanted and self.first else None

    def go(self) -> Result:
        """Every step that is left, and the model in the end."""
        unet = self.net.pipe.unet.train()
        model = self.accelerator.prepare_model(unet) if self.accelerator.num_processes > 1 else unet
        steps, world, rank = self.config.train.steps, self.accelerator.num_processes, self.accelerator.process_index
        wanted = itertools.chain.from_iterable(
            chunks(self.config, step, rank=rank, world=world) for step in range(self.state.step, steps)
        )
        saved = time.monotonic()
        self.stop.armed = True
        try:
            with reading(self.material, wanted, self.config.data.workers) as batches:
                self._validate()  # what the run before this one may not have come to
                while self.state.step < steps:
                    stopped = self._step(model, batches)
                    if stopped or self._is_due(saved):
                        self._save()  # first: a validation takes long, and may fail
                        saved = time.monotonic()
                    if stopped and self.state.step < steps:
                        raise Cancelled(
                            f"interrupted after step {self.state.step} of {steps}; the run is kept: give the same command with "
                            f"--resume to go on in {self.out}"
                        )
                    self._validate()
            self.stop.armed = False
            return self._end()
        finally:
            if self.trackers is not None:
                self.trackers.close()

    def _is_due(self, saved: float) -> bool:
        save, step = self.config.save, self.state.step
        timed = save.seconds is not None and time.monotonic() - saved > save.seconds
        return step % save.every == 0 or step == self.config.train.steps or timed

    def _step(self, model: Any, batches: Iterator[Any]) -> bool:
        """One step of the optimiser. Returns whether any process was asked to stop."""
        config, state, accelerator = self.config, self.state, self.accelerator
        started = time.monotonic()
        learning_rate = rate(config.train, state.step)
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate
        total = torch.zeros((), device=accelerator.device)
        own = chunks(config, state.step, rank=accelerator.process_index, world=accelerator.num_processes)
        for batch in itertools.islice(batches, len(own)):
            total += backward(config, self.material, state.scaler, accelerator, model, batch)
        flag = torch.tensor(float(self.stop.asked), device=accelerator.device)
        total, flag = accelerator.reduce(torch.stack((total, flag)), "sum").unbind()
        norm = update(state, config.train, float(total), self._kept)
        self.figures = {"loss": float(total), "learning_rate": learning_rate}
        if math.isfinite(norm):
            self.figures["norm"] = norm
        state.step += 1
        state.seconds += time.monotonic() - started
        if self.first:
            self.log.add({"step": state.step, "seconds": round(state.seconds, 2)} | self.figures)
            if self.trackers is not None:
                self.trackers.log(state.step, self.figures)
            self.report("training", state.step, config.train.steps, self.figures)
        return bool(flag > 0)

    def _validate(self) -> None:
        """Figures and pictures of held-out rows, with the averaged weights; the training goes on as if it had not been."""
        every, step = self.config.validate.every or 1, self.state.step
        if self.validation is None or step == 0 or not (step % every == 0 or step == self.config.train.steps):
            return
        if self.checks.kept and self.checks.kept[-1]["step"] == step:
            return
        with torch.random.fork_rng(), self.state.average.inside(self.net.pipe.unet):
            figures, sheet = self.validation(self.net.pipe, step)
        self.checks.add({"step": step} | figures)
        if sheet is not None:
            folder = files.make_folder(self.out / "samples")
            try:
                sheet.save(folder / f"step-{step:06d}.png")
            except OSError as error:
                raise files.output_error(folder, error) from error
        if self.trackers is not None:
            self.trackers.log(step, figures, {"samples": sheet} if sheet is not None else None)
        self.report("validation", step, self.config.train.steps, figures)

    def _kept(self) -> str:
        """What there is to go back to."""
        kept = checkpoint.newest(self.out)
        return f"the last good state is {kept}" if kept else "nothing was saved yet"

    def _save(self) -> None:
        if not all(bool(tensor.isfinite().all()) for tensor in self.state.learned.values()):
            raise ShowtellError(
                f"the weights are not finite after step {self.state.step}; {self._kept()}; try a lower train.learning_rate"
            )
        if self.first:
            checkpoint.save(self.state, self.out, self.told, keep=self.config.save.keep)

    def _end(self) -> Result:
        """The model, from the averaged weights; and the hub, where it goes there."""
        model, state, pushed = self.out / MODEL, self.state, None
        if self.first:
            told = self._told()
            average = {name: tensor.detach() for name, tensor in state.average.state().items()}
            self.net.whole()
            saving.save_model(self.net.pipe, average, model, self.config, told, widened=self.net.widened, force=True)
            curves.draw_curve(self.out / LOG, self.out / "loss.png", title=self.out.name, smooth=0.98)
            if self.config.save.push_to_hub is not None:
                pushed = hub.push(model, self.config.save.push_to_hub)
        self.accelerator.wait_for_everyone()
        found = self.examples
        return Result(
            model=model,
            step=state.step,
            rows=len(found.train),
            held_out=len(found.held_out),
            left_out=len(found.problems),
            figures=self.figures,
            notes=notes_of(found),
            pushed=pushed,
        )

    def _told(self) -> Mapping[str, Any]:
        """What the model's card says of the run."""
        found = self.examples
        return {
            "steps": self.state.step,
            "seconds": round(self.state.seconds, 1),
            "rows": len(found.train),
            "held_out": len(found.held_out),
            "problems": len(found.problems),
            "buckets": found.buckets,
            "processes": self.accelerator.num_processes,
            "loss": self.figures.get("loss"),
            "validation": (self.checks.kept or [{}])[-1],
        }
