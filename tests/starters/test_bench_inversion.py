"""The measurement of inversions, on a few cases and steps: its files, its tables, and what it says of the paper."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

import showtell
from showtell.bench import inversion, inversion_cases, inversion_claims, inversion_report, inversion_tune
from showtell.bench import inversion_systems as systems
from showtell.bench import inversion_tables as tables
from showtell.cli import bench_inversion, main
from showtell.errors import FileFormatError
from showtell.methods.diffedit import DiffEdit
from showtell.methods.reconstructions import NullTextReconstruction

COUNTS = inversion_report.Counts(
    table1=1, table2=1, table3=1, figure4=1, figure6=1, figure7=1, starts=1, slow=0, precision=0, sheets=False
)


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inversion, "STEPS", 2)
        patch.setattr(tables, "OMEGAS", (0.0, 7.5))
        patch.setattr(inversion_claims, "OMEGAS", (0.0, 7.5))
        patch.setattr("showtell.bench.inversion_text.OMEGAS", (0.0, 7.5))
        for module in (tables, inversion_claims):
            patch.setattr(module, "ITERATIONS", (1, 2))
        patch.setattr("showtell.bench.inversion_text.ITERATIONS", (1, 2))
        patch.setattr(systems, "THRESHOLDS", (0.3,))
        patch.setattr(systems, "ETAS", (0.9, 0.0))
        patch.setattr(systems, "BETAS", (0.1, 0.01))
        patch.setattr(inversion_report, "STEPS", 2)
        for method, setting in ((DiffEdit, "maps"), (NullTextReconstruction, "inner_steps")):
            patch.setattr(method, "PAPER", {**method.PAPER, setting: 2})
        yield


@pytest.fixture(scope="module")
def editor():
    made = showtell.load("starter-base")
    quick = {name: {"num_inference_steps": 2} for name in ("sdedit", "ddim-edit", "diffedit", "pti")}
    made.card = {**made.card, "defaults": quick}
    return made


@pytest.fixture(scope="module")
def measured(editor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    return folder, inversion_report.measure(editor, editor, editor, folder, COUNTS, say=lambda line: None, sheets={})


def test_every_part_is_measured_and_told(measured):
    folder, figures = measured
    assert set(figures["table1"]) == {"ddim-0-0", "ddim-0-7.5", "ddim-7.5-0", "ddim-7.5-7.5"}
    assert figures["table2"]["autoencoder"]["psnr"] > figures["table2"]["ddim-0-7.5"]["psnr"]
    # Table 2's cells are those of the other tables, measured once.
    assert figures["table2"]["ddim-0-7.5"] == figures["table1"]["ddim-0-7.5"]
    assert figures["table2"]["pti-2-0.01"] == figures["table3"]["pti-2-0.01"]
    before, truth = figures["bounds"]
    assert (before["success"], before["perceptual"], truth["success"]) == (0, 0, 1)
    assert figures["figure7"][0]["things"] == 2 and len(figures["by_card"]) == 4
    text = inversion_report.markdown(figures)
    for title in ("### Table 1", "### Table 2", "13.64", "### Table 3", "not in our source", "### Figure 4", "### Figure 6",
                  "### What the start", "### Figure 7"):  # fmt: skip
        assert title in text
    assert "inversion-iterations.png" in inversion_report.charts(figures)


def test_what_is_there_is_not_measured_again_and_another_model_is_refused(measured, editor):
    folder, figures = measured
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*-*.json")}
    again = inversion_report.measure(editor, editor, editor, folder, COUNTS, say=lambda line: None, sheets={})
    assert json.dumps(again) == json.dumps(figures)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*-*.json")}
    with pytest.raises(FileFormatError, match="another model or card"):
        inversion.Bench(showtell.load("starter-base", dtype="bfloat16"), folder)


def test_the_example_of_the_commands_help_works(starters, tmp_path, monkeypatch, capfd):
    """On random starters, in the few steps of this module, and in two of the parts: all are measured above."""
    few = {**dict.fromkeys(COUNTS.__dict__, 0), "table2": 1, "starts": 2, "sheets": False}
    monkeypatch.setattr(inversion_report, "QUICK", inversion_report.Counts(**few))
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(bench_inversion.EPILOG.removeprefix("Example: "))[1:]) == 0, capfd.readouterr().err
    told, out = capfd.readouterr().out, Path("inversion-quick")
    assert told == f"{(out / 'tables.md').read_text()}\nwrote {out}\n"
    figures = json.loads((out / "figures.json").read_text())
    assert figures["model"] == "starter-base" and figures["counts"] == few
    drawn = {path.name for path in out.glob("*.png")}
    assert drawn == set(inversion_report.charts(figures)) and drawn <= set(bench_inversion.NAMES)


def test_what_two_parts_ask_for_is_counted_once(measured):
    _, figures = measured
    parts = figures["figure6"]
    (same,) = [row for row in parts["eta"] if row["settings"]["eta"] == 0.9]
    assert same == parts["beta"][0] and same["count"] == 1
    assert len({row["system"] for rows in parts.values() for row in rows}) == 3


def test_prompts_tell_both_pictures_and_mark_what_changes():
    (one,) = inversion_cases.edits(1)
    assert one.case.edits[0].action == "replace" and one.kind == "circle"
    assert one.target().count("[") == 1 and f"[{one.kind}]" in one.target()
    assert one.target(False) == showtell.scenes.caption(one.case.plan.after, places=True).text
    assert one.source(False) == showtell.scenes.caption(one.case.plan.before, places=True).text
    kinds = [one.kind for one in inversion_cases.edits(8)]
    assert kinds == list(showtell.scenes.KINDS)


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_several_things_of_one_kind_all_change(number):
    one = inversion_cases.several(number + 1)[number]
    before, after = one.case.plan.before, one.case.plan.after
    assert len({thing.kind for thing in before.things}) == 1 and len(before.things) == 2 + number % 2
    assert len({(thing.kind if number < 2 else thing.colour) for thing in after.things}) == 1
    assert all(a != b for a, b in zip(before.things, after.things, strict=True))
    assert one.target().count("[") == len(before.things) == len(one.case.masks)
    changed = np.any(np.asarray(one.case.before) != np.asarray(one.case.after), axis=-1)
    assert not (changed & ~np.any(one.case.masks, axis=0)).any()
    assert showtell.scenes.score(one.case, one.case.after).success


def test_real_pictures_are_of_their_class():
    pictures, names = inversion_cases.real(["heart", "boat"], 3)
    assert len(pictures) == 6 and sorted(names) == ["boat"] * 3 + ["heart"] * 3


def test_claims_are_read_off_the_figures():
    def row(*values: float) -> dict:
        return {"psnr": sum(values) / len(values), "values": list(values)}

    table = {
        "autoencoder": row(30, 32),
        "pti-2-0.01": row(29.5, 31.2),
        "nti-2-0.01": row(29, 31),
        "ddim-0-7.5": row(15, 17),
    }
    assert [one["holds"] for one in inversion_claims.claims({"table2": table})] == [True, True, True, True]
    table["nti-2-0.01"] = row(29.6, 31.3)
    table["autoencoder"] = row(31, 33)
    found = inversion_claims.claims({"table2": table})
    assert [one["holds"] for one in found] == [True, False, True, False]
    assert "-0.10 ± 0.00 dB" in found[1]["evidence"]
    curve = [{"perceptual": x, "frechet": y} for x, y in ((0.1, 50.0), (0.3, 10.0))]
    assert inversion_claims.over_curve(0.2, 31, curve) == pytest.approx(1)
    assert inversion_claims.over_curve(0.2, 29, curve) == pytest.approx(-1)
    assert inversion_claims.over_curve(0.4, 31, curve) is None


def test_tuning_is_on_training_cases_and_keeps_the_best(editor, tmp_path, monkeypatch):
    monkeypatch.setattr(inversion_tune, "BASE", {"ddim-edit": {"num_inference_steps": 2, "blend": "none"}})
    monkeypatch.setattr(inversion_tune, "ROUNDS", {"ddim-edit": (({"guidance_scale": 2.0},),)})
    found = inversion_tune.tune(editor, tmp_path, count=2, say=lambda line: None)
    best = max(found["rows"], key=inversion_tune._worth)
    assert inversion_tune._told(found["best"]["ddim-edit"]) == best["settings"]
    seeds = [json.loads(path.read_text())["cases"][0]["seed"] for path in tmp_path.rglob("0-2.json")]
    assert len(seeds) == 2 and min(seeds) >= inversion_cases.TUNING
