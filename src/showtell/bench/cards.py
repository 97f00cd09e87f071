"""Model cards of the starters: measured, written as JSON for the program and as text for people."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell import files, scenes
from showtell.bench import editing, grounding, starter
from showtell.bench.visii_tune import BASE
from showtell.training import denoiser
from showtell.training.autoencoder import KL_WEIGHT
from showtell.training.settings import Preset, preset

if TYPE_CHECKING:
    from showtell.bench.starter import Say
    from showtell.editor import Editor

COMMAND = "showtell bench starter"
NOTE = (
    "Trained by showtell from nothing on pictures that it draws itself; it knows that small world and no other. Its "
    "cross-attention maps were taught with a grounding loss; real models are not trained so. Its figures are about "
    "this world and are not comparable with those of the papers."
)
WANTED = {
    "success of single edits": (0.6, ("editing", "edits_1", "success")),
    "autoencoder PSNR, dB": (30.0, ("autoencoder", "psnr")),
    "caption found among 32": (0.9, ("clip", "accuracy")),
    "attention inside over outside, one instruction": (10.0, ("grounding", "one", "median_inside_over_outside")),
    "attention inside over outside, joined": (10.0, ("grounding", "joined", "median_inside_over_outside")),
    "maximum inside, one instruction": (0.8, ("grounding", "one", "maximum_inside")),
    "maximum inside, joined": (0.8, ("grounding", "joined", "maximum_inside")),
    "IoU of focus masks, one instruction": (0.5, ("grounding", "one", "iou")),
    "IoU of focus masks, joined": (0.5, ("grounding", "joined", "iou")),
}
"""What was to be reached before shipping a training on a CPU, decided before any was run, and where the figure stands."""


FOCUS: dict[str, Any] = {
    "image_guidance_scale": 1.5,
    "strength": 0.9,
    "gamma": 0,
    "tau": 0.2,
    "disentangle": 0.25,
    "columns": "text",
    "maps": "apart",
    "text": "apart",
}
"""Settings of Focus on Your Instruction, beside the guidance: the best of `showtell bench foi --tune 60`."""
LEARNING: dict[str, Any] = {**BASE}
"""The starter's settings for learning an edit; `showtell bench visii --tune` compares them with others on training seeds."""
DESCRIBING: dict[str, dict[str, Any]] = {
    "sdedit": {"num_inference_steps": 20, "strength": 0.6, "guidance_scale": 7.5},
    "ddim-edit": {"num_inference_steps": 20, "encoding_ratio": 0.9, "guidance_scale": 2.5, "blend": "attention",
                  "blend_threshold": 0.3},
    "diffedit": {"num_inference_steps": 20, "encoding_ratio": 0.9, "guidance_scale": 7.5, "mask_threshold": 0.5},
    "pti": {"num_inference_steps": 20, "encoding_ratio": 0.8, "guidance_scale": 7.5, "inner_steps": 1,
            "learning_rate": 0.1, "eta": 0.9, "blend": "attention", "blend_threshold": 0.2, "outside": "inverted"},
}  # fmt: skip
"""The base starter's settings for edits by describing the result: the best of `showtell bench inversion --tune 24`. An
inversion takes those of the method that it is made for."""
IMAGINING: dict[str, Any] = {"candidates": 8, "num_inference_steps": 20, "guidance": [2.0, 7.5]}
"""The base starter's settings for imagining training pairs: of 160 candidates of 40 training triplets (seeds from 700,000 on,
guidance uniform in 2 to 12) fewer passed the filter above 7.5."""
SIFTING: dict[str, Any] = {"image": 0.057, "direction": 0.478, "caption": 0.815}
"""The thresholds of the starters' CLIP: the 5th percentiles of `showtell dataset filter --calibrate 400`."""


def measure(editor: Editor, *, count: int = 500, say: Say = lambda line: None) -> dict[str, Any]:
    """The held-out figures of the starters that `editor` was loaded from: `count` single edits, and shares of it."""
    from showtell import loading
    from showtell.editor import load

    found: dict[str, Any] = {"autoencoder": starter.autoencoder(editor.pipe, editing.heldout(count))}
    say(f"autoencoder: {found['autoencoder']['psnr']} dB")
    found["clip"] = starter.matching(*loading.load_clip(), editing.heldout(max(count, starter.AMONG)))
    say(f"caption among {starter.AMONG}: {found['clip']['accuracy']}")
    found["grounding"] = starter.grounding_figures(editor, count=count, say=say)
    base = load("starter-base", device=str(editor.pipe.device), dtype=editor.pipe.unet.dtype)
    found["base_grounding"] = grounding.figures(grounding.caption_looks(base, editing.heldout(count)))
    say(f"grounding, captions of the base model: {found['base_grounding']}")
    found["editing"] = starter.instruct_figures(editor, count=count, say=say)
    found["wanted"] = wanted(found)
    return found


def wanted(found: dict[str, Any]) -> dict[str, str]:
    """Each aim with its figure: "0.71 (wanted 0.6)", or "0.41 (wanted 0.6: NOT reached)"."""
    lines = {}
    for name, (least, path) in WANTED.items():
        value: Any = found
        for key in path:
            value = value[key]
        lines[name] = f"{value} (wanted {least}{'' if value >= least else ': NOT reached'})"
    return lines


def world() -> dict[str, Any]:
    """What the starters know."""
    return {
        "things": list(scenes.KINDS),
        "colours": list(scenes.COLOURS),
        "backgrounds": list(scenes.BACKDROPS),
        "styles": list(scenes.STYLES),
        "places": list(scenes.PLACES),
        "shares of single edits": dict(scenes.SHARES),
        "picture": f"{scenes.SIZE} pixels a side, one to three things before, one to four instructions",
        "held-out cases": "split heldout, seeds 0, 1, …; training draws from the split train",
    }


def recipe(settings: Preset) -> dict[str, Any]:
    """Every choice of the training that a repetition needs."""
    return {
        **asdict(settings),
        "scheduler": denoiser.SCHEDULER,
        "base text dropout": denoiser.TEXT_DROPOUT,
        "instruct dropout": "text only, picture only, both: 5 % each, drawn per sample",
        "autoencoder KL weight": KL_WEIGHT,
    }


def cards(*, defaults: dict[str, Any], figures: dict[str, Any], training: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The three cards, by name."""
    parts = {
        "starter": (
            "instruct",
            {"ip2p": defaults, "foi": {**defaults, **FOCUS}, "visii": dict(LEARNING)},
            ("editing", "grounding", "autoencoder", "wanted"),
        ),
        "starter-base": (
            "base",
            {**{name: dict(own) for name, own in DESCRIBING.items()}, "pictures": dict(IMAGINING)},
            ("base_grounding", "autoencoder"),
        ),
        "starter-clip": ("clip", {"filter": dict(SIFTING)}, ("clip",)),
    }
    return {
        name: {
            "name": name,
            "kind": kind,
            "note": NOTE,
            "license": "Apache-2.0",
            "command": COMMAND,
            "defaults": tuned,
            "figures": {key: figures[key] for key in keys},
            "world": world(),
            "training": training,
        }
        for name, (kind, tuned, keys) in parts.items()
    }


def write(folder: Path, made: dict[str, dict[str, Any]]) -> None:
    """Write `NAME.json` and `NAME.md` of every card into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, card in made.items():
        files.write_atomic(folder / f"{name}.md", as_text(card).encode(), force=True)
        files.write_atomic(folder / f"{name}.json", (json.dumps(card, indent=1) + "\n").encode(), force=True)


def as_text(card: dict[str, Any]) -> str:
    """A card for people."""
    lines = [f"# {card['name']}", "", card["note"], ""]
    lines += ["## Held-out figures", "", f"Made by `{card['command']}`.", "", *_table(card["figures"])]
    if card["defaults"]:
        lines += ["## Tuned settings (on training seeds)", "", *_table(card["defaults"])]
    lines += ["## The world that it knows", "", *_table(card["world"])]
    lines += ["## Training", "", *_table(card["training"])]
    return "\n".join([*lines, f"License: {card['license']}", ""])


def _table(tree: dict[str, Any]) -> list[str]:
    return ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in flat(tree)), ""]


def flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested figures as rows of a name and a value."""
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            rows += flat(value, f"{name}, ")
        else:
            rows.append((name, ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)))
    return rows


def finish(folder: Path, *, preset_name: str, seed: int, device: str, say: Say) -> dict[str, Any]:
    """The last part of a training: tune the defaults on training seeds, measure on held-out ones, write `folder/cards`.

    The starters are loaded from `folder` while this runs, through `SHOWTELL_STARTERS`. Returns the figures.
    """
    from showtell.editor import load

    settings = preset(preset_name)
    with _starters_at(folder):
        trained = load("starter", device=device)
        defaults = starter.tune_guidance(trained, count=settings.tune, say=say)
        trained.card = {"defaults": {"ip2p": defaults}}
        figures = measure(trained, count=settings.heldout, say=say)
    training = _training(folder, settings, seed=seed, device=device)
    write(folder / "cards", cards(defaults=defaults, figures=figures, training=training))
    return figures


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


def _training(folder: Path, settings: Preset, *, seed: int, device: str) -> dict[str, Any]:
    """How the starters were trained. `run/notes.txt`, where it is there, tells what was done by hand."""
    told: dict[str, Any] = {
        "command": f"showtell train starter --preset {settings.name} --seed {seed}",
        "machine": f"{device}, {os.cpu_count()} cores, {platform.machine()}",
    }
    if (notes := folder / "run" / "notes.txt").is_file():
        told["notes"] = notes.read_text().strip()
    for stage in ("clip", "autoencoder", "base", "instruct"):
        done = json.loads((folder / "run" / stage / "done.json").read_text())
        told[f"{stage} minutes"] = round(done["seconds"] / 60, 1)
    return told | {"recipe": recipe(settings)}
