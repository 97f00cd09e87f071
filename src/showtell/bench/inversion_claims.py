"""Which of the paper's orderings hold in what was measured; each is looked up, not asserted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from showtell.bench.inversion_tables import ITERATIONS, OMEGAS, RATES, iterations, standard_error

FAR = 3.0
"""What is far better is better by at least so many dB."""
NEAR = 1.0
"""How near to the autoencoder PTI is to come, dB."""


def claims(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Each claim, whether it holds, and the figures that say so."""
    found: list[dict[str, Any]] = []
    if "table1" in figures:
        found += _first(figures["table1"])
    if "table2" in figures:
        found += _second(figures["table2"])
    if "table3" in figures:
        found += _third(figures["table3"])
    if "figure4" in figures:
        found += _fourth(figures["figure4"])
    if "figure6" in figures:
        found += _sixth(figures["figure6"])
    return found


def _claim(text: str, holds: bool, evidence: str) -> dict[str, Any]:
    return {"claim": text, "holds": bool(holds), "evidence": evidence}


def _first(table: dict[str, Any]) -> list[dict[str, Any]]:
    value = {(f, b): table[f"ddim-{f:g}-{b:g}"]["psnr"] for f in OMEGAS for b in OMEGAS}
    best = {f: max(OMEGAS, key=lambda b: value[f, b]) for f in OMEGAS}
    same = [value[w, w] for w in OMEGAS]
    text = ", ".join(f"{f:g}: {best[f]:g}" for f in OMEGAS)
    return [
        _claim(
            "Table 1: each line is best where both scales are the same",
            all(f == b for f, b in best.items()),
            f"the best way back of each way there: {text}",
        ),
        _claim(
            "Table 1: where both scales are the same, PSNR falls as they grow",
            all(a >= b for a, b in zip(same, same[1:], strict=False)),
            ", ".join(f"{w:g}: {v:.1f} dB" for w, v in zip(OMEGAS, same, strict=True)),
        ),
    ]


def _second(table: dict[str, Any]) -> list[dict[str, Any]]:
    most = ITERATIONS[-1]
    names = {
        "AE": "autoencoder",
        "PTI": f"pti-{most}-0.01",
        "NTI": f"nti-{most}-0.01",
        "DDIM": f"ddim-0-{OMEGAS[-1]:g}",
    }
    rows = {short: table[name] for short, name in names.items()}
    found = []
    for better, worse, least in (("AE", "PTI", 0.0), ("PTI", "NTI", 0.0), ("NTI", "DDIM", FAR)):
        gap, error = _gap(rows[better]["values"], rows[worse]["values"])
        sign = f"by {least:g} dB or more " if least else ""
        found.append(
            _claim(f"Table 2: {better} is {sign}better than {worse}", gap >= least, f"{gap:+.2f} ± {error:.2f} dB")
        )
    gap, error = _gap(rows["AE"]["values"], rows["PTI"]["values"])
    found.append(
        _claim(
            f"PTI is within {NEAR:g} dB of the autoencoder at N = {most}, β = 0.01",
            gap <= NEAR,
            f"{gap:.2f} ± {error:.2f} dB below",
        )
    )
    return found


def _third(table: dict[str, Any]) -> list[dict[str, Any]]:
    cells = [(n, rate) for rate in RATES for n in iterations(table)]
    gaps = {cell: _gap(table[f"pti-{cell[0]}-{cell[1]:g}"]["values"], table[f"nti-{cell[0]}-{cell[1]:g}"]["values"])
            for cell in cells}  # fmt: skip
    won = [cell for cell in cells if gaps[cell][0] >= 0]
    lost = ", ".join(
        f"N {n} β {r:g} ({gaps[n, r][0]:+.2f} ± {gaps[n, r][1]:.2f} dB)" for n, r in cells if (n, r) not in won
    )
    most, rate = ITERATIONS[-1], RATES[-1]
    gap, error = _gap(table["autoencoder"]["values"], table[f"pti-{most}-{rate:g}"]["values"])
    return [
        _claim(
            "Table 3: PTI is at least as good as NTI in every cell",
            len(won) == len(cells),
            f"in {len(won)} of {len(cells)} cells{'; not at ' + lost if lost else ''}",
        ),
        _claim(
            f"PTI is within {NEAR:g} dB of the autoencoder at N = {most}, β = {rate:g}",
            gap <= NEAR,
            f"{gap:.2f} ± {error:.2f} dB below",
        ),
    ]


def _gap(better: Sequence[float], worse: Sequence[float]) -> tuple[float, float]:
    gaps = [a - b for a, b in zip(better, worse, strict=True)]
    return sum(gaps) / len(gaps), standard_error(gaps)


def _fourth(curves: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    found = []
    if all(row["frechet"] is not None for rows in curves.values() for row in rows):
        beaten, compared, told = 0, 0, []
        error = max(row["frechet_error"] for row in curves["PTI"])
        for name, rows in curves.items():
            if name.startswith("PTI"):
                continue
            gaps = [over_curve(row["perceptual"], row["frechet"], curves["PTI"]) for row in rows]
            known = [gap for gap in gaps if gap is not None]
            above = sum(gap >= 0 for gap in known)
            beaten, compared = beaten + above, compared + len(known)
            mean = f" (on average {sum(known) / len(known):+.1f})" if known else ""
            told.append(f"{name} {above} of {len(known)}{mean}")
        found.append(
            _claim(
                "Figure 4: PTI's curve is the best (no point of another lies below it)",
                compared > 0 and beaten == compared,
                f"points of the others above PTI's curve, of those at distances that it covers: {', '.join(told)}; a value of "
                f"PTI's own has a standard error of up to {error:.1f}",
            )
        )
    missed = {name: rows[len(rows) // 2].get("missed") for name, rows in curves.items()}
    best = {name: max(row["success"] for row in rows) for name, rows in curves.items()}
    text = ", ".join(f"{name} {value:.0%}" for name, value in best.items())
    beside = ", ".join(f"{name} {value:.0%}" for name, value in missed.items() if value is not None)
    text += f"; cases whose mask lies beside what is to change, at the middle threshold: {beside}"
    found.append(
        _claim(
            "Figure 4 against the truth: PTI has the most right edits, each method at its best threshold",
            best["PTI"] >= max(value for name, value in best.items() if not name.startswith("PTI")),
            text,
        )
    )
    return found


def over_curve(x: float, y: float, rows: Sequence[dict[str, Any]]) -> float | None:
    """How far a point lies above the curve through the rows, perceptual distance and Fréchet distance; None beside it."""
    points = sorted((row["perceptual"], row["frechet"]) for row in rows)
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if x0 <= x <= x1:
            return y - (y0 if x1 == x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0))
    return None


def _sixth(parts: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    eta = {row["settings"]["eta"]: row for row in parts["eta"]}
    best = max(eta, key=lambda value: eta[value]["success"])
    text = ", ".join(f"η {value:g}: {row['success']:.0%}" for value, row in eta.items())
    beta = {row["system"]: row for row in parts["beta"]}
    right = [row["success"] for row in beta.values()]
    return [
        _claim("Figure 6: η = 0.9 is the best of all η (right edits)", best == 0.9, text),
        _claim(
            "Figure 6: β = 0.1 is at least as good as 0.05 and 0.01 (right edits)",
            right[0] >= max(right),
            ", ".join(f"{name.split('-beta-')[1].split('-')[0]}: {row['success']:.0%}" for name, row in beta.items()),
        ),
    ]
