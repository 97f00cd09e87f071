"""The sieve's report: one HTML page with the yield, the scores' histograms, and pairs to look through, kept and dropped."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from ..errors import ImageError
from ..evaluation.report import embedded
from . import filter_charts
from .filter_candidates import Candidate
from .filter_choose import TESTS
from .filter_figures import SETTINGS, Sifted, group

NAMES = {
    "image": "before to after (CLIP-I)",
    "direction": "direction (CLIP-D)",
    "before": "before to its caption",
    "after": "after to its caption",
    "guidance_scale": "guidance",
    "self_replace_steps": "share of steps with one self-attention",
}
_TOLD = {
    "image": "pictures too unlike", "direction": "wrong direction", "before": "before unlike its caption",
    "after": "after unlike its caption",
}  # fmt: skip
_PLACE = re.compile(r"\{\{([a-z-]+)\}\}")
_SHARES = {"kept": 160, "outranked": 40, **dict.fromkeys(TESTS, 60)}
_SMALL = 128


def page(sifted: Sifted, figures: Mapping[str, Any], *, side: int = 128, most_bytes: int = 14 * 2**20) -> str:
    """The page's text, of less than 20 MB: of many candidates some are shown, drawn by a hash of their names; it says how many.

    It asks for nothing from outside, which its content security policy states. Thumbnails are at most ``side`` pixels a side.
    """
    script, own = _asset("filter.js"), _asset("filter.css")
    style = resources.files("showtell.evaluation.report").joinpath("page.css").read_text(encoding="utf-8") + own
    shown = _shown(sifted, side, most_bytes)
    data = {
        "rows": shown,
        "groups": sorted({row["group"] for row in shown}),
        "columns": [[name, NAMES[name]] for name in (*TESTS, *SETTINGS)],
        "tests": {test: {"told": _TOLD[test], "least": sifted.bounds.of(test)} for test in TESTS},
        "keep": sifted.bounds.keep,
    }
    parts = {
        "title": f"{figures['kept']} pairs of {figures['candidates']} candidates",
        "subtitle": escape(_subtitle(sifted, figures)),
        "yield": _yield(figures),
        "groups": _groups(figures["groups"]),
        "failures": _failures(figures),
        "histograms": "".join(_histogram(sifted, test) for test in TESTS),
        "curves": "".join(
            filter_charts.curve(NAMES[test], figures["thresholds"][test], least=sifted.bounds.of(test))
            for test in TESTS
        ),
        "settings": "".join(filter_charts.bars(NAMES[name], bins) for name, bins in figures["settings"].items()),
        "no-settings": "" if figures["settings"] else "hidden",
        "sampled": _sampled(len(shown), figures["scored"]),
        "data": embedded.as_script(data),
        "script": script,
        "style": style,
        "script-hash": _hash(script),
        "style-hash": _hash(style),
    }
    filled = _PLACE.sub(lambda found: parts[found[1]], _asset("filter.html"))
    return filled.encode("utf-8", "replace").decode()


def _asset(name: str) -> str:
    return resources.files(__name__.rpartition(".")[0]).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _subtitle(sifted: Sifted, figures: Mapping[str, Any]) -> str:
    models = sorted({str((one["recipe"].get("model") or {}).get("id", "")) for one in sifted.candidates.sources} - {""})
    least = ", ".join(f"{test} {sifted.bounds.of(test):g}" for test in TESTS)
    origin = ", ".join(f"{name} {source}" for name, source in figures["origin"].items())
    parts = [
        f"imagined by {', '.join(models)}" if models else "",
        f"scored by {figures['clip']['id']} ({figures['clip']['weights']})",
        f"at least {least}; the best {sifted.bounds.keep} of a pair ({origin})",
        f"showtell {sifted.recipe['versions']['showtell']}",
    ]
    return " · ".join(part for part in parts if part)


def _yield(figures: Mapping[str, Any]) -> str:
    def share(count: int, of: int) -> str:
        return f"{count / of:.1%}" if of else "–"

    scored = figures["scored"]
    lines = [
        ("caption pairs", figures["pairs"], ""),
        ("candidates", figures["candidates"], ""),
        ("failed", figures["failed"], share(figures["failed"], figures["candidates"])),
        ("with scores", scored, share(scored, figures["candidates"])),
        ("fail a test", figures["dropped"], share(figures["dropped"], scored)),
        ("pass all tests", figures["passed"], share(figures["passed"], scored)),
        ("outranked in their pair", figures["outranked"], share(figures["outranked"], scored)),
        ("kept", figures["kept"], share(figures["kept"], scored)),
        (
            "caption pairs with at least one",
            figures["pairs_with_one"],
            share(figures["pairs_with_one"], figures["pairs"]),
        ),
    ]
    counts = _table(("", "Count", "Share"), [[escape(name), f"{count:,}", told] for name, count, told in lines])
    tests = [
        [NAMES[test], f"{one['least']:g}", f"{one['fails']:,}", share(one["fails"], scored), f"{one['alone']:,}",
         f"{one['percentiles'].get('50', '–')}"]
        for test, one in figures["tests"].items()
    ]  # fmt: skip
    unchanged = figures["unchanged"]
    same = (
        f"{unchanged:,} have no direction, since pictures or captions are the same, and fail that test. "
        if unchanged
        else ""
    )
    heads = ("Test", "At least", "Fail it", "Share", "Fail it alone", "Median")
    kept = ", ".join(f"{count} with {n}" for n, count in figures["kept_of_a_pair"].items())
    return f"{counts}{_table(heads, tests)}<p class='quiet'>{same}Caption pairs by pairs kept: {escape(kept)}.</p>"


def _groups(groups: Mapping[str, Mapping[str, int]]) -> str:
    if not groups:
        return ""
    rows = []
    for name, one in groups.items():
        passes = f"{one['passed'] / one['scored']:.1%}" if one["scored"] else "–"
        with_one = f"{one['pairs_with_one']} ({one['pairs_with_one'] / one['pairs']:.0%})"
        rows.append(
            [escape(name) or "(none)", f"{one['pairs']}", f"{one['scored']:,}", passes, f"{one['kept']:,}", with_one]
        )
    return _table(("Kind of edit", "Caption pairs", "With scores", "Pass", "Kept", "Pairs with at least one"), rows)


def _failures(figures: Mapping[str, Any]) -> str:
    listed = figures["failures"]
    if not listed:
        return ""
    items = "".join(f"<li><code>{escape(one['id'])}</code>: {escape(one['what'])}</li>" for one in listed[:200])
    more = (
        f"<p class='quiet'>and {figures['failed'] - 200:,} more, in report.json</p>" if figures["failed"] > 200 else ""
    )
    return f"<details><summary>What failed ({figures['failed']:,})</summary><ul>{items}</ul>{more}</details>"


def _histogram(sifted: Sifted, test: str) -> str:
    series: dict[str, list[float]] = {"pass all tests": [], "fail another test": [], "fail this one": []}
    for row in sifted.judged:
        value, fails = getattr(sifted.scores[row.name], test), sifted.verdicts[row.name].fails
        if value == value:  # not NaN
            series["fail this one" if test in fails else "fail another test" if fails else "pass all tests"].append(
                value
            )
    kinds = zip(series.items(), ("c2", "c7", "c1"), strict=True)
    stacked = [(name, kind, values) for (name, values), kind in kinds]
    return filter_charts.histogram(NAMES[test], stacked, least=sifted.bounds.of(test))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _sampled(shown: int, count: int) -> str:
    if shown == count:
        return f"All {count:,} candidates that have scores."
    return (
        f"{shown:,} of {count:,} candidates, drawn by a hash of their names, some of every verdict; figures are of all."
    )


def _shown(sifted: Sifted, side: int, most_bytes: int) -> list[dict[str, Any]]:
    """Some candidates of every verdict that have pictures, as long as there is room."""
    there = [row for row in sifted.judged if row.before is not None]
    lots = sorted(there, key=lambda row: hashlib.sha256(row.name.encode()).digest())
    left = dict(_SHARES)
    chosen = []
    for row in lots:
        why = sifted.verdicts[row.name].why
        if left[why] > 0:
            left[why] -= 1
            chosen.append(row)
    found: list[dict[str, Any]] = []
    room = most_bytes
    for row in chosen:
        told = _row(sifted, row, side)
        room -= len(told["before"] or "") + len(told["after"] or "") + 1000
        if room < 0:
            break
        found.append(told)
    return sorted(found, key=lambda one: one["id"])


def _row(sifted: Sifted, row: Candidate, side: int) -> dict[str, Any]:
    verdict, record = sifted.verdicts[row.name], row.record
    drawn = {name: record[name] for name in SETTINGS if isinstance(record.get(name), (int, float))}
    pictures, small = {}, False
    for key in ("before", "after"):
        try:
            opened = getattr(row, key)()
            small = max(opened.size) <= _SMALL
            pictures[key] = embedded.thumbnail(opened, side)
        except ImageError:
            pictures[key] = None
    return {
        "id": row.name,
        "group": group(record),
        "words": str(record.get("instruction") or ""),
        "source": str(record.get("source_caption") or ""),
        "target": str(record.get("target_caption") or ""),
        "verdict": "dropped" if verdict.fails else verdict.why,
        "fails": list(verdict.fails),
        "figures": {**sifted.scores[row.name].told(), **drawn},
        "small": small,
        **pictures,
    }
