"""What faster editing costs: the command's counts, its statistics, and that it goes on where it stopped. On random starters."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def trades(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("trades", None)
    import trades

    return trades


def test_a_small_run(trades, starters, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trades, "BATCH", 2)
    out, table, plot = tmp_path / "trades.json", tmp_path / "table.md", tmp_path / "plot.png"
    told = ["--only", "cache-[23],guided-0-0.5,lcm-?-unguided", "-o", str(out)]
    trades.main(["--count", "3", *told, "--table", str(table), "--plot", str(plot)])
    found = json.loads(out.read_text())
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == [
        "reference", "guided-0-0.5", "cache-2", "cache-3", "lcm-4-unguided", "lcm-2-unguided", "lcm-1-unguided"
    ]  # fmt: skip
    # The random starter's card has 4 steps of three branches.
    counts = {name: (row["rows"], row["whole_rows"]) for name, row in rows.items()}
    assert counts["reference"] == (12, 12) and counts["guided-0-0.5"] == (8, 8)
    assert counts["cache-2"] == (12, 6) and counts["cache-3"] == (12, 6)
    assert [counts[f"lcm-{n}-unguided"] for n in (4, 2, 1)] == [(4, 4), (2, 2), (1, 1)]
    assert all(row["count"] == 3 and row["seconds"] > 0 for row in rows.values())
    assert rows["cache-2"]["settled"]["cache_interval"] == 2 and rows["cache-2"]["settled"]["num_inference_steps"] == 4
    assert found["seeds"] == [80_000, 80_002] and found["split"] == "heldout" and found["versions"]["torch"]
    text = table.read_text()
    assert all(f"| `{name}` |" in text for name in rows) and "seeds 80000 to 80002" in text
    assert text in capsys.readouterr().out and plot.stat().st_size > 1000

    # After a kill only what is missing is measured again, and more pictures are added to those that are there.
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "trades.parts").rglob("8*.json")}
    assert len(kept) == 2 * len(rows)
    lost = tmp_path / "trades.parts" / "cache-2" / "80000-2.json"
    lost.unlink()
    trades.main(["--count", "4", *told])
    assert lost.exists()
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items() if path != lost)
    assert json.loads(out.read_text())["rows"][0]["count"] == 4

    trades.main(["--redraw", "-o", str(out), "--table", str(table)])
    assert "4 held-out scenes" in table.read_text()


def test_paired_differences(trades):
    for pattern in itertools.product([(0, 0), (0, 1), (1, 0), (1, 1)], repeat=4):
        own, reference = [bool(a) for a, _ in pattern], [bool(b) for _, b in pattern]
        found = trades.paired(own, reference)
        gaps = [a - b for a, b in pattern]
        centre = sum(gaps) / 4
        assert found["difference"] == pytest.approx(centre, abs=1e-4)
        spread = math.sqrt(sum((gap - centre) ** 2 for gap in gaps)) / 4
        assert found["standard_error"] == pytest.approx(spread, abs=1e-4)
        # exact test: how many ways for the pairs that differ to fall at least as unevenly
        apart = [gap for gap in gaps if gap]
        ways = [abs(sum(signs)) >= abs(sum(apart)) for signs in itertools.product((-1, 1), repeat=len(apart))]
        assert found["p"] == pytest.approx(sum(ways) / len(ways), abs=1e-3)


def test_names_that_fit_nothing_are_told(trades):
    assert trades.chosen(None) == list(trades.TRADES)
    assert trades.chosen("ddim-4") == ["reference", "ddim-4"]
    with pytest.raises(SystemExit, match="dpm3.*reference, steps-50"):
        trades.chosen("ddim-4,dpm3")
