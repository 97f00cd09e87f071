"""The papers' tables on data sets in their real layouts, with random models: what is made, what is told, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from showtell.bench import inversion_report, inversion_systems, inversion_tables, ip2p, real, real_tables
from showtell.bench.foi_compared import Extras
from showtell.cli import main
from showtell.methods import METHODS
from showtell.methods import reconstructions as back
from tests.helpers import datasets

pytest.importorskip("pyarrow")
STEPS = 3


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Three steps for everything that no card speaks of."""
    small = {"num_inference_steps": STEPS, "inner_steps": 1, "maps": 1}
    values = [*METHODS.values(), back.DdimReconstruction, back.NullTextReconstruction, back.PromptTuningReconstruction]
    for method in values:
        own = {key: value for key, value in small.items() if isinstance(method.PAPER.get(key), int)}
        monkeypatch.setattr(method, "PAPER", {**method.PAPER, **own})


def run(*args: object) -> int:
    return main(["bench", *[str(arg) for arg in args], "--device", "cpu"])


def test_the_sweep_on_a_data_set(starters, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(ip2p, "QUICK", ip2p.Counts(s_i=(1.0, 2.0), strengths=(0.4,)))
    data, out = datasets.ip2p(tmp_path / "data", count=20), tmp_path / "out"
    told = ("--dataset", "ip2p", "--data", data, "--limit", 1, "--quick", "--out", out)
    clip = ("--weights", f"clip={starters / 'clip'}")
    assert run("ip2p", *told, *clip, "--also", "foi") == 0, capfd.readouterr().err
    text = (out / "tables.md").read_text()
    assert "| IP2P, s_T 7.5, s_I 2 |" in text and "| SDEdit, strength 0.4 |" in text and "| foi |" in text
    assert "1 row of ip2p" in text and "not in our source" in text and "protocol ip2p" in text
    figures = json.loads((out / "figures.json").read_text())
    points = {one["name"]: one["at"] for one in figures["sweep"]["evaluation"]["systems"]}
    assert points["ip2p-7.5-2"] == {"name": "image_guidance_scale", "value": 2.0}
    assert (out / "sweep" / "report.html").exists()
    made = {path: path.stat().st_mtime_ns for path in (out / "sweep" / "edits").rglob("*.png")}
    assert run("ip2p", *told, *clip, "--also", "foi", "--force") == 0
    assert all(path.stat().st_mtime_ns == at for path, at in made.items())


@pytest.mark.parametrize(
    ("args", "culprit"),
    [
        (("ip2p", "--limit", 3), "--limit is for a data set"),
        (("foi", "--weights", "clip=x"), "--weights is for a data set"),
        (("visii", "--dataset", "ip2p", "--study", "noise"), "--study is about scenes"),
        (("inversion", "--dataset", "coco", "--starts", 2), "--starts is about scenes"),
        (("foi", "--dataset", "foi", "--data", "."), "foi.json"),
    ],
)
def test_an_option_that_would_mean_nothing_is_refused(args, culprit, starters, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run(*args, "--out", "out") == 2
    assert culprit in capfd.readouterr().err and not (tmp_path / "out").exists()


def parts_of(parts: list[real.Part]) -> dict[str, real.Part]:
    return {part.name: part for part in parts}


def measured(parts: list[real.Part], name: str, path: Path, out: Path, protocol: str = "pixels") -> tuple[dict, str]:
    from showtell import data
    from showtell.metrics import protocols

    meters = {"": protocols.load(protocol), **{name: protocols.load(name) for name in ("pixels", "reconstruction")}}
    found = real.measure(parts, data.load(name, path), out, meters=meters.__getitem__, device="cpu")
    return found, real.markdown(parts, found, head="made here")


def test_table_one_parts_rows_by_their_instructions(starters, tmp_path):
    parts = real_tables.foi(Extras(also=("sdedit",)), limit=1, ablations=0, costs=0)
    assert list(parts_of(parts)) == ["table1-single", "table1-multi"]
    found, text = measured(parts, "foi", datasets.foi(tmp_path / "data"), tmp_path / "out", "starter")
    assert found["table1-single"] is None and "No row of the data set is for this table." in text
    rows = {row["system"]: row for row in found["table1-multi"]["rows"]}
    assert list(rows) == ["diffedit", "nti-p2p", "ip2p", "foi", "also-sdedit"]
    assert all(row["count"] == 1 and row["failed"] == 0 for row in rows.values())
    assert "(0.9255)" in text and "(0.1685)" in text and "| sdedit |" in text


def test_steps_and_costs_are_parts_of_their_own():
    parts = parts_of(real_tables.foi(Extras(magicbrush="m", insdiff="i"), limit=None, ablations=4, costs=2))
    assert list(parts)[2:] == ["mask-step", "modulation", "disentangle", "table6"]
    steps = [system.settings["mask_step"] for system in parts["mask-step"].systems]
    assert steps == [0, 20, 40, 60, 79] and "0.9260, 0.9183" in parts["mask-step"].note
    costs = {system.name: system.settings for system in parts["table6"].systems}
    assert list(costs) == ["diffedit", "nti-p2p", "ip2p", "magicbrush", "insdiff", "foi"]
    assert costs["foi"] == {"num_inference_steps": 50, "strength": 0.8}
    summary = {
        "evaluation": {
            "systems": [],
            "dataset": {"count": 2, "name": "foi"},
            "protocol": {"name": "foi", "digest": "0"},
        }
    }
    assert "not in our source" not in real._told(parts["mask-step"], summary)
    for part in parts.values():
        for system in part.systems:
            system.check()


def test_costs_are_told_over_instructpix2pix(starters, tmp_path, monkeypatch):
    monkeypatch.setattr(real_tables, "STEPS", STEPS)
    parts = [part for part in real_tables.foi(Extras(), limit=None, ablations=0, costs=1) if part.seconds]
    _, text = measured(parts, "foi", datasets.foi(tmp_path / "data"), tmp_path / "out")
    [line] = [line for line in text.splitlines() if line.startswith("| IP2P ")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2] == "1.00" and cells[3:] == ["7.35", "1.00", "1"]


def test_reconstructions_stand_beside_the_papers(starters, tmp_path):
    counts = inversion_report.Counts(table1=1, table2=2, table3=1, figure4=1, figure6=1)
    parts = parts_of(real_tables.inversion(counts, names=["sdedit"]))
    assert list(parts) == ["table1", "table2", "table3", "figure4", "figure6"]
    assert len(parts["table1"].systems) == len(inversion_tables.OMEGAS) ** 2
    for part in parts.values():
        for system in part.systems:
            system.check()
    curves = {system.curve for system in parts["figure4"].systems}
    assert curves == {"DDIM-Global", "DiffEdit-source", "DDIM-Edit", "PTI", "PTI-inverted", "also-sdedit"}
    assert len([s for s in parts["figure4"].systems if s.curve == "PTI"]) == len(inversion_systems.THRESHOLDS)
    few = [
        real_tables.System(name=s.name, method=s.method, settings={k: v for k, v in s.settings.items() if "steps" not in k})
        for s in parts["table2"].systems
    ]  # fmt: skip
    table = real.replace(parts["table2"], systems=few)
    found, text = measured([table], "coco", datasets.coco(tmp_path / "data"), tmp_path / "out")
    assert found["table2"]["evaluation"]["dataset"]["count"] == 2
    measures = {m["name"]: m for m in found["table2"]["evaluation"]["protocol"]["measures"]}
    assert measures["psnr_input"]["reduction"] == "mean"  # as the paper's beside it
    assert "(25.71)" in text and "(13.64)" in text and "(not in our source)" in text


def test_rows_of_visii_learn_from_what_a_row_shows(starters, tmp_path):
    [part] = real_tables.visii(limit=1, names=[])
    names = [system.name for system in part.systems]
    assert names[:3] == ["words-untrained", "words-mse", "words-mse-fixed"] and "caption-both-4-fixed" in names
    assert {system.settings.get("pairs") for system in part.systems} == {None, 1, 2, 3, 4}
    few = [
        real_tables.System(
            name=s.name, method=s.method, settings={**s.settings, "steps": 2, "check_every": 1, "clip_weight": 0.0}
        )
        for s in part.systems if s.name.startswith("words-mse")
    ]  # fmt: skip
    found, text = measured(
        [real.replace(part, systems=[part.systems[0], *few])], "ip2p", datasets.visii(tmp_path / "data"), tmp_path / "out",
        "starter",
    )  # fmt: skip
    assert all(row["count"] == 1 for row in found["table1"]["rows"]), text
    assert "(0.824)" in text and "(0.841)" in text and "(0.854)" in text
    looks = list((tmp_path / "out" / "table1" / "learned").rglob("*.safetensors"))
    assert len(looks) == 2


def test_a_data_set_that_serves_no_table_is_refused(starters, tmp_path):
    from showtell.errors import UsageError

    parts = real_tables.foi(Extras(), limit=1, ablations=0, costs=0)[:1]
    with pytest.raises(UsageError, match="no row of it"):
        measured(parts, "foi", datasets.foi(tmp_path / "data"), tmp_path / "out")
