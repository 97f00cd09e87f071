"""What people look at of an evaluation: the report and the plots, made of what the folder holds."""

from __future__ import annotations

from pathlib import Path

from .. import files
from . import report
from .folder import REPORT, Folder, read_json
from .running import png


def publish(out: Path) -> list[Path]:
    """Write ``report.html`` and ``plots/*.png``, each whole or not at all. Raises ``FileFormatError``, ``OutputError``."""
    place = Folder(out)
    rows = read_json(out / "rows.json")
    scores = place.scores([one["name"] for one in place.head["systems"]], [row["id"] for row in rows])
    written = [files.write_atomic(out / REPORT, report.html(out).encode(), force=True)]
    for name, chart in report.plots(read_json(out / "summary.json"), scores).items():
        (out / "plots").mkdir(exist_ok=True)
        written.append(files.write_atomic(out / "plots" / name, png(chart), force=True))
    return written
