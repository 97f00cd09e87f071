"""The report's page in a real browser."""

from __future__ import annotations

import json
import re

import pytest

from showtell.evaluation import report
from tests.helpers import results
from tests.helpers.browser import PHONE, launch, page

HOSTILE = "</script><img src=x onerror=document.title='taken'>"
SYSTEMS = ("foi-1", "foi-2", "foi-3")
LABELS = ["foi 1.0", "foi 2.0", "foi 3.0"]  # points of one sweep


@pytest.fixture(scope="module")
def browser():
    with launch() as running:
        yield running


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = results.build(
        tmp_path_factory.mktemp("page") / "out", rows=24, systems=SYSTEMS, curve="foi", failed=[("foi-2", 3)],
        words={0: [HOSTILE]}, parquet=False,
    )  # fmt: skip
    out = folder / "report.html"
    out.write_text(report.html(folder), encoding="utf-8")
    return out


@pytest.fixture
def tab(browser, path):
    with page(browser, path) as shown:
        yield shown


def column(tab, index: int) -> list[str]:
    return [
        cell.split("\n")[0] for cell in tab.locator(f"#summary-table tbody tr td:nth-child({index})").all_inner_texts()
    ]


def ids(tab) -> list[str]:
    return [re.search(r"row-\d+", text)[0] for text in tab.locator(".row .about").all_inner_texts()]


def test_a_click_on_a_columns_head_sorts_best_first_then_turns(tab):
    tab.get_by_role("button", name="PSNR").first.click()
    assert column(tab, 1) == LABELS[::-1]
    tab.get_by_role("button", name="PSNR").first.click()
    assert column(tab, 1) == LABELS
    tab.get_by_role("button", name="L1").first.click()
    values = [float(text) for text in column(tab, 3)]
    assert values == sorted(values)
    tab.get_by_role("button", name="System").first.click()
    assert column(tab, 1) == LABELS


def test_pictures_are_filtered_searched_and_sorted(tab):
    assert len(ids(tab)) == 20 and "1 to 20 of 24" in tab.locator("#show-count").inner_text()
    tab.locator("#show-next").click()
    assert ids(tab) == [f"row-{i:03d}" for i in range(20, 24)]
    tab.select_option("#show-group", "styles")
    assert ids(tab) == [f"row-{i:03d}" for i in range(1, 24, 2)]
    tab.fill("#show-search", "TREE night")
    assert ids(tab) == [f"row-{i:03d}" for i in range(1, 24, 4)]
    tab.fill("#show-search", "no such words")
    assert ids(tab) == [] and "No picture fits" in tab.locator("#show-count").inner_text()
    tab.fill("#show-search", "")
    tab.select_option("#show-group", "*")
    tab.select_option("#show-sort", "psnr")
    assert ids(tab)[0] == "row-023" and "row-001" not in ids(tab)  # the one without a value comes last
    tab.select_option("#show-order", "worst")
    assert ids(tab)[0] == "row-000"
    tab.select_option("#show-sort", "l1")
    assert ids(tab)[0] == "row-023"  # the greatest L1 is the worst


def test_keys_go_through_the_pictures_and_a_click_enlarges(tab):
    for _ in range(21):
        tab.keyboard.press("n")
    assert "row-020" in tab.locator(".row.current .about").inner_text()
    tab.keyboard.press("p")
    assert "row-019" in tab.locator(".row.current .about").inner_text()
    tab.fill("#show-search", "row-003 n")
    assert ids(tab) == ["row-003"]  # n is a letter there
    assert "it went wrong" in tab.locator(".row").inner_text()
    tab.fill("#show-search", "")
    tab.locator("#row-0 button.picture").nth(2).click()
    assert tab.locator("#viewer").is_visible() and tab.locator("#viewer figcaption").all_inner_texts()[1].startswith(
        "foi 1.0"
    )
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#viewer figcaption").all_inner_texts()[1].startswith("foi 2.0")
    tab.keyboard.press("ArrowDown")
    assert "row-001" in tab.locator("#viewer .about").inner_text()
    tab.keyboard.press("Escape")
    assert not tab.locator("#viewer").is_visible()


def test_charts_follow_what_is_chosen(tab):
    assert tab.locator("#curves polyline").count() == 1 and tab.locator("#curves circle").count() == 3
    assert tab.locator("#curves .label").all_text_contents() == ["1", "2", "3"]
    assert tab.locator("#histograms g").count() == 3 and tab.locator("#histograms rect").count() > 5
    before = tab.locator("#histograms").inner_html()
    tab.select_option("#histogram-measure", "psnr")
    assert tab.locator("#histograms").inner_html() != before
    tab.select_option("#curve-x", "l1")
    tab.select_option("#curve-y", "psnr")
    assert "PSNR (higher is better)" in tab.locator("#curves").inner_html()
    tab.select_option("#group-measure", "psnr")
    assert tab.locator("#group-table tbody tr").count() == 2


def test_two_systems_are_compared_picture_by_picture(tab):
    tab.select_option("#pair-a", "foi-3")
    tab.select_option("#pair-b", "foi-1")
    tab.select_option("#pair-measure", "psnr")
    said = tab.locator("#pair-text").inner_text()
    assert "foi 3.0 minus foi 1.0: +2.000" in said and "23 pictures" in said
    assert "foi 3.0 is better on 23, the same on 0, worse on 0" in said
    tab.select_option("#pair-b", "foi-2")
    tab.select_option("#pair-measure", "l1")
    said = tab.locator("#pair-text").inner_text()
    assert "−0.01667" in said and "23 pictures" in said and "better on 23" in said


def test_hostile_words_are_shown_as_words(tab):
    assert tab.locator("#row-0 h3").inner_text() == HOSTILE
    assert tab.title() == "drawn, protocol tiny" and tab.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_within_its_width(browser, path, scheme):
    with page(browser, path, size=PHONE, color_scheme=scheme) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        for chart in ("#curves svg", "#histograms svg", "#pair-chart svg"):
            assert tab.locator(chart).bounding_box()["width"] <= PHONE["width"]
        ink, paper = tab.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        shade = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
        assert (shade[0] < 200 < 600 < shade[1]) if scheme == "light" else (shade[1] < 200 < 600 < shade[0])


def test_without_scripts_the_summary_is_still_there(browser, path):
    with page(browser, path, java_script_enabled=False) as tab:
        assert tab.locator("#summary-table tbody tr").count() == 3 and tab.locator(".still").is_visible()
        assert not tab.locator("#pictures").is_visible()


def test_bounds_stand_below_their_pictures_and_are_never_the_best(browser, tmp_path):
    folder = results.build(tmp_path / "out", rows=3, systems=("foi", "pti", "truth"), parquet=False)
    told = json.loads((folder / "evaluation.json").read_text())
    assert told["systems"][2]["method"] == "truth"
    for score in (folder / "scores" / "truth").iterdir():
        score.write_text(json.dumps(json.loads(score.read_text()) | {"values": {"psnr": 100.0, "l1": 0.0}}))
    (folder / "report.html").write_text(report.html(folder), encoding="utf-8")
    with page(browser, folder / "report.html") as tab:
        card = tab.locator("#row-0")
        assert card.locator("thead th").all_inner_texts() == ["Input", "Truth", "foi", "pti"]
        assert card.locator("tbody tr").nth(1).locator("td").all_inner_texts() == ["", "100.0", "20.0", "21.0"]
        assert card.locator("td.best").all_inner_texts() == ["21.0", "0.0500"]
        assert (
            tab.locator("#summary-table .bound .best").count() == 0 and tab.locator("#summary-table .best").count() == 2
        )
        tab.select_option("#histogram-measure", "psnr")
        assert tab.locator("#histogram-note").inner_text() == "truth is 100 for every picture."
        assert tab.locator("#histograms g").count() == 2


def test_a_bound_that_is_far_from_all_systems_is_told_below_the_trade_off(browser, tmp_path):
    folder = results.build(tmp_path / "out", rows=3, systems=("foi", "pti", "truth"), parquet=False)
    told = json.loads((folder / "summary.json").read_text())
    told["rows"][2]["measures"]["psnr"] = {"value": 100.0, "low": 100.0, "high": 100.0, "count": 3, "invalid": 0}
    (folder / "summary.json").write_text(json.dumps(told))
    (folder / "report.html").write_text(report.html(folder), encoding="utf-8")
    with page(browser, folder / "report.html") as tab:
        shown = tab.locator("#curves circle").evaluate_all("all => all.map(one => one.dataset.system)")
        assert shown == ["foi", "pti"] and tab.locator("#curves .key li").all_inner_texts() == shown
        assert tab.locator("#curves p").inner_text().startswith("Off the chart: truth (100.0, ")
