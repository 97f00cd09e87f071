"""`showtell bench visii`: what a shown edit is worth, against the same edit told in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli import console, options, outputs

if TYPE_CHECKING:
    from PIL import Image

EPILOG = "Example: showtell bench visii --quick --out visii-quick"
NAMES = [
    "figures.json", "tables.md", "visii-kinds.png", "visii-steps.png", "visii-consistency.png", "visii-small.png",
    "visii-pair.png", "visii-segmentation.png", "visii-strength.png",
]  # fmt: skip


def visii(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the figures, tables and plots.")] = Path("visii"),
    edits: Annotated[
        int, typer.Option("--edits", min=0, help="Edits that are learned and told; 0 leaves this out.")
    ] = 50,
    four_edits: Annotated[
        int, typer.Option("--four-edits", min=0, help="Edits that are learned from four pairs, too; 0 leaves this out.")
    ] = 20,
    table_edits: Annotated[int, typer.Option("--table-edits", min=0, help="Edits of Table 1; 0 leaves it out.")] = 50,
    steps_edits: Annotated[
        int, typer.Option("--steps-edits", min=0, help="Edits for each number of steps; 0 leaves this out.")
    ] = 50,
    studies: Annotated[bool, typer.Option("--studies/--no-studies", help="The other analyses, with sheets.")] = True,
    tune: Annotated[
        int, typer.Option("--tune", min=0, help="Only choose the starter's settings, on so many training edits.")
    ] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A few edits of each part: minutes instead of hours.")] = False,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Learn held-out edits from pairs, repeat them on other scenes, and measure against the truth.

    Learned against told; one pair against four; the rows of VISII's Table 1; numbers of steps; other analyses. Whatever
    is learned and measured is kept in OUT/work at once, so the same command goes on where an interrupted one stopped.
    The cases are those of the held-out seeds 50000, 50001, ... so that the same command gives the same figures.
    """
    outputs.check_folder(out, NAMES, force=force)

    import showtell
    from showtell.bench import visii_report as report
    from showtell.bench import visii_tune

    counts = (
        report.QUICK
        if quick
        else report.Counts(main=edits, four=four_edits, table=table_edits, steps_edits=steps_edits, studies=studies)
    )

    def say(line: str) -> None:
        if not as_json:
            typer.echo(line, err=True)

    editor = showtell.load("starter", device=device, dtype=dtype)
    if tune:
        found = visii_tune.tune(editor, out / "tune", count=tune, say=say)
        rows = [[str(v) for v in row.values()] for row in found["rows"]]
        text = f"{console.table(['settings', 'success', 'inside'], rows)}\nbest: {found['best']}"
        console.finish(found, text, as_json=as_json)
        return
    sheets: dict[str, Image.Image] = {}
    figures = report.measure(editor, out / "work", counts, say=say, sheets=sheets)
    text = report.markdown(figures)
    contents = {"figures.json": outputs.json_bytes(console.plain(figures)), "tables.md": text.encode()}
    contents |= {name: outputs.png(chart) for name, chart in {**report.charts(figures), **sheets}.items()}
    outputs.write_folder(out, contents, force=force)
    console.finish({"written": str(out), **figures}, f"{text}\nwrote {out}", as_json=as_json)
