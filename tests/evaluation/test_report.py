"""The report of a result folder: what it holds, what is refused, and its charts."""

from __future__ import annotations

import json
import math
import re

import pytest
from PIL import Image

from showtell import evaluation
from showtell.errors import FileFormatError, UsageError
from showtell.evaluation import report
from showtell.evaluation.report import embedded, reading
from tests.helpers import results

HOSTILE = "</script><img src=x onerror=alert(1)><!-- <script> &amp; \u2028 {{data}}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return results.build(
        tmp_path_factory.mktemp("report") / "out",
        rows=6,
        systems=("foi-a", "foi-b", "foi-c"),
        curve="foi",
        failed=[("foi-b", 3)],
        problems=[{"id": HOSTILE, "what": "no picture"}],
        words={0: [HOSTILE]},
    )


@pytest.fixture
def own(tmp_path):
    """A folder that a test may spoil."""
    return results.build(tmp_path / "out", rows=2, parquet=False)


def data_of(page: str) -> dict:
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(block)


def test_everything_of_the_folder_is_in_the_page(folder):
    page = report.html(folder)
    data = data_of(page)
    assert [row["id"] for row in data["shown"]] == [f"row-{i:03d}" for i in range(6)]
    assert all(row["input"].startswith("data:image/png;base64,") and row["truth"] for row in data["shown"])
    assert data["shown"][3]["edits"]["foi-b"] is None and data["shown"][3]["errors"] == {"foi-b": "it went wrong"}
    assert data["values"]["foi-a"]["psnr"] == [results.value("psnr", 0, row) for row in range(6)]
    assert data["values"]["foi-b"]["l1"][3] is None
    assert data["groups"][0]["name"] == "shapes" and data["groups"][0]["count"] == 3
    assert [system["at"]["value"] for system in data["systems"]] == [1.0, 2.0, 3.0]
    for words in ("drawn, protocol tiny", "1 row of the data set could not be used", results.PROTOCOL.digest, "a machine",
                  "outside the mask", "starter", "All 6 pictures."):  # fmt: skip
        assert words in page, words


def test_hostile_words_stay_text(folder):
    page = report.html(folder)
    assert "<img" not in page and "onerror=alert(1)>" not in page
    assert page.count("</script>") == 2 and page.count("<script") == 2
    assert data_of(page)["shown"][0]["words"] == [HOSTILE]
    assert "\u2028" not in page.partition('id="data">')[2]


def test_the_page_allows_itself_nothing_from_outside(folder):
    page = report.html(folder)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    assert not re.findall(r"(?:src|href)=[\"'](?:https?:|//)", page)


def test_of_many_rows_some_are_shown_the_same_each_time(folder):
    page = report.html(folder, most=3)
    shown = [row["id"] for row in data_of(page)["shown"]]
    assert len(shown) == 3 and shown == sorted(shown) == [
        row["id"] for row in data_of(report.html(folder, most=3))["shown"]
    ]
    assert "3 of 6 pictures, drawn at random with seed 0" in page
    assert len(data_of(page)["values"]["foi-a"]["l1"]) == 6


def test_thumbnails_are_small_and_a_broken_picture_is_none(tmp_path):
    path = tmp_path / "wide.png"
    Image.new("RGB", (400, 100), "teal").save(path)
    assert embedded.thumbnail(path, 160).startswith("data:image/jpeg;base64,")
    path.write_bytes(path.read_bytes()[:60])
    assert embedded.thumbnail(path, 160) is None and embedded.thumbnail(tmp_path / "none.png", 160) is None


def test_the_best_is_marked_the_way_the_measure_runs(folder):
    table = report.html(folder).partition('id="summary-table"')[2].partition("</table>")[0]
    best = re.findall(r'<span class="best">([^<]*)</span>', table)
    assert best == ["22.70", "0.0358"]  # the greatest PSNR and the least L1, both of the third system
    assert "2 without a value" in table


def test_what_a_summary_does_not_break_down_is_averaged(own):
    told = json.loads((own / "summary.json").read_text())
    del told["groups"]
    (own / "summary.json").write_text(json.dumps(told))
    groups = {group["name"]: group for group in data_of(report.html(own))["groups"]}
    assert groups["shapes"]["systems"]["foi"]["psnr"]["value"] == results.value("psnr", 1, 0)
    assert groups["styles"]["systems"]["foi"]["psnr"]["value"] is None


def test_an_evaluation_that_is_under_way_can_be_looked_at(own):
    (own / "scores" / "foi" / "row-001.json").unlink()
    assert "1 pictures are not measured yet" in report.html(own)


def change(path, **values):
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | values))


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (lambda f: (f / "evaluation.json").unlink(), UsageError, "no result folder"),
        (lambda f: (f / "summary.json").unlink(), FileFormatError, "summary.json: is missing"),
        (lambda f: (f / "rows.json").write_text("[{"), FileFormatError, "rows.json: cannot be read as JSON"),
        (lambda f: (f / "rows.json").write_text('[{"id": "../../x"}]'), FileFormatError, "not safe"),
        (lambda f: change(f / "evaluation.json", format=2), FileFormatError, "format 2"),
        (lambda f: change(f / "evaluation.json", systems=[{"name": "../x"}]), FileFormatError, "not safe"),
        (lambda f: change(f / "evaluation.json", systems=[{"name": "foi", "at": 17}]), FileFormatError, "what 'foi' is"),
        (lambda f: change(f / "evaluation.json", systems=[{"name": "foi"}] * 2), FileFormatError, "there twice"),
        (lambda f: (f / "rows.json").write_text('[{"id": "x", "size": 17}]'), FileFormatError, "what 'x' is"),
        (lambda f: (f / "rows.json").write_text('[{"id": "x", "instructions": 1}]'), FileFormatError, "what 'x' is"),
        (lambda f: change(f / "scores" / "foi" / "row-000.json", values={"l1": math.nan}), FileFormatError, "row-000.json: is"),
        (lambda f: change(f / "scores" / "foi" / "row-000.json", id="row-001"), FileFormatError, "row-000.json: is"),
        (lambda f: change(f / "scores" / "foi" / "row-000.json", protocol="other"), FileFormatError, "row-000.json: was"),
        (lambda f: change(f / "summary.json", rows=[{"system": "foi", "measures": {"l1": {"value": "<b>"}}}]), FileFormatError,
         "no list of rows"),
    ],
)  # fmt: skip
def test_a_folder_that_is_damaged_is_refused_by_the_files_name(own, spoil, error, said):
    spoil(own)
    with pytest.raises(error, match=said):
        report.html(own)


def test_charts_are_of_every_measure_and_of_the_trade_off(folder):
    found = report.plots(evaluation.summary(folder), evaluation.scores(folder))
    assert set(found) == {
        "intervals-psnr.png", "intervals-l1.png", "histogram-psnr.png", "histogram-l1.png", "tradeoff.png",
    }  # fmt: skip
    for name, chart in found.items():
        assert len(chart.getcolors(10**6)) > 5, name


def test_charts_leave_out_what_nothing_has_a_value_of(own):
    summary = evaluation.summary(own)
    for line in summary["rows"]:
        line["measures"]["psnr"] = {"value": None, "low": None, "high": None}
    found = report.plots(summary, [score | {"values": {"l1": 0.5, "psnr": None}} for score in evaluation.scores(own)])
    assert set(found) == {"intervals-l1.png", "histogram-l1.png"}


def test_a_bound_that_is_far_from_all_systems_is_off_the_trade_off(tmp_path):
    own = results.build(tmp_path / "out", rows=3, systems=("foi", "pti", "truth"), parquet=False)
    summary, scores = evaluation.summary(own), evaluation.scores(own)
    truth = next(line for line in summary["rows"] if line["system"] == "truth")

    def chart(psnr: float):
        truth["measures"]["psnr"] = {"value": psnr, "low": psnr, "high": psnr}
        return report.plots(summary, scores)["tradeoff.png"].tobytes()

    assert chart(100.0) == chart(1000.0) != chart(22.0)  # where it would be then changes nothing


def test_the_first_axes_are_what_was_kept_and_how_far_it_went():
    measures = [{"name": n, "function": n} for n in ("edit_success", "clip_text", "clip_image", "psnr")]
    assert embedded.axes(measures) == ("clip_image", "clip_text")
    assert embedded.axes(measures[3:]) == ("psnr", "psnr")
    assert reading.per_picture([{"name": "a", "reduction": "set"}, {"name": "b"}]) == ["b"]


def test_points_of_a_sweep_are_called_by_their_value_where_that_says_which():
    def made(*named):
        systems = [{"name": n, "curve": c, "at": {"name": "x", "value": v} if v else None} for n, c, v in named]
        return reading.labels({"systems": systems}, {"rows": [{"system": n, "label": n} for n, _, _ in named]})

    assert made(("foi-x=1", "foi", 1), ("pti", "pti", None)) == {"foi-x=1": "foi 1", "pti": "pti"}
    assert made(("foi-x=1", "foi", 1), ("foi-y=1", "foi", 1)) == {"foi-x=1": "foi-x=1", "foi-y=1": "foi-y=1"}


def test_nothing_is_the_best_of_equals():
    assert reading.best([0.5, None, 0.7], lower=True) == 0.5 and reading.best([0.5, 0.7], lower=False) == 0.7
    assert reading.best([0.5, 0.5], lower=True) is None and reading.best([None], lower=False) is None
