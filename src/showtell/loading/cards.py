"""Model cards, and where the starters lie."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import ModelError

STARTERS = ("starter", "starter-base", "starter-clip", "starter-fast")
#: The model card that ``export`` writes beside the weights, and that loading a folder reads.
CARD = "showtell_card.json"
#: Low-rank adapters, as ``load_lora_weights`` of stock pipelines finds them.
ADAPTERS = "pytorch_lora_weights.safetensors"


def starters_dir() -> Path:
    """The folder of the starter models: ``$SHOWTELL_STARTERS``, else the package's own."""
    override = os.environ.get("SHOWTELL_STARTERS")
    return Path(override) if override else Path(__file__).parents[1] / "starters"


def starter_card(name: str) -> dict[str, Any]:
    """The model card of a starter.

    In a folder of the user's own, a missing card counts as an empty one. Raises ``ModelError`` if the name is not a
    starter's, or the card is missing or broken.
    """
    if name not in STARTERS:
        raise ModelError(f"{name!r} is not a starter model: choose one of {', '.join(STARTERS)}")
    root = starters_dir()
    path = root / "cards" / f"{name}.json"
    if os.environ.get("SHOWTELL_STARTERS") and os.path.isdir(root) and not os.path.isfile(path):
        return {"name": name, "defaults": {}}  # a training that has not measured anything yet
    return read_card(path, required=True)


def card_of(name_or_path: str | os.PathLike[str]) -> dict[str, Any]:
    """The model card of a starter or a folder, without loading the model; {} where it has none, as a file and a hub id do.

    Raises ``ModelError`` for one that is broken.
    """
    name = os.fspath(name_or_path)
    if name in STARTERS:
        return starter_card(name)
    return read_card(Path(name) / CARD) if os.path.isdir(name) else {}


def read_card(path: Path, *, required: bool = False) -> dict[str, Any]:
    """The card of a file; {} where there is none. Raises ``ModelError`` for one that is broken, or ``required`` and missing."""
    if not os.path.isfile(path) and not required:
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: the model card cannot be read ({error})") from error
    defaults = card.get("defaults", {}) if isinstance(card, dict) else None
    if not isinstance(defaults, dict) or not all(isinstance(tuned, dict) for tuned in defaults.values()):
        raise ModelError(f"{path}: is not a model card (its defaults must be a table for each method)")
    return card
