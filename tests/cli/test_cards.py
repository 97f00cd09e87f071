"""The end of a training: tuned, measured, written down."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

PARTS = ("autoencoder", "clip", "editing", "grounding", "world", "machine")


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A folder that looks like a finished run, and measurements that answer at once."""
    from showtell import editor
    from showtell.bench import cards, starter

    for stage in ("clip", "autoencoder", "base", "instruct"):
        (tmp_path / "run" / stage).mkdir(parents=True)
        (tmp_path / "run" / stage / "done.json").write_text(json.dumps({"seconds_last_run": 7}))
    asked = {}

    def measure(model, **kwargs):
        asked["at"] = os.environ["SHOWTELL_STARTERS"]
        asked["card"] = model.card
        figures = {part: {"count": 1} for part in PARTS}
        figures["grounding"] |= {"gamma": 1, "tau": 0.3}
        return figures

    monkeypatch.setattr(editor, "load", lambda *_, **__: SimpleNamespace(card={}))
    monkeypatch.setattr(starter, "tune_guidance", lambda *_, **__: {"guidance_scale": 3.0})
    monkeypatch.setattr(cards, "measure", measure)
    return tmp_path, asked


@pytest.mark.parametrize("before", [None, "elsewhere"])
def test_the_tuned_defaults_are_measured_and_written(trained, before, monkeypatch):
    from showtell.cli import cards

    folder, asked = trained
    monkeypatch.delenv("SHOWTELL_STARTERS", raising=False)
    if before is not None:
        monkeypatch.setenv("SHOWTELL_STARTERS", before)
    cards.finish(folder, preset="smoke", seed=3, device="cpu", say=lambda line: None)
    assert asked == {"at": str(folder), "card": {"defaults": {"ip2p": {"guidance_scale": 3.0}}}}
    assert os.environ.get("SHOWTELL_STARTERS") == before
    card = json.loads((folder / "cards" / "starter.json").read_text())
    assert card["defaults"]["ip2p"] == {"guidance_scale": 3.0}
    assert card["training"]["command"] == "showtell train starter --preset smoke --seed 3"
    assert "7 s" in card["training"]["base"]
    assert {path.suffix for path in (folder / "cards").iterdir()} == {".json", ".md"}
