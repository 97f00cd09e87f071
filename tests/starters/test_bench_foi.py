"""The measurement of FoI, on a few cases and steps: its files, its tables, and what it refuses."""

from __future__ import annotations

import json
import math

import pytest

import showtell
from showtell.bench import foi, foi_report, foi_tune
from showtell.errors import FileFormatError

COUNTS = foi_report.Counts(
    single=2, multi=1, variants=1, variants_multi=1, ablations=1, table1=0, table6=0, sheets=False
)


@pytest.fixture(scope="module")
def editor():
    made = showtell.load("starter")
    quick = {name: {**made.card["defaults"][name], "num_inference_steps": 3} for name in ("ip2p", "foi")}
    made.card = {**made.card, "defaults": {**made.card["defaults"], **quick}}
    return made


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("PARTS", (1, 2)), ("SHARES", (0.0, 1.0)), ("GUIDANCE", (2.0, 3.0))):
            patch.setattr(foi_report, name, value)
        yield


@pytest.fixture(scope="module")
def measured(editor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    return folder, foi_report.measure(editor, folder, COUNTS, say=lambda line: None, sheets={})


def test_every_part_is_measured_and_told(measured):
    folder, figures = measured
    assert list(figures["main"]) == ["1", "2"]
    assert list(figures["main"]["2"]) == ["ip2p", "sequential", "foi"]
    assert figures["main"]["1"]["foi"]["count"] == 2 and 0 <= figures["main"]["2"]["foi"]["iou"] <= 1
    assert all(f["foi"]["count"] <= figures["main"][parts]["foi"]["count"] for parts, f in figures["local"].items())
    assert figures["main"]["1"]["sequential"] == figures["main"]["1"]["ip2p"]  # there is but one instruction
    assert set(figures["variants"]["2"]) == {
        "ip2p", "foi", "foi-joined", "foi-paper", "foi-truth", "foi-joined-truth",
    }  # fmt: skip
    text = foi_report.markdown(figures)
    for title in ("Against IP2P", "true masks given", "Table 3's layout", "Columns of start", "Figure 6 d"):
        assert title in text
    assert set(foi_report.charts(figures)) == {"foi-success.png", "foi-iou.png", "foi-guidance.png", "foi-steps.png"}


def test_what_is_there_is_not_measured_again_and_other_settings_are_refused(measured, editor):
    folder, figures = measured
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*-*.json")}
    again = foi_report.measure(editor, folder, COUNTS, say=lambda line: None, sheets={})
    assert json.dumps(again) == json.dumps(figures)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*-*.json")}
    other = foi.System(name="foi", method="foi", settings={"tau": 0.5})
    with pytest.raises(FileFormatError, match="other settings"):
        foi.Bench(editor, folder).run([other], 1, 2)
    stranger = showtell.load("starter")
    with pytest.raises(FileFormatError, match="another model or card"):
        foi.Bench(stranger, folder)


def test_with_the_true_masks_the_regions_are_the_truth(editor):
    (seed, case), *_ = foi.heldout(2, 1)
    edit = foi.edited(editor, foi.TRUTH, [(seed, case)])[0]
    assert all((mask == truth).all() for mask, truth in zip(edit.masks, case.masks, strict=True))


def test_the_summary_counts_and_pairs():
    def entry(success: bool, psnr: float | None, *, whole: bool = False) -> dict:
        return {
            "success": success, "each": [success, True], "each_inside": [success, True], "outside": True, "psnr": psnr,
            "whole": whole, "image": 0.5, "directional": None, "iou": [0.1, 0.9], "keywords": [True, False],
        }  # fmt: skip

    rows = [entry(True, 30.0), entry(False, 20.0), entry(True, None), entry(False, None, whole=True)]
    found = foi_report.summary(rows)
    assert found["success"] == 0.5 and found["standard_error"] == 0.25 and found["each"] == 0.75
    assert found["psnr"] == 30.0  # of 20, 30 and infinity; a style has no outside
    assert found["directional"] is None  # no picture changed
    assert found["iou"] == 0.5 and found["keywords"] == 0.5
    worse = [entry(False, 30.0), entry(False, 20.0), entry(False, None), entry(False, None)]
    gap = foi_report.paired(rows, worse)
    assert gap["difference"] == 0.5 and math.isclose(gap["standard_error"], math.sqrt(1 / 3 / 4), abs_tol=1e-4)
    assert [b["count"] for b in foi_report.by_iou(rows)] == [4, 4]


def test_tuning_keeps_the_best_and_what_it_measured(editor, tmp_path, monkeypatch):
    monkeypatch.setattr(foi_tune, "ROUNDS", (({"tau": 0.5},),))
    monkeypatch.setattr(foi_tune, "BASE", {**foi_tune.BASE, "num_inference_steps": 2})
    found = foi_tune.tune(editor, tmp_path, count=3, say=lambda line: None)
    best = max(found["rows"], key=lambda row: row["success"] + row["per_edit_success"])
    assert found["count"] == 3 and str(found["best"]["tau"]) in best["settings"]
    assert len(list(tmp_path.glob("*.json"))) == 3
