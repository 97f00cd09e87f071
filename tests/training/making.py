"""What the trainer's tests learn from: a folder with a shard of small pairs, and configurations of it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WORDS = ["make the circle red", "add a blue star", "make it sepia", "make the house green"]


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """A smooth picture that nothing else looks like."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def pairs(
    folder: Path,
    count: int = 12,
    *,
    sizes: tuple[tuple[int, int], ...] = ((32, 32),),
    words: list[str] = WORDS,
    spoil: dict[int, dict[str, bytes | None]] | None = None,
) -> Path:
    """A folder with one tar of ``count`` pairs; ``spoil`` replaces files of a row, or with None leaves them out."""
    (folder / "data").mkdir(parents=True)
    with tarfile.open(folder / "data" / "train-000000.tar", "w") as tar:
        for i in range(count):
            size = sizes[i % len(sizes)]
            told = {
                "instruction": words[i % len(words)],
                "source_caption": f"picture {i}",
                "target_caption": f"edited {i}",
            }
            files: dict[str, bytes | None] = {
                "before.png": encoded(picture(i, size)),
                "after.png": encoded(picture(1000 + i, size)),
                "json": json.dumps(told).encode(),
            }
            for name, data in (files | (spoil or {}).get(i, {})).items():
                if data is not None:
                    info = tarfile.TarInfo(f"p{i:06d}.{name}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return folder


def told(path: Path, **sections: Any) -> dict[str, Any]:
    """A configuration for a few steps on the tiny starters."""
    train = {"steps": 6, "batch_size": 4, "learning_rate": 1e-3, "ema": 0.9, **sections.pop("train", {})}
    data = {"name": "pairs", "path": str(path), "held_out": 0.0, **sections.pop("data", {})}
    save = {"every": 100, **sections.pop("save", {})}
    return {"model": "starter-base", "data": data, "train": train, "save": save, **sections}
