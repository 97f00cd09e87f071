"""What a language model is asked for, by examples, and what is read out of its answer. All examples are our own.

InstructPix2Pix (section 3.1) tuned a model on 700 triplets that people wrote; a dozen examples before the question stand in for
that with the models that there are now.
"""

from __future__ import annotations

import contextlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..data.reading import Unusable

LONGEST = 400
"""Longest text that is taken from an answer, in characters."""
TASK = """You write training data for a program that edits pictures by instructions.

You are given the caption of a picture and a number. Think of that many different edits that a person might wish for. Vary them:
an object becomes another, something is added or taken away, a colour or a material, the weather, the season, the time of day, the
place, the style of the picture. Each edit must change what is seen, and leave as much as it can of the rest.

For each edit give
- "instruction": what the person types, in plain words, at most fifteen of them;
- "edited_caption": the caption as it reads after the edit, changed only where the edit changes the picture.

Answer with one JSON object and nothing else: {"edits": [{"instruction": "...", "edited_caption": "..."}]}"""

_DECODER = json.JSONDecoder()
_BEGINS = 50  # braces that are tried: models that think aloud write some before they answer
Edits = tuple[tuple[str, str], ...]
EXAMPLES: tuple[tuple[str, Edits], ...] = (
    (
        "a wooden rowing boat on a calm lake at dawn",
        (
            ("turn the boat into a red canoe", "a red canoe on a calm lake at dawn"),
            ("make it winter", "a wooden rowing boat on a frozen lake at dawn, snow on the shore"),
        ),
    ),
    (
        "portrait of an old fisherman with a gray beard",
        (
            ("give him round sunglasses", "portrait of an old fisherman with a gray beard and round sunglasses"),
            ("as a charcoal drawing", "a charcoal drawing of an old fisherman with a gray beard"),
        ),
    ),
    (
        "a bowl of oranges on a kitchen table",
        (
            ("swap the oranges for lemons", "a bowl of lemons on a kitchen table"),
            ("put a glass of milk beside it", "a bowl of oranges and a glass of milk on a kitchen table"),
        ),
    ),
    (
        "a busy street market in the afternoon sun",
        (
            ("what would it look like at night?", "a busy street market at night, lit by lanterns"),
            ("take all the people away", "a deserted street market in the afternoon sun"),
        ),
    ),
    (
        "two children building a sandcastle on the beach",
        (
            ("let a storm come up", "two children building a sandcastle on the beach under storm clouds"),
            ("move them to a playground", "two children building a sandcastle on a playground"),
        ),
    ),
    (
        "a black cat asleep on a pile of books",
        (
            ("make the cat ginger", "a ginger cat asleep on a pile of books"),
            ("it should be a fox", "a fox asleep on a pile of books"),
        ),
    ),
    (
        "a glass skyscraper against a blue sky",
        (
            ("cover the building in ivy", "a glass skyscraper covered in ivy against a blue sky"),
            ("add a rainbow", "a glass skyscraper against a blue sky with a rainbow"),
        ),
    ),
    (
        "a watercolor of a village in the mountains",
        (
            ("make it a photograph", "a photograph of a village in the mountains"),
            (
                "hot-air balloons above the roofs",
                "a watercolor of a village in the mountains with hot-air balloons above",
            ),
        ),
    ),
    (
        "a cup of coffee next to a laptop on a desk",
        (
            ("replace the laptop with a typewriter", "a cup of coffee next to a typewriter on a desk"),
            ("make the desk out of marble", "a cup of coffee next to a laptop on a marble desk"),
        ),
    ),
    (
        "a dirt road through green fields",
        (
            ("change the season to autumn", "a dirt road through golden fields in autumn"),
            ("build a castle where the road ends", "a dirt road through green fields that leads to a castle"),
        ),
    ),
    (
        "a dancer in a white dress on an empty stage",
        (
            ("color the dress emerald green", "a dancer in an emerald green dress on an empty stage"),
            ("fill the stage with flowers", "a dancer in a white dress on a stage full of flowers"),
        ),
    ),
    (
        "an old car parked outside a diner",
        (
            ("have it look brand new", "a shiny new car parked outside a diner"),
            ("in the style of a comic book", "a comic book drawing of an old car parked outside a diner"),
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One edit as a model words it."""

    instruction: str
    target_caption: str


def conversation(caption: str, count: int, *, examples: int = len(EXAMPLES)) -> list[dict[str, Any]]:
    """The messages that ask for ``count`` edits of a caption: the task, the first ``examples`` as questions and answers, and the
    question itself.
    """
    talk: list[dict[str, Any]] = [{"role": "system", "content": TASK}]
    for number, (known, edits) in enumerate(EXAMPLES[:examples]):
        shown = _shown(edits, count, number)
        talk += [
            {"role": "user", "content": _question(known, len(shown))},
            {"role": "assistant", "content": answer(shown)},
        ]
    return [*talk, {"role": "user", "content": _question(caption, count)}]


def text(talk: Sequence[Mapping[str, Any]]) -> str:
    """A conversation as one text, for a model that knows none; it goes on with the answer."""
    return "".join(f"{message['content']}\n\n" for message in talk)


def again(talk: Sequence[dict[str, Any]], said: str, wrong: str) -> list[dict[str, Any]]:
    """The conversation with an answer that cannot be used, and what is wrong with it."""
    complaint = f"That cannot be used: {wrong}. Answer again, with the JSON object alone."
    return [*talk, {"role": "assistant", "content": said[:4000]}, {"role": "user", "content": complaint}]


def understood(said: str, count: int) -> list[Edit]:
    """The first ``count`` edits of an answer. Raises ``Unusable`` for what was not asked for, also for fewer edits."""
    value = first_object(said)
    edits = value.get("edits")
    if not isinstance(edits, list):
        raise Unusable("answer", 'it has no list "edits"')
    found = [_edit(number, edit) for number, edit in enumerate(edits[:count], start=1)]
    if len(found) < count:
        raise Unusable("answer", f"it has {len(found)} edits, not {count}")
    return found


def first_object(said: str) -> dict[str, Any]:
    """The JSON object of a text, whatever stands before and after it: the first one that has edits, else the first of all.

    Raises ``Unusable`` where that is none, or not whole.
    """
    begins = [place for place, letter in enumerate(said) if letter == "{"][:_BEGINS]
    for place in begins:
        with contextlib.suppress(ValueError, RecursionError):
            value, _ = _DECODER.raw_decode(said, place)
            if "edits" in value:
                return value
    if not begins:
        raise Unusable("answer", "there is no JSON object in it")
    try:
        return _DECODER.raw_decode(said, begins[0])[0]
    except (ValueError, RecursionError) as error:
        raise Unusable("answer", f"it is not JSON ({error})") from error


def _edit(number: int, edit: Any) -> Edit:
    told = []
    for key in ("instruction", "edited_caption"):
        value = edit.get(key) if isinstance(edit, dict) else None
        if not isinstance(value, str):
            raise Unusable("answer", f'edit {number} has no text "{key}"')
        plain = " ".join(value.split())
        if len(plain) > LONGEST or any(unicodedata.category(c) in ("Cc", "Cs") for c in plain):
            raise Unusable("answer", f'"{key}" of edit {number} is longer than {LONGEST} characters, or not text')
        told.append(plain)
    return Edit(instruction=told[0], target_caption=told[1])


def _shown(edits: Edits, count: int, number: int) -> Edits:
    """Of an example as many edits as are asked for; where that is one, now the first and now the second."""
    return (edits[number % 2],) if count == 1 else edits


def _question(caption: str, count: int) -> str:
    return f"Caption: {caption}\nEdits: {count}"


def answer(edits: Edits) -> str:
    """Edits as a model is to write them."""
    told = [{"instruction": instruction, "edited_caption": target} for instruction, target in edits]
    return json.dumps({"edits": told}, ensure_ascii=False)
