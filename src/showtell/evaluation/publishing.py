"""What people look at of an evaluation: the report and the plots, made of what the folder holds."""

from __future__ import annotations

from pathlib import Path

from .. import files
from . import report
from .folder import REPORT
from .report import reading
from .running import png


def publish(out: Path) -> list[Path]:
    """Write ``report.html`` and ``plots/*.png``, each whole or not at all. Raises ``FileFormatError``, ``OutputError``."""
    found = reading.read(out)
    scores = [one for own in found.scores.values() for one in own if one is not None]
    written = [files.write_atomic(out / REPORT, report.page(found).encode(), force=True)]
    for name, chart in report.plots({**found.summary, "evaluation": found.evaluation}, scores).items():
        files.make_folder(out / "plots")
        written.append(files.write_atomic(out / "plots" / name, png(chart), force=True))
    return written
