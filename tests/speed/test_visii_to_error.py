"""The published VISII loop against ours: the same gradient, its own steps, and the comparison in time. On random starters."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch

import showtell
from showtell import learning, lessons
from showtell.inversion import visii
from showtell.pairs import Pairs

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def imported(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("published_visii", "visii_to_error"):
        sys.modules.pop(name, None)
    import published_visii
    import visii_to_error

    return published_visii, visii_to_error


@pytest.fixture
def ours(starters, picture):
    """A lesson of ours with the paper's settings, for a network that predicts v."""
    editor = showtell.load("starter", device="cpu")
    settings = learning._settings(
        editor, visii.VisualInstructionInversion(**visii.VisualInstructionInversion.PAPER), {}
    )
    clip = lessons.judge(editor, settings, init=None, clip=None)
    pairs = Pairs.of([(picture(seed=1), picture(seed=2))])
    return lessons.prepare(editor, pairs, settings, words="make the circle red", clip=clip, fit="fit")[0]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("with_clip", [True, False])
def test_the_published_step_has_our_gradient(imported, ours, prediction_type, with_clip):
    """Ours leaves out what is constant; the gradient, and so the first step, is the same."""
    published, _ = imported
    changes = {"prediction_type": prediction_type} | ({} if with_clip else {"direction": None, "feature": None})
    ours = dataclasses.replace(ours, **changes)
    theirs = published.Lesson.of(ours)
    t, noise = torch.tensor(400), torch.randn(theirs.after.shape)
    embeds, optimiser = published.begin(theirs)
    mse = published.step(theirs, embeds, optimiser, t, noise)
    assert mse == pytest.approx(float(visii.mse_at(ours, ours.tokens, ours.shown[0], t[None], noise)), rel=1e-4)
    tokens = torch.nn.Parameter(ours.tokens.clone())
    visii.loss_at(ours, tokens, ours.shown[0], t[None], noise).backward()
    torch.nn.utils.clip_grad_value_([tokens], float(ours.embeds.max()))
    start, end = ours.span
    scale = float(tokens.grad.abs().max())
    assert torch.allclose(embeds.grad[start:end], tokens.grad, atol=1e-4 * scale, rtol=1e-3)
    torch.optim.AdamW([tokens], lr=published.LEARNING_RATE).step()
    assert torch.allclose(embeds[start:end], tokens, atol=1e-4)
    assert torch.equal(embeds[:start], ours.embeds[:start]) and torch.equal(embeds[end:], ours.embeds[end:])


def test_the_published_loop(imported, ours):
    published, _ = imported
    theirs = published.Lesson.of(ours)
    seen = []
    best, last = published.learn(theirs, seed=3, steps=4, observe=lambda done, embeds: seen.append(embeds.clone()))
    assert len(seen) == 4 and torch.equal(seen[-1], last) and not torch.equal(seen[0], last)
    assert any(torch.equal(best, each) for each in (theirs.embeds, *seen[:-1]))
    again = published.learn(theirs, seed=3, steps=4)[1]
    assert torch.equal(last, again)


def test_a_small_comparison(imported, starters, tmp_path, capsys):
    _, bench = imported
    out, table, plot = tmp_path / "to_error.json", tmp_path / "table.md", tmp_path / "plot.png"
    told = ["--others", "2", "--published-steps", "3", "--ours-steps", "1", "2", "--caption-steps", "2", "-o", str(out)]
    bench.main(["--lessons", "1", *told])
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "to_error.parts").rglob("9*.json")}
    assert len(first) == 4
    bench.main(["--lessons", "2", *told, "--table", str(table), "--plot", str(plot)])
    assert all(path.stat().st_mtime_ns == at for path, at in first.items())
    found = json.loads(out.read_text())
    assert found["lessons"] == 2 and found["seeds"] == [95_000, 95_001] and found["versions"]["torch"]
    assert [point["steps"] for point in found["published"]] == ["3", "kept"]
    assert [point["steps"] for point in found["ours"]] == ["1", "2"]
    assert all(point["seconds"] > 0 for point in (*found["published"], *found["ours"]))
    assert all(len(each["told"]["tests"]) == 2 for each in found["each"])
    assert "| ours | 2 |" in table.read_text() and plot.stat().st_size > 1000
    bench.main(["--redraw", "-o", str(out)])
    assert table.read_text() in capsys.readouterr().out


def test_the_ratio(imported):
    """The time of the first number of our steps at or below the published end, against the whole published time."""
    _, bench = imported

    def lesson(ours):
        published = {"50": (10.0, 0.9), "500": (100.0, 0.4), "1000": (200.0, 0.4), "kept": (200.0, 0.5)}
        made = {
            name: {n: {"seconds": s, "tests": [{"edit_error": e, "success": e < 0.5}]} for n, (s, e) in part.items()}
            for name, part in (("published", published), ("ours", ours))
        }
        told = {"tests": [{"edit_error": 0.1, "success": True}]}
        return {"told": told, "published": {"points": made["published"], "caption_seconds": 1.0}, "ours": made["ours"]}

    found = bench.summary([lesson({"10": (4.0, 0.6), "25": (8.0, 0.4), "50": (16.0, 0.2)})])
    to = found["to_mean_error"]
    assert to["aim"] == 0.4 and to["ours"] == {"steps": "25", "seconds": 8.0} and to["ratio"] == 25.0
    assert found["aims"][0]["met"] and found["aims"][0]["median"] == 25.0
    assert to["published_first_there"] == {"steps": "500", "seconds": 100.0}
    never = bench.summary([lesson({"10": (4.0, 0.6)})])["to_median_error"]
    assert never["ours"] is None and never["ratio"] is None
