"""Model cards of the starters: measured, written as JSON for the program and as text for people."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell import scenes
from showtell.bench import editing, starter

if TYPE_CHECKING:
    from showtell.bench.starter import Say
    from showtell.editor import Editor

COMMAND = "showtell bench starter"
NOTE = (
    "Trained by showtell from nothing on pictures that it draws itself; it knows that small world and no other. Its "
    "cross-attention maps were taught with a grounding loss; real models are not trained so. Its figures are about "
    "this world and are not comparable with those of the papers."
)


def measure(editor: Editor, *, count: int = 500, say: Say = lambda line: None) -> dict[str, Any]:
    """The held-out figures of the starters that `editor` was loaded from: `count` single edits, and shares of it."""
    from transformers import CLIPModel

    from showtell import loading

    cases = editing.heldout(count)
    figures: dict[str, Any] = {"autoencoder": starter.autoencoder(editor.pipe, cases)}
    say(f"autoencoder: {figures['autoencoder']['psnr']} dB")
    clip = CLIPModel.from_pretrained(loading.starters_dir() / "clip", dtype="float32").eval()
    figures["clip"] = starter.matching(clip, editor.pipe.tokenizer, editing.heldout(max(count, starter.AMONG)))
    say(f"caption among {starter.AMONG}: {figures['clip']['accuracy']}")
    figures["grounding"] = starter.grounding_figures(editor, count=count, say=say)
    figures["editing"] = starter.instruct_figures(editor, count=count, say=say)
    figures["world"] = {"shares": dict(scenes.SHARES), "split": "heldout", "first_seed": 0}
    figures["machine"] = {
        "system": platform.system(),
        "processor": platform.machine(),
        "python": platform.python_version(),
    }
    return figures


def cards(*, defaults: dict[str, Any], figures: dict[str, Any], training: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The three cards, by name."""
    grounded = figures["grounding"]
    shared = {"note": NOTE, "training": training, "command": COMMAND, "license": "Apache-2.0"}
    return {
        "starter": {
            "name": "starter",
            "kind": "instruct",
            **shared,
            "defaults": {"ip2p": defaults, "foi": {**defaults, "gamma": grounded["gamma"], "tau": grounded["tau"]}},
            "figures": {k: figures[k] for k in ("editing", "grounding", "autoencoder", "world", "machine")},
        },
        "starter-base": {
            "name": "starter-base",
            "kind": "base",
            **shared,
            "defaults": {},
            "figures": {k: figures[k] for k in ("autoencoder", "world", "machine")},
        },
        "starter-clip": {
            "name": "starter-clip",
            "kind": "clip",
            **shared,
            "defaults": {},
            "figures": {k: figures[k] for k in ("clip", "world", "machine")},
        },
    }


def write(folder: Path, made: dict[str, dict[str, Any]]) -> None:
    """Write `NAME.json` and `NAME.md` of every card into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, card in made.items():
        (folder / f"{name}.json").write_text(json.dumps(card, indent=1) + "\n")
        (folder / f"{name}.md").write_text(as_text(card))


def as_text(card: dict[str, Any]) -> str:
    """A card for people."""
    lines = [f"# {card['name']}", "", card["note"], "", "## Training", ""]
    lines += [f"- {key}: {value}" for key, value in card["training"].items()]
    lines += ["", "## Held-out figures", "", f"Made by `{card['command']}`.", "", "| figure | value |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in _flat(card["figures"])]
    if card["defaults"]:
        lines += ["", "## Tuned settings (on training seeds)", ""]
        lines += [f"- {method}: {values}" for method, values in card["defaults"].items()]
    return "\n".join([*lines, "", f"License: {card['license']}", ""])


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in tree.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        rows += _flat(value, f"{name}, ") if isinstance(value, dict) else [(name, value)]
    return rows
