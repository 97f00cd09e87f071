"""Which token is which word of which sub-instruction."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from showtell import instruction, layout
from showtell.errors import TextError
from tests.helpers import tiny
from tests.helpers.looks import made

PIPE = tiny.pipeline("instruct")
LOOKS = {"night": made(PIPE, "night"), "rain": made(PIPE, "rain", tokens=2, seed=1)}


def laid(*texts, pipe=PIPE):
    parts = [instruction.parse(text, LOOKS) for text in texts]
    return parts, layout.lay_out(pipe, parts)


def words(found, part):
    return [piece.text for piece in found.of(part)]


def letters(text):
    return "".join(c for c in text if c.isalnum())


def keyword(found, part=0):
    return [piece.text for piece in found.of(part) if piece.keyword]


def check(pipe, parts, found):
    """Every token between start and end is in one piece, and it is that piece's token."""
    whole = instruction.segments(instruction.join(parts))
    ids, _ = instruction.lay_out(pipe, whole)
    at, looks = 1, [look for _, look in instruction.join(parts).looks]
    for piece in found.pieces:
        own = list(looks.pop(0).token_ids) if piece.learned else instruction.tokenize(pipe, piece.text)
        assert piece.tokens == (at, at + len(own)) and ids[at : at + len(own)] == own
        assert all(found.owners()[position] == piece.part for position in piece.positions)
        at += len(own)
    assert not looks and ids[at] == pipe.tokenizer.eos_token_id
    assert found.owners()[at:] == [None] * (len(ids) - at) and found.owners()[0] is None
    assert len(found.owners()) == found.length == len(ids) == 77
    _, spans = instruction.assemble(pipe, whole)
    assert spans[0][0] == 1 and spans[-1][1] == at


def test_words_sub_instructions_and_the_comma_between_them():
    parts, found = laid("make the circle red", "add a [blue star]")
    assert [(piece.text, piece.tokens, piece.part) for piece in found.pieces] == [
        ("make", (1, 2), 0), ("the", (2, 3), 0), ("circle", (3, 4), 0), ("red", (4, 5), 0), (",", (5, 6), None),
        ("add", (6, 7), 1), ("a", (7, 8), 1), ("blue", (8, 9), 1), ("star", (9, 10), 1),
    ]  # fmt: skip
    assert found.owners()[:11] == [None, 0, 0, 0, 0, None, 1, 1, 1, 1, None]
    assert keyword(found, 0) == [] and keyword(found, 1) == ["blue", "star"]
    check(PIPE, parts, found)


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("[make] the circle red", ["make"]),
        ("make the circle [red]", ["red"]),
        ("[make the circle red]", ["make", "the", "circle", "red"]),
        ("make the [blue circle] [red]", ["blue", "circle", "red"]),
        ("make the [ circle ] red", ["circle"]),
        ("make the [circle], red", ["circle"]),
        ("make the ([circle]) red", ["circle"]),
        ('make the "[circle]" red', ["circle"]),
        ("[circle's] house", ["circle's"]),
        ("[3]-4 stars", ["3"]),
        ("make the [circle].", ["circle"]),
        ("[gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n] star", ["gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n"]),
    ],
)
def test_brackets_may_stand_anywhere_around_words(text, marked):
    parts, found = laid(text)
    assert [word for word in keyword(found) if any(c.isalnum() for c in word)] == marked
    check(PIPE, parts, found)


@pytest.mark.parametrize("text", ["the [cir]cle", "red [circle]s", "[re]d", "'[st]ar'"])
def test_brackets_around_a_part_of_a_word_are_refused(text):
    with pytest.raises(TextError, match="brackets around whole words") as error:
        laid(text)
    assert "\n" not in str(error.value) and "[" not in str(error.value)


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["make it red.", "add a star"], [["make", "it", "red", ".,"], ["add", "a", "star"]]),
        (["make it red!!", "add a star."], [["make", "it", "red", "!!,"], ["add", "a", "star", "."]]),
        (["make it red ,", "add"], [["make", "it", "red", ",,"], ["add"]]),
        (["make it (red)", "add"], [["make", "it", "(", "red", "),"], ["add"]]),
        (["make it [(red)]", "add"], [["make", "it", "(", "red", "),"], ["add"]]),
        (["red, green, blue", "a star"], [["red", ",", "green", ",", "blue"], ["a", "star"]]),
    ],
)
def test_punctuation_at_the_end_of_a_sub_instruction_joins_the_comma(texts, told):
    parts, found = laid(*texts)
    assert [words(found, part) for part in range(len(texts))] == told
    check(PIPE, parts, found)


def test_what_the_tokenizer_divides_by_its_own_rules_is_one_piece():
    parts, found = laid("write 'stop' on it", "add a star")  # CLIP reads 's as one token, and then top
    assert words(found, 0) == ["write", "'stop'", "on", "it"]
    check(PIPE, parts, found)


def test_repeated_words_are_pieces_of_their_own():
    parts, found = laid("red star", "red [star] star")
    assert [piece.tokens for piece in found.pieces if piece.text == "star"] == [(2, 3), (5, 6), (6, 7)]
    assert keyword(found, 1) == ["star"]
    check(PIPE, parts, found)


def test_learned_instructions_alone_with_words_and_several():
    parts, found = laid("<night>")
    assert [(piece.text, piece.tokens, piece.learned) for piece in found.pieces] == [("<night>", (1, 5), True)]
    check(PIPE, parts, found)
    parts, found = laid("make it <night> red", "<rain><night>, a star", "add a [star]")
    learned = [(piece.text, piece.part, piece.tokens) for piece in found.pieces if piece.learned]
    assert [(text, part, end - start) for text, part, (start, end) in learned] == [
        ("<night>", 0, 4), ("<rain>", 1, 2), ("<night>", 1, 4),
    ]  # fmt: skip
    check(PIPE, parts, found)
    # The embeddings at those positions are the learned ones.
    embeds, _ = instruction.assemble(PIPE, instruction.segments(instruction.join(parts)))
    for text, _, (start, end) in learned:
        assert torch.equal(embeds[start:end], LOOKS[text[1:-1]].tokens.float())


def test_words_of_textual_inversion_are_one_piece_of_all_their_vectors():
    pipe = tiny.pipeline("instruct")
    pipe.load_textual_inversion(torch.randn(3, tiny.WIDTH), token="<toy>")
    pipe.load_textual_inversion(torch.randn(1, tiny.WIDTH), token="<hat>")
    parts, found = laid("make the [<toy>], red", "add a <hat>.", pipe=pipe)
    pieces = {piece.text: piece.tokens for piece in found.pieces}
    assert pieces["<toy>"][1] - pieces["<toy>"][0] == 3 and pieces["<hat>"][1] - pieces["<hat>"][0] == 1
    assert keyword(found, 0) == ["<toy>"] and not any(piece.learned for piece in found.pieces)
    check(pipe, parts, found)


def test_seventy_five_tokens_fit_and_one_more_names_its_sub_instruction():
    parts, found = laid("red " * 37, "star " * 37)  # and the comma
    assert found.pieces[-1].tokens == (75, 76)
    check(PIPE, parts, found)
    with pytest.raises(TextError, match=r"instruction 2, 'star star .*does not fit: 76 tokens .* room for 75"):
        laid("red " * 37, "star " * 38)
    with pytest.raises(TextError, match=r"instruction 1, 'red red .*does not fit: 80 tokens"):
        laid("red " * 80, "star")
    with pytest.raises(TextError, match=r"instruction 3, 'add', does not fit: 77 tokens"):
        laid("red " * 37, "star " * 37, "add")
    with pytest.raises(TextError, match=r"instruction 2, '<night>', does not fit: 77 tokens"):
        laid("red " * 72, "<night>")


TEXT = st.text(alphabet=st.sampled_from("abstred  .,!?'’-_()\"/0123<>é\u0301\u200b画😀½\n\t"), min_size=1, max_size=12)


@given(st.lists(TEXT.filter(lambda text: text.strip()), min_size=1, max_size=3))
def test_any_text_without_brackets_is_laid_out(texts):
    parts, found = laid(*texts)
    check(PIPE, parts, found)
    for number, part in enumerate(parts):  # every letter is its own sub-instruction's
        assert letters("".join(words(found, number))) == letters(part.text)


@given(TEXT.filter(lambda text: text.strip()), st.data())
def test_brackets_are_refused_in_one_line_or_mark_what_they_enclose(text, data):
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    if not text[start:end].strip():
        return
    try:
        parts, found = laid(f"{text[:start]}[{text[start:end]}]{text[end:]}", "add a star")
    except TextError as error:
        assert "whole words" in str(error) and "\n" not in str(error)
        return
    check(PIPE, parts, found)
    marked = "".join(piece.text for piece in found.pieces if piece.keyword)
    assert letters(text[start:end]) in letters(marked)
    assert marked and all(piece.part == 0 for piece in found.pieces if piece.keyword)
