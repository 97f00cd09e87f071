"""The sieve's report in a real browser: what is shown, filtered and sorted."""

from __future__ import annotations

import pytest

from showtell.engine import filter as sieving
from showtell.engine import filter_charts, filter_page
from showtell.engine.filter_choose import Bounds
from showtell.engine.filter_figures import figures
from tests.helpers import datasets
from tests.helpers.browser import PHONE, launch, page

HOSTILE = "</script><img src=x onerror=document.title='taken'>"


@pytest.fixture(scope="module")
def browser():
    with launch() as running:
        yield running


@pytest.fixture(scope="module")
def sifted(tmp_path_factory, tiny_starters):
    root = tmp_path_factory.mktemp("page")
    changes = {"p000000_c00": {"instruction": HOSTILE, "group": HOSTILE}, "p000003_c01": {"error": HOSTILE}}
    datasets.candidates(root / "candidates", count=4, each=8, **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOWTELL_STARTERS", str(tiny_starters))
        loose = sieving.sift(
            [root / "candidates"], root / "all", bounds=Bounds(image=-1, direction=-1, caption=-1, keep=8)
        )
        middle = sorted(scores.direction for scores in loose.scores.values())[16]
        limits = Bounds(image=-1, direction=round(middle, 5), caption=-1, keep=2)
        found = sieving.sift([root / "candidates"], root / "kept", bounds=limits, scores=root / "all")
    return root / "kept", found


@pytest.fixture
def tab(browser, sifted):
    with page(browser, sifted[0] / "report.html") as shown:
        yield shown


def count(tab) -> int:
    told = tab.locator("#show-count").inner_text()
    return int(told.split(" of ")[1].split()[0]) if " of " in told else 0


def test_candidates_are_filtered_searched_and_sorted(tab, sifted):
    told = figures(sifted[1])
    assert f"{told['kept']} pairs of 32 candidates" in tab.locator("h1").inner_text() and count(tab) == 31
    assert tab.locator(".card").count() == 24 and tab.locator(".card img").count() == 48
    tab.locator("#show-next").click()
    assert tab.locator(".card").count() == 7
    for verdict, number in (("kept", told["kept"]), ("outranked", told["outranked"]), ("dropped", told["dropped"])):
        tab.select_option("#show-verdict", verdict)
        assert count(tab) == number > 0
    tab.select_option("#show-verdict", "direction")
    assert count(tab) == told["tests"]["direction"]["fails"]
    assert "wrong direction" in tab.locator(".card").first.inner_text()
    tab.select_option("#show-verdict", "*")
    tab.fill("#show-search", "p000001 MAKE")
    assert count(tab) == 8
    tab.fill("#show-search", "")
    tab.select_option("#show-group", "replace")
    assert count(tab) == 15
    tab.select_option("#show-sort", "guidance_scale")
    first = tab.locator(".card .about").first.inner_text()
    assert "-c07" in first
    tab.select_option("#show-order", "least")
    assert "-c00" in tab.locator(".card .about").first.inner_text()


def test_words_of_the_data_are_never_markup(tab):
    assert tab.title().endswith("32 candidates")
    assert HOSTILE in tab.locator(".card h3").all_inner_texts()
    tab.locator("summary").click()
    assert HOSTILE in tab.locator("details").inner_text()


def test_it_fits_a_telephone(browser, sifted):
    with page(browser, sifted[0] / "report.html", size=PHONE) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert tab.locator("svg[role=img]").count() == 10  # histograms, curves, and what candidates drew


def test_the_pages_size_has_a_bound(sifted):
    _, found = sifted
    small = filter_page.page(found, figures(found), most_bytes=60_000)
    assert len(small) < 60_000 + 60_000 and "of 31 candidates, drawn by a hash" in small


def test_a_chart_of_nothing_says_so():
    assert "no candidate has a value" in filter_charts.histogram("x", [("a", "c0", [])], least=0.2)
    assert "no candidate has a value" in filter_charts.curve("x", [], least=0.2)
