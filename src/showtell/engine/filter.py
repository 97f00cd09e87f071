"""Sifting candidates into training pairs: scores by a CLIP, four thresholds, and the best of each caption pair.

InstructPix2Pix, section 3.1.2. Two passes: every candidate is scored once, into a journal; then what is kept is written as
shards with its scores, with a table of all scores, figures, and a page to look through.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from .. import __version__, files, loading
from ..data import pairs
from ..data.reading import read_json
from ..errors import FileFormatError, UsageError
from ..metrics import clip as on_features
from ..work import Done, Item, ShardStore, Tick, Worker, alone, run
from . import filter_candidates, filter_figures, filter_page, filter_scores
from .filter_candidates import Candidate, Candidates
from .filter_choose import Bounds, Scores, Verdict, choose
from .filter_figures import Sifted

LARGE = "openai/clip-vit-large-patch14"
"""The CLIP of InstructPix2Pix's own scores."""
SCORES, SELECTION = "scores", "selection.json"
_OURS = ("data", "records", "parts")
Told = Callable[[int, int, str], None]


def sift(
    inputs: Sequence[Path],
    out: Path,
    *,
    clip: str | None = None,
    bounds: Bounds | None = None,
    paper: bool = False,
    scores: Path | None = None,
    layout: str = "webdataset",
    shard_size: int = 1000,
    batch_size: int = 32,
    device: str = "auto",
    ray: str | None = None,
    actors: int = 1,
    gpus: float = 0.0,
    told: Told = lambda done, total, what: None,
    cancel: Callable[[], bool] | None = None,
) -> Sifted:
    """Score the candidates of the folders ``inputs``, and write the pairs that are kept into the folder ``out``, or go on there.

    ``clip``: a CLIP that ``metrics.load_clip`` loads; by default the starters' own for what a starter imagined, else OpenAI's
    ViT-L/14. ``bounds`` that are None take the CLIP's card's value, else that of the published code, or with ``paper`` of the
    paper. ``scores``: a folder that this wrote from the same candidates with the same CLIP, whose scores are taken; candidates
    that carry scores by this CLIP are not scored again either. ``layout`` and ``shard_size`` (pairs): of the shards. ``ray`` and
    what follows: see :func:`showtell.work.run`.

    Raises ``UsageError``, ``ModelError``, ``MethodError``, ``FileFormatError``, ``OutputError``, ``Cancelled``.
    """
    found = filter_candidates.read(inputs)
    name = clip or default_clip(found)
    judge = on_features.Clip.load(name, device="cpu" if ray else device)
    settled, origin = (bounds or Bounds()).settled(thresholds(name), paper=paper)
    recipe = _recipe(found, judge, settled, origin, shard_size)
    _check_judged(found, recipe)
    known = {**_carried(found, recipe), **(_taken(scores, recipe) if scores is not None else {})}
    with alone(files.make_folder(out)):
        store = ShardStore.begin(out, recipe, layout=layout)
        journal = filter_scores.Journal.begin((out / SCORES).absolute())  # a worker on Ray may stand elsewhere
        report = run(
            [filter_scores.item(row) for row in found.rows if row.name not in known and row.before is not None],
            partial(filter_scores.worker, loading.anywhere(name), device, None if ray else judge),
            journal, batch_size=batch_size, ray=ray, actors=actors, gpus=gpus, cancel=cancel,
            tick=lambda done, total: told(done, total, "scoring"),
        )  # fmt: skip
        every = {**journal.read(), **known}
        scored = {row.name: every[row.name] for row in found.rows if row.name in every}
        sifted = Sifted(
            candidates=found,
            scores=scored,
            verdicts=choose(
                ((row.name, row.pair, scored[row.name]) for row in found.rows if row.name in scored), settled
            ),
            bounds=settled,
            recipe=recipe,
            failed=tuple(sorted({**dict(found.failed), **dict(report.failed), **_unjudged(found, scored)}.items())),
        )
        _write(store, sifted, tick=lambda done, total: told(done, total, "writing"), cancel=cancel)
        _tell(out, sifted)
        return sifted


def _recipe(
    found: Candidates, clip: on_features.Clip, bounds: Bounds, origin: Mapping[str, str], shard_size: int
) -> dict[str, Any]:
    return {
        "command": "dataset filter",
        "settings": {**asdict(bounds), "shard_size": shard_size},
        "origin": dict(origin),
        "clip": filter_scores.identity(clip),
        "sources": list(found.sources),
        "versions": {"showtell": __version__},
    }


def default_clip(found: Candidates) -> str:
    """The starters' CLIP for what the starters imagined, the same again for what was sifted before, else OpenAI's ViT-L/14."""
    clips = set()
    for source in found.sources:
        clip, model = (source["recipe"].get(key) or {} for key in ("clip", "model"))
        clips.add(clip.get("id") or (loading.STARTERS[2] if model.get("id") in loading.STARTERS else LARGE))
    return clips.pop() if len(clips) == 1 else LARGE


def thresholds(clip: str) -> Mapping[str, Any]:
    """What a CLIP's card says of thresholds, nothing where it has none."""
    return loading.card_of(clip).get("defaults", {}).get("filter", {})


def _carried(found: Candidates, recipe: Mapping[str, Any]) -> dict[str, Scores]:
    """The scores that candidates carry, where the same CLIP made them."""
    carried = {}
    for row in found.rows:
        scores = Scores.read(row.record.get("scores")) if row.record.get("scored_by") == recipe["clip"] else None
        if scores is not None:
            carried[row.name] = scores
    return carried


def _check_judged(found: Candidates, recipe: Mapping[str, Any]) -> None:
    """Raise ``UsageError`` for thresholds below those by which candidates were judged when they were made: what failed there has
    no pictures any more.
    """
    for source in found.sources:
        judged = source["recipe"].get("filter") or {}
        if judged.get("clip") != recipe["clip"]:
            continue
        for name in ("image", "direction", "caption"):
            if recipe["settings"][name] < judged[name]:
                raise UsageError(
                    f"--min-{name} {recipe['settings'][name]:g} is below {judged[name]:g}, by which these candidates were judged "
                    f"when they were made, without keeping the others: give --min-{name} {judged[name]:g} or more"
                )


def _unjudged(found: Candidates, scored: Mapping[str, Scores]) -> dict[str, str]:
    """Candidates that another CLIP judged when they were made."""
    what = "was judged by another CLIP when it was made, and has no pictures: give that CLIP"
    return {row.name: what for row in found.rows if row.before is None and row.name not in scored}


def _taken(folder: Path, recipe: Mapping[str, Any]) -> dict[str, Scores]:
    """The scores of another run over candidates of the same recipes. Raises ``FileFormatError``."""
    other = read_json(folder / pairs.RECIPE, dict, "a recipe")
    if other.get("clip") != recipe["clip"]:
        raise FileFormatError(f"{folder}: its scores are of another CLIP: leave out --scores, or name that CLIP")
    told = [[source.get("recipe") for source in one.get("sources") or []] for one in (other, recipe)]
    if told[0] != told[1]:
        raise FileFormatError(f"{folder}: its scores are of other candidates: leave out --scores")
    return filter_scores.Journal(folder=folder / SCORES).read()


def _write(store: ShardStore, sifted: Sifted, *, tick: Tick, cancel: Callable[[], bool] | None) -> None:
    """Pack the pairs that are kept, or go on with that. Another selection than the one begun (a candidate failed then and is
    scored now) begins anew.
    """
    kept = [row for row in sifted.judged if sifted.verdicts[row.name].kept]
    size, clip = sifted.recipe["settings"]["shard_size"], dict(sifted.recipe["clip"])
    items = [
        Item(
            id=row.name,
            shard=place // size,
            told={
                "record": {
                    **_plain(row),
                    "pair": row.pair,
                    "scores": sifted.scores[row.name].told(),
                    "scored_by": clip,
                },
                **{key: filter_candidates.placed(getattr(row, key)) for key in ("before", "after")},
            },
        )
        for place, row in enumerate(kept)
    ]
    _begin_anew_if_other(store.folder, [item.id for item in items])
    report = run(items, copier, store, batch_size=64, tick=tick, cancel=cancel)
    if report.failed:  # it could be read when it was scored
        name, what = report.failed[0]
        raise UsageError(f"{name}: can no longer be read ({what}): mend the candidates, and give the command again")


def _plain(row: Candidate) -> dict[str, Any]:
    return {key: value for key, value in row.record.items() if key not in ("id", "kept")}


def _begin_anew_if_other(folder: Path, names: Sequence[str]) -> None:
    path, told = folder / SELECTION, json.dumps(names).encode()
    if path.is_file() and path.read_bytes() == told:
        return
    (folder / pairs.MANIFEST).unlink(missing_ok=True)
    for name in _OURS:
        shutil.rmtree(folder / name, ignore_errors=True)
        files.make_folder(folder / name)
    files.write_atomic(path, told, force=True)


def copier() -> Worker:
    """What reads a pair's pictures as they were written."""
    return lambda items: [_copied(item) for item in items]


def _copied(item: Item) -> Done:
    found = {key: filter_candidates.encoded(item.told[key]) for key in ("before", "after")}
    pictures = {f"{key}{ending}": data for key, (ending, data) in found.items()}
    return Done(id=item.id, record=item.told["record"], files=pictures)


def _tell(out: Path, sifted: Sifted) -> None:
    """The table of all scores, the figures and the page."""
    lines = [
        json.dumps(
            {
                "id": row.name,
                "pair": row.pair,
                "scores": _scores(sifted, row),
                **_verdict(sifted.verdicts.get(row.name)),
            }
        )
        for row in sifted.candidates.rows
    ]
    files.write_atomic(out / "scores.jsonl", "".join(f"{line}\n" for line in lines).encode(), force=True)
    figures = filter_figures.figures(sifted)
    text = json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False)
    files.write_atomic(out / "report.json", text.encode("utf-8", "backslashreplace"), force=True)
    files.write_atomic(out / "report.html", filter_page.page(sifted, figures).encode(), force=True)


def _scores(sifted: Sifted, row: Candidate) -> dict[str, float | None] | None:
    found = sifted.scores.get(row.name)
    return found.told() if found is not None else None


def _verdict(verdict: Verdict | None) -> dict[str, Any]:
    return {"verdict": "failed"} if verdict is None else {"verdict": verdict.why, "fails": list(verdict.fails)}
