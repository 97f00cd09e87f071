"""The questions of `showtell dataset triplets`: from options to a job, with what it may cost said before it starts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from showtell.cli import console, options
from showtell.errors import UsageError

if TYPE_CHECKING:
    from showtell.data.asking import Endpoint
    from showtell.engine.triplets import Made
    from showtell.engine.triplets_asked import Start
    from showtell.engine.triplets_checks import Checks
    from showtell.engine.triplets_endpoint import Prices
    from showtell.engine.triplets_making import Job

BASE_URL = "OPENAI_BASE_URL"


def make(out: Path, source: str, given: Mapping[str, Any], *, as_json: bool) -> tuple[Made, dict[str, Any]]:
    """Ask about captions. What is made, and what it was thought to cost."""
    from showtell.engine import triplets_making as making

    for name in ("model", "captions"):
        if given[name] is None:
            raise UsageError(f"--from {source} needs --{name}")
    options.check_text(given["model"])
    asked = _endpoint(given, needed=source == "endpoint" or given["moderate"] is not None)
    tokens = given["max_tokens"] or 200 * given["per_caption"]
    own = {"temperature": given["temperature"], "max_tokens": tokens}
    if source == "local":
        own |= {key: given[key] for key in ("top_p", "seed", "attempts")}
    own = {key: value for key, value in {**own, **_sent(given["send"] or ())}.items() if value != ""}
    job = _job(out, source, given, own, asked)
    bars = partial(_bar, as_json=as_json)
    settings = {"from": source, "model": given["model"], **own}
    if source == "local":
        from showtell.engine.triplets_local import Drawing

        keys = ("device", "dtype", "attempts", "batch_size", "ray", "actors", "gpus")
        drawing = Drawing(seed=given["seed"], temperature=given["temperature"], top_p=given["top_p"], max_tokens=tokens)
        begun = making.start_of(job, settings, resume=given["resume"])
        return making.from_local(job, given["model"], drawing, begun, bars, **{key: given[key] for key in keys}), {}
    assert asked is not None
    return _from_endpoint(job, asked, own, settings, given, as_json=as_json)


def _from_endpoint(
    job: Job,
    asked: Endpoint,
    own: Mapping[str, Any],
    settings: Mapping[str, Any],
    given: Mapping[str, Any],
    *,
    as_json: bool,
) -> tuple[Made, dict[str, Any]]:
    from dataclasses import replace

    from showtell.engine import triplets_making as making
    from showtell.engine.triplets_endpoint import Asker, Prices

    priced = given["price_in"] is not None or given["price_out"] is not None
    prices = Prices(read=given["price_in"] or 0.0, written=given["price_out"] or 0.0) if priced else None
    if given["max_cost"] is not None and prices is None:
        raise UsageError("--max-cost needs prices: give --price-in and --price-out, per million tokens")
    begun = making.start_of(job, settings, resume=given["resume"])
    estimate = _estimate(job, begun, prices, given, as_json=as_json)
    asker = Asker(endpoint=replace(asked, options=own), count=job.count, attempts=given["attempts"])
    most = None if given["yes"] else given["max_cost"]
    bars = partial(_bar, as_json=as_json)
    return making.from_endpoint(job, asker, begun, bars, prices=prices, most=most), estimate


def _sent(texts: Sequence[str]) -> dict[str, Any]:
    """What goes with each question beside the conversation; "" for what is to be left out. Raises ``UsageError``."""
    from showtell.data.options import parse

    found: dict[str, Any] = {}
    for text in texts:
        options.check_text(text)
        for name, value in parse([text]).items():
            if name in ("model", "messages", "stream"):
                raise UsageError(f"--send {text!r}: {name} cannot be set")
            try:
                found[name] = json.loads(value) if value else ""
            except (ValueError, RecursionError):
                found[name] = value
    return found


def _bar(title: str, *, as_json: bool) -> AbstractContextManager[console.Tick]:
    return console.progress(title, as_json=as_json)


def _endpoint(given: Mapping[str, Any], *, needed: bool) -> Endpoint | None:
    """The endpoint, if this job asks one. Raises ``UsageError`` where none is named."""
    from showtell.data.asking import Endpoint, Pace, at_once

    if not needed:
        return None
    url = given["endpoint"] or os.environ.get(BASE_URL, "")
    if not url:
        raise UsageError(f"no endpoint is named: give --endpoint, such as http://localhost:8000/v1, or set ${BASE_URL}")
    options.check_text(url)
    rate = given["requests_per_minute"]
    return Endpoint(
        url=url, model=given["model"], key=os.environ.get(given["key_env"], ""), timeout=given["timeout"],
        retries=given["retries"], pace=Pace(rate) if rate else at_once,
    )  # fmt: skip


def _job(out: Path, source: str, given: Mapping[str, Any], own: Mapping[str, Any], asked: Endpoint | None) -> Job:
    """The captions, and what the answers must hold to."""
    from showtell.engine import triplets_captions
    from showtell.engine.triplets_judging import Judges
    from showtell.engine.triplets_judging import own as function
    from showtell.engine.triplets_making import Job
    from showtell.work.shards import sha256

    checks, named = _checks(given), given["moderate_with"]
    judges = Judges(
        endpoint=asked if given["moderate"] else None, own=function(named) if named else None, name=named or ""
    )
    items, dropped = triplets_captions.read(given["captions"], checks, column=given["column"], limit=given["limit"])
    told = {
        "from": source, "per_caption": given["per_caption"], "attempts": given["attempts"], "limit": given["limit"], **own,
        "moderation": judges.by, "tokenizer": given["tokenizer"], "blocked_words": len(checks.blocked),
    }  # fmt: skip
    recipe = {
        "settings": told,
        "seed": own.get("seed"),
        "source": {"path": given["captions"].name, "sha256": sha256(given["captions"])},
        "model": {"id": given["model"], "endpoint": asked.url if asked and source == "endpoint" else None},
    }
    return Job(
        out=out, items=items, dropped=dropped, checks=checks, judges=judges, recipe=recipe,
        count=given["per_caption"], concurrency=given["concurrency"],
    )  # fmt: skip


def _checks(given: Mapping[str, Any]) -> Checks:
    from showtell.data.reading import read_text
    from showtell.engine import triplets_checks as checks

    listed = given["block_words"]
    return checks.Checks(
        tokens=checks.tokenizer(given["tokenizer"]) if given["tokenizer"] else None,
        blocked=checks.words_of(read_text(listed), str(listed)) if listed else (),
    )


def _estimate(
    job: Job, begun: Start, prices: Prices | None, given: Mapping[str, Any], *, as_json: bool
) -> dict[str, Any]:
    """What is left may take, said before anything is asked. Raises ``UsageError`` where it may cost more than ``--max-cost`` and
    nobody has said yes.
    """
    from showtell.engine.triplets_endpoint import estimate, usage_of

    pending = begun.pending(job.items)
    rough = estimate(pending, job.count)
    told: dict[str, Any] = {"questions": len(pending), "tokens_read": rough.read, "tokens_written": rough.written}
    said = f"{len(pending)} questions, roughly {rough.read} tokens to read and {rough.written} to write"
    if prices is not None:
        spent = 0.0 if begun.fresh else prices.of(usage_of(begun.journal.records()))
        told["cost"] = spent + prices.of(rough)
        said += f": a cost of roughly {told['cost']:.4f}" + (f", {spent:.4f} of it spent" if spent else "")
    most = given["max_cost"]
    if most is not None and told["cost"] > most and not given["yes"]:
        if as_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(f"{said}, which is over --max-cost {most:g}: say --yes, or give a higher one")
        typer.echo(f"note: {said}", err=True)
        if not typer.confirm(f"That is over --max-cost {most:g}. Start, and stop there?", err=True):
            raise UsageError("nothing was asked")
    elif pending and not as_json:
        typer.echo(f"note: {said}", err=True)
    return told
