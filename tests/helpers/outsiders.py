"""A package with methods of its own, installed as far as entry points can tell."""

from __future__ import annotations

from pathlib import Path

SOURCE = '''
from dataclasses import dataclass, replace
from typing import ClassVar

from PIL import ImageOps
from showtell.methods import InstructPix2Pix


@dataclass(frozen=True, kw_only=True)
class Louder(InstructPix2Pix):
    """InstructPix2Pix whose words are twice as loud."""

    name: ClassVar[str] = "louder"

    def plan(self, context):
        return super().plan(replace(context, prompt_embeds=2 * context.prompt_embeds))


@dataclass(frozen=True, kw_only=True)
class Crash(InstructPix2Pix):
    name: ClassVar[str] = "crash"

    def plan(self, context):
        raise ValueError("no plan\\nfor this")


def quits(picture, instructions, *, seed):
    raise SystemExit(0)


def negative(picture, instructions, *, seed, grey=False):
    if not instructions:
        raise ValueError("nothing was said")
    turned = ImageOps.invert(picture)
    return turned.convert("L") if grey else turned


def broken(picture, instructions, *, seed):
    return "no picture"


def smaller(picture, instructions, *, seed):
    return picture.resize((8, 8))


def needy(picture, instructions, *, seed, size):
    return picture


def taken(picture, instructions, *, seed, kinds=3):
    return picture
'''
NAMES = {"louder": "Louder", "crash": "Crash"} | {
    name: name for name in ("negative", "broken", "smaller", "needy", "quits", "taken")
}


def install(folder: Path, *, name: str = "outsiders", points: dict[str, str] | None = None) -> Path:
    """Write the package and what pip would have written beside it; the folder then goes on the module search path."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{name}.py").write_text(SOURCE)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    told = "".join(f"{key} = {name}:{value}\n" for key, value in (NAMES if points is None else points).items())
    (info / "entry_points.txt").write_text(f"[showtell.methods]\n{told}")
    return folder
