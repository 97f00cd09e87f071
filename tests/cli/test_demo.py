"""`showtell demo`, on random starters: everything is there; what it looks like is for eyes to judge."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import showtell


@pytest.fixture
def few(monkeypatch):
    """One case of a kind, and a few steps of learning, so that the demo is quick."""
    from showtell.cli import described, gallery, shown

    monkeypatch.setattr(gallery, "EACH", 1)
    monkeypatch.setattr(described, "SETTINGS", {"num_inference_steps": 3})
    for settings in ("SETTINGS", "DRAWN_SETTINGS"):
        monkeypatch.setattr(shown, settings, {"steps": 2, "check_timesteps": 2, "clip_weight": 0})


def test_the_demo_measures_and_draws(cli, few):
    result = cli("demo", "--out", "shown", "--json", "--device", "cpu")
    assert result.code == 0, result.err
    figures = json.loads(Path("shown/figures.json").read_text())
    assert (figures["single"], figures["double"]) == (8, 1)
    assert {**figures, "written": "shown", "notes": []} == result.json
    foreign = [case for case in figures["cases"] if case["right"] is None]
    assert {Path(case["file"]).stem.split("-")[1] for case in foreign} == {"drawing", "photo"}
    for case in figures["cases"]:
        assert showtell.recipe.read(Path("shown") / case["file"]).instructions == tuple(case["words"])
    for case in figures["focused"]["cases"]:
        made = showtell.recipe.read(Path("shown") / case["file"])
        assert made.method.name == "foi" and len(made.instructions) == len(case["keywords"]) > 1
        assert Image.open(Path("shown") / case["file"].replace(".png", ".overlay.png")).width >= 440
    (case,) = figures["described"]["cases"]
    made = showtell.recipe.read(Path("shown") / case["file"])
    assert (made.method.name, made.model.id, made.source) == ("pti", "starter-base", case["source"])
    assert made.instructions == tuple(case["words"]) and "right" in case["ddim-edit"]
    assert Image.open("shown/sheet.png").width > 1000

    replayed = cli("replay", "shown/01-recolour.png", "-o", "again.png")
    assert replayed.code == 0, replayed.err
    cli("demo", "--out", "shown").refused("shown/sheet.png: exists already")


def test_the_demo_prints_a_table_and_learns_from_pairs(cli, few):
    result = cli("demo", "--device", "cpu")
    assert result.code == 0, result.err
    assert "right: " in result.out and result.out.endswith("wrote demo/sheet.png\n")
    assert result.err == ""
    told = json.loads(Path("demo/figures.json").read_text())["shown"]
    scene, drawing = told["lessons"]
    assert told["count"] == len(scene["cases"]) == 4 and len(drawing["cases"]) == 2
    assert scene["cases"][3]["words"][0].startswith("<mosaic> ") and len(scene["cases"][3]["per_edit"]) == 2
    for lesson in told["lessons"]:
        look = showtell.LearnedInstruction.load(Path("demo") / lesson["learned"])
        assert look.how["pairs"][0]["after"]["path"] == f"demo/{lesson['pair'][1]}"
        for case in lesson["cases"]:
            replayed = showtell.replay(Path("demo") / case["file"])
            assert replayed.recipe.learned[0].parts[0].path == f"demo/{lesson['learned']}"
            assert not any("not the learned instruction" in note for note in replayed.notes)


def test_a_hybrid_is_right_only_where_both_parts_are():
    from showtell.cli import shown

    case = {"right": True, "per_edit": [0.1, 0.5]}
    assert shown._judged(case)["right"] is False
    assert shown._judged({**case, "per_edit": [0.1, 0.2]})["right"] and shown._judged({**case, "per_edit": []})["right"]
    assert shown._judged({"right": None})["right"] is None


def test_the_drawings_are_those_of_their_sources():
    """Within what versions of Cairo differ by, where there is one."""
    import ctypes.util
    import subprocess
    import sys

    if ctypes.util.find_library("cairo") is None:
        pytest.skip("there is no Cairo here")
    tool = Path(__file__).parents[2] / "tools" / "draw_pictures.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_demo_that_cannot_be_written_leaves_nothing(cli, few, monkeypatch, unchanged):
    from showtell import files

    whole, seen = files.write_atomic, []

    def full(path, data, **options):
        seen.append(path)
        if len(seen) == 5:
            raise files.output_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        return whole(path, data, **options)

    monkeypatch.setattr(files, "write_atomic", full)
    cli("demo", "--out", "shown", "--device", "cpu").refused("No space left on device", code=1)
    assert not Path("shown").exists()
    unchanged()


def test_the_photograph_has_an_odd_size():
    from showtell.cli import gallery

    with Image.open(Path(gallery.__file__).parent / "pictures" / "photo.jpg") as photo:
        assert photo.width % 2 == 1 and photo.height % 2 == 1


def test_a_sheet_survives_long_words_and_many_masks():
    from showtell.cli import sheet

    masks = [np.eye(64, dtype=bool)] * 6
    picture = sheet.overlay(Image.new("RGB", (64, 64)), masks)
    card = sheet.Card(title="word " * 80, pictures=[("edited", picture)], note="note " * 80, right=False)
    assert sheet.draw("heading", [card] * 3).size > (100, 100)
