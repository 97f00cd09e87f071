"""Inputs of batches: folders, manifests and shards of small pictures."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from showtell import batching

QUICK = {"num_inference_steps": 1}


def picture(seed: int, size: tuple[int, int] = (32, 32)) -> bytes:
    """A PNG of its own."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def folder(path: Path, names: tuple[str, ...] = ("a.png", "b.png", "sub/c.png")) -> Path:
    for seed, name in enumerate(names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(picture(seed))
    return path


def shard(path: Path, samples: dict[str, dict[str, Any]]) -> Path:
    """A tar of samples: key -> field -> bytes, or what JSON can hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, fields in samples.items():
            for field, value in fields.items():
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                info = tarfile.TarInfo(f"{key}.{field}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def run(source: Any, words: Any = "make it red", **told: Any) -> batching.Summary:
    return batching.run(source, words, **{"settings": QUICK, **told})


def results(out: Path) -> dict[str, Any]:
    """The lines of results.jsonl by row."""
    return {line["row"]: line for line in map(json.loads, (out / "results.jsonl").read_text().splitlines())}


def pictures(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.png")}


def packed(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {name: tar.extractfile(name).read() for name in tar.getnames()}
