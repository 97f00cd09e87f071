"""Every benchmark runs to its end on random starters, what it compares agrees, and the page is made of the files alone.

What the figures are is nobody's business here: nothing is timed that a test could fail by.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import diffusers
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch, tmp_path, starters):
    """``bench(name)``: what a quick run of a benchmark wrote."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def run(name: str, *more: str) -> dict:
        path = tmp_path / f"{name}.json"
        importlib.import_module(name).main(["--quick", "-o", str(path), *more])
        found = json.loads(path.read_text())
        assert found["benchmark"] == name and found["quick"] and found["versions"]["torch"] and found["machine"]
        assert str(path) not in found["command"]
        assert all(aim["median"] >= 0 for aim in found["aims"])
        return found

    return run


@pytest.fixture
def module(monkeypatch):
    """``module(name)``: one of the files in benchmarks/."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def test_an_edit_is_the_stock_pipelines(bench):
    found = bench("edit_speed")
    assert [row["batch"] for row in found["rows"]] == [1, 2]
    for row in found["rows"]:
        assert row["differences"]["latents"] < 1e-4 and row["differences"]["pixels"] <= 1


def test_a_step_of_learning_has_the_published_gradient(bench):
    gradient = bench("visii_speed")["forms"]["float32"]["gradient"]
    assert gradient["difference"] < 1e-3 and gradient["cosine"] > 0.9999


def test_foi_is_timed_beside_ip2p(bench):
    found = bench("foi_speed")
    assert {row["form"] for row in found["rows"]} == {"as published", "maps apart", "maps and text apart"}
    assert len(found["aims"]) == 1


def test_pti_is_timed_beside_nti(bench):
    pti, nti = bench("inversion_speed")["rows"]
    # a step of N iterations: N + 2 forwards and N backwards, of which the encoding ratio leaves 3
    assert (pti["forwards"], pti["backwards"]) == (9, 3) and (nti["forwards"], nti["backwards"]) == (36, 30)


@pytest.mark.slow
def test_training_is_timed_beside_a_plain_loop(bench):
    found = bench("training_speed")
    assert [row["latents"] for row in found["rows"]] == ["encoded in each step", "kept"]


def test_growth_is_told_by_straight_lines(bench, tmp_path):
    found = bench("growth", "--plot", str(tmp_path / "growth.png"))
    assert list(found["axes"]) == ["pictures", "steps", "pixels"] and (tmp_path / "growth.png").exists()


def test_operations_are_counted_on_shapes_alone(module, instruct_pipe):
    floors = module("floors")
    with torch.device("meta"):
        full = floors.forward(module("full_size").unet("instruct"))
    # The published UNet has 859.5 million parameters; four new channels go into its first convolution.
    assert full["parameters"] == 859_520_964 + 320 * 4 * 9 and full["weight_bytes"] == 4 * full["parameters"]
    assert 3.9e11 < full["multiply_adds"] < 4.1e11
    one, three = (floors.forward(instruct_pipe.unet, rows) for rows in (1, 3))
    assert three["multiply_adds"] == 3 * one["multiply_adds"]
    assert one["moved_bytes"] < three["moved_bytes"] < 3 * one["moved_bytes"], "the weights are read once"


@pytest.mark.slow
def test_the_ceilings_are_measured_and_steps_told_beside_them(bench):
    found = bench("floors")
    assert all(each > 0 for ceiling in found["ceilings"].values() for each in ceiling.values())
    assert found["steps"]["VISII"]["operations"] > found["steps"]["edit"]["operations"]


@pytest.fixture
def small(module, monkeypatch):
    """What is built at full size has the same blocks, and few channels."""
    full_size = module("full_size")
    monkeypatch.setattr(
        full_size, "UNET",
        {**full_size.UNET, "sample_size": 8, "block_out_channels": (32, 32, 64, 64), "cross_attention_dim": 32},
    )  # fmt: skip
    monkeypatch.setattr(full_size, "VAE", {**full_size.VAE, "block_out_channels": (32,) * 4, "layers_per_block": 1})
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    monkeypatch.setattr(full_size, "TEXT", {**full_size.TEXT, **text})


@pytest.mark.slow
def test_what_runs_at_full_size_runs(bench, small):
    assert bench("edit_speed", "--full-size")["full_size"]
    assert bench("training_speed", "--full-size")["side"] == 64


def test_in_float32_neither_is_away_from_float32(module, editor):
    speed = module("edit_speed")
    editor.pipe.scheduler = diffusers.EulerAncestralDiscreteScheduler.from_config(editor.pipe.scheduler.config)
    batch = speed.told(editor, 1)
    found = speed.from_float32(editor, editor.pipe, batch, 2)
    assert found["stock"] == 0 and found["ours"] < 1e-4


def test_a_convolution_is_counted_as_it_is_by_hand(module):
    floors = module("floors")
    with floors.counting() as counted:
        torch.nn.Conv2d(3, 5, 3, padding=1, device="meta")(torch.empty(2, 3, 8, 8, device="meta"))
    assert counted.get_total_flops() == 2 * (2 * 5 * 64 * 3 * 9)


def test_a_line_is_found_again_and_what_bends_is_not_one(module):
    line = module("growth").line
    straight, bent = line([(x, 3 + 2 * x) for x in (1, 2, 5, 9)]), line([(x, x**3) for x in (1, 2, 5, 9)])
    assert straight == pytest.approx({"slope": 2, "intercept": 3, "r2": 1, "worst": 0}, abs=1e-9)
    assert bent["r2"] < 0.95 and bent["worst"] > 0.1


def test_runs_take_turns_and_the_first_round_does_not_count(module):
    seen, ticks = [], iter(range(100))
    runs = {"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}
    found = module("common").in_turn(runs, repeats=3, now=lambda: next(ticks))
    assert "".join(seen) == "baabbaab" and found == {"a": [1, 1, 1], "b": [1, 1, 1]}


def test_an_aim_is_met_or_not(module):
    common = module("common")
    spread = common.spread([1.0, 2.0, 4.0])
    assert spread == {"median": 2.0, "quartiles": [1.5, 3.0], "count": 3}
    assert common.aim("speed", spread, least=2.0)["met"] and not common.aim("speed", spread, least=2.1)["met"]
    assert common.aim("memory", 0.4, most=0.5)["met"] and not common.aim("memory", 0.6, most=0.5)["met"]
    assert "NOT MET" in common.aimed(common.aim("memory", 0.6, most=0.5))


def test_the_page_says_what_was_not_run(module, tmp_path, capsys):
    common, report = module("common"), module("report")
    results, out = tmp_path / "results", tmp_path / "speed"
    results.mkdir()
    told = {
        "benchmark": "edit_speed", "command": "python benchmarks/edit_speed.py", "date": "2026-01-01", "device": "cpu",
        "quick": False, "machine": "a machine", "threads": 1, "versions": {"torch": "2"}, "model": "starter",
        "aims": [common.aim("edit", common.spread([1.0, 1.2, 1.3]), least=1.1)],
        "rows": [{"batch": 1, "seconds": {"ours": common.spread([2.0]), "stock": common.spread([3.0])}}],
    }  # fmt: skip
    (results / "edit_speed.json").write_text(json.dumps(told))
    (results / "floors.json").write_text(json.dumps({**told, "benchmark": "floors", "quick": True}))
    assert report.main(["--results", str(results), "-o", str(out)]) == 0
    page = (out / "speed.md").read_text()
    assert (
        "| edit | a CPU | ≥ 1.1× | 1.2 (1.1 to 1.25) | yes | `python benchmarks/edit_speed.py` | 2026-01-01 |" in page
    )
    assert "| edit_speed | a GPU, full size |  | not run: no GPU was at hand |" in page
    assert "| floors | a CPU |  | not run |" in page, "what was only tried is no result"
    assert "| batch | seconds, ours | seconds, stock |\n| --- | --- | --- |\n| 1 | 2 (2 to 2) | 3 (3 to 3) |" in page
    assert (out / "aims.png").exists()
    assert report.main(["--results", str(results), "-o", str(out), "--check"]) == 0
    (out / "speed.md").write_text("older")
    assert report.main(["--results", str(results), "-o", str(out), "--check"]) == 1
    assert "out of date" in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_said_to_be_so(module, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit) as stopped:
        module("edit_speed").main(["--device", "cuda", "--full-size"])
    assert stopped.value.code == 3 and "not run: no GPU was at hand" in capsys.readouterr().err


def whole(results: Path, *more: str) -> None:
    """All benchmarks at once, quickly."""
    command = [sys.executable, "benchmarks/run_all.py", "--quick", "--results", str(results), *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_all_at_once(tmp_path):
    whole(tmp_path)
    assert (tmp_path / "startup.json").exists()


@pytest.mark.gpu
def test_all_at_once_at_full_size_on_a_gpu(tmp_path):
    whole(tmp_path, "--device", "cuda", "--full-size")
    for name in ("edit_speed", "visii_speed", "foi_speed", "inversion_speed", "training_speed", "growth", "floors"):
        assert json.loads((tmp_path / f"{name}-cuda.json").read_text())["full_size"]
