"""What the parts of a pair are called in data sets of other people: each loader looks for the first of these that is there."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from .reading import Unusable, unbracketed

BEFORE = (
    "before",
    "input",
    "original",
    "source",
    "input_image",
    "original_image",
    "source_image",
    "source_img",
    "image",
)
AFTER = (
    "after",
    "output",
    "edited",
    "target",
    "output_image",
    "edited_image",
    "target_image",
    "target_img",
    "edited_img",
)
INSTRUCTION = ("instruction", "edit_prompt", "edit", "edit_instruction", "instruction_prompt", "prompt", "text")
SOURCE = ("source_caption", "original_prompt", "input_caption", "input_prompt", "caption_before", "input")
TARGET = ("target_caption", "edited_prompt", "output_caption", "output_prompt", "caption_after", "output")
GROUP = ("group", "kind", "task", "action")


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names to look for, of each part, the first that is there counts."""

    before: tuple[str, ...] = BEFORE
    after: tuple[str, ...] = AFTER
    instruction: tuple[str, ...] = INSTRUCTION
    source: tuple[str, ...] = SOURCE
    target: tuple[str, ...] = TARGET

    @classmethod
    def of(
        cls, before: str | None, after: str | None, instruction: str | None, source: str | None, target: str | None
    ) -> Names:
        """The usual names, but for parts of which the one name is given."""
        return cls(
            before=(before,) if before else BEFORE,
            after=(after,) if after else AFTER,
            instruction=(instruction,) if instruction else INSTRUCTION,
            source=(source,) if source else SOURCE,
            target=(target,) if target else TARGET,
        )


def first(names: tuple[str, ...], there: Collection[str]) -> str | None:
    """The first of these names that is there."""
    return next((name for name in names if name in there), None)


def told(record: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """The words of a pair as ``Row`` takes them. Raises ``Unusable`` for a record without an instruction and a target caption."""
    instruction, target = _words(record, names.instruction), _words(record, names.target)
    if not instruction and not target:
        raise Unusable("missing words", f"has no {names.instruction[0]}")
    return {
        "instructions": (unbracketed(instruction),) if instruction else (),
        "source_caption": _words(record, names.source),
        "target_caption": target,
        "group": _words(record, GROUP),
    }


def _words(record: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The words under the first name that has some."""
    for name in names:
        value = record.get(name)
        if isinstance(value, str) and value.strip():
            return " ".join(value.split())
    return ""


def parsed(text: str | bytes, what: str) -> dict[str, Any]:
    """A JSON object. Raises ``Unusable``."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unusable("damaged", f"{what}: is not JSON ({str(error) or type(error).__name__})") from error
    if not isinstance(found, dict):
        raise Unusable("damaged", f"{what}: holds {type(found).__name__} where an object belongs")
    return found
