"""Brackets, joining, assembling, and what does not fit."""

from __future__ import annotations

import pytest
import torch

import showtell
from showtell import instruction
from showtell.errors import TextError


def test_brackets_are_read_and_taken_away():
    found = instruction.parse("make the [red circle] a [star]")
    assert found.text == "make the red circle a star"
    assert found.keyword_texts == ("red circle", "star")


def test_joining_carries_the_keywords():
    joined = instruction.join([instruction.parse("make the [circle] red"), instruction.parse("add a [star]")])
    assert joined.text == "make the circle red, add a star"
    assert joined.keyword_texts == ("circle", "star")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"), ("  \n", "empty"), ("[", "without"), ("make it] red", "without"), ("a [b [c]]", "inside"),
        ("make [] red", "empty brackets"), ("[ ]", "empty brackets"), (3, "must be text"), (None, "must be text|missing"),
    ],
)  # fmt: skip
def test_bad_instructions(editor, picture, text, words):
    for call in (lambda: instruction.parse(text), lambda: editor.edit(picture(), text)):
        with pytest.raises(TextError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_an_empty_list_of_instructions_is_refused(editor, picture):
    with pytest.raises(TextError, match="empty"):
        editor.edit(picture(), [])


def test_words_are_encoded_as_stock_does(instruct_pipe):
    text = "make the circle red"
    embeds, spans = instruction.assemble(instruct_pipe, [instruction.Words(text=text)])
    ids = instruct_pipe.tokenizer(
        text, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        expected = instruct_pipe.text_encoder(ids)[0][0]
    assert embeds.shape == (77, 16) and torch.allclose(embeds, expected, atol=1e-6)
    assert spans == [(1, 5)]


def test_segments_are_encoded_together_and_learned_tokens_filled_in(instruct_pipe):
    learned = instruction.Tokens(name="look", embeds=torch.full((3, 16), 7.0), ids=(1, 2, 3))
    words = instruction.Words(text="a star")
    embeds, spans = instruction.assemble(instruct_pipe, [words, learned, words])
    assert spans == [(1, 3), (3, 6), (6, 8)]
    assert (embeds[3:6] == 7).all()
    tokenizer = instruct_pipe.tokenizer
    star = tokenizer("a star", add_special_tokens=False).input_ids
    ids = [tokenizer.bos_token_id, *star, 1, 2, 3, *star] + [tokenizer.eos_token_id] * 69
    with torch.no_grad():
        alone = instruct_pipe.text_encoder(torch.tensor([ids]))[0][0]
    kept = [0, 1, 2, *range(6, 77)]
    assert torch.allclose(embeds[kept], alone[kept], atol=1e-6)


def test_overflow_names_the_segment(instruct_pipe):
    many = instruction.Tokens(name="look", embeds=torch.zeros(70, 16), ids=(1,) * 70)
    with pytest.raises(TextError, match=r"segment 2, 'a star a star .*room for 75"):
        instruction.assemble(instruct_pipe, [many, instruction.Words(text="a star " * 5)])
    assert len(instruction.assemble(instruct_pipe, [many, instruction.Words(text="a star a star a")])[1]) == 2


def test_a_segment_whose_room_is_not_its_length_is_refused():
    with pytest.raises(TextError, match="look"):
        instruction.Tokens(name="look", embeds=torch.zeros(3, 16), ids=(1,))


def test_two_hundred_words_are_cut_and_it_is_said_what(editor, picture):
    text = "make the circle red " * 50
    with pytest.warns(showtell.errors.ShowtellWarning, match="cut off"):
        edit = editor.edit(picture(), text, seed=0, num_inference_steps=1)
    assert "the instruction is too long" in edit.notes[0]
    kept, rest = instruction.cut(editor.pipe, text)
    assert len(kept.ids) == 75 and f"{kept.text} {rest}" == text.strip()
    assert edit.recipe.instructions == (text,)
    with pytest.warns(showtell.errors.ShowtellWarning, match="the negative prompt is too long"):
        editor.edit(picture(), "red", negative_prompt=text, seed=0, num_inference_steps=1)


def test_a_negative_prompt_changes_the_result_and_none_is_the_empty_one(editor, picture):
    options = {"seed": 0, "num_inference_steps": 3}
    plain = editor.edit(picture(), "red", **options)
    empty = editor.edit(picture(), "red", negative_prompt="", **options)
    other = editor.edit(picture(), "red", negative_prompt="blue star", **options)
    assert torch.equal(plain.latents, empty.latents) and not torch.allclose(plain.latents, other.latents, atol=1e-3)
    with pytest.raises(TextError, match="negative prompt"):
        editor.edit(picture(), "red", negative_prompt=3)
