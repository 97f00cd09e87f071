"""Which systems stand in which table of which paper, for data sets of the user's (see ``real``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from showtell import methods
from showtell.bench import inversion_systems, inversion_tables, published
from showtell.bench import ip2p as sweep
from showtell.bench.foi_compared import STEPS, STRENGTH, Extras
from showtell.bench.foi_report import SHARES
from showtell.bench.inversion import OMEGA, RATIO
from showtell.bench.real import Part
from showtell.evaluation import System

_SIMILAR = {"clip_image": "image", "clip_directional": "directional", "clip_visual": "visual"}


def also(names: Sequence[str]) -> list[System]:
    """Methods of any name as systems."""
    return [System(name=f"also-{name}", method=name) for name in names]


def _labels(more: Sequence[System]) -> dict[str, str]:
    return {system.name: system.method for system in more}


def visii(*, limit: int | None, names: Sequence[str]) -> list[Part]:
    """Table 1, with every row that a data set allows: starts from a caption need no words, but starts from words need them."""
    systems, labels, rows = [System(name="words-untrained", method="ip2p")], {}, {"words-untrained": "words-untrained"}
    labels["words-untrained"] = "ground-truth words, no training"
    trained = [
        (f"{start}-{loss}" if pairs == 0 else f"caption-both-{pairs}", start, loss, max(1, pairs))
        for start, loss, pairs in (
            ("words", "mse", 0), ("caption", "mse", 0), ("words", "both", 0), *(("caption", "both", n) for n in (1, 2, 3, 4))
        )
    ]  # fmt: skip
    for name, start, loss, pairs in trained:
        settings: dict[str, Any] = {"clip_weight": 0.1 if loss == "both" else 0.0, "pairs": pairs}
        settings["init"] = "caption" if start == "caption" else "instruction"
        for noise in ("random", "recorded"):
            own = name if noise == "random" else f"{name}-fixed"
            systems.append(System(name=own, method="visii", settings={**settings, "noise": noise}))
            losses = "MSE + CLIP" if loss == "both" else "MSE"
            labels[own] = f"{pairs} pair{'s' if pairs > 1 else ''}, {losses}, from the {start}, {noise} noise"
            rows[own] = name if noise == "random" else f"{name}|, fixed"
    systems += [System(name="sdedit"), *(more := also(names))]
    labels |= {"sdedit": "SDEdit (Figure 7)", **_labels(more)}
    note = "The paper's row of a caption without training needs `showtell caption` first and is not made here."
    return [Part(name="table1", title="VISII, Table 1", systems=systems, labels=labels, paper=published.VISII_1,
                 paper_rows=rows, paper_columns=_SIMILAR, note=note, limit=limit)]  # fmt: skip


_FOI_LABELS = {"diffedit": "DiffEdit", "nti-p2p": "NTI + P2P", "ip2p": "IP2P", "magicbrush": "MagicBrush",
               "insdiff": "InsDiff", "foi": "FoI"}  # fmt: skip
_FOI_COLUMNS = {"clip_image": "CLIP-I", "dino_image": "DINO-I", "clip_directional": "CLIP-D", "pick_share": "PickScore"}


def foi(extras: Extras, *, limit: int | None, ablations: int, costs: int) -> list[Part]:
    """Tables 1, 3 to 5 and 6. A row of one instruction is of the single part, all others of the other."""
    systems = _compared(extras)
    labels = _FOI_LABELS | _labels(also(extras.also))
    usual: dict[str, Any] = {"labels": labels, "paper_rows": {name: name for name in _FOI_LABELS}}
    told: dict[str, Any] = {**usual, "paper_columns": _FOI_COLUMNS, "limit": limit, "systems": systems}
    parts = [
        Part(name="table1-single", title="FoI, Table 1, single instruction", paper=published.FOI_1_SINGLE,
             keep=lambda row: len(row.instructions) == 1, **told),
        Part(name="table1-multi", title="FoI, Table 1, several instructions", paper=published.FOI_1_MULTI,
             keep=lambda row: len(row.instructions) > 1, **told),
    ]  # fmt: skip
    run = int(100 * STRENGTH)
    studies: dict[str, tuple[str, published.Table, list[Any]]] = {
        "mask_step": ("FoI, Table 3: masks are found in this step", published.FOI_3,
                      [min(round(share * run), run - 1) for share in SHARES]),
        "modulation": ("FoI, Table 4: attention is modulated for this share of the steps", published.FOI_4, list(SHARES)),
        "disentangle": ("FoI, Table 5: the text term is masked for this share", published.FOI_5, list(SHARES)),
    }  # fmt: skip
    for setting, (title, paper, values) in studies.items() if ablations else ():
        own = [
            System(name=f"foi-{setting}-{value:g}", method="foi", curve=setting, at=(setting, value),
                   settings={setting: value, "num_inference_steps": 100, "strength": STRENGTH})
            for value in values
        ]  # fmt: skip
        theirs = "; ".join(f"{name} {', '.join(paper.text(name, c) for c in paper.columns)}" for name in paper.rows)
        note = f"The paper's, {paper.setting}, steps {', '.join(paper.columns)}: {theirs}."
        parts.append(
            Part(name=setting.replace("_", "-"), title=title, systems=own, note=note, limit=ablations, paper=paper,
                 labels={system.name: f"{value:g}" for system, value in zip(own, values, strict=True)})
        )  # fmt: skip
    if costs:
        timed = [
            s if s.name.startswith("also-")
            else System(name=s.name, method=s.method, model=s.model, settings={
                **s.settings, "num_inference_steps": STEPS, **({"strength": STRENGTH} if s.name == "foi" else {})})
            for s in systems
        ]  # fmt: skip
        note = (
            "Every method runs 50 steps, FoI 80 % of them. A batch's time is shared by its pictures: the paper's are of one at "
            "a time, --batch-size 1."
        )
        parts.append(
            Part(name="table6", title="FoI, Table 6: what a picture costs", systems=timed, paper=published.FOI_6, note=note,
                 limit=costs, protocol="pixels", seconds=True, **usual)
        )  # fmt: skip
    return parts


def _compared(extras: Extras) -> list[System]:
    rows = [System(name="diffedit"), System(name="nti-p2p", method="p2p"), System(name="ip2p")]
    if extras.magicbrush:
        rows.append(System(name="magicbrush", method="ip2p", model=extras.magicbrush))
    if extras.insdiff:
        rows.append(System(name="insdiff", method="instructdiffusion", model=extras.insdiff))
    return [*rows, System(name="foi"), *also(extras.also)]


def inversion(counts: Any, *, names: Sequence[str]) -> list[Part]:
    """Tables 1 to 3 of PTI as reconstructions, and Figures 4 and 6 as trade-off curves."""
    common = {"num_inference_steps": 50, "encoding_ratio": RATIO}
    parts: list[Part] = []
    omegas, most = inversion_tables.OMEGAS, inversion_tables.ITERATIONS[-1]

    def tuned(of: str, steps: int, rate: float) -> System:
        more = {"early_stop": False} if of == "nti" else {"start": "source"}
        settings = {**common, **more, "guidance_scale": OMEGA, "inner_steps": steps, "learning_rate": rate}
        return System(name=f"{of}-{steps}-{rate:g}", method=f"reconstruct-{of}", settings=settings)

    def ddim(forward: float, back: float) -> System:
        settings = {**common, "guidance_scale": back, "inversion_guidance_scale": forward}
        return System(name=f"ddim-{forward:g}-{back:g}", method="reconstruct-ddim", settings=settings)

    nti = "NTI takes the share 1 - i / 100 of its rate in step i, as published."
    if counts.table1:
        parts.append(Part(name="table1", title="PTI, Table 1: DDIM there and back, by both ω", limit=counts.table1,
                          systems=[ddim(f, b) for f in omegas for b in omegas], protocol="reconstruction"))  # fmt: skip
    if counts.table2:
        rows = [System(name="autoencoder"), ddim(0, OMEGA), tuned("nti", most, 0.01), tuned("pti", most, 0.01)]
        names_of = {"ddim-0-7.5": "ddim", f"nti-{most}-0.01": "nti", f"pti-{most}-0.01": "pti"}
        parts.append(
            Part(name="table2", title=f"PTI, Table 2: reconstructions at ω = {OMEGA:g}, N = {most}, β = 0.01", systems=rows,
                 limit=counts.table2, protocol="reconstruction", paper=published.PTI_2, paper_columns={"psnr_input": "PSNR"},
                 paper_rows={"autoencoder": "autoencoder", **names_of}, note=nti)
        )  # fmt: skip
    if counts.table3:
        rows = [
            tuned(of, n, rate)
            for of in ("nti", "pti")
            for rate in inversion_tables.RATES
            for n in inversion_tables.ITERATIONS
        ]
        parts.append(Part(name="table3", title="PTI, Table 3: iterations and rates", systems=rows, limit=counts.table3,
                          protocol="reconstruction", note=nti))  # fmt: skip
    if counts.figure4:
        parts.append(_curves("figure4", "PTI, Figure 4: fidelity against editability", inversion_systems.curves(),
                             also(names), counts.figure4))  # fmt: skip
    if counts.figure6:
        parts.append(_curves("figure6", "PTI, Figure 6: η and β", inversion_systems.ablation(), [], counts.figure6))
    return parts


def _curves(name: str, title: str, groups: dict[str, list[Any]], more: list[System], limit: int) -> Part:
    """The systems of the measurement on scenes as those of an evaluation: the inversion's settings go to the method itself."""
    systems: dict[str, System] = {}
    labels: dict[str, str] = {}
    for curve, own in groups.items():
        for one in own:
            known = {f.name for f in dataclasses.fields(methods.resolve(one.method))}
            settings = {k: v for k, v in {**(one.inverts or {}), **one.settings}.items() if k in known}
            at = next(((k, settings[k]) for k in _SWEPT.get(curve, _MASKS) if k in settings), None)
            made = System(name=one.name, method=one.method, settings=settings, curve=_safe(curve), at=at)
            systems.setdefault(one.name, made)
            labels[one.name] = curve if at is None or len(own) == 1 else f"{curve}, {at[0]} {at[1]:g}"
    note = "Every method is told both captions, so there is no DiffEdit without a source prompt."
    kept = [s for s in systems.values() if not (s.method == "diffedit" and "-source" not in s.name)]
    return Part(name=name, title=title, systems=[*kept, *more], labels=labels | _labels(more), note=note, limit=limit)


_MASKS = ("blend_threshold", "mask_threshold")
_SWEPT = {"eta": ("eta",), "beta": ("learning_rate",)}


def _safe(curve: str) -> str:
    return curve.replace(", ", "-").replace(" ", "-")


def ip2p(card: dict[str, Any], counts: Any, *, limit: int | None, names: Sequence[str]) -> list[Part]:
    """The sweep of s_I, and SDEdit's strengths."""
    systems, labels = [], {}
    for curve, points in sweep.curves(card, counts).items():
        for value, one in points:
            at = ("strength" if one.method == "sdedit" else "image_guidance_scale", value)
            systems.append(System(name=one.name, method=one.method, settings=one.settings, curve=_safe(curve), at=at))
            labels[one.name] = f"{curve}, {'strength' if one.method == 'sdedit' else 's_I'} {value:g}"
    more = also(names)
    return [Part(name="sweep", title="InstructPix2Pix: the sweep of s_I", systems=[*systems, *more],
                 labels=labels | _labels(more), limit=limit)]  # fmt: skip
