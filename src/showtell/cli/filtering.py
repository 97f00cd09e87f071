"""`showtell dataset filter`: of imagined candidates, those that show the edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from showtell.cli import console, options
from showtell.errors import UsageError

EPILOG = "Example: showtell dataset filter candidates -o kept"
SHOWN = 20


def sieve(
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="CANDIDATES...", help="Folders that `dataset pictures` wrote.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder to write, or to go on with.")] = None,
    clip: Annotated[
        str | None, typer.Option("--clip", help="The CLIP that scores: starter-clip, a folder or a hub id.")
    ] = None,
    min_image: options.MinImage = None,
    min_direction: options.MinDirection = None,
    min_caption: options.MinCaption = None,
    keep: Annotated[int | None, typer.Option("--keep", help="The most of a caption pair, by direction.")] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="The paper's thresholds (0.75 for --min-image) where none is given.")
    ] = False,
    scores: Annotated[
        Path | None, typer.Option("--scores", metavar="FOLDER", help="An earlier OUT, whose scores are taken.")
    ] = None,
    layout: Annotated[
        Literal["webdataset", "datasets"], typer.Option("--format", help="Tar shards, or Hugging Face's parquet.")
    ] = "webdataset",
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="Pairs in a shard.")] = 1000,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Candidates that are scored together.")] = 32,
    calibrate: Annotated[
        int | None,
        typer.Option("--calibrate", metavar="N", help="Only score N true pairs of the renderer, and tell thresholds."),
    ] = None,
    device: options.Device = "auto",
    ray: options.Ray = None,
    actors: options.Actors = 1,
    gpus: options.Gpus = 0.0,
    as_json: options.Json = False,
) -> None:
    """Score candidates with a CLIP, drop those that fail a threshold, and keep the best of each caption pair.

    Thresholds that are left out take the CLIP's card's value, else those of InstructPix2Pix's published code: 0.7 between the
    pictures, 0.2 for the direction and for each caption; 4 of a pair. OUT gets shards of what is kept, scores.jsonl with every
    candidate's, and report.html to look through. The same command goes on where it was stopped. The exit code is 1 if some
    candidates could not be scored, or nothing is kept.
    """
    if calibrate is not None:
        if inputs or out is not None:
            raise UsageError("--calibrate scores drawn pairs: give no CANDIDATES and no --out with it")
        _calibrate(calibrate, clip or "starter-clip", device, as_json=as_json)
        return
    if not inputs:
        raise UsageError("CANDIDATES are missing: give the folders that `showtell dataset pictures` wrote")
    if out is None:
        raise UsageError("--out is missing: name the folder for what is kept")
    from showtell.engine import filter as sieving
    from showtell.engine import filter_figures
    from showtell.engine.filter_choose import Bounds

    bounds = Bounds(image=min_image, direction=min_direction, caption=min_caption, keep=keep)
    with console.progress("scoring", as_json=as_json) as tick:
        found = sieving.sift(
            inputs, out, clip=clip, bounds=bounds, paper=paper, scores=scores, layout=layout, shard_size=shard_size,
            batch_size=batch_size, device=device, ray=ray, actors=actors, gpus=gpus,
            told=lambda done, total, what: tick(done, total, title=what),
        )  # fmt: skip
    figures = filter_figures.figures(found)
    console.finish({"written": str(out), **figures}, _told(out, figures), as_json=as_json)
    if figures["failed"] or not figures["kept"]:
        raise typer.Exit(1)


def _told(out: Path, figures: dict[str, Any]) -> str:
    lines = [
        f"{out}: {figures['kept']} of {figures['candidates']} candidates kept, for {figures['pairs_with_one']} of "
        f"{figures['pairs']} caption pairs ({out / 'report.html'})",
        "",
    ]
    rows = [
        [test, f"{one['least']:g}", figures["origin"]["caption" if test in ("before", "after") else test],
         str(one["fails"]), str(one["alone"])]
        for test, one in figures["tests"].items()
    ]  # fmt: skip
    lines.append(console.table(["test", "at least", "from", "fail it", "it alone"], rows))
    lines += ["", f"{figures['passed']} pass all tests, {figures['outranked']} of them are outranked in their pair"]
    if figures["unchanged"]:
        lines.append(f"{figures['unchanged']} have no direction: their pictures or their captions are the same")
    if figures["failed"]:
        lines.append(f"{figures['failed']} failed:")
        lines += [console.one_line(f"{one['id']}: {one['what']}") for one in figures["failures"][:SHOWN]]
        if (rest := figures["failed"] - SHOWN) > 0:
            lines.append(f"... and {rest} more ({out / 'report.json'} lists them)")
    return "\n".join(lines)


def _calibrate(count: int, clip: str, device: str, *, as_json: bool) -> None:
    from showtell.engine import filter_calibrate

    with console.progress("drawing", as_json=as_json) as tick:
        found = filter_calibrate.calibrate(
            count, clip=clip, device=device, told=lambda done, total, what: tick(done, total, title=what)
        )
    heads = [f"{p} %" for p in next(iter(found["percentiles"].values()))]
    rows = [[test, *(f"{value:.3f}" for value in own.values())] for test, own in found["percentiles"].items()]
    kinds = [
        [kind, str(own["pairs"]), *(f"{own[test]:.3f}" if test in own else "–" for test in found["percentiles"])]
        for kind, own in found["kinds"].items()
    ]
    least = found["thresholds"]
    lines = [
        f"{found['clip']['id']} on {count} true pairs of the renderer",
        console.table(["score", *heads], rows),
        "",
        console.table(["kind, 5 %", "pairs", *found["percentiles"]], kinds),
        "",
        f"at the 5th percentile: --min-image {least['image']} --min-direction {least['direction']} "
        f"--min-caption {least['caption']}",
        f"pass all of these: {found['pass']['true']:.1%} of true pairs, {found['pass']['wrong']:.1%} of wrong ones; of true "
        f"ones {found['pass']['true at the published thresholds']:.1%} pass the published thresholds",
    ]
    if found["unchanged"]:
        lines.append(f"{found['unchanged']} have no direction: their captions are the same")
    console.finish(found, "\n".join(lines), as_json=as_json)
