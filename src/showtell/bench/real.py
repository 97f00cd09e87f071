"""The papers' tables on a data set of the user's: each table is an evaluation in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell import evaluation
from showtell.bench import published
from showtell.bench.foi_compared import preferences
from showtell.errors import UsageError
from showtell.evaluation import System, publishing

if TYPE_CHECKING:
    from showtell.data import Dataset, Row
    from showtell.metrics.protocol import Meter


def every(row: Row) -> bool:
    """All rows of a data set."""
    return True


@dataclass(frozen=True, kw_only=True)
class Part:
    """One table: ``systems`` over the first ``limit`` rows (all for None) that ``keep`` takes, under the bench's protocol or one
    of the part's own.

    ``labels``: system -> how the table calls it. ``paper``: the published table, ``paper_rows`` the row of each system in it, and
    behind a ``|`` what its columns are called there beyond ``paper_columns``, the column of each measure. ``note`` says what
    differs. ``seconds``: the table is of what a picture costs.
    """

    name: str
    title: str
    systems: Sequence[System]
    labels: Mapping[str, str] = field(default_factory=dict)
    paper: published.Table | None = None
    paper_rows: Mapping[str, str] = field(default_factory=dict)
    paper_columns: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    limit: int | None = None
    keep: Callable[[Row], bool] = every
    protocol: str = ""
    seconds: bool = False

    def of(self, rows: Dataset) -> Dataset | None:
        """The rows that it takes; None where there is none."""
        own = tuple(row for row in rows.rows if self.keep(row))[: self.limit]
        return replace(rows, rows=own) if own else None


def measure(
    parts: Sequence[Part], rows: Dataset, out: Path, *, meters: Callable[[str], Meter], **options: Any
) -> dict[str, Any]:
    """Run every part into ``out/<its name>`` and return its summary, by name; None where no row of the data set is for it.

    ``meters`` gives the loaded meter of a protocol's name ("" for the bench's own); ``options`` go to ``evaluation.run``.
    """
    found: dict[str, Any] = {}
    for part in parts:
        own = part.of(rows)
        if own is None:
            found[part.name] = None
            continue
        summary = evaluation.run(own, part.systems, meters(part.protocol), out / part.name, **options)
        publishing.publish(out / part.name)
        shares = _shares(out / part.name)
        found[part.name] = {**summary, "shares": shares} if shares else summary
    if not any(found.values()):
        raise UsageError(f"{rows.source or rows.name}: no row of it is for any of these tables")
    return found


def _shares(folder: Path) -> dict[str, float]:
    """PickScore's share of each system, where it was measured (see ``foi_compared.preferences``)."""
    entries: dict[str, list[dict[str, Any]]] = {}
    for one in evaluation.scores(folder):
        value = one["values"].get("pick_score")
        own = entries.setdefault(one["system"], [])
        if value is not None:
            own.append({"seed": one["id"], "pick": value})
    return preferences(entries) if all(entries.values()) else {}


def markdown(parts: Sequence[Part], found: Mapping[str, Any], *, head: str) -> str:
    """The tables as text."""
    lines = [f"<!-- {head} -->", ""]
    for part in parts:
        summary = found[part.name]
        lines += [f"### {part.title}", ""]
        if summary is None:
            lines += ["No row of the data set is for this table.", ""]
            continue
        lines += [_told(part, summary), "", *_table(part, summary), ""]
    return "\n".join(lines)


def _told(part: Part, summary: dict[str, Any]) -> str:
    about = summary["evaluation"]
    models = sorted({one["model"]["id"] for one in about["systems"] if one["model"]})
    rows = about["dataset"]["count"]
    text = (
        f"{rows} row{'s' if rows != 1 else ''} of {about['dataset']['name']}, {', '.join(models) or 'no model'}, protocol "
        f"{about['protocol']['name']} ({about['protocol']['digest']}); 95 % bootstrap intervals."
    )
    if part.paper is not None and part.paper_rows:
        text += f" In brackets the paper's: {part.paper.setting}."
    elif part.paper is None:
        text += f" The paper's values: {published.NONE}."
    return f"{text} {part.note}".strip()


def _table(part: Part, summary: dict[str, Any]) -> list[str]:
    if part.seconds:
        return _seconds(part, summary)
    shares = summary.get("shares", {})
    rows = {row["system"]: row for row in summary["rows"]}
    shown = [
        m for m in summary["evaluation"]["protocol"]["measures"]
        if any(row["measures"].get(m["name"], {}).get("value") is not None for row in rows.values())
    ]  # fmt: skip
    more = ["PickScore share"] if shares else []
    lines = [["", *(m["label"] for m in shown), *more, "pictures", "failed"]]
    for system in part.systems:
        row = rows[system.name]
        cells = [_cell(row["measures"].get(m["name"]) or {}, _published(part, system.name, m["name"])) for m in shown]
        if shares:
            told = _published(part, system.name, "pick_share")
            cells.append(f"{shares.get(system.name, 0):.3f}" + (f" ({told})" if told else ""))
        lines.append([part.labels.get(system.name, system.name), *cells, str(row["count"]), str(row["failed"])])
    return _lines(lines)


def _published(part: Part, system: str, measure: str) -> str:
    """The paper's value in a cell, "" where this cell has none."""
    row, column = part.paper_rows.get(system), part.paper_columns.get(measure)
    if part.paper is None or row is None or column is None:
        return ""
    row, _, suffix = row.partition("|")
    return part.paper.text(row, column + suffix)


def _cell(found: Mapping[str, Any], told: str) -> str:
    value = found.get("value")
    text = "–" if value is None else f"{value:.4g}"
    if found.get("low") is not None:
        text += f" [{found['low']:.3g}, {found['high']:.3g}]"
    if found.get("invalid"):
        text += f", {found['invalid']} without"
    return f"{text} ({told})" if told else text


def _seconds(part: Part, summary: dict[str, Any]) -> list[str]:
    """Table 6's layout: seconds, and over InstructPix2Pix's."""
    means = {row["system"]: row["seconds"] for row in summary["rows"]}
    lines = [["", "seconds here", "over IP2P", "the paper's seconds", "over IP2P", "pictures"]]
    for system in part.systems:
        own, usual = means[system.name], means.get("ip2p")
        told = part.paper.value(part.paper_rows.get(system.name, ""), "seconds") if part.paper else None
        theirs = part.paper.value("ip2p", "seconds") if part.paper else None
        here = ["–", "–"] if not own or not usual else [f"{own:.2f}", f"{own / usual:.2f}"]
        paper = ["–", "–"] if told is None or not theirs else [f"{told:.2f}", f"{told / theirs:.2f}"]
        count = next(row["count"] for row in summary["rows"] if row["system"] == system.name)
        lines.append([part.labels.get(system.name, system.name), *here, *paper, str(count)])
    return _lines(lines)


def _lines(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *rest = rows
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rest)]
