"""One step of the training: which samples this process takes, what is read for them, their loss, its gradient and the update."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from showtell import models
from showtell.errors import ShowtellError
from showtell.training.instruct import distilling, latents, loss
from showtell.training.instruct.buckets import Order
from showtell.training.instruct.draws import Draw, draw
from showtell.training.instruct.latents import Cache, Encoded, Words
from showtell.training.instruct.rows import Examples
from showtell.training.instruct.settings import Config, Train

if TYPE_CHECKING:
    from accelerate import Accelerator

    from showtell.training.instruct.checkpoint import State

_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Samples of one pass through the network: their step and places in its whole batch, and whether the step ends with it."""

    step: int
    positions: tuple[int, ...]
    last: bool


def chunks(config: Config, step: int, *, rank: int = 0, world: int = 1) -> list[Chunk]:
    """The passes of one process in a step. All processes together take every sample of the whole batch once."""
    size, micro = config.train.batch_size, config.micro_batch(world)
    own = range(size * rank // world, size * (rank + 1) // world)
    cut = [tuple(own[i : i + micro]) for i in range(0, len(own), micro)]
    return [Chunk(step=step, positions=positions, last=i + 1 == len(cut)) for i, positions in enumerate(cut)]


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything that a step is made of; nothing in it changes while the network learns."""

    config: Config
    pipe: Any
    examples: Examples
    order: Order
    words: Words
    cache: Cache | None
    alphas: Tensor
    prediction_type: str
    teacher: distilling.Teacher | None = None

    def read(self, chunk: Chunk) -> Batch:
        """What the samples of a chunk need, on the CPU: it may be called in a thread. Raises ``ImageError``."""
        frame, rows = self.order.batch_at(chunk.step)
        own = [rows[position] for position in chunk.positions]
        size = self.examples.frames[frame]
        factor = models.latent_factor(self.pipe)
        shape = (self.pipe.vae.config.latent_channels, size[1] // factor, size[0] // factor)
        drawn = [draw(self.config, chunk.step, position, shape) for position in chunk.positions]
        flips = [one.flip for one in drawn]
        if self.cache is not None:
            return Batch(chunk=chunk, rows=own, drawn=drawn, given=self.cache.read(own, flips))
        examples = [self.examples.train[i] for i in own]
        given = latents.pixels(examples, size, flips, [one.crop for one in drawn])
        return Batch(chunk=chunk, rows=own, drawn=drawn, given=given)

    def losses(self, network: Callable[..., Any], batch: Batch) -> Tensor:
        """Each sample's loss, (B,)."""
        device = self.alphas.device
        given = batch.given
        encoded = given if isinstance(given, Encoded) else latents.encode(self.pipe, given)
        drawn = batch.drawn
        posterior, noise = (torch.stack([getattr(d, key) for d in drawn]).to(device) for key in ("posterior", "noise"))
        z = encoded.mean.to(device) + encoded.deviation.to(device) * posterior
        u, exponent = torch.tensor([d.level for d in drawn]), self.config.train.noise_exponent
        if self.teacher is not None and self.config.distill is not None:
            return distilling.losses(
                network, self.teacher, self.config.distill, z=models.scaled(self.pipe, z), image=encoded.before.to(device),
                context=self._words(batch, [True] * len(drawn)), empty=self.words.none[0].to(device), noise=noise,
                u=(u**exponent).to(device), alphas=self.alphas, prediction_type=self.prediction_type,
            )  # fmt: skip
        image = torch.tensor([d.image for d in drawn], device=device)[:, None, None, None] * encoded.before.to(device)
        t = loss.levels(u, len(self.alphas), exponent).to(device)
        return loss.losses(
            network,
            z=models.scaled(self.pipe, z),
            image=image,
            context=self._words(batch, [d.text for d in drawn]),
            noise=noise,
            t=t,
            alphas=self.alphas,
            prediction_type=self.prediction_type,
            min_snr=self.config.train.min_snr,
        )

    def _words(self, batch: Batch, kept: Sequence[bool]) -> Tensor:
        """The words of a batch (B, 77, d), or their absence where they are not ``kept``."""
        return self.words.of([self.examples.train[i] for i in batch.rows], kept).to(self.alphas.device)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A chunk with its rows, its draws, and their pictures or, where these are kept, their latents."""

    chunk: Chunk
    rows: Sequence[int]
    drawn: Sequence[Draw]
    given: Tensor | Encoded


@contextlib.contextmanager
def reading(material: Material, wanted: Iterator[Chunk], workers: int) -> Iterator[Iterator[Batch]]:
    """The batches of chunks, in their order; with ``workers`` so many threads read ahead."""
    if not workers:
        yield map(material.read, wanted)
        return
    threads = ThreadPoolExecutor(workers)
    try:
        yield _ahead(threads, material, wanted, 2 * workers)
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def _ahead(threads: ThreadPoolExecutor, material: Material, wanted: Iterator[Chunk], most: int) -> Iterator[Batch]:
    coming: deque[Future[Batch]] = deque()
    for chunk in wanted:
        coming.append(threads.submit(material.read, chunk))
        if len(coming) >= most:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()


def seed_dropout(config: Config, chunk: Chunk) -> None:
    """Dropout inside adapters draws from torch's global generator, which is set anew for each pass."""
    if config.lora is not None and config.lora.dropout:
        told = f"dropout:{config.seed}:{chunk.step}:{chunk.positions[0]}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "big") >> 1)


def backward(
    config: Config, material: Material, scaler: Any, accelerator: Accelerator, model: Any, batch: Any
) -> torch.Tensor:
    """The gradient of a chunk's share of the whole batch's mean loss, and that share."""
    dtype = _PRECISIONS.get(config.train.precision)
    chunk: Chunk = batch.chunk
    seed_dropout(config, chunk)

    def network(*args: Any, of: Any = None, **named: Any) -> Any:
        with torch.autocast(accelerator.device.type, dtype, enabled=dtype is not None):
            return (model if of is None else of)(*args, **named)

    with contextlib.nullcontext() if chunk.last else accelerator.no_sync(model):
        share = material.losses(network, batch).sum() / config.train.batch_size
        # processes' gradients are averaged, and their shares are to be summed
        scaled = share * accelerator.num_processes
        (scaler.scale(scaled) if scaler is not None else scaled).backward()
    return share.detach()


def update(state: State, train: Train, total: float, kept: Callable[[], str]) -> float:
    """The optimiser's step and the average's, and the gradient's norm. ``kept`` says what there is to go back to.

    Raises ``ShowtellError`` for a loss or a gradient that is not finite.
    """
    if state.scaler is not None:
        state.scaler.unscale_(state.optimiser)
    most = train.clip_norm if train.clip_norm is not None else float("inf")
    norm = float(torch.nn.utils.clip_grad_norm_(list(state.learned.values()), most))
    finite = {
        "loss": total,
        "gradient": norm if state.scaler is None else 0.0,
    }  # fp16 leaves out such a step itself
    for what, value in finite.items():
        if not math.isfinite(value):
            raise ShowtellError(
                f"the {what} is not finite at step {state.step}; {kept()}; try a lower train.learning_rate"
            )
    if state.scaler is not None:
        state.scaler.step(state.optimiser)
        state.scaler.update()
    else:
        state.optimiser.step()
    state.optimiser.zero_grad(set_to_none=True)  # nothing but the steps has to hold gradients
    state.average.update(state.step)
    return norm
