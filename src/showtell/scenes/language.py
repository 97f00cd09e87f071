"""The world in words: captions of scenes and instructions of edits, with the words that name something marked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from showtell.scenes.edits import Edit
from showtell.scenes.world import BACKDROPS, BIG, SMALL, STYLES, Scene, Thing

_MARK = re.compile(r"\{(\w+):([^}]*)\}")
_WORD = re.compile(r"[a-z]+|[^\sa-z]")


@dataclass(frozen=True)
class Phrase:
    """Words, and which of them name what: `marks` pairs a word's index with a region's name.

    A region is "edit" in an instruction, "background" or a thing's key (as a string) in a caption. Indices count words
    and punctuation marks, so that with a tokenizer that knows the words they are token positions less one.
    """

    text: str
    marks: tuple[tuple[int, str], ...]

    @property
    def keyword(self) -> str:
        """The first marked word."""
        return words(self.text)[self.marks[0][0]]


def words(text: str) -> list[str]:
    """Words and punctuation marks of `text`, in order."""
    return _WORD.findall(text)


def phrase(marked: str) -> Phrase:
    """Read `{region:word}` marks out of a text."""
    text, marks, last = "", [], 0
    for match in _MARK.finditer(marked):
        text += marked[last : match.start()]
        first = len(words(text))
        text += match[2]
        marks += [(i, match[1]) for i in range(first, len(words(text)))]
        last = match.end()
    return Phrase(text + marked[last:], tuple(marks))


def join(phrases: list[Phrase]) -> Phrase:
    """Instructions joined by commas; the i-th one's region "edit" becomes "edit<i>"."""
    text, marks = "", []
    for i, part in enumerate(phrases):
        text += ", " if i else ""
        first = len(words(text))
        marks += [(first + w, f"{region}{i}") for w, region in part.marks]
        text += part.text
    return Phrase(text, tuple(marks))


_WORDINGS: dict[str, tuple[str, ...]] = {
    "recolour": (
        "make the {t} {c}",
        "turn the {t} {c}",
        "paint the {t} {c}",
        "change the color of the {t} to {c}",
        "the {t} should be {c}",
        "color the {t} {c}",
    ),
    "replace": (
        "turn the {t} into a {n}",
        "replace the {t} with a {n}",
        "swap the {t} for a {n}",
        "change the {t} to a {n}",
        "make the {t} a {n}",
    ),
    "remove": ("remove the {t}", "delete the {t}", "take away the {t}", "erase the {t}", "get rid of the {t}"),
    "add": ("add a {n} in the {p}", "put a {n} in the {p}", "draw a {n} in the {p}", "place a {n} in the {p}"),
    "bigger": ("make the {t} bigger", "enlarge the {t}", "make the {t} larger", "grow the {t}"),
    "smaller": ("make the {t} smaller", "shrink the {t}", "make the {t} tiny", "reduce the {t}"),
    "move": ("move the {t} to the {p}", "shift the {t} to the {p}", "bring the {t} to the {p}"),
    "background": (
        "change the {{edit:background}} to {b}",
        "make the {{edit:background}} {b}",
        "put it {w}",
        "set the scene {w}",
        "place everything {w}",
    ),
}

_STYLE_WORDINGS: dict[str, tuple[str, ...]] = {
    "monochrome": (
        "make it {edit:monochrome}",
        "turn it {edit:monochrome}",
        "turn it into a {edit:monochrome} picture",
    ),
    "sepia": ("make it {edit:sepia}", "give it a {edit:sepia} tone", "turn it into a {edit:sepia} picture"),
    "negative": ("make it a {edit:negative}", "turn it into a {edit:negative}", "show its {edit:negative}"),
    "mosaic": ("make it a {edit:mosaic}", "turn it into a {edit:mosaic}", "show it as a {edit:mosaic}"),
    "sketch": ("make it a {edit:sketch}", "turn it into a {edit:sketch}", "draw it as a {edit:sketch}"),
}


def wordings(edit: Edit) -> list[Phrase]:
    """Every wording of an edit; the first is the plainest."""
    if edit.action == "style":
        assert edit.to is not None
        return [phrase(w) for w in _STYLE_WORDINGS[edit.to]]
    colour = f"{edit.kind_colour} " if edit.kind_colour else ""
    backdrop = BACKDROPS.get(edit.to or "")
    slots = {
        "t": f"{colour}{{edit:{edit.kind}}}",
        "n": (f"{edit.colour} " if edit.colour else "") + f"{{edit:{edit.to}}}",
        "c": edit.colour,
        "p": edit.place,
    }
    if backdrop:
        slots["b"] = backdrop.noun.replace(backdrop.word, f"{{edit:{backdrop.word}}}")
        slots["w"] = backdrop.where.replace(backdrop.word, f"{{edit:{backdrop.word}}}")
    key = edit.size if edit.action == "resize" else edit.action
    return [phrase(w.format(**slots)) for w in _WORDINGS[str(key)]]


def instruct(edit: Edit, rng: Random) -> Phrase:
    """One wording of an edit, drawn by `rng`."""
    return rng.choice(wordings(edit))


def _noun(thing: Thing, *, places: bool) -> str:
    size = "big " if thing.radius > BIG else "small " if thing.radius < SMALL else ""
    place = f" in the {thing.place}" if places else ""
    return f"a {size}{thing.colour} {{{thing.key}:{thing.kind}}}{place}"


def caption(scene: Scene, *, places: bool = False) -> Phrase:
    """A caption: things from first to last, then the background ("a red circle and a blue star at night").

    places: say for each thing where it is.
    """
    nouns = [_noun(t, places=places) for t in scene.things]
    listed = ", ".join(nouns[:-1]) + (" and " if len(nouns) > 1 else "") + nouns[-1] if nouns else "nothing"
    backdrop = BACKDROPS[scene.backdrop]
    where = backdrop.where.replace(backdrop.word, f"{{background:{backdrop.word}}}")
    style = f"{STYLES[scene.style]} " if scene.style else ""
    return phrase(f"{style}{listed} {where}")
