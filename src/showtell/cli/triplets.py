"""`showtell dataset triplets`: captions, instructions and edited captions, the first stage of the data engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from showtell.cli import console, options
from showtell.errors import ShowtellError, UsageError

if TYPE_CHECKING:
    from showtell.engine.triplets import Made

EPILOG = "Example: showtell dataset triplets --from scenes --count 20 -o triplets.jsonl"
SHOWN = 20
"""Failed rows that are listed one by one on a terminal; ``--json`` has them all."""
ACTIONS = "recolour, replace, remove, add, resize, move, background, style"
_ASKED = (
    "model", "captions", "column", "limit", "per_caption", "temperature", "max_tokens", "attempts", "block_words",
    "tokenizer", "moderate", "moderate_with", "endpoint", "key_env", "retries", "timeout", "concurrency",
    "requests_per_minute", "resume",
)  # fmt: skip
OWN = {
    "scenes": ("count", "first", "split", "edits", "action", "places"),
    "endpoint": (*_ASKED, "send", "price_in", "price_out", "max_cost", "yes"),
    "local": (*_ASKED, "top_p", "seed", "device", "dtype", "batch_size", "ray", "actors", "gpus"),
}
"""Options that some of the sources have; the others belong to all."""


def register(group: typer.Typer) -> None:
    group.command("triplets", epilog=EPILOG)(triplets)


def triplets(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file of JSON lines to write, .jsonl.")],
    source: Annotated[
        Literal["scenes", "endpoint", "local"],
        typer.Option("--from", help="Drawn scenes, a model behind an endpoint, or a language model of your own."),
    ],
    count: Annotated[int, typer.Option("--count", min=1, max=10_000_000, help="scenes: how many.")] = 100,
    first: Annotated[int, typer.Option("--first", min=0, max=2**62, help="scenes: the first seed.")] = 0,
    split: Annotated[
        Literal["train", "heldout"],
        typer.Option("--split", help="scenes: part of the world; heldout is for measuring."),
    ] = "train",
    edits: Annotated[int, typer.Option("--edits", min=1, max=4, help="scenes: edits in each.")] = 1,
    action: Annotated[
        list[str] | None, typer.Option("--action", help=f"scenes: only these edits; may be repeated: {ACTIONS}.")
    ] = None,
    places: Annotated[
        Literal["auto", "always", "never"],
        typer.Option("--places", help="scenes: say where things are; auto: where captions would else be the same."),
    ] = "auto",
    captions: Annotated[
        Path | None, typer.Option("--captions", help="Captions to ask about: lines of text, .jsonl or .csv.")
    ] = None,
    column: Annotated[str | None, typer.Option("--column", help="The captions' column; caption or text.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first captions.")] = None,
    per_caption: Annotated[int, typer.Option("--per-caption", min=1, max=20, help="Edits of each caption.")] = 1,
    model: Annotated[
        str | None, typer.Option("--model", help="endpoint: the model's name there. local: a folder or a hub id.")
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", help="Base address of an OpenAI-compatible endpoint; else $OPENAI_BASE_URL."),
    ] = None,
    key_env: Annotated[
        str, typer.Option("--key-env", help="The environment variable that holds the key; it may be unset.")
    ] = "OPENAI_API_KEY",
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, max=10, help="How freely words are drawn.")
    ] = 0.7,
    top_p: Annotated[float, typer.Option("--top-p", min=0.01, max=1, help="local: draw from this share.")] = 0.95,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", min=1, help="Tokens of an answer at most; by default 200 for each edit."),
    ] = None,
    send: Annotated[
        list[str] | None,
        typer.Option("--send", metavar="NAME=VALUE", help="endpoint: sent with each question; NAME= leaves it out."),
    ] = None,
    attempts: Annotated[int, typer.Option("--attempts", min=1, max=10, help="Questions about a caption at most.")] = 3,
    retries: Annotated[int, typer.Option("--retries", min=0, max=20, help="Repetitions when it is busy.")] = 5,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait for an answer.")] = 120.0,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=256, help="Questions at a time.")] = 4,
    requests_per_minute: Annotated[
        float | None, typer.Option("--requests-per-minute", min=0.01, help="At most so many, evenly spaced.")
    ] = None,
    price_in: Annotated[float | None, typer.Option("--price-in", min=0, help="Price of a million tokens read.")] = None,
    price_out: Annotated[
        float | None, typer.Option("--price-out", min=0, help="Price of a million tokens written.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", min=0, help="Ask before starting if it may cost more, and stop there.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Start, and go on, whatever --max-cost says.")] = False,
    moderate: Annotated[
        Literal["endpoint"] | None, typer.Option("--moderate", help="Drop what the endpoint's moderation flags.")
    ] = None,
    moderate_with: Annotated[
        str | None,
        typer.Option("--moderate-with", metavar="MODULE:FUNCTION", help="Drop what a function of yours objects to."),
    ] = None,
    block_words: Annotated[
        Path | None, typer.Option("--block-words", help="Drop what has one of these words or phrases, one a line.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="Count tokens, 77 at most, as this model does; else words, 60.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="local: the seed of all draws.")] = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="local: captions at a time.")] = 8,
    ray: options.Ray = None,
    actors: options.Actors = 1,
    gpus: options.Gpus = 0.0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with OUT: what was answered is not asked again.")
    ] = False,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Write triplets: what a picture shows, an instruction, and what it shows then.

    What changes nothing, is too long or was there before is dropped and counted. Beside OUT lie OUT.recipe.json, what it was
    made with, and OUT.journal.jsonl, all answers as they came: --resume goes on from it after a kill. The exit code is 1 if
    some rows got no answer.
    """
    given = {**locals()}  # every option, by its name
    from showtell.cli import triplets_asked as asked
    from showtell.engine import triplets as engine

    _only_own(context, source)
    engine.check(out, resume=resume, force=force)
    if source == "scenes":
        made = _scenes(out, given, as_json=as_json)
        estimate: dict[str, Any] = {}
    else:
        made, estimate = asked.make(out, source, given, as_json=as_json)
    _report(made, out, estimate, as_json=as_json)


def _only_own(context: typer.Context, source: str) -> None:
    """Raise ``UsageError`` for an option that was given and that this source does not have."""
    for name in context.params:
        owners = [other for other, names in OWN.items() if name in names]
        given = context.get_parameter_source(name)
        if owners and source not in owners and given is not None and given.name == "COMMANDLINE":
            raise UsageError(
                f"--{name.replace('_', '-')} is an option of --from {' and '.join(owners)}, not of --from {source}"
            )


def _scenes(out: Path, given: Mapping[str, Any], *, as_json: bool) -> Made:
    from showtell.engine import triplets as engine
    from showtell.engine import triplets_scenes as drawn
    from showtell.engine.triplets_checks import Checks

    settings = {key: given[key] for key in ("split", "edits", "places")}
    actions = tuple(given["action"] or ())
    with console.progress("drawing", as_json=as_json) as tick:
        found = drawn.draw(given["count"], first=given["first"], actions=actions, told=tick, **settings)
    told = {"from": "scenes", "count": given["count"], "actions": actions, **settings}
    recipe = {"settings": told, "seed": given["first"], "source": None, "model": None}
    return engine.finish(out, found, Checks(), recipe=recipe)


def _report(made: Made, out: Path, estimate: Mapping[str, Any], *, as_json: bool) -> None:
    """Say what a run came to, and exit with 1 if some rows failed."""
    dropped = ", ".join(f"{count} {why}" for why, count in made.dropped.items())
    if not made.triplets:
        raise ShowtellError(f"{out}: not written, since there is no triplet ({_why_none(made, dropped)})")
    lines = [f"{out}: {len(made.triplets)} triplets" + (f" (dropped: {dropped})" if dropped else "")]
    if made.usage:
        rough = "roughly " if made.usage.get("rough") else ""
        cost = f", a cost of {made.cost:.4f}" if made.cost is not None else ""
        lines.append(f"{rough}{made.usage['read']} tokens read and {made.usage['written']} written{cost}")
    if made.failed:
        lines.append(f"{len(made.failed)} failed; --resume asks about them again")
    lines += [console.one_line(f"{label}: {what}") for label, what in made.failed[:SHOWN]]
    if (rest := len(made.failed) - SHOWN) > 0:
        lines.append(f"... and {rest} more (--json lists all)")
    result = {"written": str(out), **({"estimate": dict(estimate)} if estimate else {}), **made.told()}
    console.finish(result, "\n".join(lines), as_json=as_json)
    if made.failed:
        raise typer.Exit(1)


def _why_none(made: Made, dropped: str) -> str:
    if made.failed:
        return f"{len(made.failed)} failed, the first: {made.failed[0][1]}"
    return f"dropped: {dropped}" if dropped else "nothing was asked"
