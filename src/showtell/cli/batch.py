"""`showtell batch`: many pictures at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from showtell.cli import asked, console, describing, options, parts

EPILOG = 'Example: showtell batch . "make it red" -o edited --steps 1 --limit 1'
SHOWN = 20
"""Failures that are told one by one on a terminal; results.jsonl and ``--json`` have them all."""


def register(app: typer.Typer) -> None:
    app.command("batch", epilog=EPILOG)(batch)


def batch(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="A folder of pictures, a .csv or .jsonl, or WebDataset .tar shards.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write, or to go on with.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORDS]...", help="What to change, or what the results show; rows may have their own."),
    ] = None,
    method: Annotated[str, typer.Option("--method", help="As for showtell edit; rows may have their own.")] = "ip2p",
    learned: Annotated[
        list[Path] | None, typer.Option("--learned", help="A file of showtell learn, called <name> in the words.")
    ] = None,
    before: Annotated[Path | None, typer.Option("--before", help="For method grid: a picture before the edit.")] = None,
    after: Annotated[Path | None, typer.Option("--after", help="For method grid: the same picture after it.")] = None,
    source_words: Annotated[
        str | None, typer.Option("--source", help="What the pictures show, for methods that describe the result.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="A hub id, a folder or a file; by default a method's starter.")
    ] = None,
    base_model: Annotated[
        str | None, typer.Option("--base-model", help="For rows whose method takes a text-to-image model.")
    ] = None,
    negative: Annotated[str | None, typer.Option("--negative", help="What the results should not be.")] = None,
    steps: options.Steps = None,
    guidance_scale: options.GuidanceScale = None,
    image_guidance_scale: options.ImageGuidanceScale = None,
    scheduler: options.Scheduler = None,
    also: parts.Set = None,
    fit: options.Fit = "fit",
    sequential: Annotated[bool, typer.Option("--sequential", help="Less memory, more time.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="With a row's name it makes its seed.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Pictures edited together.")] = 8,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first rows.")] = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave files alone that something else wrote.")
    ] = False,
    ray: options.Ray = None,
    actors: options.Actors = 1,
    gpus: options.Gpus = 0.0,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    offload: options.Offload = "none",
    vae_tiling: options.VaeTiling = False,
    attention_slicing: options.AttentionSlicing = False,
    gradient_checkpointing: options.GradientCheckpointing = False,
    compile_: options.Compile = False,
    as_json: options.Json = False,
    force: Annotated[
        bool, typer.Option("--force", help="Make everything again, and replace what is in the way.")
    ] = False,
) -> None:
    """Edit a folder, a manifest or WebDataset shards of pictures into a folder of the same kind.

    The same command goes on where a run was stopped; what is there is not made again. A row's seed comes of its name and
    --seed, so that order, sharding and retries change nothing. A manifest has a row's image, and may have its id, instruction (or
    target), method, source, learned, negative, mask, seed and set (hyper-parameters). A row that fails is told, in results.jsonl
    too, and the rest goes on; the exit code is then 1.
    """
    from showtell import batching, methods

    value = methods.resolve(method)
    settings: dict[str, Any] = {
        "num_inference_steps": steps, "guidance_scale": guidance_scale, "image_guidance_scale": image_guidance_scale,
        "scheduler": scheduler, **parts.settings(also or []),
    }  # fmt: skip
    options.check_text(negative or "")
    describing.check({method: value} if source_words else {}, source=source_words, held=None, tokens=[])
    asked.pairs([value], before, after)
    told = [*(words or [])]
    notes: list[str] = []
    if told or learned:
        request = asked.read(told, learned or [], None, methods=[value])
        said, notes = request.instruction, request.notes
        told = [said] if isinstance(said, str) else said or []
    with console.progress("editing", as_json=as_json) as tick:
        done = batching.run(
            source, told, out=out, method=method, model=model, base_model=base_model, learned=learned or (), seed=seed,
            settings={name: one for name, one in settings.items() if one is not None},
            source_caption=source_words, negative=negative, pair=None if before is None else (str(before), str(after)),
            fit=fit, sequential=sequential, device=device, dtype=dtype, offload=offload, vae_tiling=vae_tiling,
            attention_slicing=attention_slicing, gradient_checkpointing=gradient_checkpointing, compiled=compile_,
            batch_size=batch_size, limit=limit, skip_existing=skip_existing, force=force, ray=ray, actors=actors, gpus=gpus,
            tick=tick,
        )  # fmt: skip
    result = {
        "written": str(out), "made": done.made, "before": done.before, "skipped": done.skipped,
        "failed": [{"row": row, "what": what} for row, what in done.failed], "results": str(done.results),
    }  # fmt: skip
    console.finish(result, _text(result), as_json=as_json, notes=[*notes, *_failures(done.failed)])
    if done.failed:
        raise typer.Exit(1)


def _text(result: dict[str, Any]) -> str:
    skipped = f", {result['skipped']} left alone" if result["skipped"] else ""
    told = f"{result['made']} made, {result['before']} from before{skipped}, {len(result['failed'])} failed"
    return f"{result['written']}: {told}; every row is in {result['results']}"


def _failures(failed: tuple[tuple[str, str], ...]) -> list[str]:
    told = [f"{row}: {what}" for row, what in failed[:SHOWN]]
    more = len(failed) - SHOWN
    return [*told, *([f"and {more} more that failed"] if more > 0 else [])]
