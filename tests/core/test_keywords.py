"""The word that says where: brackets, learned instructions, the only content word, or the most concentrated map."""

from __future__ import annotations

import math

import pytest
import torch

import showtell
from showtell import instruction, keywords, layout
from showtell.errors import TextError
from tests.helpers import tiny
from tests.helpers.looks import made

PIPE = tiny.pipeline("instruct")
LOOKS = {"night": made(PIPE, "night"), "rain": made(PIPE, "rain", tokens=2, seed=1)}
STEPS = {"method": "foi", "num_inference_steps": 3, "seed": 0}


def laid(*texts):
    return layout.lay_out(PIPE, [instruction.parse(text, LOOKS) for text in texts])


@pytest.mark.parametrize(
    ("text", "keyword", "positions"),
    [
        ("make the [circle] red", "circle", (3,)),
        ("make the [blue circle] red", "blue circle", (3, 4)),
        ("[make] the [circle] red", "make circle", (1, 3)),
        ("make the [the] circle red", "the", (3,)),  # what the user marks is taken as it is
        ("make the [(circle)] red", "circle", (4,)),
        ("make the [circle!] red", "circle", (3,)),
        ("make <night> [red]", "red", (6,)),
        ("make <night> red", "<night>", (2, 3, 4, 5)),
        ("<rain> and <night>", "<rain> <night>", (1, 2, 6, 7, 8, 9)),
        ("[<rain>] and <night>", "<rain>", (1, 2)),
    ],
)
def test_what_is_marked_or_learned_is_known(text, keyword, positions):
    found = keywords.known(laid(text), 0)
    assert found == keywords.Keyword(text=keyword, positions=positions, chosen=False)


@pytest.mark.parametrize(
    ("text", "keyword"),
    [
        ("make the circle red", "circle"),  # a noun before what describes it
        ("Make The CIRCLE Red!", "CIRCLE"),
        ("make it red", "red"),  # what describes before what edits
        ("turn it off", "turn"),
        ("add a blue star", "star"),
        ("star", "star"),
        ("the", "the"),
    ],
)
def test_the_only_candidate_is_known_and_counts_as_chosen(text, keyword):
    found = keywords.known(laid(text), 0)
    assert found is not None and (found.text, found.chosen) == (keyword, True)


def test_of_several_candidates_the_most_concentrated_map_is_chosen():
    placed = laid("add a tree", "make the house a star [now]", "make the house a star")
    assert keywords.known(placed, 2) is None and keywords.known(placed, 1) is not None
    maps = torch.ones(77, 8, 8)
    (house,), (star,) = ([p.tokens[0] for p in placed.of(2) if p.text == word] for word in ("house", "star"))
    maps[house, 2:4, 2:4] = 5
    maps[star, 6, 1] = 50
    assert keywords.chosen(placed, 2, maps) == keywords.Keyword(text="star", positions=(star,), chosen=True)
    maps[house, 2:4, 2:4] = 500
    assert keywords.chosen(placed, 2, maps).text == "house"


def test_a_choice_between_nothing_but_function_words_is_among_all_of_them():
    placed = laid("so it is")
    assert [piece.text for piece in keywords.candidates(placed.of(0))] == ["so", "it", "is"]
    maps = torch.ones(77, 4, 4)
    maps[list(placed.of(0)[1].positions), 1, 1] = 9
    assert keywords.chosen(placed, 0, maps).text == "it"


def test_the_concentration_is_a_divergence_from_even():
    even, one = torch.full((8, 8), 0.3), torch.zeros(8, 8)
    assert keywords.concentration(even) == pytest.approx(0, abs=1e-5)
    one[4, 4] = 7
    assert 0.5 * math.log(64) < keywords.concentration(one) <= math.log(64)  # smoothed, it covers nine cells
    assert keywords.concentration(one * 1e-3) == pytest.approx(keywords.concentration(one), rel=1e-4)
    assert keywords.concentration(torch.zeros(8, 8)) == pytest.approx(0, abs=1e-5)


def test_notes_and_the_edit_tell_the_chosen_word(editor, picture):
    told = ["make the house a star", "make the [circle] red", "make it red"]
    with pytest.warns(showtell.errors.ShowtellWarning):
        edit = editor.edit(picture(), told, **STEPS)
    assert edit.keywords[0] in ("house", "star") and edit.keywords[1:] == ["circle", "red"]
    chosen = [note for note in edit.notes if "chosen automatically" in note]
    assert chosen == [
        f"keyword of 'make the house a star': [{edit.keywords[0]}], chosen automatically",
        "keyword of 'make it red': [red], chosen automatically",
    ]


@pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")
def test_an_instruction_without_a_word_fails_for_its_own_picture(editor, picture):
    for told in ("!!!", ["make it red", "!!!"], ["!!!", "make it red"]):
        with pytest.raises(TextError, match=r"'!!!' has no word that could be its keyword: .*\[this\]"):
            editor.edit(picture(), told, **STEPS)
    good, bad = editor.edit([picture(), picture()], ["make it red", "..."], **STEPS)
    assert isinstance(good, showtell.Edit) and isinstance(bad, TextError)
    # Marked, or with a mask of its own, it is taken.
    assert editor.edit(picture(), "[!!!]", **STEPS).keywords == ["!!!"]
    white = torch.ones(32, 32)
    assert editor.edit(picture(), ["!!!", "make it red"], masks=[white, None], **STEPS).keywords == [None, "red"]
