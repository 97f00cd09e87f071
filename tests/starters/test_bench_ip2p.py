"""The sweep of the picture guidance, what the papers report, and methods of any package as rows: on random starters."""

from __future__ import annotations

import importlib
import json
import shlex
import sys

import pytest

import showtell
from showtell.bench import foi, foi_compared, foi_text, ip2p, published, telling, visii, visii_histograms, visii_report
from showtell.cli import bench_ip2p, main
from showtell.errors import MethodError, ModelError

COUNTS = ip2p.Counts(count=2, s_i=(1.0, 2.2), strengths=(0.4,))
#: A method of ten lines, as docs/benchmarks.md shows it: a function, and a class.
OUTSIDE = """
from dataclasses import dataclass, replace
from typing import ClassVar
from PIL import ImageOps
from showtell.methods import InstructPix2Pix

def negative(picture, instructions, *, seed):
    return ImageOps.invert(picture)

@dataclass(frozen=True, kw_only=True)
class Louder(InstructPix2Pix):
    name: ClassVar[str] = "louder"
    def plan(self, context):
        return super().plan(replace(context, prompt_embeds=2 * context.prompt_embeds))
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A package with two methods, as pip would have installed it."""
    info = tmp_path / "site" / "tenlines-1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site" / "tenlines.py").write_text(OUTSIDE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tenlines\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[showtell.methods]\nnegative = tenlines:negative\nlouder = tenlines:Louder\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    importlib.invalidate_caches()
    yield
    sys.modules.pop("tenlines", None)


@pytest.fixture
def base(tiny_base_folder):
    return str(tiny_base_folder)


@pytest.fixture
def few(monkeypatch):
    """SDEdit and the others in two steps, where a card says nothing."""
    from showtell.methods import DiffEdit, SDEdit
    from showtell.methods.p2p import PromptToPrompt

    for method in (SDEdit, DiffEdit, PromptToPrompt):
        small = {key: 3 for key in ("num_inference_steps", "inner_steps", "maps") if key in method.PAPER}
        monkeypatch.setattr(method, "PAPER", {**method.PAPER, **small})
    monkeypatch.setattr(foi_compared, "STEPS", 3)
    monkeypatch.setattr(foi_compared, "MULTI", (2,))


def test_the_sweep_has_a_curve_for_each_guidance_and_a_point_for_each_method(
    starters, few, outside, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(ip2p, "QUICK", COUNTS)
    monkeypatch.chdir(tmp_path)
    names = ["negative", "louder"]
    told = [*shlex.split(bench_ip2p.EPILOG.removeprefix("Example: "))[1:], *(x for n in names for x in ("--also", n))]
    assert main(told) == 0, capfd.readouterr().err
    out = tmp_path / "ip2p-quick"
    figures = json.loads((out / "figures.json").read_text())
    assert list(figures["curves"]) == ["IP2P, s_T 7.5", "IP2P, s_T 3", "SDEdit", *names]
    assert [point["at"] for point in figures["curves"]["IP2P, s_T 3"]] == [1.0, 2.2]
    assert figures["bounds"]["input"]["image"] == 1 and figures["bounds"]["input"]["invalid"] == 2
    assert figures["bounds"]["truth"]["success"] == 1
    assert figures["curves"]["negative"][0]["image"] < 1
    text = (out / "tables.md").read_text()
    assert "| negative |" in text and "| louder |" in text and published.NONE in text
    assert {path.name for path in out.iterdir()} == {*bench_ip2p.NAMES, "work"}
    before = {path: path.stat().st_mtime_ns for path in (out / "work").rglob("*.json") if path.name != "claim.json"}
    assert main([*told, "--force"]) == 0
    assert json.loads((out / "figures.json").read_text()) == figures
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())


def test_a_method_that_is_not_there_is_refused_before_the_work(starters, tmp_path, capfd):
    assert main(["bench", "ip2p", "--also", "nothing", "--out", str(tmp_path / "out")]) == 2
    assert "'nothing' is not known" in capfd.readouterr().err and not (tmp_path / "out").exists()


def test_table_one_has_every_row_and_says_what_needs_weights(starters, few, outside, tmp_path):
    extras = foi_compared.Extras(also=("negative",), pickscore=str(starters / "clip"))
    bench = foi_compared.Compared(
        showtell.load("starter"), tmp_path / "work", extras, base="starter-base", say=lambda line: None
    )
    found = foi_compared.table_one(bench, 2, 1)
    assert list(found["single"]) == ["diffedit", "nti-p2p", "ip2p", "foi", "also-negative"]
    assert found["single"]["ip2p"]["count"] == 2 and found["single"]["nti-p2p"]["count"] == 1
    assert found["multi"]["foi"]["count"] == 1
    assert sum(row["preference"] for row in found["single"].values()) == pytest.approx(1, abs=1e-3)
    seconds = foi_compared.table_six(bench, 1)
    assert set(seconds["seconds"]) == set(found["single"]) and all(all(own) for own in seconds["seconds"].values())
    assert foi_compared.table_six(bench, 1) == seconds
    text = foi_text.markdown(
        {"table1": found, "table6": seconds, "machine": "m", "model": "starter", "dtype": "float32"}
    )
    assert "| MagicBrush: needs its weights, --magicbrush | – (0.9178) |" in text and "DINO-I: no weights given" in text
    assert "PickScore: no weights given" not in text
    assert "| negative |" in text and "(0.9402)" in text and "| 138.20 | 18.80 |" in text


def test_a_shared_preference_is_of_the_cases_that_all_have():
    entries = {
        "a": [{"seed": 1, "pick": 2.0}, {"seed": 2, "pick": 900.0}],
        "b": [{"seed": 1, "pick": 2.0}],
        "c": [{"seed": 1, "pick": 2.0 + 0.6931472}],
    }
    assert foi_compared.preferences(entries) == {"a": 0.25, "b": 0.25, "c": 0.5}
    assert foi_compared.preferences({"a": [{"seed": 1}], "b": [{"seed": 1}]}) == {}


def test_a_method_becomes_a_row_that_is_told_in_words(starters, outside, tmp_path):
    bench = visii.Bench(showtell.load("starter"), tmp_path)
    rows = [
        visii.Row(name="told", start="told", pairs=0),
        visii.Row(name="also", start="told", pairs=0, method="negative"),
    ]
    over = visii.directions(1)
    bench.run(rows, over)
    assert all(len(bench.figures(row, over)) == visii.TESTS for row in rows)
    assert "method" not in json.loads(next((tmp_path / "results" / "told-random").glob("*.json")).read_text())["row"]


def test_a_method_runs_on_a_model_of_its_kind(starters):
    models = telling.Models(showtell.load("starter"))
    assert models.for_method("foi") is models.editor
    assert models.for_method("sdedit").kind == "base" and models.for_method("sdedit") is models.for_method("pti")
    only_control = type("Control", (), {"plan": None, "name": "x", "kinds": ("control",)})()
    with pytest.raises(ModelError, match="control"):
        models.for_method(only_control)
    with pytest.raises(MethodError):
        models.for_method("nothing")


def test_a_method_that_describes_counts_one_region(starters, few):
    """Prompt-to-Prompt has one mask for all that changes, and a case of two instructions has two."""
    cases = foi.heldout(2, 1)
    models = telling.Models(showtell.load("starter"))
    edits = foi.edited(models.for_method("p2p"), foi.System(name="p2p", method="p2p"), cases)
    assert len(edits) == 1 and edits[0].image.size == cases[0][1].before.size


def test_published_tables_agree_with_what_the_papers_say_of_them():
    """FoI leads in three columns of Table 1 and not in CLIP-D; its usual setting is the same in Tables 3, 4 and 5."""
    for table in (published.FOI_1_SINGLE, published.FOI_1_MULTI):
        best = {column: max(table.rows, key=lambda row, c=column: table.value(row, c)) for column in table.columns}
        assert [best[c] for c in ("CLIP-I", "DINO-I", "PickScore")] == ["foi"] * 3 and best["CLIP-D"] != "foi"
    usual = [
        published.FOI_3.value("CLIP-I", "0"),
        published.FOI_4.value("CLIP-I", "80"),
        published.FOI_5.value("CLIP-I", "60"),
    ]
    assert len(set(usual)) == 1
    # Recorded noise keeps more of the input in every row of VISII's table.
    table = published.VISII_1
    fixed = {row: table.value(row, "image, fixed") for row in table.rows}
    assert all(value is None or value > table.value(row, "image") for row, value in fixed.items())
    assert {row.name for row in visii_report.TABLE} == set(table.rows)
    assert all(len(row) == len(table.columns) for table in published.TABLES for row in table.rows.values())
    assert table.text("words-untrained", "image, fixed") == "–" and table.text("nothing", "image") == published.NONE
    # Of several choices that people made, the shares of a question add up to all of them.
    for column in published.FOI_2.columns:
        assert sum(published.FOI_2.value(row, column) for row in published.FOI_2.rows) == pytest.approx(100, abs=0.1)


def test_histograms_tell_medians_and_which_of_the_papers_words_hold():
    def row(value: float) -> dict:
        return {key: [value, value + 0.1, None, value - 0.1] for key in ("image", "directional", "visual")}

    found = {"edits": 1, "rows": {"told": row(0.5), "look": row(0.4), "sdedit": row(0.4), "also-x": row(0.1)}}
    lines = visii_histograms.markdown(found)
    text = "\n".join(lines)
    assert "told in words is the highest in directional CLIP: holds" in text
    assert "the highest in CLIP-I: does NOT hold" in text and "3 (1 without a direction)" in text
    assert visii_histograms.chart(found).size[1] > 700
