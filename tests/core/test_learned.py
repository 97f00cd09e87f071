"""Learned instructions: whose model they fit, their algebra, their place beside words."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import showtell
from showtell import instruction, jobs, models, requested
from showtell.errors import FileFormatError, MethodError, ModelError, ShowtellError, TextError
from showtell.learned import Hybrid
from tests.helpers.looks import made


@pytest.fixture(scope="module")
def pipe():
    from tests.helpers import tiny

    return tiny.pipeline("instruct")


# --- whose model it is --------------------------------------------------------------------------------------------


def test_another_text_encoder_is_refused(pipe, picture):
    from tests.helpers import tiny

    other = tiny.pipeline("instruct")
    with torch.no_grad():
        for parameter in other.text_encoder.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    look = made(pipe)
    for call in (
        lambda: look.check(other),
        lambda: look.prompt_embeds(other),
        lambda: showtell.Editor(other).edit(picture(), look),
        lambda: showtell.Editor(other).edit(picture(), look + "red"),
    ):
        with pytest.raises(ModelError, match="'night' was learned with another text encoder .*this model") as caught:
            call()
        assert "\n" not in str(caught.value) and "Pipeline" not in str(caught.value)
    long = dataclasses.replace(look, model=dataclasses.replace(look.model, id="x" * 10_000))
    with pytest.raises(ModelError) as caught:
        long.check(other)
    assert len(str(caught.value)) < 400 and len(repr(long)) < 200


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_same_text_encoder_in_half_precision_is_accepted(pipe, dtype):
    from tests.helpers import tiny

    half = tiny.pipeline("instruct").to(dtype)
    look = made(pipe)
    assert models.weights_hash(half, parts=("text_encoder",)) != look.model.text_encoder
    look.check(half)
    assert look.prompt_embeds(half).dtype == dtype and look.prompt_embeds(half).shape == (1, 77, 16)
    made(half).check(pipe)


def test_another_width_or_length_is_refused(pipe, picture):
    look = made(pipe)
    narrow = dataclasses.replace(look, embeds=look.embeds[:, :8], empty_embeds=look.empty_embeds[:, :8])
    short = dataclasses.replace(
        look, embeds=look.embeds[:40], empty_embeds=look.empty_embeds[:40], ids=look.ids[:40], span=(1, 5)
    )
    foreign = dataclasses.replace(look, model=dataclasses.replace(look.model, text_encoder="0" * 16))
    foreign.check(pipe)  # the encoder says the same of the empty instruction
    for wrong in (narrow, short):
        for fingerprint in (look.model.text_encoder, "0" * 16):  # a file may say what it likes
            other = dataclasses.replace(wrong, model=dataclasses.replace(look.model, text_encoder=fingerprint))
            with pytest.raises(ModelError, match="'night'"):
                showtell.Editor(pipe).edit(picture(), other, num_inference_steps=1)


@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_ids_that_the_text_encoder_does_not_know_are_refused(pipe, picture, wrong):
    look = made(pipe)
    strange = dataclasses.replace(look, ids=(*look.ids[:2], wrong, *look.ids[3:]))
    for told in (strange, strange + "red"):
        with pytest.raises(ModelError, match="'night' was learned with another text encoder"):
            showtell.Editor(pipe).edit(picture(), told, num_inference_steps=1)


def test_what_does_not_belong_together_is_no_look(pipe):
    look = made(pipe)
    for changes in (
        {"span": (0, 3)},
        {"span": (2, 4)},
        {"span": (1, 77)},
        {"ids": look.ids[:-1]},
        {"embeds": look.embeds[None]},
    ):
        with pytest.raises(ModelError, match="'night'"):
            dataclasses.replace(look, **changes)
    for name in ("", "a b", "<x>", "a:b", "x" * 101, "[y]", "a\n"):
        with pytest.raises(TextError, match="cannot name a learned instruction"):
            look.renamed(name)
    assert "night" in repr(look) and "4 tokens" in repr(look)


# --- algebra ------------------------------------------------------------------------------------------------------


def test_strength_one_is_the_look_and_strength_zero_the_empty_instruction(pipe):
    look = made(pipe)
    assert look * 1 is look and 1.0 * look is look and look / 1 is look
    assert torch.equal((look * 0).embeds, look.empty_embeds)
    assert torch.allclose(look.empty_embeds, instruction.assemble(pipe, [instruction.Words(text="")])[0])
    assert torch.allclose((look * 0.5).embeds, (look.embeds + look.empty_embeds) / 2, atol=1e-6)
    assert torch.equal((look / 2).embeds, (look * 0.5).embeds)


@settings(max_examples=30)
@given(st.floats(-3, 3), st.floats(-3, 3))
def test_strengths_multiply(pipe, s, t):
    look = made(pipe)
    assert torch.allclose(((look * s) * t).embeds, (look * (s * t)).embeds, atol=1e-4)


@settings(max_examples=20)
@given(st.floats(-2, 2), st.floats(-2, 2))
def test_mixing_is_a_vector_space_with_the_empty_instruction_as_origin(pipe, s, t):
    a, b = made(pipe), made(pipe, "other", seed=1)
    empty = a.empty_embeds
    expected = empty + s * (a.embeds - empty) + t * (b.embeds - empty)
    assert torch.allclose((s * a + t * b).embeds, expected, atol=1e-5)
    assert torch.allclose((t * b + s * a).embeds, expected, atol=1e-5)


def test_two_halves_are_the_mean_and_commute(pipe):
    a, b = made(pipe), made(pipe, "other", seed=1)
    mean = (a.embeds + b.embeds) / 2
    for mixture in (0.5 * a + 0.5 * b, 0.5 * b + 0.5 * a, (a + b) / 2):
        assert torch.allclose(mixture.embeds, mean, atol=1e-6)
        assert {part.weight for part in mixture.parts} == {0.5} and mixture.span == a.span
    assert torch.allclose((a + a * -1).embeds, a.empty_embeds, atol=1e-6)
    assert torch.allclose(((a + b) + a).embeds, (a + (b + a)).embeds, atol=1e-5)
    assert (a + b).name == "night-other" and len(((a + b) + a).parts) == 3


def test_only_looks_of_one_span_and_one_text_encoder_are_mixed(pipe):
    a, longer = made(pipe), made(pipe, "other", tokens=6)
    with pytest.raises(ModelError, match="4 learned tokens and 'other' has 6.*write a"):
        a + longer
    foreign = dataclasses.replace(a, empty_embeds=a.empty_embeds + 1)
    with pytest.raises(ModelError, match="different text encoders"):
        a + foreign
    narrow = dataclasses.replace(a, embeds=a.embeds[:, :8], empty_embeds=a.empty_embeds[:, :8])
    with pytest.raises(ModelError, match="different text encoders"):
        a + narrow


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), 10.5, -11])
def test_strengths_out_of_range(pipe, strength):
    with pytest.raises(MethodError, match="strength .* out of range: it must be between -10 and 10"):
        made(pipe) * strength
    with pytest.raises(MethodError, match="out of range"):
        made(pipe) / 0
    with pytest.raises(MethodError, match="strength 25 is out of range"):
        made(pipe) * 5 * 5  # a recipe holds the product, and a replay must be able to make it
    with pytest.raises(MethodError, match="out of range"):
        instruction.parse(f"<night:{strength}>", {"night": made(pipe)})


def test_other_values_are_a_type_error(pipe):
    look = made(pipe)
    for call in (lambda: look * "x", lambda: look * look, lambda: look + 3, lambda: 3 + look, lambda: look / "x"):
        with pytest.raises(TypeError):
            call()


# --- beside words -------------------------------------------------------------------------------------------------


def assembled(pipe, told, given=None):
    """Embeddings, segments and spans of what is told, as an edit makes them."""
    (request,) = requested.requests(
        Image.new("RGB", (32, 32)), told, negative_prompt=None, mask=None, seed=0, generator=None, learned=given
    )
    job = jobs.prepare(request, pipe, lambda: models.weights_hash(pipe), fit="fit")
    return (*instruction.assemble(pipe, job.segments), job)


def encoded(pipe, ids):
    """The text encoder's own output for these ids, with start, end and padding put around them."""
    words = pipe.tokenizer
    whole = [words.bos_token_id, *ids, words.eos_token_id]
    whole += [words.pad_token_id] * (77 - len(whole))
    with torch.no_grad():
        return pipe.text_encoder(torch.tensor([whole]))[0][0].float()


def ids_of(pipe, text):
    return pipe.tokenizer(text, add_special_tokens=False).input_ids


def test_alone_it_is_the_whole_tensor_bit_for_bit(pipe):
    look = made(pipe)
    for told, learned in ((look, None), ("<night>", look), (None, look), ("  <night> ", look), ("[<night>]", look)):
        embeds, spans, _ = assembled(pipe, told, learned)
        assert torch.equal(embeds, look.embeds) and spans == [look.span]
    half, _, _ = assembled(pipe, "<night:0.5>", look)
    assert torch.equal(half, (look * 0.5).embeds)


@pytest.mark.parametrize("order", ["look first", "words first", "between", "around"])
def test_learned_rows_are_the_tokens_and_the_others_are_encoded_together(pipe, order):
    look, other = made(pipe), made(pipe, "other", seed=1, tokens=6)
    words, more = "a blue star", "red"
    told, parts = {
        "look first": (look + words, [look, words]),
        "words first": (words + look, [words, look]),
        "between": (words + look + more, [words, look, more]),
        "around": (look + words + other, [look, words, other]),
    }[order]
    assert isinstance(told, Hybrid) and told.parts == tuple(parts)
    embeds, spans, _ = assembled(pipe, told)
    joined = [ids_of(pipe, part) if isinstance(part, str) else list(part.token_ids) for part in parts]
    expected, at = encoded(pipe, sum(joined, [])), 1
    for part, ids, span in zip(parts, joined, spans, strict=True):
        assert span == (at, at + len(ids))
        rows = embeds[span[0] : span[1]]
        if isinstance(part, str):
            assert torch.allclose(rows, expected[span[0] : span[1]], atol=1e-6)
        else:
            assert torch.equal(rows, part.tokens)
        at = span[1]
    assert torch.allclose(embeds[at:], expected[at:], atol=1e-6) and torch.equal(embeds[:1], expected[:1])


def test_names_in_words_with_strengths_and_brackets(pipe):
    night, other = made(pipe), made(pipe, "other", seed=1)
    read = instruction.parse("make the [red <night:0.5> circle] <other>, <unknown>", {"night": night, "other": other})
    assert read.text == "make the red <night:0.5> circle <other>, <unknown>"
    assert read.keyword_texts == ("red <night:0.5> circle",)
    assert [read.text[start:end] for (start, end), _ in read.looks] == ["<night:0.5>", "<other>"]
    assert torch.equal(read.looks[0][1].embeds, (night * 0.5).embeds) and read.looks[1][1] is other
    kinds = [type(segment).__name__ for segment in instruction.segments(read)]
    assert kinds == ["Words", "Tokens", "Words", "Tokens", "Words"]
    joined = instruction.join([instruction.parse("add a [star]"), read])
    assert [joined.text[start:end] for (start, end), _ in joined.looks] == ["<night:0.5>", "<other>"]
    assert joined.keyword_texts == ("star", "red <night:0.5> circle")


@pytest.mark.parametrize("strength", ["", "x", "0,5", "--1"])
def test_a_strength_that_is_no_number(pipe, strength):
    with pytest.raises(TextError, match="is not a strength; write <night> or <night:0.5>"):
        instruction.parse(f"<night:{strength}>", {"night": made(pipe)})


def test_unknown_names(editor, pipe, picture):
    with pytest.raises(TextError, match="<evening> names no learned instruction: there is <night>"):
        editor.edit(picture(), "<evening> red <night>", learned=made(pipe))
    with pytest.warns(showtell.errors.ShowtellWarning, match="<evening> was read as plain words"):
        editor.edit(picture(), "<evening> red", seed=0, num_inference_steps=1)


def test_several_looks_need_words_and_their_own_names(editor, pipe, picture):
    night, other = made(pipe), made(pipe, "other", seed=1)
    with pytest.raises(TextError, match="say how they go together, for example '<night> <other>'"):
        editor.edit(picture(), learned=[night, other])
    with pytest.raises(TextError, match="two learned instructions are called <night>"):
        editor.edit(picture(), "<night>", learned=[night, made(pipe, seed=1)])
    with pytest.raises(TextError, match="learned: int is not"):
        editor.edit(picture(), "red", learned=3)
    with pytest.raises(FileFormatError, match="no such file"):
        editor.edit(picture(), "red", learned="nowhere.safetensors")
    with pytest.raises(TextError, match="cannot name"):
        editor.edit(picture(), "red", learned={"a b": night})
    with pytest.raises(TextError, match="must be text or a learned instruction, not int"):
        editor.edit(picture(), [night, 3])


def test_two_looks_of_one_name_get_two_names_in_the_recipe(pipe):
    night, again = made(pipe), made(pipe, seed=1)
    *_, job = assembled(pipe, night + "red" + again + night)
    assert job.told == ("<night> red <night-2> <night>",)
    assert [record.name for record in job.learned] == ["night", "night-2"]
    assert [record.parts[0].sha256 for record in job.learned] == [night.sha256, again.sha256]
    long = [look.renamed("n" * 100) for look in (night, again)]
    *_, job = assembled(pipe, long[0] + "red" + long[1])
    for record in job.learned:
        night.renamed(record.name)  # a replay gives it that name again
    assert len({record.name for record in job.learned}) == 2


def test_what_does_not_fit_is_named(pipe):
    many = made(pipe, tokens=40)
    with pytest.raises(TextError, match=r"segment 3, '<night>', does not fit: 81 tokens .* room for 75"):
        assembled(pipe, many + "star" + many.renamed("night"))
    with pytest.raises(TextError, match=r"segment 2, 'star star star.*room for 75"):
        assembled(pipe, many + "star " * 36)
    assert len(assembled(pipe, many + "star " * 35)[0]) == 77


def test_an_error_is_one_line_and_every_error_is_ours(pipe):
    for told in (made(pipe) + "[", made(pipe) + "[]", ["<night", 3]):
        with pytest.raises(ShowtellError) as caught:
            assembled(pipe, told)
        assert "\n" not in str(caught.value)
