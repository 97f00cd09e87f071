"""The figures of Prompt Tuning Inversion as sheets of pictures: 3 (reconstructions), 5 (methods), 6 (eta), 7 (several things)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from showtell import metrics, scenes
from showtell.bench import inversion_cases as cases
from showtell.bench import inversion_systems as systems
from showtell.bench.inversion_tables import OMEGAS, Reconstructions, ddim
from showtell.cli import sheet

if TYPE_CHECKING:
    from PIL import Image

    from showtell.bench.inversion import Bench, Say, System

ROWS = 6
"""Cases on a sheet: the first ones, whatever comes out."""


def draw_all(bench: Bench, *, say: Say) -> dict[str, Image.Image]:
    """Every sheet by file name."""
    made = {}
    parts = {"omega": omegas, "compared": compared, "eta-pictures": etas, "several": several}
    for name, make in parts.items():
        say(f"sheet: {name}")
        made[f"inversion-{name}.png"] = make(bench)
    return made


def omegas(bench: Bench) -> Image.Image:
    """Figure 3: DDIM's reconstructions over the guidance of the way back, the inversion not guided."""
    found = cases.pictures(4)
    tables = Reconstructions(bench.editor, bench.folder)
    kept: dict[float, Any] = {}
    strips = [tables.reconstructed(ddim(0.0, omega), found, kept) for omega in OMEGAS]
    cards = []
    for i, (_, case) in enumerate(found):
        back = [
            (f"{omega:g}: {float(metrics.psnr(case.before, strip[i])):.1f} dB", strip[i])
            for omega, strip in zip(OMEGAS, strips, strict=True)
        ]
        cards.append(sheet.Card(title=case.captions[0], pictures=[("picture", case.before), *back]))
    told = _subtitle(bench, cases.TABLES)
    return sheet.draw("DDIM there and back, by omega (Figure 3)", cards, subtitle=told, columns=1)


def compared(bench: Bench) -> Image.Image:
    """Figure 5: the methods beside each other, at the paper's settings and, the last, at those of the card."""
    columns = [
        ("DDIM-Global", systems.ddim_global()),
        ("DiffEdit", systems.diffedit()),
        ("with source", systems.diffedit(source=True)),
        ("DDIM-Edit", systems.ddim_edit()),
        ("PTI", systems.pti()),
        ("PTI, card", systems.by_card()[-1]),
    ]
    wanted = [*cases.edits(12)[:4], *cases.edits(12)[8:10]]
    return _compared(bench, "Describing the result (Figure 5)", columns, wanted, judged="PTI, card")


def several(bench: Bench) -> Image.Image:
    """Figure 7: several things of one kind, all of which are to change."""
    columns = [
        ("DiffEdit", systems.diffedit(source=True)),
        ("DDIM-Edit", systems.ddim_edit()),
        ("PTI", systems.pti()),
        ("PTI, card", systems.by_card()[-1]),
    ]
    return _compared(bench, "Several things of one kind (Figure 7)", columns, cases.several(ROWS), judged="PTI, card")


def etas(bench: Bench) -> Image.Image:
    """From the reconstruction to the target: eta, from one inversion."""
    shown = sorted(systems.ETAS)
    columns = [(f"eta {eta:g}", systems.pti(eta=eta)) for eta in shown]
    wanted = [*cases.edits(12)[:3], cases.edits(12)[8]]
    return _compared(bench, "PTI over eta, beta 0.1 (Figure 6)", columns, wanted, judged="")


def _compared(
    bench: Bench, title: str, columns: Sequence[tuple[str, System]], wanted: Sequence[Any], *, judged: str
) -> Image.Image:
    results = [(name, *bench.edited(system, wanted)[:2]) for name, system in columns]
    cards = []
    for i, one in enumerate(wanted):
        pictures = [("before", one.case.before), ("truth", one.case.after)]
        pictures += [(name, found[i]) for name, found, _ in results]
        right = next((scenes.score(one.case, found[i]).success for name, found, _ in results if name == judged), None)
        marks = [(name, masks[i]) for name, _, masks in results if name == judged and masks[i] is not None]
        pictures += [(f"{name}: mask", sheet.overlay(one.case.before, [mask])) for name, mask in marks]
        cards.append(sheet.Card(title=one.target(), pictures=pictures, right=right, judged=judged))
    return sheet.draw(title, cards, subtitle=_subtitle(bench, wanted[0].seed), columns=1)


def _subtitle(bench: Bench, first: int) -> str:
    return f"{bench.editor.model_id}; held-out scenes, the first of the seeds from {first} on; not chosen"
