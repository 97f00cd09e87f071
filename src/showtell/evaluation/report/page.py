"""One self-contained HTML page of a result folder."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from . import embedded, reading
from .reading import Results

_PLACE = re.compile(r"\{\{([a-z-]+)\}\}")


def html(folder: Path, *, side: int = 160, most: int = 200) -> str:
    """The report of a result folder, as the text of one HTML file.

    It asks for nothing from outside, which its content security policy states, and opens from the disk. Thumbnails are at most
    ``side`` pixels a side; of more than ``most`` rows that many are shown, drawn at random with the evaluation's seed, which the
    page says. Raises what :func:`reading.read` raises.
    """
    return page(reading.read(Path(folder)), side=side, most=most)


def page(results: Results, *, side: int = 160, most: int = 200) -> str:
    """The report of a result folder that has been read: see :func:`html`."""
    script, style = _asset("page.js"), _asset("page.css")
    dataset, protocol = results.evaluation["dataset"], results.evaluation["protocol"]
    data = embedded.embedded(results, side=side, most=most)
    parts = {
        "title": escape(f"{dataset.get('name', 'a data set')}, protocol {protocol.get('name', '')}"),
        "subtitle": escape(_subtitle(results)),
        "notes": _problems(dataset.get("problems") or []),
        "protocol": _protocol(protocol),
        "systems": _systems(results.evaluation["systems"]),
        "reading": _reading(results),
        "summary": _summary(results),
        "sampled": escape(_sampled(len(data["shown"]), len(results.rows), results.evaluation.get("seed"))),
        "no-groups": "" if data["groups"] else "hidden",
        "no-systems": "" if data["systems"] else "hidden",
        "no-columns": "" if data["columns"] and data["systems"] else "hidden",
        "data": embedded.as_script(data),
        "script": script,
        "style": style,
        "script-hash": _hash(script),
        "style-hash": _hash(style),
    }
    filled = _PLACE.sub(lambda found: parts[found[1]], _asset("page.html"))
    return filled.encode("utf-8", "replace").decode()  # a lone half of a surrogate pair cannot be written


def _asset(name: str) -> str:
    return resources.files(__name__.rpartition(".")[0]).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _subtitle(results: Results) -> str:
    evaluation, dataset = results.evaluation, results.evaluation["dataset"]
    parts = [
        f"{len(results.rows)} pictures",
        f"{len(results.systems)} systems",
        f"seed {evaluation.get('seed')}",
        f"showtell {evaluation.get('version')}",
        str(results.summary.get("machine") or ""),
        f"from {dataset['source']}" if dataset.get("source") else "",
        ", ".join(f"{key} = {value}" for key, value in _settings(dataset).items() if value is not None),
        f"data {dataset.get('fingerprint')}",
    ]
    return " · ".join(part for part in parts if part)


def _settings(dataset: Mapping[str, Any]) -> Mapping[str, Any]:
    """The loader's options; older folders have none."""
    found = dataset.get("settings")
    return found if isinstance(found, dict) else {}


def _problems(problems: Sequence[Mapping[str, Any]]) -> str:
    if not problems:
        return ""
    items = "".join(f"<li><code>{_text(one.get('id'))}</code>: {_text(one.get('what'))}</li>" for one in problems)
    count = f"{len(problems)} row{'s' * (len(problems) != 1)} of the data set could not be used"
    return f'<details class="warning"><summary>{count}</summary><ul>{items}</ul></details>'


def _protocol(protocol: Mapping[str, Any]) -> str:
    heads = ("Measure", "Function", "Of what", "Values")
    body = [_measure(measure) for measure in protocol["measures"]]
    note = f"<p>{_text(protocol.get('note'))}</p>" if protocol.get("note") else ""
    told = f"Protocol {_text(protocol.get('name'))} ({len(body)} measures, digest {_text(protocol.get('digest'))})"
    return f"<details><summary>{told}</summary>{note}{_table(heads, body)}</details>"


def _measure(measure: Mapping[str, Any]) -> list[str]:
    """Everything that a measure's value depends on, in four cells."""
    against = f"; against {measure['against']}" if measure.get("against") else ""
    scale = f", times {measure['scale']:g}" if measure.get("scale", 1) != 1 else ""
    values = f"{measure.get('range')}, {measure.get('reduction')}{scale}; {measure.get('better')} is better"
    return [
        f"{_text(measure.get('label'))}<small>{_text(measure['name'])}</small>",
        f"<code>{_text(measure.get('function'))}</code><small>{_text(measure.get('model'))}</small>",
        f'<div class="wide">{_text(measure.get("where"))}{_text(against)}; {_text(measure.get("input"))}</div>',
        _text(values),
    ]


def _systems(systems: Sequence[Mapping[str, Any]]) -> str:
    heads = ("System", "Method", "Settings", "Model", "Weights", "Precision", "Device", "Curve")
    body = []
    for one in systems:
        model, at = one.get("model") or {}, one.get("at") or {}
        settings = ", ".join(f"{key} = {value}" for key, value in (one.get("settings") or {}).items())
        curve = f"{one.get('curve') or ''}{' at ' if at else ''}{at.get('name', '')}{' = ' if at else ''}{at.get('value', '')}"
        own = [
            one["name"],
            one.get("method"),
            settings or "the method's own",
            *map(model.get, ("id", "weights", "dtype", "device")),
        ]
        body.append([_text(value) for value in (*own, curve)])
    return f"<details><summary>Systems, settings and models ({len(body)})</summary>{_table(heads, body)}</details>"


def _table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in body)
    return f'<div class="scroll"><table><thead><tr>{_heads(heads)}</tr></thead><tbody>{rows}</tbody></table></div>'


def _heads(heads: Sequence[str]) -> str:
    return "".join(f"<th>{escape(head)}</th>" for head in heads)


def _reading(results: Results) -> str:
    missing = sum(score is None for own in results.scores.values() for score in own)
    bounds = any(reading.bound(system) for system in results.evaluation["systems"])
    text = "Each figure with its 95 % interval; the best of a column is marked" + (", bounds apart." if bounds else ".")
    return text + (f" <strong>{missing} pictures are not measured yet.</strong>" if missing else "")


def _summary(results: Results) -> str:
    """The table of all systems, whose heads the script makes sort."""
    measures = [measure["name"] for measure in results.measures]
    rows = results.summary["rows"]
    known = {name: [_figure(row, name).get("value") for row in rows] for name in measures}
    bounds = {system["name"] for system in results.evaluation["systems"] if reading.bound(system)}
    rated = {
        name: [_figure(row, name).get("value") for row in rows if row["system"] not in bounds] for name in measures
    }
    best = {m["name"]: reading.best(rated[m["name"]], lower=m.get("better") == "lower") for m in results.measures}
    places = {name: embedded.decimals(known[name]) for name in measures}
    heads = [_head("System", text=True)]
    for measure in results.measures:
        heads.append(_head(str(measure.get("label") or measure["name"]), better=str(measure.get("better"))))
    heads += [
        _head("Pictures", better="higher"),
        _head("Failed", better="lower"),
        _head("Seconds each", better="lower"),
    ]
    body = []
    for row in rows:
        label, name = results.labels[row["system"]], row["system"]
        cells = [f'<td data-value="{_text(label)}" title="{_text(name)}">{_text(label)}</td>']
        out = row["system"] in bounds
        cells += [_cell(_figure(row, name), places[name], None if out else best[name]) for name in measures]
        cells += [_plain(row.get("count")), _plain(row.get("failed")), _plain(row.get("seconds"), ".2f")]
        kind = ' class="bound"' if out else ""
        body.append(f"<tr{kind}>{''.join(cells)}</tr>")
    table = f'<table class="sortable" id="summary-table"><thead><tr>{"".join(heads)}</tr></thead>'
    return f"{table}<tbody>{''.join(body)}</tbody></table>"


def _head(words: str, *, better: str = "lower", text: bool = False) -> str:
    kind = ' data-text="1"' if text else ""
    return f'<th data-better="{escape(better)}"{kind}><button type="button">{_text(words)}</button></th>'


def _figure(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return row["measures"].get(name) or {}


def _cell(figure: Mapping[str, Any], places: int, best: float | None) -> str:
    value, low, high = (figure.get(key) for key in ("value", "low", "high"))
    if value is None:
        shown = "–"
    else:
        mark = ' class="best"' if value == best else ""
        shown = f"<span{mark}>{value:.{places}f}</span>"
        if low is not None and high is not None:
            shown += f"<small>{low:.{places}f} to {high:.{places}f}</small>"
    if figure.get("invalid"):
        shown += f"<small>{int(figure['invalid'])} without a value</small>"
    return f'<td data-value="{"" if value is None else value}">{shown}</td>'


def _plain(value: float | None, form: str = "") -> str:
    return f'<td data-value="{"" if value is None else value}">{"–" if value is None else format(value, form)}</td>'


def _sampled(shown: int, count: int, seed: Any) -> str:
    if shown == count:
        return f"All {count} pictures."
    return f"{shown} of {count} pictures, drawn at random with seed {seed}; the tables and charts are of all."


def _text(value: Any) -> str:
    return "" if value is None else escape(str(value))
