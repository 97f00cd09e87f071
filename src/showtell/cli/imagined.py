"""`showtell dataset pictures`: candidates of training pairs out of caption pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from showtell.cli import console, options
from showtell.errors import UsageError

EPILOG = "Example: showtell dataset pictures triplets.jsonl -o pairs --candidates 2 --steps 2 --limit 2"
SHOWN = 20


def pictures(
    triplets: Annotated[Path, typer.Argument(metavar="TRIPLETS", help="JSON lines of captions and instructions.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write, or to go on with.")],
    model: options.Model = "starter-base",
    candidates: Annotated[int | None, typer.Option("--candidates", help="Candidates of each caption pair.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Steps of the sampler.")] = None,
    guidance: Annotated[
        str | None, typer.Option("--guidance", metavar="LOW,HIGH", help="Each candidate draws its guidance in here.")
    ] = None,
    self_attention: Annotated[
        str | None,
        typer.Option(
            "--self-attention", metavar="LOW,HIGH", help="... and its share of steps with one self-attention."
        ),
    ] = None,
    cross_attention: Annotated[
        float | None, typer.Option("--cross-attention", help="Share of steps with one cross-attention, in [0, 1].")
    ] = None,
    scheduler: Annotated[str | None, typer.Option("--scheduler", help="The sampler, such as euler-ancestral.")] = None,
    size: Annotated[str | None, typer.Option("--size", metavar="WxH", help="By default the model's own.")] = None,
    encoding: Annotated[Literal["png", "jpg", "webp"], typer.Option("--encoding", help="Kind of picture.")] = "png",
    filter_with: Annotated[
        str | None,
        typer.Option(
            "--filter-with", metavar="CLIP", help="Judge at once; what fails leaves a record and no pictures."
        ),
    ] = None,
    min_image: options.MinImage = None,
    min_direction: options.MinDirection = None,
    min_caption: options.MinCaption = None,
    layout: Annotated[
        Literal["webdataset", "datasets"], typer.Option("--format", help="Tar shards, or Hugging Face's parquet.")
    ] = "webdataset",
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="Caption pairs in a shard.")] = 50,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Candidates that are made together.")] = 8,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first caption pairs.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of all draws.")] = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    ray: options.Ray = None,
    actors: options.Actors = 1,
    gpus: options.Gpus = 0.0,
    as_json: options.Json = False,
) -> None:
    """Imagine pictures for captions: for each pair of captions some candidates of before and after, which share their noise.

    Options that are left out take the model card's value, else InstructPix2Pix's: 100 candidates of 100 steps, guidance from
    7.5 to 15, self-attention shared for 0.1 to 0.9 of the steps. The same command goes on where a run was stopped. Then:
    showtell dataset filter.
    """
    from showtell.engine import candidates as lots
    from showtell.engine import pictures as engine
    from showtell.engine.filter_choose import Bounds

    draws = lots.Lots(
        candidates=candidates,
        num_inference_steps=steps,
        guidance=_numbers("--guidance", guidance, ","),
        self_attention=_numbers("--self-attention", self_attention, ","),
        cross_attention=cross_attention,
        scheduler=scheduler,
    )
    wanted = _numbers("--size", size, "x", int)
    bounds = Bounds(image=min_image, direction=min_direction, caption=min_caption)
    with console.progress("imagining", as_json=as_json) as tick:
        made = engine.make(
            triplets, out, model=model, lots=draws, seed=seed, limit=limit, encoding=encoding, layout=layout,
            clip=filter_with, bounds=None if bounds == Bounds() else bounds,
            size=wanted, shard_size=shard_size, batch_size=batch_size, device=device, dtype=dtype, ray=ray,
            actors=actors, gpus=gpus, tick=tick,
        )  # fmt: skip
    result = {"written": str(out), "made": made.made, "before": made.before, "failed": dict(made.failed)}
    console.finish(result, "\n".join(told(result, "candidates")), as_json=as_json)
    if made.failed:
        raise typer.Exit(1)


def told(result: dict[str, Any], what: str) -> list[str]:
    """What a run says at its end: how many rows, and the first that failed."""
    failed = result["failed"]
    lines = [f"{result['written']}: {result['made']} {what} made, {result['before']} from before, {len(failed)} failed"]
    lines += [console.one_line(f"{row}: {why}") for row, why in list(failed.items())[:SHOWN]]
    if (rest := len(failed) - SHOWN) > 0:
        lines.append(f"... and {rest} more (--json lists all)")
    return lines


def _numbers(name: str, text: str | None, between: str, kind: type[float] = float) -> tuple[Any, Any] | None:
    if text is None:
        return None
    try:
        low, high = (kind(part) for part in text.split(between))
        return low, high
    except ValueError as error:
        shown = "64x64" if kind is int else f"1{between}2"
        raise UsageError(
            f"{name} {text}: give two {'whole ' if kind is int else ''}numbers, such as {shown}"
        ) from error
