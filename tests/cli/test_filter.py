"""`showtell dataset filter`: what it writes and tells, and what it refuses."""

from __future__ import annotations

import json

from tests.helpers import datasets


def test_the_command(cli, folder):
    datasets.candidates(folder / "candidates", count=2)
    loose = ("--min-image", "-1", "--min-direction", "-1", "--min-caption", "-1")
    told = cli("dataset", "filter", "candidates", "-o", "kept", *loose, "--keep", "1", "--json").json
    assert (told["kept"], told["pairs_with_one"], told["tests"]["image"]["least"]) == (2, 2, -1)
    report = json.loads((folder / "kept/report.json").read_text())
    assert {key: told[key] for key in report} == report
    text = cli("dataset", "filter", "candidates", "-o", "kept", *loose, "--keep", "1")
    assert text.code == 0 and "2 of 8 candidates kept, for 2 of 2 caption pairs" in text.out
    none = cli("dataset", "filter", "candidates", "-o", "none", "--min-image", "1", "--paper")
    assert none.code == 1 and "0 of 8 candidates kept" in none.out and "paper" in none.out
    cli("dataset", "filter", "candidates", "-o", "kept", "--keep", "3").refused("was begun with another")
    cli("dataset", "filter", "-o", "x").refused("CANDIDATES are missing")
    cli("dataset", "filter", "candidates").refused("--out is missing")
    cli("dataset", "filter", "candidates", "--calibrate", "20").refused("give no CANDIDATES")
    cli("dataset", "filter", "candidates", "-o", "x", "--min-caption", "3").refused("min_caption=3.0 is out of range")
    cli("dataset", "filter", "candidates", "-o", "x", "--clip", "starter").refused("")
    assert not (folder / "x").exists()


def test_thresholds_of_another_clip_are_measured(cli):
    told = cli("dataset", "filter", "--calibrate", "20", "--json").json
    for test, least in (("image", "image"), ("direction", "direction")):
        assert 0 <= told["percentiles"][test]["5"] - told["thresholds"][least] < 0.002
    assert told["thresholds"]["caption"] <= min(told["percentiles"][one]["5"] for one in ("before", "after"))
    assert told["pass"]["true"] >= 0.5 and told["pairs"] == 20 and told["clip"]["id"] == "starter-clip"
    assert sum(kind["pairs"] for kind in told["kinds"].values()) == 20
    cli("dataset", "filter", "--calibrate", "5").refused("needs 20 pairs")
