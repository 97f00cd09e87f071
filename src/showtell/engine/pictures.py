"""Candidates of training pairs out of caption pairs: Prompt-to-Prompt from noise, each with draws of its own.

InstructPix2Pix, section 3.1.2: the two pictures of a candidate share their first noise, the noise of every ancestral step, and
for a share p ~ U(0.1, 0.9) of the steps their self-attention; guidance and seed differ from candidate to candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files, loading, models
from ..edits import encoded
from ..errors import UsageError
from ..metrics.clip import Clip
from ..recipe import versions
from ..work import Done, Item, Report, ShardStore, Tick, Worker, alone, run_in_parts
from ..work.shards import sha256
from . import filter_choose, filter_scores
from .candidates import Lots, parts, read_triplets
from .filter import thresholds

if TYPE_CHECKING:
    from ..editor import Editor

ENCODINGS = ("png", "jpg", "webp")


@dataclass(frozen=True, kw_only=True)
class How:
    """All that a worker is told once. Picklable."""

    model: str
    device: str
    dtype: str | None
    num_inference_steps: int
    cross_attention: float
    scheduler: str
    size: tuple[int, int] | None
    encoding: str
    clip: str | None
    bounds: filter_choose.Bounds | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """What a worker works with: the editor, and the CLIP that judges at once, if one does."""

    editor: Editor
    clip: Clip | None

    @classmethod
    def of(cls, how: How) -> Loaded:
        """Loaded in the process that works. Raises ``ModelError``."""
        from ..editor import load

        clip = None if how.clip is None else Clip.load(how.clip, device=how.device)
        return cls(editor=load(how.model, device=how.device, dtype=how.dtype), clip=clip)

    @cached_property
    def scored_by(self) -> dict[str, str]:
        """Which CLIP judges: a fingerprint of its weights is not taken for every batch."""
        assert self.clip is not None
        return filter_scores.identity(self.clip)


def make(
    triplets: Path,
    out: Path,
    *,
    model: str = "starter-base",
    lots: Lots | None = None,
    seed: int = 0,
    limit: int | None = None,
    size: tuple[int, int] | None = None,
    encoding: str = "png",
    clip: str | None = None,
    bounds: filter_choose.Bounds | None = None,
    layout: str = "webdataset",
    shard_size: int = 50,
    batch_size: int = 8,
    device: str = "auto",
    dtype: str | None = None,
    ray: str | None = None,
    actors: int = 1,
    gpus: float = 0.0,
    tick: Tick = lambda done, total: None,
    cancel: Callable[[], bool] | None = None,
) -> Report:
    """Imagine the candidates of a file of triplets into the folder ``out``, or go on with what is there.

    ``lots`` says how many and what they draw; ``size`` (width, height) of the pictures, the model's own by default; ``encoding``
    png, jpg or webp; ``layout`` webdataset or datasets; ``shard_size`` caption pairs a shard. With ``clip`` candidates are judged
    at once, and those that fail ``bounds`` (see :func:`showtell.engine.filter.sift`) leave a record and no pictures. ``ray`` and
    what follows: see :func:`showtell.work.run`. A candidate is the same in whatever order, batch (within 1e-4 on latents), shard
    or process it is made.

    Raises ``UsageError``, ``ModelError``, ``MethodError``, ``FileFormatError``, ``OutputError``, ``Cancelled``.
    """
    from ..editor import load

    if encoding not in ENCODINGS:
        raise UsageError(f"encoding {encoding!r} is not known: choose one of {', '.join(ENCODINGS)}")
    found = read_triplets(triplets, limit=limit)
    if bounds is not None and clip is None:
        raise UsageError(
            "thresholds are given, and no CLIP that judges at once: name one, or leave them to dataset filter"
        )
    if ray and dtype is None and gpus and model not in loading.STARTERS:
        dtype = "float16"  # as it would be here on a GPU: what the recipe says holds for every process
    editor = load(model, device="cpu" if ray else device, dtype=dtype)
    precision = str(models.dtype_of(editor.pipe.unet)).removeprefix("torch.")
    models.require_kind(editor.pipe, ("base",), method="dataset pictures", model_id=editor.model_id)
    settled, origin = (lots or Lots()).settled(editor.card.get("defaults", {}).get("pictures", {}))
    judge, judged = None, {}
    if clip is not None:
        judge = Clip.load(clip, device="cpu" if ray else device)
        bounds, told = (bounds or filter_choose.Bounds()).settled(thresholds(clip))
        judged = {"filter": {"clip": filter_scores.identity(judge), **asdict(bounds), "origin": told}}
    assert settled.num_inference_steps and settled.scheduler and settled.cross_attention is not None
    how = How(
        model=loading.anywhere(model), device=device, dtype=precision if ray else dtype,
        num_inference_steps=settled.num_inference_steps,
        cross_attention=settled.cross_attention, scheduler=settled.scheduler, size=size, encoding=encoding,
        clip=None if clip is None else loading.anywhere(clip), bounds=bounds,
    )  # fmt: skip
    recipe = {
        "command": "dataset pictures",
        "settings": {**asdict(settled), "size": size, "encoding": encoding, "shard_size": shard_size},
        "origin": origin,
        **judged,
        "model": {"id": editor.model_id, "weights": models.weights_hash(editor.pipe), "dtype": precision},
        "seed": seed,
        "source": {"path": triplets.name, "sha256": sha256(triplets)},
        "versions": versions(),
    }
    rows = parts(found, settled, seed=seed, shard_size=shard_size)
    factory = partial(worker, how) if ray else partial(worker, how, Loaded(editor=editor, clip=judge))
    with alone(files.make_folder(out)):
        return run_in_parts(
            rows, len(found) * (settled.candidates or 0), factory, ShardStore.begin(out, recipe, layout=layout),
            batch_size=batch_size, ray=ray, actors=actors, gpus=gpus, tick=tick, cancel=cancel,
        )  # fmt: skip


def worker(how: How, loaded: Loaded | None = None) -> Worker:
    """What imagines a batch of candidates; the models are loaded here unless they are there."""
    return partial(_imagine, how, loaded or Loaded.of(how))


def _imagine(how: How, loaded: Loaded, rows: Sequence[Item]) -> list[Done]:
    pairs = loaded.editor.imagine(
        [row.told["source_caption"] for row in rows],
        [row.told["target_caption"] for row in rows],
        seed=[row.told["seed"] for row in rows],
        guidance_scale=[row.told["guidance_scale"] for row in rows],
        self_replace_steps=[row.told["self_replace_steps"] for row in rows],
        cross_replace_steps=how.cross_attention,
        num_inference_steps=how.num_inference_steps,
        scheduler=how.scheduler,
        blend="none",
        size=how.size,
        batch_size=len(rows),
    )
    made = [_done(row, pair, how.encoding) for row, pair in zip(rows, pairs, strict=True)]
    return made if loaded.clip is None else _judged(made, pairs, loaded, how.bounds)


def _done(row: Item, pair: Any, encoding: str) -> Done:
    notes = {"notes": list(pair.notes)} if pair.notes else {}
    pictures = {"before": pair.before, "after": pair.after}
    return Done(
        id=row.id,
        record={**row.told, **notes},
        files={f"{name}.{encoding}": encoded(one, f"{name}.{encoding}") for name, one in pictures.items()},
    )


def _judged(made: Sequence[Done], pairs: Sequence[Any], loaded: Loaded, bounds: Any) -> list[Done]:
    """With their scores, and without the pictures of those that fail a test."""
    sources, targets = ([one.record[name] for one in made] for name in ("source_caption", "target_caption"))
    assert loaded.clip is not None
    scores = filter_scores.score(loaded.clip, [(pair.before, pair.after) for pair in pairs], sources, targets)
    return [
        replace(
            one,
            record={**one.record, "scores": found.told(), "scored_by": loaded.scored_by},
            files={} if filter_choose.judge(found, bounds) else one.files,
        )
        for one, found in zip(made, scores, strict=True)
    ]
