"""Reading what `showtell edit` is asked to do, by words, learned files and a pair, before a model is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.cli import options
from showtell.errors import ImageError, MethodError, TextError, UsageError

if TYPE_CHECKING:
    from showtell.learned import LearnedInstruction
    from showtell.pairs import Pairs

_EXAMPLE = 'such as "make it a watercolor"'
_DESCRIBED = 'say what the picture is to show, such as "a red house at night"'


@dataclass(frozen=True, kw_only=True)
class Asked:
    """``instruction`` as ``editor.edit`` takes it, what its ``<names>`` stand for, and what the user should know."""

    instruction: str | list[str] | None
    looks: dict[str, LearnedInstruction]
    notes: list[str]


def read(
    words: Sequence[str],
    learned: Sequence[Path],
    strength: float | None,
    *,
    methods: Sequence[Any],
    noise: str = "random",
) -> Asked:
    """Words and learned files as one request to each of ``methods``.

    A single file that the words do not call goes before them; where a method keeps each instruction in its own region,
    each such file is an instruction of its own. Raises ``TextError`` for words that are missing or cannot be read and for a
    file that is not used, ``FileFormatError`` for what is no learned instruction, ``MethodError`` for a strength out of
    range.
    """
    from showtell import instruction, wording

    describes = any(getattr(method, "describes", False) for method in methods)
    for text in words:
        options.check_text(text)
        if describes and not text.strip():
            raise TextError(f"the target is empty: {_DESCRIBED}")
    needed = any(method.words == "required" for method in methods)
    apart = any(getattr(method, "regions", False) for method in methods)
    if needed and not words and not learned and describes:
        raise TextError(f"the target is missing: {_DESCRIBED}")
    if needed and not words and not learned:
        raise TextError(f"the instruction is missing: give WORDS, {_EXAMPLE}, or a learned file with --learned")
    if strength is not None and not learned:
        own = "; that of the method is --set strength=0.8" if any(hasattr(m, "strength") for m in methods) else ""
        raise UsageError(f"--strength is that of learned instructions: give one with --learned{own}")
    looks = wording.named(list(learned))
    if strength is not None:
        looks = {name: look * strength for name, look in looks.items()}
    told, notes = _called(list(words), looks, apart=apart)
    for text in told:
        instruction.parse(text, looks)
    if noise == "recorded" and not any(look.noise is not None for look in looks.values()):
        raise MethodError(
            "--noise recorded needs a learned file that has its noises: learn it with --record-noise, give it with --learned"
        )
    return Asked(instruction=told[0] if len(told) == 1 else told or None, looks=looks, notes=notes)


def _called(words: list[str], looks: dict[str, LearnedInstruction], *, apart: bool) -> tuple[list[str], list[str]]:
    """The words, in which every learned file is called by its name."""
    from showtell import instruction

    called = {name for text in words for name in instruction.names_in(text)}
    idle = [name for name in looks if name not in called]
    if not words and len(looks) < 2 or not idle:
        return words, []
    if apart:
        told = [*(f"<{name}>" for name in idle), *words]
        said = "is an instruction of its own, since the words do not call it"
        return told, [f"<{name}> {said}: number {number}" for number, name in enumerate(idle, 1)]
    if len(looks) == 1 and words[0].strip():
        told = [f"<{idle[0]}> {words[0]}", *words[1:]]
        return told, [f'the words do not call <{idle[0]}>, so it was put before them: "{told[0]}"']
    names = " ".join(f"<{name}>" for name in looks)
    fault = f"<{idle[0]}> is not in the words" if words else "several learned files and no words"
    raise TextError(f'{fault}: say how they go together, for example "{names}"')


def pairs(methods: Sequence[Any], before: Path | None, after: Path | None) -> Pairs | None:
    """The pair of a method that takes one. Raises ``UsageError`` where none does, or for one that is not whole."""
    from showtell.pairs import Pairs

    taking = [m.name for m in methods if "pairs" in {field.name for field in dataclasses.fields(m)}]
    if before is None and after is None:
        if taking:
            raise ImageError(f"method {taking[0]!r} needs a pair: give its pictures with --before and --after")
        return None
    if not taking:
        raise MethodError(
            f"method {methods[0].name!r} takes no --before and --after: learn the edit with 'showtell learn --before A "
            "--after B -o look.safetensors', then edit with --learned look.safetensors"
        )
    if before is None or after is None:
        raise ImageError(f"one picture of a pair: --{'before' if before is None else 'after'} is missing")
    return Pairs.of([(before, after)])


def learned_files(learned: Sequence[Path]) -> list[Any]:
    """Learned instructions from their files, in order. Raises ``FileFormatError``."""
    from showtell.learned import LearnedInstruction

    return [LearnedInstruction.load(path) for path in learned]
