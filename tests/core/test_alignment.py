"""Which token of a target prompt is which of its source, and which words matter."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from showtell import alignment, instruction
from showtell.errors import MethodError
from showtell.layout import lay_out
from tests.helpers import tiny


@pytest.fixture(scope="module")
def laid():
    pipe = tiny.pipeline("base")
    return lambda text: lay_out(pipe, [instruction.parse(text)])


def positions(layout, word):
    return next(list(piece.positions) for piece in layout.pieces if piece.text == word)


def texts(pieces):
    return [piece.text for piece in pieces]


sequences = st.lists(st.integers(0, 3), max_size=7)


@given(sequences, sequences)
def test_matches_are_a_longest_common_subsequence(source, target):
    pairs = alignment.matched(source, target)
    assert all(source[i] == target[j] for i, j in pairs)
    assert all(a < c and b < d for (a, b), (c, d) in zip(pairs, pairs[1:], strict=False))
    longer = len(pairs) + 1
    subsequences = {tuple(chosen) for chosen in combinations(source, longer)}
    assert not subsequences & {tuple(chosen) for chosen in combinations(target, longer)}


@pytest.mark.parametrize("rule", [alignment.replaced, alignment.refined])
def test_an_identical_prompt_takes_everything_from_where_it_stands(laid, rule):
    prompt = laid("a red circle, to the blue house")
    columns, shared = rule(prompt, prompt)
    assert torch.equal(columns, torch.eye(77)) and shared.all()


def test_replace_goes_word_by_word_and_shares_a_words_tokens_evenly(laid):
    source, target = laid("a red circle"), laid("a xyz star")  # x, y, z: three tokens
    red, xyz = positions(source, "red"), positions(target, "xyz")
    assert len(red) == 1 and len(xyz) == 3
    columns, shared = alignment.replaced(source, target)
    assert columns[red[0], xyz].tolist() == pytest.approx([1 / 3] * 3)
    (circle,), (star,) = positions(source, "circle"), positions(target, "star")
    assert columns[circle, star] == 1 and columns[:, star].sum() == 1  # what follows moves along
    assert columns[circle + 1, star + 1] == 1  # the ends
    assert columns[:, star + 2 :].argmax(0).tolist() == list(range(star + 2, 77))  # padding, where both have it
    back, _ = alignment.replaced(target, source)
    assert back[xyz, red[0]].tolist() == [1, 1, 1]
    # Padding of the shorter prompt that stands where the longer has words is the target's own.
    _, own = alignment.replaced(target, source)
    assert [j for j in range(77) if not own[j]] == [circle + 2, circle + 3]
    assert shared.all()


def test_words_of_as_many_tokens_are_taken_token_by_token(laid):
    source, target = laid("a zyx house"), laid("a xyz house")
    columns, _ = alignment.replaced(source, target)
    ours, theirs = positions(target, "xyz"), positions(source, "zyx")
    assert torch.equal(columns[theirs][:, ours], torch.eye(3))


def test_replace_refuses_prompts_of_different_lengths(laid):
    with pytest.raises(MethodError, match="4 are not 2 .*'refine'"):
        alignment.replaced(laid("red circle"), laid("a red circle house"))


def test_refine_aligns_what_both_have_and_leaves_new_tokens_their_own(laid):
    source, target = laid("a red circle"), laid("a big red circle to the house")
    columns, shared = alignment.refined(source, target)
    for word in ("a", "red", "circle"):
        assert (
            columns[positions(source, word), positions(target, word)].tolist() == [1]
            and shared[positions(target, word)]
        )
    for word in ("big", "to", "the", "house"):
        assert not shared[positions(target, word)].any() and not columns[:, positions(target, word)].any()
    assert columns[0, 0] == 1 and ((columns.sum(0) == 1) == (shared == 1)).all()


def test_refine_is_by_tokens(laid):
    source, target = laid("a xyz"), laid("a xy")
    columns, shared = alignment.refined(source, target)
    (x, *_), ours = positions(source, "xyz"), positions(target, "xy")
    # What ends a word is another token than the same letter inside one.
    assert shared[ours].tolist() == [1, 0] and columns[:, ours[0]].argmax() == x


def flat(*peaks):
    """Maps that are even, but for a peak at these positions."""
    maps = torch.ones(77, 6, 6)
    for position in peaks:
        maps[position, 2, 2] = 30.0
    return maps


def test_the_words_that_matter(laid):
    source = laid("a red circle and a star")
    bracketed = laid("a green circle and a [star]")
    assert texts(alignment.words_that_matter(bracketed, flat(), source)) == ["star"]
    # A describing word gives way to its noun.
    assert texts(alignment.words_that_matter(laid("a green circle and a star"), flat(), source)) == ["circle"]
    assert texts(alignment.words_that_matter(laid("a red circle and a house"), flat(), source)) == ["house"]
    assert texts(alignment.words_that_matter(laid("a star and the circle is green"), flat(), laid("a star"))) == [
        "circle",
        "green",
    ]
    # Without a source, or without a difference, the most concentrated one.
    plain = laid("a red circle and a star")
    (circle,), (star,) = positions(plain, "circle"), positions(plain, "star")
    for known in (None, source):
        assert texts(alignment.words_that_matter(plain, flat(circle), known)) == ["circle"]
        assert texts(alignment.words_that_matter(plain, flat(star), known)) == ["star"]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("a red circle and a star", "a green circle and a star", (["circle"], ["circle"])),
        ("a circle and a star", "a house and a star", (["circle"], ["house"])),
        ("a circle and a star", "a circle", (["star"], [])),  # what was lost is where it was
        ("a circle", "a circle and a star", ([], ["star"])),
        ("a circle and a star", "a [house] and a star", (["circle"], ["house"])),
        ("a [circle] and a star", "a house and a star", (["circle"], ["house"])),
        ("a circle and a [star]", "a [house] and a star", (["star"], ["house"])),
        ("a circle and a star", "a circle and a [star]", (["star"], ["star"])),
    ],
)
def test_the_words_of_both_prompts(laid, source, target, expected):
    found = alignment.words_of_both(laid(source), laid(target), flat(), flat())
    assert tuple(texts(words) for words in found) == expected


def test_identical_prompts_have_the_most_concentrated_word_in_both(laid):
    prompt = laid("a red circle and a star")
    (star,) = positions(prompt, "star")
    assert [texts(words) for words in alignment.words_of_both(prompt, prompt, flat(), flat(star))] == [["star"]] * 2
