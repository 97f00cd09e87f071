"""Which candidates a triplet has, and what each draws: its own seed, share of self-attention and guidance (methods.md, 1)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random
from typing import Any

from ..data import safe_id
from ..data.reading import from_json, json_lines
from ..data.triplets import Triplet, parse
from ..errors import FileFormatError, MethodError
from ..guidance import check_scale
from ..work import Item

PAPER: dict[str, Any] = {
    "candidates": 100,
    "num_inference_steps": 100,
    "guidance": (7.5, 15.0),
    "self_attention": (0.1, 0.9),
    "cross_attention": 0.0,
    "scheduler": "euler-ancestral",
}
"""As InstructPix2Pix's were made: 100 candidates of 100 ancestral steps, self-attention alone shared."""
_AT_ONCE = 200_000
"""Rows of work that are held in memory."""


@dataclass(frozen=True, kw_only=True)
class Lots:
    """How the candidates of a pair are drawn. None takes the model card's value, else the paper's.

    candidates: how many a pair, 1 to 10,000; num_inference_steps: 1 to 1000; guidance: the ends of the uniform distribution of
    ``guidance_scale``; self_attention: those of the share of steps in which the two pictures share their self-attention, in
    [0, 1]; cross_attention: the share in which they share their cross-attention; scheduler: a scheduler's name.
    """

    candidates: int | None = None
    num_inference_steps: int | None = None
    guidance: tuple[float, float] | None = None
    self_attention: tuple[float, float] | None = None
    cross_attention: float | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        """Raises ``MethodError`` for a value out of range."""
        for name, most in (("candidates", 10_000), ("num_inference_steps", 1000)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise MethodError(f"{name}={value} is out of range: it must be from 1 to {most}")
        if self.cross_attention is not None:
            check_scale("cross_attention", self.cross_attention, least=0.0, most=1.0)
        for name, limits in (("guidance", {"least": 0.0}), ("self_attention", {"least": 0.0, "most": 1.0})):
            ends = getattr(self, name)
            for end in ends or ():
                check_scale(name, end, **limits)
            if ends is not None and (len(ends) != 2 or ends[0] > ends[1]):
                raise MethodError(f"{name}={ends} is not a range: give the smaller end and the larger, such as 0.1,0.9")

    def settled(self, card: Mapping[str, Any]) -> tuple[Lots, dict[str, str]]:
        """All values filled, and for each whether it was given, or is the card's or the paper's."""
        values, origin = {}, {}
        for name in (field.name for field in fields(self)):
            choices = {"given": getattr(self, name), "card": card.get(name), "paper": PAPER[name]}
            origin[name] = next(source for source, value in choices.items() if value is not None)
            value = choices[origin[name]]
            values[name] = tuple(map(float, value)) if isinstance(value, (list, tuple)) else value
        return Lots(**values), origin


def read_triplets(path: Path, *, limit: int | None = None) -> list[Triplet]:
    """The triplets of a file of JSON lines with ``source_caption``, ``instruction`` and ``target_caption``; InstructPix2Pix's
    names for them (``input`` or ``caption``, ``edit``, ``output``) are read as well.

    Raises ``FileFormatError`` that names the first line that lacks something or repeats an id, and for a file without lines.
    """
    found: dict[str, Triplet] = {}
    for number, text in json_lines(path):
        if limit is not None and len(found) == limit:
            break
        record = from_json(text, f"{path}, line {number}")
        try:
            one = parse({**record, "id": _id(record, len(found))} if isinstance(record, Mapping) else record)
        except FileFormatError as error:
            raise FileFormatError(
                f"{path}, line {number}: {error}: each line needs a caption, an instruction and the edited caption"
            ) from error
        if one.id in found:
            raise FileFormatError(f"{path}, line {number}: the id {one.id!r} is there twice: give each line its own")
        found[one.id] = one
    if not found:
        raise FileFormatError(f"{path}: holds no triplet")
    return list(found.values())


def _id(record: Mapping[str, Any], number: int) -> str:
    told = record.get("id")
    if told in (None, ""):
        return f"p{number:06d}"
    return safe_id(str(told).replace(".", "\0"))  # readers of WebDataset take a key to end at the first dot


def parts(triplets: Sequence[Triplet], lots: Lots, *, seed: int, shard_size: int) -> Iterator[list[Item]]:
    """The rows of some whole shards at a time: half a million caption pairs with a hundred candidates each are more rows than
    memory holds.
    """
    assert lots.candidates is not None
    pairs = shard_size * max(1, _AT_ONCE // (shard_size * lots.candidates))
    for first in range(0, len(triplets), pairs):
        yield items(triplets[first : first + pairs], lots, seed=seed, shard_size=shard_size, first=first)


def items(triplets: Sequence[Triplet], lots: Lots, *, seed: int, shard_size: int, first: int = 0) -> list[Item]:
    """One row of work for each candidate; all candidates of a pair lie in one shard, which holds ``shard_size`` pairs. ``first``
    is the place of the first triplet in its file.
    """
    assert lots.candidates is not None
    return [
        Item(id=f"{one.id}-c{number:02d}", shard=place // shard_size, told=_told(one, number, lots, seed))
        for place, one in enumerate(triplets, start=first)
        for number in range(lots.candidates)
    ]


def _told(one: Triplet, number: int, lots: Lots, seed: int) -> dict[str, Any]:
    """A candidate's words and draws: of the pair's id, the candidate's number and the seed alone."""
    assert lots.guidance is not None and lots.self_attention is not None
    draw = Random(int.from_bytes(hashlib.sha256(f"{seed}:{one.id}:{number}".encode()).digest()[:8], "big"))
    return {
        "pair": one.id,
        "candidate": number,
        "instruction": one.instruction,
        "source_caption": one.source_caption,
        "target_caption": one.target_caption,
        "seed": draw.getrandbits(32),
        "guidance_scale": round(draw.uniform(*lots.guidance), 4),
        "self_replace_steps": round(draw.uniform(*lots.self_attention), 4),
        **{name: value for name in ("origin", "scene", "group") if (value := getattr(one, name)) not in (None, "")},
    }
