"""The file of a learned instruction: what it gives back, and what it refuses."""

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
from showtell import instruction, learned_file
from showtell.errors import FileFormatError, OutputError
from showtell.learned import LearnedInstruction
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


def test_whatever_decides_an_edit_is_in_the_hash(pipe):
    look = made(pipe, noise=True)
    noise, shifted = look.noise, (look.noise.values.roll(1, 0), look.noise.timesteps + 1)
    others = [
        dataclasses.replace(look, noise=None),
        dataclasses.replace(look, noise=dataclasses.replace(noise, values=shifted[0])),
        dataclasses.replace(look, noise=dataclasses.replace(noise, timesteps=shifted[1])),
        dataclasses.replace(look, empty_embeds=look.empty_embeds * 1.01),
        dataclasses.replace(look, embeds=look.embeds * 1.01),
        dataclasses.replace(look, ids=(*look.ids[:2], 7, *look.ids[3:])),
        dataclasses.replace(look, span=(1, 4)),
    ]
    assert len({each.sha256 for each in [look, *others]}) == 1 + len(others)
    assert look.renamed("day").sha256 == look.sha256


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
    for wrong in ("1", True, 1.0, None, 0, -3):
        refused(spoiled(header={"format": wrong}), "header is damaged", "no format number")
    refused(spoiled(header={"format": 10**4000}), "newer than")
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


@pytest.mark.parametrize("span", [(0, 4), (2, 4), (-1, 4), (4, 4), (5, 3), (70, 77), (1, 10**6), (1, 10**30)])
def test_spans_outside_the_tokens(spoiled, span):
    refused(spoiled(header={"span": span}), "is damaged", "span")


@pytest.mark.parametrize("name", ["prompt_embeds", "empty_embeds"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite(spoiled, content, name, value):
    tensor = decode(content)[name].clone()
    tensor[40, 3] = value
    refused(spoiled({name: tensor}), name, "not finite")


@pytest.mark.parametrize(
    ("name", "largest"), [("prompt_embeds", 1e4), ("empty_embeds", 1e4), ("noise", 100.0)]
)  # fmt: skip
@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_that_no_learning_finds(spoiled, content, name, largest, sign):
    tensor = decode(content)[name].clone()
    tensor.view(-1)[70] = sign * largest
    LearnedInstruction.load(spoiled({name: tensor}))
    tensor.view(-1)[70] = sign * largest * 1.01
    refused(spoiled({name: tensor}), name, f"beyond {largest:g}")


def test_more_tokens_than_a_text_encoder_takes(spoiled):
    many = {name: torch.zeros(1025, 16) for name in ("prompt_embeds", "empty_embeds")}
    refused(spoiled({**many, "ids": torch.zeros(1025, dtype=torch.int64)}), "is damaged", "1025 tokens")


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
