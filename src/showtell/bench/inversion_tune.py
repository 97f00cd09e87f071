"""Choosing the base starter's settings for edits by describing the result: on training-split cases, never on held-out ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.bench.inversion import Bench, Say, System

if TYPE_CHECKING:
    from showtell.editor import Editor

BASE: dict[str, dict[str, Any]] = {
    "sdedit": {"num_inference_steps": 20, "strength": 0.8, "guidance_scale": 7.5},
    "ddim-edit": {"num_inference_steps": 20, "encoding_ratio": 0.8, "guidance_scale": 7.5, "blend": "attention",
                  "blend_threshold": 0.3},
    "diffedit": {"num_inference_steps": 20, "encoding_ratio": 0.8, "guidance_scale": 7.5, "mask_threshold": 0.5},
    "pti": {"num_inference_steps": 20, "encoding_ratio": 0.8, "guidance_scale": 7.5, "inner_steps": 1,
            "learning_rate": 0.1, "eta": 0.9, "blend": "attention", "blend_threshold": 0.3, "outside": "reconstruction"},
}  # fmt: skip
"""Where each search starts: the papers' settings, in fewer steps."""
_SHARED = (
    ({"guidance_scale": 4.0}, {"guidance_scale": 2.5}),
    ({"encoding_ratio": 1.0}, {"encoding_ratio": 0.9}),
    ({"blend_threshold": 0.5}, {"blend_threshold": 0.2}),
)
ROUNDS: dict[str, tuple[tuple[dict[str, Any], ...], ...]] = {
    "sdedit": (({"strength": 0.6}, {"strength": 0.5}), ({"guidance_scale": 4.0}, {"guidance_scale": 2.5})),
    "ddim-edit": (*_SHARED, ({"blend_start": 0.2},)),
    "diffedit": (
        ({"guidance_scale": 4.0}, {"guidance_scale": 2.5}),
        ({"encoding_ratio": 1.0}, {"encoding_ratio": 0.9}),
        ({"mask_threshold": 0.3}, {"mask_threshold": 0.2}),
    ),
    "pti": (({"outside": "inverted"},), *_SHARED, ({"eta": 0.95}, {"eta": 0.8}), ({"blend_start": 0.2},)),
}  # fmt: skip
"""One round after the other; each keeps the best of what was before it and its own changes."""

_INVERTING = ("num_inference_steps", "encoding_ratio")
_STAGE_ONE = ("inner_steps", "learning_rate")
_TUNING = (*_INVERTING, *_STAGE_ONE, "guidance_scale")


def tune(editor: Editor, folder: Path, *, count: int, say: Say) -> dict[str, Any]:
    """Each method's best settings over ``count`` training cases (the earlier one of equals), and every setting tried.

    What is measured is kept in ``folder`` at once, so that an interrupted search goes on.
    """
    bench = Bench(editor, folder, hold=True)
    rows: list[dict[str, Any]] = []
    best: dict[str, dict[str, Any]] = {}
    for method, base in BASE.items():
        best[method], top = dict(base), -1.0
        for changes in (({},), *ROUNDS[method]):
            before = dict(best[method])
            for change in changes:
                found = _measured(bench, method, before | change, count)
                rows.append({"method": method, "settings": _told(before | change), **found})
                say(f"{method}: {_told(change) or 'as published'}: {found}")
                if _worth(found) > top:
                    best[method], top = before | change, _worth(found)
    return {"count": count, "rows": rows, "best": best}


def _worth(found: dict[str, Any]) -> float:
    """Whole edits that are right, and those that are right inside: the first alone is too coarse over a few cases."""
    return found["success"] + 0.5 * found["inside"] + 0.5 * found["outside"]


def _part(settings: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key in names}


def _told(settings: dict[str, Any]) -> str:
    return " ".join(f"{key} {value}" for key, value in settings.items())


def _measured(bench: Bench, method: str, settings: dict[str, Any], count: int) -> dict[str, Any]:
    name = "-".join([method, *(f"{key}={value}" for key, value in settings.items())])
    inverts = None if method == "sdedit" else {"method": "ddim", **_part(settings, _INVERTING)}
    if method == "pti":
        inverts = {"method": "pti", "start": "target", **_part(settings, _TUNING)}
    rest = {key: value for key, value in settings.items() if inverts is None or key not in {*_INVERTING, *_STAGE_ONE}}
    system = System(name=name, method=method, settings=rest, source=method == "diffedit", inverts=inverts)
    entries = bench.run([system], "training", count)[name]
    shares = {key: round(sum(e[key] for e in entries) / count, 4) for key in ("success", "inside", "outside")}
    return {**shares, "edit_error": sorted(e["edit_error"] for e in entries)[count // 2]}
