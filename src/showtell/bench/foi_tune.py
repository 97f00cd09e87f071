"""Choosing the starter's settings for Focus on Your Instruction: on training-split cases, never on held-out ones."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell import files
from showtell.bench import editing
from showtell.errors import ShowtellWarning

if TYPE_CHECKING:
    from showtell.bench.starter import Say
    from showtell.editor import Editor

FIRST = 30_000_000
"""First seed, in the training split; no training draws it."""
BASE: dict[str, Any] = {
    "guidance_scale": 2.0,
    "image_guidance_scale": 2.0,
    "num_inference_steps": 20,
    "strength": 0.8,
    "gamma": 1,
    "tau": 0.1,
    "maps": "joined",
    "text": "joined",
}
"""Where the search starts: guidance as for the same starter without regions, gamma and tau of the greatest IoU."""
ROUNDS: tuple[tuple[dict[str, Any], ...], ...] = (
    ({"maps": "apart"}, {"maps": "apart", "text": "apart"}),
    ({"strength": 0.9}, {"strength": 1.0}),
    ({"tau": 0.05}, {"tau": 0.2}, {"gamma": 0, "tau": 0.2}, {"gamma": 0, "tau": 0.3}),
    ({"grow": 1}, {"grow": 1, "tau": 0.3}),
    ({"guidance_scale": 3.0}, {"guidance_scale": 4.0}),
    ({"disentangle": 0.5}, {"disentangle": 1.0}),
    ({"columns": "text"}, {"columns": "text", "disentangle": 0.25}),
    ({"image_guidance_scale": 1.5}, {"image_guidance_scale": 3.0}),
    ({"strength": 1.0}, {"strength": 0.8}),
)
"""One round after the other; each keeps the best of what was before it and its own changes."""
SHARES = ((1, 0.4), (2, 0.4), (3, 0.2))
"""Instructions in a case, and their share of the cases."""


def tune(editor: Editor, folder: Path, *, count: int, say: Say) -> dict[str, Any]:
    """Success of each setting over ``count`` training cases, and the best settings (the earlier one of equals).

    What is measured is kept in ``folder`` at once, so that an interrupted search goes on.
    """
    cases = [
        case
        for edits, share in SHARES
        for case in editing.heldout(
            max(1, round(count * share)), edits=edits, first=FIRST + edits * 10_000, split="train"
        )
    ]
    best, rows = dict(BASE), []
    plain = _measured(editor, folder, cases, "ip2p", {})
    say(f"ip2p: {plain}")
    top = _measured(editor, folder, cases, "foi", best)
    for changes in ((), *ROUNDS):
        kept = dict(best)
        for change in changes or ({},):
            found = _measured(editor, folder, cases, "foi", kept | change)
            rows.append({"settings": " ".join(f"{k} {v}" for k, v in (kept | change).items()), **found})
            say(str(rows[-1]))
            if _worth(found) > _worth(top):
                best, top = kept | change, found
    return {"count": len(cases), "ip2p": plain, "rows": rows, "best": best}


def _worth(found: dict[str, Any]) -> float:
    """Whole cases that are right, and their single edits: the first alone is too coarse over a few cases."""
    return found["success"] + found["per_edit_success"]


def _measured(editor: Editor, folder: Path, cases: Any, method: str, settings: dict[str, Any]) -> dict[str, Any]:
    name = "-".join([method, str(len(cases)), *(f"{k}={v}" for k, v in settings.items())])
    path = folder / f"{name}.json"
    if not path.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ShowtellWarning)
            found = editing.summary(editing.run(editor, cases, method=method, **settings))
        keys = ("success", "per_edit_success", "inside", "outside", "median_outside_psnr")
        folder.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path, json.dumps({key: found[key] for key in keys}).encode(), force=True)
    return json.loads(path.read_text())
