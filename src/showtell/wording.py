"""What a user tells: words and learned instructions become text with names in it, and then segments."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from . import fitting, instruction, models, starts
from .errors import MethodError, TextError
from .learned import Hybrid, LearnedInstruction

EXAMPLE = 'say what to change, for example "make it a watercolor"'

#: In a note, that words were too long.
CUT = "this was cut off its end"


def named(learned: Any) -> dict[str, LearnedInstruction]:
    """Learned instructions by the names that they have in words: from one or several of them, or of their files.

    Raises ``FileFormatError`` for a file that is none, ``TextError`` for two of one name.
    """
    if learned is None:
        return {}
    if isinstance(learned, Mapping):
        return {str(name): _opened(look).renamed(str(name)) for name, look in learned.items()}
    found: dict[str, LearnedInstruction] = {}
    for item in learned if isinstance(learned, (list, tuple)) else [learned]:
        look = _opened(item)
        if look.name in found:
            raise TextError(f"two learned instructions are called <{look.name}>: rename one of their files")
        found[look.name] = look
    return found


def _opened(item: Any) -> LearnedInstruction:
    if isinstance(item, LearnedInstruction):
        return item
    if isinstance(item, (str, os.PathLike)):
        return LearnedInstruction.load(item)
    raise TextError(f"learned: {type(item).__name__} is not a learned instruction or the path of one")


def only(looks: Mapping[str, LearnedInstruction]) -> LearnedInstruction:
    """The one that is meant where no words are given. Raises ``TextError`` if there are several."""
    if len(looks) > 1:
        names = " ".join(f"<{name}>" for name in looks)
        raise TextError(f"several learned instructions and no words: say how they go together, for example {names!r}")
    return next(iter(looks.values()))


def check_called(told: Any, looks: Mapping[str, LearnedInstruction]) -> None:
    """Raise ``TextError`` unless the words of some instruction in ``told`` call each of these by its ``<name>``."""
    if looks:
        called = set(_names(told))
        if missing := [name for name in looks if name not in called]:
            raise TextError(
                f"the words do not call <{missing[0]}>: write <{missing[0]}> where it belongs, or leave it out"
            )


def _names(told: Any) -> list[str]:
    if isinstance(told, Hybrid):
        told = told.parts
    if isinstance(told, LearnedInstruction):
        return [told.name]
    if isinstance(told, (list, tuple)):
        return [name for item in told for name in _names(item)]
    return instruction.names_in(told) if isinstance(told, str) else []


def written(
    told: Any, learned: Mapping[str, LearnedInstruction], words: str
) -> tuple[tuple[str, ...], dict[str, LearnedInstruction]]:
    """Instructions as text, with ``<name>`` for each learned one, and what the names stand for."""
    looks = dict(learned)
    if told is None:
        if words == "required":
            raise TextError(f"the instruction is missing: {EXAMPLE}")
        return (), looks
    items = tuple(told) if isinstance(told, (list, tuple)) else (told,)
    if not items:
        raise TextError(f"the list of instructions is empty: {EXAMPLE}")
    return tuple(_spelled(item, looks) for item in items), looks


def _spelled(item: Any, looks: dict[str, LearnedInstruction]) -> str:
    parts = item.parts if isinstance(item, Hybrid) else (item,)
    spelled = []
    for part in parts:
        if not isinstance(part, LearnedInstruction):
            if not isinstance(part, str):
                raise TextError(f"an instruction must be text or a learned instruction, not {type(part).__name__}")
            spelled.append(part)
            continue
        name, number = part.name, 2
        while name in looks and looks[name].sha256 != part.sha256:
            name, number = f"{part.name[:90]}-{number}", number + 1
        looks[name] = part
        spelled.append(f"<{name}>")
    return " ".join(text for text in spelled if text) if isinstance(item, Hybrid) else spelled[0]


def segments(
    pipe: Any,
    whole: instruction.Instruction,
    looks: Mapping[str, LearnedInstruction],
    weights: Callable[[], str],
    notes: list[str],
) -> list[instruction.Segment]:
    """Words that are too long are cut, as stock pipelines do; with learned tokens among them, that is an error.

    ``weights`` gives the pipeline's fingerprint.
    """
    _check_names(pipe, whole.text, looks, notes)
    if not whole.looks:
        return [fitted(pipe, whole.text, "the instruction", notes)]
    for look in dict.fromkeys(look for _, look in whole.looks):
        look.check(pipe)
        if not models.offloaded(pipe) and look.model.weights != weights():
            notes.append(f"<{look.name}> was learned with other weights, or in another precision ({look.model.id:.60})")
    found = instruction.segments(whole)
    instruction.lay_out(pipe, found)
    return found


def fitted(pipe: Any, text: str, what: str, notes: list[str]) -> instruction.Words:
    """What the text encoder has room for; a note tells what was cut off."""
    words, rest = instruction.cut(pipe, text)
    if rest:
        notes.append(f"{what} is too long for the text encoder; {CUT}: {rest!r}")
    return words


def _check_names(pipe: Any, text: str, looks: Mapping[str, LearnedInstruction], notes: list[str]) -> None:
    """A ``<name>`` may be a word that textual inversion gave to the tokenizer; else it should have been given."""
    for name in instruction.names_in(text):
        if name in looks or f"<{name}>" in pipe.tokenizer.get_vocab():
            continue
        if looks:
            raise TextError(f"<{name}> names no learned instruction: there is {', '.join(f'<{n}>' for n in looks)}")
        notes.append(f"<{name}> was read as plain words: no learned instruction was given")


def recorded(
    whole: instruction.Instruction, pipe: Any, frame: fitting.Frame, notes: list[str]
) -> starts.RecordedNoise | None:
    """The noises of the first learned instruction that has some; None, and a note, where they do not fit this picture."""
    kept = [look.noise for _, look in whole.looks if look.noise is not None]
    if not kept:
        raise MethodError(
            "noise='recorded' needs a learned instruction with its noises in the file: learn it with --record-noise "
            "(record_noise=True)"
        )
    factor = models.latent_factor(pipe)
    shape = (pipe.vae.config.latent_channels, frame.frame[1] // factor, frame.frame[0] // factor)
    if kept[0].shape == shape:
        return kept[0]
    notes.append(f"the recorded noise is for latents of {kept[0].shape}, this picture has {shape}: noise is random")
    return None
