"""Learned instructions: their file and what it refuses, whose model they fit, their algebra, their place beside words."""

from __future__ import annotations

import dataclasses
import json
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load as decode
from safetensors.torch import save as encode

import showtell
from showtell import instruction, jobs, learned_file, models
from showtell.errors import FileFormatError, MethodError, ModelError, OutputError, ShowtellError, TextError
from showtell.learned import Hybrid, LearnedInstruction
from tests.helpers import looks
from tests.helpers.looks import QUICK, made


@pytest.fixture(scope="module")
def pipe():
    from tests.helpers import tiny

    return tiny.pipeline("instruct")


@pytest.fixture(scope="module")
def content(pipe):
    """The bytes of a file with everything in it."""
    return learned_file.to_bytes(made(pipe, noise=True, thumbnails=True))


# --- the file -----------------------------------------------------------------------------------------------------


def test_a_file_gives_the_learners_last_tensor_bit_for_bit(editor, picture, tmp_path):
    from PIL import ImageOps

    pair = (picture(48, 40), ImageOps.invert(picture(48, 40)))
    look = editor.learn([pair], init="make the circle red", name="night", record_noise=True, **QUICK)
    again = showtell.LearnedInstruction.load(look.save(tmp_path / "night.safetensors"))
    for name in ("embeds", "empty_embeds"):
        assert torch.equal(getattr(again, name), getattr(look, name)) and getattr(again, name).dtype == torch.float32
    assert again.ids == look.ids and again.span == look.span and again.name == "night"
    assert torch.equal(again.noise.values, look.noise.values) and again.noise.values.dtype == torch.float16
    assert torch.equal(again.noise.timesteps, look.noise.timesteps)
    assert again.model == look.model and again.how == look.how and again.sha256 == look.sha256
    for ours, theirs in zip(again.thumbnails[0], look.thumbnails[0], strict=True):
        assert ours.tobytes() == theirs.tobytes() and ours.size == (48, 40)


def test_saving_twice_writes_the_same_bytes(pipe, tmp_path):
    look = made(pipe, noise=True, thumbnails=True)
    first, second = look.save(tmp_path / "a.safetensors"), look.save(tmp_path / "b.SafeTensors")
    assert first.read_bytes() == second.read_bytes()
    once = LearnedInstruction.load(first)
    assert once.sha256 == look.sha256 == LearnedInstruction.load(second).sha256
    assert made(pipe, seed=1).sha256 != look.sha256 != (look * 0.5).sha256


def test_a_saved_mixture_is_a_file_of_its_own(pipe, tmp_path):
    mixture = 0.5 * made(pipe) + 0.5 * made(pipe, "other", seed=1)
    again = LearnedInstruction.load(mixture.save(tmp_path / "both.safetensors"))
    assert torch.equal(again.embeds, mixture.embeds) and len(mixture.parts) == 2
    assert [part.path for part in again.parts] == [str(tmp_path / "both.safetensors")]
    assert again.parts[0].sha256 == again.sha256 and again.noise is None


def test_writing_refuses_other_names_and_overwrites_only_with_force(pipe, tmp_path):
    look = made(pipe)
    for name in ("look.pt", "look", "look.safetensors.gz"):
        with pytest.raises(OutputError, match="must end in .safetensors"):
            look.save(tmp_path / name)
    path = look.save(tmp_path / "look.safetensors")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="look.safetensors"):
        made(pipe, seed=1).save(path)
    assert path.read_bytes() == before
    made(pipe, seed=1).save(path, force=True)
    assert path.read_bytes() != before
    with pytest.raises(OutputError, match="does not exist"):
        look.save(tmp_path / "no" / "look.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["look.safetensors"]


def refused(path, *words):
    """The message of the ``FileFormatError`` that loading raises: one line that names the file."""
    with pytest.raises(FileFormatError) as caught:
        LearnedInstruction.load(path)
    message = str(caught.value)
    assert "\n" not in message and path.name in message and len(message) < 800, message
    assert all(word in message for word in words), message
    assert caught.value.exit_code == 2
    return message


@pytest.fixture
def spoiled(content, tmp_path):
    """``spoiled(tensors, header=..., drop=...)``: a good file with some tensors and header fields replaced."""

    def write(tensors=None, *, header=None, drop=()):
        path = tmp_path / "bad.safetensors"
        told = {**looks.header(content), **(header or {})}
        kept = {**decode(content), **(tensors or {})}
        kept = {key: value for key, value in kept.items() if key not in drop}
        told = {key: value for key, value in told.items() if key not in drop}
        path.write_bytes(encode(kept, metadata={"showtell": json.dumps(told)}))
        return path

    return write


def test_the_good_file_is_good(spoiled):
    LearnedInstruction.load(spoiled())


def test_what_is_not_a_file(tmp_path, content):
    refused(tmp_path / "missing.safetensors", "no such file")
    (tmp_path / "folder.safetensors").mkdir()
    refused(tmp_path / "folder.safetensors", "no such file")
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    refused(empty, "truncated or no safetensors file")
    words = tmp_path / "words.safetensors"
    words.write_text("make it a watercolor\n" * 100)
    refused(words, "truncated or no safetensors file")
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    refused(tmp_path / "picture.png", "truncated or no safetensors file")


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.1, 0.3, 0.6, 0.9, 0.999])
def test_truncated_files(content, tmp_path, share):
    path = tmp_path / "half.safetensors"
    path.write_bytes(content[: max(1, int(len(content) * share))])
    refused(path, "truncated")
    path.write_bytes(content + b"more")
    refused(path)


def test_safetensors_of_something_else(tmp_path, spoiled, tiny_instruct_folder):
    refused(tiny_instruct_folder / "unet" / "diffusion_pytorch_model.safetensors", "is not a learned instruction")
    other = tmp_path / "other.safetensors"
    for metadata in (None, {"showtell": ""}, {"showtell": "[]"}, {"showtell": "3"}, {"showtell": "null"}):
        other.write_bytes(encode({"x": torch.zeros(1)}, metadata=metadata))
        refused(other, "is not a learned instruction")
    refused(spoiled(header={"kind": "learning"}), "is not a learned instruction")
    other.write_bytes(encode({"x": torch.zeros(1)}, metadata={"showtell": "{"}))
    refused(other, "header is damaged")
    other.write_bytes(encode({"x": torch.zeros(1)}, metadata={"showtell": "[" * 100_000}))
    refused(other, "header is damaged")


def test_newer_formats_are_refused_and_later_fields_of_this_one_are_not(spoiled):
    refused(spoiled(header={"format": learned_file.FORMAT + 1}), "newer than", "update showtell")
    refused(spoiled(header={"format": "1"}), "is not a learned instruction")
    LearnedInstruction.load(spoiled(header={"later": 3}))


def test_a_huge_header_is_refused(spoiled):
    refused(spoiled(header={"how": {"x": "y" * (5 * 2**20)}}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("span", None), ("span", [1]), ("span", ["one", 2]), ("span", [1, 2, 3]), ("span", [1.5, 4]),
        ("model", None), ("model", {}), ("model", {"id": 3, "text_encoder": "x", "weights": "y"}), ("how", []),
        ("how", "well"), ("parts", 7), ("parts", [{"path": "x"}]), ("versions", {"torch": 2}), ("versions", []),
    ],
)  # fmt: skip
def test_header_fields_of_other_types(spoiled, field, value):
    refused(spoiled(header={field: value}), "header is damaged", field)


@pytest.mark.parametrize("field", ["kind", "format", "span", "model"])
def test_header_fields_that_are_missing(spoiled, field):
    refused(spoiled(drop=(field,)))


@pytest.mark.parametrize("span", [(0, 4), (-1, 4), (4, 4), (5, 3), (70, 77), (1, 10**6), (1, 10**30)])
def test_spans_outside_the_tokens(spoiled, span):
    refused(spoiled(header={"span": span}), "is damaged", "span")


@pytest.mark.parametrize("name", ["prompt_embeds", "empty_embeds"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite(spoiled, content, name, value):
    tensor = decode(content)[name].clone()
    tensor[40, 3] = value
    refused(spoiled({name: tensor}), name, "not finite")


def test_noises_that_are_not_finite(spoiled, content):
    noise = decode(content)["noise"].clone()
    noise[0, 0, 0, 0] = float("nan")
    refused(spoiled({"noise": noise}), "noise", "not finite")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool])
@pytest.mark.parametrize("name", ["prompt_embeds", "empty_embeds", "ids", "noise", "noise_timesteps"])
def test_tensors_of_another_dtype(spoiled, content, name, dtype):
    tensor = decode(content)[name]
    right = {"ids": [torch.int64], "noise_timesteps": [torch.int64], "noise": [torch.float16]}.get(name, [])
    if dtype in right:
        return
    refused(spoiled({name: tensor.to(dtype)}), "is damaged", name)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("prompt_embeds", (77,)), ("prompt_embeds", (1, 77, 16)), ("prompt_embeds", (76, 16)), ("prompt_embeds", (77, 8)),
        ("empty_embeds", (77,)), ("empty_embeds", (76, 16)), ("empty_embeds", (77, 8)), ("prompt_embeds", (0, 16)),
    ],
)  # fmt: skip
def test_embeddings_of_other_shapes(spoiled, name, shape):
    refused(spoiled({name: torch.zeros(shape)}), "is damaged", "shapes")


@pytest.mark.parametrize("shape", [(76,), (78,), (0,), (1, 77)])
def test_ids_of_another_length(spoiled, shape):
    refused(spoiled({"ids": torch.zeros(shape, dtype=torch.int64)}), "is damaged", "ids")


@pytest.mark.parametrize("shape", [(3, 4, 8), (3,), (3, 4, 8, 8, 1), (0, 4, 8, 8), (2, 4, 8, 8)])
def test_noises_of_another_shape(spoiled, content, shape):
    assert decode(content)["noise"].shape == (3, 4, 8, 8)
    refused(spoiled({"noise": torch.zeros(shape, dtype=torch.float16)}), "is damaged", "noise")


@pytest.mark.parametrize("name", ["prompt_embeds", "empty_embeds", "ids", "noise_timesteps"])
def test_tensors_that_are_missing(spoiled, name):
    refused(spoiled(drop=(name,)), "is damaged", f"{name} is missing")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(8, 8, 3), torch.zeros(8, 8, dtype=torch.uint8), torch.zeros(8, 8, 4, dtype=torch.uint8),
        torch.zeros(0, 8, 3, dtype=torch.uint8), torch.zeros(513, 8, 3, dtype=torch.uint8),
    ],
)  # fmt: skip
def test_thumbnails_that_are_no_pictures(spoiled, tensor):
    refused(spoiled({"pair0.after": tensor}), "pair0.after", "no picture")


def test_thumbnails_are_small_and_few(pipe, tmp_path):
    big = Image.new("RGBA", (900, 300), "red")
    look = LearnedInstruction.load(made(pipe, pictures=(big, big)).save(tmp_path / "a.safetensors"))
    assert [side.size for side in look.thumbnails[0]] == [(128, 43)] * 2
    assert look.thumbnails[0][0].mode == "RGB"


@given(st.data())
def test_no_damage_to_the_header_gives_anything_but_a_refusal_or_a_look(content, tmp_path_factory, data):
    (length,) = struct.unpack("<Q", content[:8])
    flipped = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        flipped[data.draw(st.integers(0, 7 + length))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    path.write_bytes(bytes(flipped))
    try:
        look = LearnedInstruction.load(path)
    except FileFormatError as error:
        assert "\n" not in str(error) and "flipped" in str(error)
    else:
        assert torch.isfinite(look.embeds).all() and look.embeds.shape == look.empty_embeds.shape


@given(st.integers(0, 10**9), st.binary(min_size=1, max_size=16))
def test_no_damage_to_the_numbers_gives_anything_but_a_refusal_or_a_look(content, tmp_path_factory, at, some):
    (length,) = struct.unpack("<Q", content[:8])
    first = 8 + length
    at = first + at % (len(content) - first)
    path = tmp_path_factory.getbasetemp() / "struck.safetensors"
    path.write_bytes((content[:at] + some + content[at + len(some) :])[: len(content)])
    try:
        look = LearnedInstruction.load(path)
    except FileFormatError as error:
        assert "\n" not in str(error) and "struck" in str(error)
    else:
        assert torch.isfinite(look.embeds).all() and torch.isfinite(look.noise.values).all()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("night.safetensors", "night"), ("my look.safetensors", "my-look"), ("a<b>c.safetensors", "a-b-c"),
        ("[x:y].safetensors", "x-y"), ("ï¼ ü.safetensors", "ï¼-ü"), ("  .safetensors", "learned"),
        ("v1.2.safetensors", "v1.2"), ("n" * 200 + ".safetensors", "n" * 100),
        ("\udc80.safetensors", "\N{REPLACEMENT CHARACTER}"),
    ],
)  # fmt: skip
def test_a_files_name_is_its_name_in_words(file, name):
    assert learned_file.name_of(file) == name
    assert instruction.names_in(f"make <{name}> red") == [name]


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
        with pytest.raises(ModelError, match="'night' was learned with another text encoder") as caught:
            call()
        assert "\n" not in str(caught.value)


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
    for changes in ({"span": (0, 3)}, {"span": (3, 77)}, {"ids": look.ids[:-1]}, {"embeds": look.embeds[None]}):
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


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_strengths_multiply(pipe, s, t):
    look = made(pipe)
    assert torch.allclose(((look * s) * t).embeds, (look * (s * t)).embeds, atol=1e-4)


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
    (request,) = jobs.requests(
        Image.new("RGB", (32, 32)), told, negative_prompt=None, mask=None, seed=0, generator=None, learned=given
    )
    job = jobs.prepare(request, pipe, fit="fit")
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
        editor.edit(picture(), "<evening> red", learned=made(pipe))
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


# --- edits with it ------------------------------------------------------------------------------------------------

STEPS = {"num_inference_steps": 4}


@pytest.mark.parametrize("scheduler", ["EulerAncestralDiscreteScheduler", "DDIMScheduler", "UniPCMultistepScheduler"])
def test_alone_it_equals_stock_diffusers_with_its_prompt_embeds(picture, scheduler):
    import diffusers
    import numpy as np

    from tests.helpers import tiny

    pipe = tiny.pipeline("instruct")
    pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
    look = made(pipe)
    image = torch.from_numpy(np.asarray(picture(), dtype=np.float32) / 255).permute(2, 0, 1)[None]
    stock = pipe(
        prompt_embeds=look.prompt_embeds(pipe), image=image, output_type="latent",
        generator=torch.Generator("cpu").manual_seed(3), **STEPS,
    ).images  # fmt: skip
    editor = showtell.Editor(pipe)
    edit = editor.edit(picture(), look, seed=3, **STEPS)
    assert torch.allclose(edit.latents, stock[0], atol=1e-4, rtol=0)
    told = editor.edit(picture(), "nothing", seed=3, **STEPS)
    assert not torch.allclose(told.latents, edit.latents, atol=1e-2)


def test_strength_zero_is_the_empty_instruction(editor, picture):
    look = made(editor.pipe)
    zero = editor.edit(picture(), look * 0, seed=0, **STEPS)
    other = editor.edit(picture(), made(editor.pipe, "other", seed=5) * 0, seed=0, **STEPS)
    assert torch.allclose(zero.latents, other.latents, atol=1e-5)
    half = editor.edit(picture(), "<night:0.5>", learned=look, seed=0, **STEPS)
    assert torch.equal(half.latents, editor.edit(picture(), look * 0.5, seed=0, **STEPS).latents)
    assert not torch.allclose(half.latents, zero.latents, atol=1e-3)


def test_a_batch_of_looks_and_words_equals_the_single_edits(editor, picture):
    look, other = made(editor.pipe), made(editor.pipe, "other", seed=1)
    pictures = [picture(), picture(64, 30), picture(seed=1), picture(seed=2), picture(seed=3)]
    told = [look, other, look + "red", "make it blue", [other, "add a star"]]
    together = editor.edit(pictures, told, seed=[0, 1, 2, 3, 4], **STEPS)
    for i, edit in enumerate(together):
        alone = editor.edit(pictures[i], told[i], seed=i, **STEPS)
        assert torch.allclose(edit.latents, alone.latents, atol=1e-4, rtol=0)
    assert together[4].recipe.instructions == ("<other>", "add a star")
    joined = editor.edit(pictures[4], "<other>, add a star", learned=other, seed=4, **STEPS)
    assert torch.allclose(together[4].latents, joined.latents, atol=1e-4, rtol=0)


def test_one_look_serves_a_list_of_pictures(editor, picture):
    look = made(editor.pipe)
    pictures = [picture(), picture(seed=1)]
    for told, learned in ((look, None), (look + "red", None), (None, look), (["<night>"] * 2, look)):
        edits = editor.edit(pictures, told, learned=learned, seed=[0, 1], **STEPS)
        alone = editor.edit(pictures[1], told[1] if isinstance(told, list) else told, learned=learned, seed=1, **STEPS)
        assert torch.allclose(edits[1].latents, alone.latents, atol=1e-4, rtol=0)


def test_a_look_of_another_model_fails_for_its_own_picture(editor, picture):
    look = made(editor.pipe)
    foreign = dataclasses.replace(
        look, empty_embeds=look.empty_embeds + 1, model=dataclasses.replace(look.model, text_encoder="other")
    )
    results = editor.edit([picture(), picture()], [look, foreign], seed=0, **STEPS)
    assert isinstance(results[0], showtell.Edit) and isinstance(results[1], ModelError)


# --- making an edit again -----------------------------------------------------------------------------------------


def same(edit, again):
    assert edit.image.tobytes() == again.image.tobytes()
    assert any("the pixels are the same" in note for note in again.notes)
    assert not any("not the learned instruction" in note for note in again.notes)


@pytest.fixture
def replayed(editor, picture, tmp_path):
    """``replayed(instruction, ...)``: an edit, saved, and made again."""
    picture(40, 24).save(tmp_path / "in.png")

    def edit_and_replay(told=None, *, again=None, learned=None, **options):
        edit = editor.edit(tmp_path / "in.png", told, learned=learned, seed=5, **STEPS, **options)
        out = edit.save(tmp_path / "out.png", force=True)
        return edit, showtell.replay(out, editor=editor, learned=again)

    return edit_and_replay


def test_an_edit_with_files_is_replayed(editor, replayed, tmp_path):
    night = made(editor.pipe).save(tmp_path / "night.safetensors")
    other = made(editor.pipe, seed=1).save(tmp_path / "other.safetensors")
    for told, learned in (
        (None, night), ("red <night>", str(night)), ("<night> red <other:0.3>", [night, other]),
        ("<a> red", {"a": night}), (["<night>", "add a star"], night), ("red", night),
    ):  # fmt: skip
        edit, again = replayed(told, learned=learned)
        same(edit, again)
    assert edit.recipe.learned == ()  # a look that no word calls is no part of the edit


def test_mixtures_of_files_are_replayed_to_the_bit(editor, replayed, tmp_path):
    a = LearnedInstruction.load(made(editor.pipe).save(tmp_path / "a.safetensors"))
    b = LearnedInstruction.load(made(editor.pipe, seed=1).save(tmp_path / "b.safetensors"))
    for mixture in (a * 0.7, a * 0.3 * 0.7, 0.3 * a + 0.7 * b, (a + b) / 2, (a / 3 + b) * 0.6 + a, a * 3 / 3):
        edit, again = replayed(mixture)
        same(edit, again)
        assert torch.equal(edit.latents, again.latents)
    edit, again = replayed((0.3 * a + 0.7 * b) + "red" + a * -0.5)
    same(edit, again)
    assert [record.name for record in edit.recipe.learned] == ["a-b", "a"]
    assert [(part.path, part.weight) for part in edit.recipe.learned[0].parts] == [
        (str(tmp_path / "a.safetensors"), 0.3), (str(tmp_path / "b.safetensors"), 0.7),
    ]  # fmt: skip


def test_files_that_moved_are_found_beside_the_png_or_where_one_says(editor, replayed, tmp_path):
    folder = tmp_path / "looks"
    folder.mkdir()
    night = made(editor.pipe).save(folder / "night.safetensors")
    edit, _ = replayed("red <night>", learned=night)
    night.rename(tmp_path / "night.safetensors")
    same(edit, showtell.replay(tmp_path / "out.png", editor=editor))
    (tmp_path / "night.safetensors").rename(folder / "renamed.safetensors")
    with pytest.raises(
        FileFormatError, match=r"out.png: its learned instruction \(.*night.*give its file with --learned"
    ):
        showtell.replay(tmp_path / "out.png", editor=editor)
    same(edit, showtell.replay(tmp_path / "out.png", editor=editor, learned=folder / "renamed.safetensors"))


def test_a_file_that_changed_is_said(editor, replayed, tmp_path):
    night = made(editor.pipe).save(tmp_path / "night.safetensors")
    edit, _ = replayed("<night>", learned=night)
    good = night.read_bytes()
    made(editor.pipe, seed=1).save(night, force=True)
    again = showtell.replay(tmp_path / "out.png", editor=editor)
    assert any("night: is not the learned instruction that was used" in note for note in again.notes)
    assert any("pixels differ" in note for note in again.notes)
    (tmp_path / "kept.safetensors").write_bytes(good)
    same(edit, showtell.replay(tmp_path / "out.png", editor=editor, learned=tmp_path / "kept.safetensors"))


def test_a_look_in_memory_must_be_given(editor, replayed, tmp_path):
    look, other = made(editor.pipe), made(editor.pipe, "other", seed=1)
    with pytest.raises(FileFormatError, match=r"\(in memory\) is not there: give its file"):
        replayed(look + "red")
    saved = look.save(tmp_path / "anything.safetensors")
    edit, again = replayed(look + "red" + other, again=[other, saved])
    same(edit, again)


def test_what_was_given_stands_for_what_is_missing_and_for_nothing_else(editor, replayed, tmp_path):
    look, other, third = (made(editor.pipe, name, seed=i) for i, name in enumerate(["a", "b", "c"]))
    _, again = replayed(look + "" + other, again=[look, third])
    assert any("c: is not the learned instruction that was used" in note for note in again.notes)
    saved = look.save(tmp_path / "a.safetensors")
    edit, again = replayed(None, learned=saved, again=third)
    same(edit, again)
    assert "c: was given, and the recipe has no use for it" in again.notes
