"""Ready examples: scenes that showtell draws, with words that fit them; one click."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from ... import scenes
from .widgets import heading, strip

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Example:
    """A scene by its seed, and what is asked of it. ``seed`` that of the edit; ``other`` a scene that a shown edit fits, too."""

    scene: int
    edits: int = 1
    actions: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    method: str = "ip2p"
    seed: int = 0
    caption: str = ""

    @property
    def label(self) -> str:
        """What is written under it."""
        return "; ".join(self.lines).replace("[", "").replace("]", "") or self.caption or self.case.captions[1]

    @property
    def case(self) -> Any:
        """The scene."""
        return _case(self.scene, self.edits, self.actions)


@functools.lru_cache(maxsize=64)
def _case(seed: int, edits: int, actions: tuple[str, ...]) -> Any:
    return scenes.sample(seed, edits=edits, actions=list(actions) or None, split="train")


#: Drawn from the training split, and chosen because the starter gets them right: they show what an edit is, not how often one is.
TOLD = (
    Example(scene=113, actions=("style",), lines=("make it sepia",)),
    Example(scene=112, actions=("replace",), lines=("turn the [circle] into a blue tree",)),
    Example(scene=105, actions=("add",), lines=("add a white [boat] in the top right",)),
    Example(scene=110, actions=("background",), lines=("make the background a meadow",)),
    Example(scene=115, actions=("style",), lines=("make it a sketch",)),
    Example(scene=201, edits=2, lines=("erase the [star]", "change the [flower] to a red tree"), method="foi"),
)
SHOWN = (
    Example(scene=113, actions=("style",), caption="sepia"),
    Example(scene=115, actions=("style",), caption="sketch"),
    Example(scene=109, actions=("background",), caption="desert"),
)
DESCRIBED = tuple(
    Example(scene=scene, actions=("recolour", "background"), method="pti") for scene in (320, 315, 314, 312)
)


def gallery(room: str, examples: tuple[Example, ...]) -> gr.Gallery:
    """A strip of examples to click."""
    shown: list[tuple[Image.Image, str]] = [(each.case.before, each.label) for each in examples]
    heading("Try one")
    return strip(shown, small=True, elem_id=f"{room}-examples", label="Examples")
