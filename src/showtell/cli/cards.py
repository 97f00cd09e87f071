"""The last part of a training: tune the defaults on training seeds, measure on held-out ones, write the model cards."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any


def finish(folder: Path, *, preset: str, seed: int, device: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Write ``folder/cards`` for starters that were trained into ``folder``. Returns the figures.

    The starters are loaded from ``folder`` while this runs, through ``SHOWTELL_STARTERS``.
    """
    from showtell import editor, loading
    from showtell.bench import cards, starter
    from showtell.training.settings import preset as settings_of

    settings = settings_of(preset)
    if not (folder / "cards" / f"{loading.STARTERS[0]}.json").is_file():
        _write_bare(folder, loading.STARTERS)
    with _starters_at(folder):
        trained = editor.load("starter", device=device)
        defaults = starter.tune_guidance(trained, count=settings.tune, say=say)
        trained.card = {"defaults": {"ip2p": defaults}}
        figures = cards.measure(trained, count=settings.heldout, say=say)
    training = _training(folder, asdict(settings), preset=preset, seed=seed, device=device)
    cards.write(folder / "cards", cards.cards(defaults=defaults, figures=figures, training=training))
    return figures


def _write_bare(folder: Path, names: tuple[str, ...]) -> None:
    """Cards that let the models be loaded, until there are figures."""
    (folder / "cards").mkdir(exist_ok=True)
    for name in names:
        (folder / "cards" / f"{name}.json").write_text(json.dumps({"name": name, "defaults": {}}) + "\n")


@contextmanager
def _starters_at(folder: Path) -> Iterator[None]:
    before = os.environ.get("SHOWTELL_STARTERS")
    os.environ["SHOWTELL_STARTERS"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SHOWTELL_STARTERS"]
        else:
            os.environ["SHOWTELL_STARTERS"] = before


def _training(folder: Path, settings: dict[str, Any], *, preset: str, seed: int, device: str) -> dict[str, Any]:
    """How the starters were trained, for their cards."""
    told: dict[str, Any] = {
        "command": f"showtell train starter --preset {preset} --seed {seed}",
        "device": device,
        "data": f"{settings['cases']} scenes of the training split",
    }
    for stage in ("clip", "autoencoder", "base", "instruct"):
        fit = settings[stage]
        done = json.loads((folder / "run" / stage / "done.json").read_text())
        told[stage] = f"{fit['steps']} steps of {fit['batch']}, {done['seconds_last_run']} s in the last run"
    return told
