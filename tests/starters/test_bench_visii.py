"""The measurement of showing: its histograms, the studies of applying, and what it refuses; on random starters."""

from __future__ import annotations

import pytest

import showtell
from showtell.bench import visii_report, visii_text
from showtell.bench.visii_applying import hybrid, noise
from showtell.cli import main

FEW = {"steps": 2, "timesteps_per_step": 1, "check_timesteps": 2, "clip_weight": 0.0, "num_tokens": 2}
COUNTS = visii_report.Counts(main=1, histograms=1, four=0, table=0, steps_edits=0, studies=("noise", "hybrid"))


@pytest.fixture
def editor(starters):
    made = showtell.load("starter")
    made.card = {"defaults": {"ip2p": {"num_inference_steps": 2}, "visii": FEW}}
    return made


@pytest.fixture
def small(monkeypatch):
    from showtell.methods import SDEdit

    monkeypatch.setattr(SDEdit, "PAPER", {**SDEdit.PAPER, "num_inference_steps": 2})
    monkeypatch.setattr(
        visii_report, "STUDIES",
        {"noise": lambda b: noise(b, edits=1, draws=2), "hybrid": lambda b: hybrid(b, styles=("sepia",), pictures=2)},
    )  # fmt: skip


def test_histograms_and_studies_of_applying(editor, small, tmp_path):
    sheets: dict = {}
    figures = visii_report.measure(editor, tmp_path, COUNTS, say=lambda line: None, sheets=sheets)
    assert set(figures["histograms"]["rows"]) == {"told", "look", "sdedit"}
    told = figures["histograms"]["rows"]["told"]["image"]
    assert len(told) == 4 and sum(told) / 4 == pytest.approx(figures["main"]["told"]["image"], abs=1e-3)
    random, recorded = figures["studies"]["noise"]["rows"]
    assert random["applications"] == 8 and recorded["applications"] == 4 and random["spread"] > 0 == recorded["spread"]
    ways = {row["told"]: row for row in figures["studies"]["hybrid"]["rows"]}
    assert list(ways) == ["learned + words", "learned alone", "words alone", "clear words", "vague words"]
    assert set(sheets) == {"visii-noise.png", "visii-hybrid.png"}
    text = visii_text.markdown(figures)
    for title in ("Figure 7", "Random and recorded noise (Figure 8)", "Words beside what was learned (Figure 9)"):
        assert title in text
    assert "visii-histograms.png" in visii_text.charts(figures)


def test_a_study_that_is_not_there_is_refused(starters, tmp_path, capfd):
    assert main(["bench", "visii", "--study", "nothing", "--out", str(tmp_path / "out")]) == 2
    assert "choose one of consistency" in capfd.readouterr().err
