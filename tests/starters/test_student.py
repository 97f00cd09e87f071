"""The measurement of students: goes on where it was, and compares case by case."""

from __future__ import annotations

import json

import showtell
from showtell.bench import student


def test_few_steps_are_measured_beside_the_teacher(starters, tmp_path, monkeypatch) -> None:
    systems = tuple(student.System(name=s.name, who=s.who, options=dict(s.options)) for s in student.SYSTEMS)
    quick = {50: 3, 20: 2}
    for system in systems:
        system.options["num_inference_steps"] = quick.get(system.options["num_inference_steps"], 1)
    monkeypatch.setattr(student, "SYSTEMS", systems)
    editor = showtell.load("starter", device="cpu")
    figures = student.run(editor, editor, tmp_path, count=2)
    rows = {row["system"]: row for row in figures["rows"]}
    plain = rows["teacher, lcm, 4, no guidance"]
    assert plain["rows"] == 1 and rows[student.REFERENCE]["rows"] in (6, 9)
    assert plain["fewer_evaluations"] == rows[student.REFERENCE]["rows"]
    assert rows[student.REFERENCE]["difference"] == 0 == rows[student.REFERENCE]["standard_error"]
    (tmp_path / "7.json").unlink()
    stamps = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("[0-9].json")}
    again = student.run(editor, editor, tmp_path, count=2)
    strip = [{key: value for key, value in row.items() if key != "seconds"} for row in again["rows"]]
    assert strip == [{key: value for key, value in row.items() if key != "seconds"} for row in figures["rows"]]
    assert all((tmp_path / name).stat().st_mtime_ns == stamp for name, stamp in stamps.items())
    assert "| teacher, 50 steps, guided |" in student.table(figures)
    assert json.loads((tmp_path / "claim.json").read_text())["count"] == 2
