"""Choosing the starter's settings for learning: a grid over training-split directions, never over held-out ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.bench.visii import Bench, Row, directions, mean

if TYPE_CHECKING:
    from showtell.bench.visii import Say
    from showtell.editor import Editor

FIRST = 20_000_000
"""First seed, in the training split; no training draws it."""
BASE: dict[str, Any] = {
    "steps": 200,
    "timesteps_per_step": 4,
    "learning_rate": 0.03,
    "learning_rate_schedule": "cosine",
    "weight_decay": 0.0,
    "clip_weight": 0.0,
    "guidance_scale": 1.0,
    "image_guidance_scale": 1.0,
    "num_tokens": 6,
    "mirror": False,
}
"""Where the grid starts: the conditional branch alone, four timesteps a step, a rate that falls to zero."""
CHANGES: tuple[dict[str, Any], ...] = (
    {},
    {"mirror": True},
    {"mirror": True, "num_tokens": 16},
    {"mirror": True, "learning_rate": 0.1},
    {"mirror": True, "clip_weight": 0.1},
    {"mirror": True, "guidance_scale": 2.0, "image_guidance_scale": 2.0},
)


def tune(editor: Editor, folder: Path, *, count: int, say: Say) -> dict[str, Any]:
    """Success of each setting over ``count`` training directions, and the best setting (the earlier one of equals)."""
    bench = Bench(editor, folder, say=say)
    over = directions(count, first=FIRST, split="train")
    told = Row(name="told", start="told", pairs=0)
    bench.run([told], over)
    rows = []
    for changes in CHANGES:
        name = "-".join(f"{key}-{value}" for key, value in changes.items()) or "base"
        row = Row(name=name, start="none", settings=BASE | changes)
        bench.run([row], over)
        entries = bench.figures(row, over)
        rows.append({"settings": name, "success": mean(entries, "success"), "inside": mean(entries, "inside")})
        say(f"{rows[-1]}")
    best = max(range(len(rows)), key=lambda i: (rows[i]["success"], -i))
    entries = bench.figures(told, over)
    rows.insert(
        0, {"settings": "told in words", "success": mean(entries, "success"), "inside": mean(entries, "inside")}
    )
    return {"rows": rows, "best": BASE | CHANGES[best], "count": len(entries)}
