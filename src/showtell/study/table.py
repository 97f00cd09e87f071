"""A tally in the layout of FoI's Table 2, with the published shares in a column of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..bench.published import FOI_2
from .counting import Cell, Split, Tally
from .folder import System
from .plan import CRITERIA, Criterion, Key

_PAPERS = {
    "DiffEdit": "diffedit", "NTI+P2P": "nti-p2p", "IP2P": "ip2p", "MagicBrush": "magicbrush", "InsDiff": "insdiff", "FoI": "foi",
}  # fmt: skip
PUBLISHED = {label: tuple(FOI_2.rows[row]) for label, row in _PAPERS.items()}
"""Guo and Lin 2024, Table 2, in %: single instruction, then multi-instruction; instruction alignment, then image alignment."""
NOTE = (
    "published: Guo and Lin (FoI, CVPR 2024), Table 2, of 60 people and 20 pictures of each kind. Not the same pictures, people "
    "and weights as here, and a choice among those six: a share depends on what else there is to choose from"
)
TITLES: dict[Split, str] = {"single": "One instruction", "multi": "Several instructions"}
NAMES: dict[Criterion, str] = {"instruction": "instruction alignment", "image": "image alignment"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """One half of the paper's table: a title, the columns' names, and a row a system."""

    title: str
    head: list[str]
    rows: list[list[str]]


def tables(tally: Tally, key: Key) -> list[Table]:
    """Both halves, each only where the study asked about such rows."""
    return [_table(tally, key, split) for split in TITLES if tally.rows[split]]


def published_name(system: System) -> str | None:
    """The row of the paper's table that a system belongs to, None for one that the paper does not have."""
    model = system.model.id.lower() if system.model else ""
    if system.method == "ip2p":
        special = {"magicbrush": "MagicBrush", "magic-brush": "MagicBrush", "instructdiffusion": "InsDiff"}
        return next((name for part, name in special.items() if part in model), "IP2P")
    return {"foi": "FoI", "diffedit": "DiffEdit", "p2p": "NTI+P2P"}.get(system.method)


def lines(tally: Tally) -> list[str]:
    """The counts in words."""
    told = [
        f"study {tally.study}: {tally.participants} participant(s) counted"
        + (f" ({tally.unfinished} of them did not finish)" if tally.unfinished else "")
        + f", {len(tally.dropped)} dropped, {len(tally.refused)} file(s) refused; {tally.answers} answers on "
        f"{tally.rows['all']} rows"
    ]
    told += [f"dropped: {one.participant}: {one.why}" for one in tally.dropped]
    if tally.answers:
        told.append("places chosen, from the first on the page: " + ", ".join(map(str, tally.places)))
    return told


def _table(tally: Tally, key: Key, split: Split) -> Table:
    people = tally.participants >= 2
    head = ["system"]
    for criterion in CRITERIA:
        head += [NAMES[criterion], "95 %", *(["over people"] if people else []), "published"]
    found, ours = [], set()
    for system in key.systems:
        name = published_name(system)
        ours.add(name)
        row = [system.name]
        for criterion in CRITERIA:
            row += [*_cell(tally.cell(system.name, criterion, split), people), _published(name, criterion, split)]
        found.append(row)
    for name in PUBLISHED:
        if name not in ours:
            empty = ["-"] * (3 if people else 2)
            found.append(
                [f"({name})", *(part for c in CRITERIA for part in (*empty, _published(name, c, split)))]
            )  # fmt: skip
    rows = f"{tally.rows[split]} row{'s' if tally.rows[split] != 1 else ''}"
    return Table(title=f"{TITLES[split]} ({rows}; by chance {100 / len(key.systems):.1f} %)", head=head, rows=found)


def _cell(cell: Cell, people: bool) -> list[str]:
    share = "-" if cell.share is None else f"{100 * cell.share:.1f} % ({cell.votes}/{cell.answers})"
    return [share, _interval(cell.wilson), *([_interval(cell.bootstrap)] if people else [])]


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def _published(name: str | None, criterion: Criterion, split: Split) -> str:
    if name is None:
        return "-"
    return f"{PUBLISHED[name][2 * (split == 'multi') + (criterion == 'image')]:.2f} %"
