"""Textual inversion: the vectors of a word, its file, and its use in stock pipelines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import showtell
from showtell import teaching, tokens
from showtell.errors import (
    Cancelled,
    FileFormatError,
    ImageError,
    MethodError,
    ModelError,
    OutputError,
    ShowtellError,
    TextError,
)  # fmt: skip
from showtell.inversion import textual
from showtell.tokens import LearnedToken
from tests.helpers import tiny

QUICK = {"steps": 4, "batch_size": 2, "init": "a star", "seed": 2}


@pytest.fixture
def base():
    return showtell.Editor(tiny.pipeline("base"))


@pytest.fixture
def pictures(picture):
    """Three, of two sizes that the model takes as they are."""
    return [picture(seed=1), picture(48, 32, seed=2), picture(seed=3)]


def word(n=1, width=tiny.WIDTH, name="<toy>"):
    return LearnedToken(word=name, vectors=torch.randn(n, width, generator=torch.Generator().manual_seed(0)))


def embeds(pipe, text):
    return pipe.encode_prompt(text, "cpu", 1, False)[0]


@pytest.mark.filterwarnings("error")
def test_nothing_of_the_pipeline_changes(base, pictures):
    before = {
        f"{p}.{k}": v.clone()
        for p in ("unet", "text_encoder", "vae")
        for k, v in getattr(base.pipe, p).state_dict().items()
    }
    table = base.pipe.text_encoder.get_input_embeddings()
    state = torch.get_rng_state()
    toy = base.learn_token(pictures, "<toy>", **{**QUICK, "learning_rate": 0.01})
    assert isinstance(toy, LearnedToken) and toy.vectors.shape == (1, tiny.WIDTH) and toy.word == "<toy>"
    after = {
        f"{p}.{k}": v for p in ("unet", "text_encoder", "vae") for k, v in getattr(base.pipe, p).state_dict().items()
    }
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert not table._forward_hooks and "<toy>" not in base.pipe.tokenizer.get_vocab()
    assert all(p.grad is None and p.requires_grad for p in base.pipe.unet.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("vectors", [1, 3])
def test_stock_pipelines_load_the_file_and_say_the_same(base, pictures, tmp_path, vectors):
    toy = base.learn_token(pictures, "<toy>", num_vectors=vectors, **QUICK)
    toy.save(tmp_path / "toy.safetensors")
    stock = tiny.pipeline("base")
    stock.load_textual_inversion(str(tmp_path / "toy.safetensors"))
    templates = ("make a {} in the house", "{}", "the circle, {}")
    spoken = textual.Spoken.of(base.pipe, templates, vectors, placeholder=7)
    ours = spoken.encode(toy.vectors, torch.tensor([2, 0, 1]))
    theirs = torch.cat([embeds(stock, templates[i].format("<toy>")) for i in (2, 0, 1)])
    assert (ours - theirs).abs().max() < 1e-5
    assert not base.pipe.text_encoder.get_input_embeddings()._forward_hooks
    plain = embeds(stock, "make a star in the house")
    assert torch.allclose(plain, embeds(base.pipe, "make a star in the house"), atol=1e-6)


@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.filterwarnings("ignore:.*was read as plain words")
def test_a_word_is_used_in_edits(base, picture, vectors):
    toy = word(vectors)
    toy.install(base.pipe)
    options = {"method": "sdedit", "num_inference_steps": 2, "seed": 0}
    said = base.edit(picture(), "a <toy> to the [tree]", **options)
    other = tiny.pipeline("base")
    word(vectors + 1).install(other)
    others = showtell.Editor(other).edit(picture(), "a <toy> to the [tree]", **options)
    unknown = showtell.Editor(tiny.pipeline("base")).edit(picture(), "a <toy> to the [tree]", **options)
    assert not torch.equal(said.latents, others.latents) and not torch.equal(said.latents, unknown.latents)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_step_is_that_of_the_paper(prediction_type, picture):
    """Written out: the word's row of a grown table is the only parameter."""
    editor = showtell.Editor(tiny.pipeline("base", prediction_type=prediction_type))
    settings = {"learning_rate": 0.02, "weight_decay": 0.1, "mirror": False, "templates": ["make {} red"]}
    ours = editor.learn_token([picture()], "<toy>", **{**QUICK, **settings, "steps": 3})

    pipe = tiny.pipeline("base", prediction_type=prediction_type)
    first = teaching._start(pipe, "a star", 1)[0]
    lesson = teaching._lesson(
        pipe, teaching._opened([picture()], 32), editor_settings(editor, settings), placeholder=3, fit="fit", seed=2
    )
    pipe.load_textual_inversion({"<toy>": first})
    table = pipe.text_encoder.get_input_embeddings().weight
    row = pipe.tokenizer.convert_tokens_to_ids("<toy>")
    ids = pipe.tokenizer("make <toy> red", padding="max_length", return_tensors="pt").input_ids
    vector = torch.nn.Parameter(first.clone())
    optimiser = torch.optim.AdamW([vector], lr=0.02, weight_decay=0.1)
    z = lesson.latents[0]
    for step in range(3):
        batch = textual._Batch.drawn(lesson, step)
        with torch.no_grad():
            table[row] = vector[0]
        e = pipe.text_encoder(ids)[0].expand(2, -1, -1)
        a, noise = pipe.scheduler.alphas_cumprod[batch.t].view(-1, 1, 1, 1), torch.stack(batch.noise)
        out = pipe.unet(a.sqrt() * z + (1 - a).sqrt() * noise, batch.t, encoder_hidden_states=e).sample
        wanted = noise if prediction_type == "epsilon" else a.sqrt() * noise - (1 - a).sqrt() * z
        (out - wanted).square().mean().backward()
        vector.grad, table.grad = table.grad[row : row + 1].clone(), None
        optimiser.step()
    assert (ours.vectors - vector).abs().max() < 1e-4 < (ours.vectors - first).abs().max()


def editor_settings(editor, given):
    return teaching._settings(editor, None, {"steps": 3, "batch_size": 2, **given})


def test_learning_lowers_the_loss(base, pictures):
    toy = base.learn_token(pictures, **{**QUICK, "steps": 40, "batch_size": 4, "learning_rate": 0.05})
    (_, first), (step, last) = toy.how["checks"]
    assert step == 40 and last < first


def test_pictures_of_several_sizes_count_alike(base, pictures):
    """The loss of a mixed batch is the mean of its rows' losses."""
    settings = editor_settings(base, {"mirror": False})
    opened = teaching._opened(pictures, 32)
    lesson = teaching._lesson(base.pipe, opened, settings, placeholder=3, fit="fit", seed=0)
    assert {tuple(z.shape) for z in lesson.latents} == {(4, 8, 8), (4, 6, 8)}
    start = teaching._start(base.pipe, "a star", 1)[0]
    batch = next(textual._Batch.fixed(lesson).split(5))
    with torch.no_grad():
        whole = float(textual._loss(lesson, start, batch))
        rows = [float(textual._loss(lesson, start, row)) for row in batch.split(1)]
    assert whole == pytest.approx(sum(rows) / 5, rel=1e-4)


def test_mirrored_pictures_are_shown_too(base, picture):
    opened = teaching._opened([picture()], 32)
    lessons = [
        teaching._lesson(base.pipe, opened, editor_settings(base, {"mirror": m}), placeholder=3, fit="fit", seed=0)
        for m in (True, False)
    ]
    assert [len(lesson.latents) for lesson in lessons] == [2, 1]
    assert torch.equal(lessons[0].latents[0], lessons[1].latents[0])
    flipped = teaching._opened([picture().transpose(Image.Transpose.FLIP_LEFT_RIGHT)], 32)
    lesson = teaching._lesson(
        base.pipe, flipped, editor_settings(base, {"mirror": False}), placeholder=3, fit="fit", seed=0
    )
    assert torch.allclose(lesson.latents[0], lessons[0].latents[1], atol=1e-5)


def test_where_a_word_begins(base):
    table, tokenizer = base.pipe.text_encoder.get_input_embeddings().weight, base.pipe.tokenizer
    a, star = (table[tokenizer.convert_tokens_to_ids(piece)] for piece in ("a</w>", "star</w>"))
    assert torch.equal(teaching._start(base.pipe, "a star", 2)[0], torch.stack([a, star]))
    for n in (1, 3):
        assert torch.allclose(teaching._start(base.pipe, "a star", n)[0], ((a + star) / 2).expand(n, -1))
    assert torch.equal(teaching._start(base.pipe, "star", 1)[0][0], star)


@pytest.mark.parametrize("stop_at", [1, 3])
def test_resuming_gives_the_same_to_the_last_bit(base, pictures, tmp_path, stop_at):
    whole = base.learn_token(pictures, **QUICK)
    kept = tmp_path / "half.safetensors"

    def stop(i, n, loss):
        if i == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        base.learn_token(pictures, checkpoint=kept, callback=stop, **QUICK)
    steps = []
    again = base.learn_token(
        pictures, checkpoint=kept, resume=True, callback=lambda i, n, loss: steps.append(i), **QUICK
    )
    assert steps == list(range(stop_at + 1, 5))
    assert torch.equal(again.vectors, whole.vectors) and again.how == whole.how and not kept.exists()
    with pytest.raises(Cancelled, match="after step 1 of 4"):
        base.learn_token(pictures, checkpoint=kept, cancel=lambda: True, **QUICK)
    with pytest.raises(FileFormatError, match="belongs to another learning"):
        base.learn_token(pictures, "<doll>", checkpoint=kept, resume=True, **QUICK)
    with pytest.raises(OutputError, match="exists already"):
        base.learn_token(pictures, checkpoint=kept, **QUICK)


def test_the_seed_decides(base, pictures):
    one, same, other = (base.learn_token(pictures, **{**QUICK, "seed": seed}) for seed in (1, 1, 2))
    assert torch.equal(one.vectors, same.vectors) and not torch.equal(one.vectors, other.vectors)
    with torch.inference_mode():
        assert torch.equal(base.learn_token(pictures, **{**QUICK, "seed": 1}).vectors, one.vectors)


def test_half_precision_learns_in_float32(base, pictures):
    base.pipe.to(torch.bfloat16)
    toy = base.learn_token(pictures, **{**QUICK, "learning_rate": 1e-4})
    start = teaching._start(base.pipe, "a star", 1)[0]
    # Steps this small would be lost in bfloat16.
    assert toy.vectors.dtype == torch.float32 and 1e-5 < (toy.vectors - start).abs().max() < 1e-3


def test_a_card_may_have_its_own_values(pictures):
    editor = showtell.Editor(
        tiny.pipeline("base"), card={"defaults": {"textual": {"steps": 2, "templates": ["{} red"]}}}
    )
    how = editor.learn_token(pictures, batch_size=1).how
    assert (how["steps"], how["templates"], how["batch_size"], how["weight_decay"]) == (2, ["{} red"], 1, 0.01)


def test_a_break_keeps_what_was_good_and_says_where(base, pictures):
    with pytest.warns(showtell.errors.ShowtellWarning, match=r"the learning broke at step \d+"):
        toy = base.learn_token(pictures, **{**QUICK, "learning_rate": 1e3, "weight_decay": 0.1, "steps": 30})
    assert toy.vectors.isfinite().all() and 0 < toy.how["steps_done"] < 30


def test_a_model_that_says_no_numbers_teaches_nothing(base, pictures):
    with torch.no_grad():
        base.pipe.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(ShowtellError, match="not a number from the start"):
        base.learn_token(pictures, **QUICK)


def test_a_hook_goes_when_something_breaks(base):
    table = base.pipe.text_encoder.get_input_embeddings()
    with pytest.raises(ZeroDivisionError), textual.filled(base.pipe, torch.zeros(1, 16), torch.zeros(1, 77) > 0):
        assert table._forward_hooks
        raise ZeroDivisionError
    assert not table._forward_hooks


# Files


def test_the_file_is_that_of_diffusers_and_comes_back(tmp_path):
    toy = LearnedToken(word="<toy>", vectors=torch.randn(2, 16), how={"seed": 3})
    path = toy.save(tmp_path / "toy.safetensors")
    held = load_file(path)
    assert list(held) == ["<toy>"] and torch.equal(held["<toy>"], toy.vectors)
    back = LearnedToken.load(path)
    assert back.word == "<toy>" and torch.equal(back.vectors, toy.vectors) and back.how == {"seed": 3}
    with pytest.raises(OutputError, match="exists already"):
        toy.save(path)
    toy.save(path, force=True)
    with pytest.raises(OutputError, match="must end in .safetensors"):
        toy.save(tmp_path / "toy.bin")
    assert [p.name for p in tmp_path.iterdir()] == ["toy.safetensors"]


def test_files_that_people_share_are_read(tmp_path):
    rows = torch.randn(3, 16)
    save_file({"<cat-toy>": rows[0].half()}, tmp_path / "learned_embeds.safetensors")
    one = LearnedToken.load(tmp_path / "learned_embeds.safetensors")
    assert one.word == "<cat-toy>" and one.vectors.shape == (1, 16) and one.vectors.dtype == torch.float32
    save_file({"emb_params": rows}, tmp_path / "My Style.safetensors")
    other = LearnedToken.load(tmp_path / "My Style.safetensors")
    assert (other.word, other.said) == ("My-Style", "my-style") and torch.equal(other.vectors, rows)


def test_capitals_are_said_small(tmp_path):
    pipe = tiny.pipeline("base")
    token = word(3, name="<MyToy>")
    token.install(pipe)
    ids = pipe.tokenizer(pipe.maybe_convert_prompt("make a <mytoy> red", pipe.tokenizer)).input_ids
    assert len(ids) == 2 + 3 + 3
    spoken = textual.Spoken.of(tiny.pipeline("base"), ["make a {} red"], 3, placeholder=3)
    ours = spoken.encode(token.vectors, torch.tensor([0]))
    assert (ours - embeds(pipe, f"make a {token.said} red")).abs().max() < 1e-5


@pytest.mark.parametrize(
    "tensors, message",
    [
        ({"<toy>": torch.full((1, 16), float("nan"))}, "not finite"),
        ({"<toy>": torch.full((1, 16), 1e6)}, "beyond"),
        ({"<toy>": torch.zeros(1, 2, 16)}, "are no word"),
        ({"<toy>": torch.zeros(80, 16)}, "1 to 75 rows"),
        ({"<toy>": torch.zeros(0, 16)}, "are no word"),
        ({"<toy>": torch.zeros(1, 16, dtype=torch.int64)}, "its vectors are torch.int64"),
        ({"a b": torch.zeros(1, 16)}, "cannot stand in a text"),
        ({"<a>": torch.zeros(1, 16), "<b>": torch.zeros(1, 16)}, "should hold one tensor"),
        ({"clip_l": torch.zeros(1, 16), "clip_g": torch.zeros(1, 16)}, "SDXL"),
    ],
)
def test_files_that_are_no_word_are_refused(tmp_path, tensors, message):
    path = tmp_path / "toy.safetensors"
    save_file(tensors, path)
    with pytest.raises(FileFormatError, match=message) as caught:
        LearnedToken.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_pickles_and_broken_files_are_refused(tmp_path):
    for name in ("toy.bin", "toy.pt"):
        torch.save({"<toy>": torch.zeros(1, 16)}, tmp_path / name)
        with pytest.raises(FileFormatError, match="is a pickle"):
            LearnedToken.load(tmp_path / name)
    whole = word().save(tmp_path / "toy.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[:-20])
    with pytest.raises(FileFormatError, match="truncated"):
        LearnedToken.load(tmp_path / "half.safetensors")
    with pytest.raises(FileFormatError, match="no such file"):
        LearnedToken.load(tmp_path / "none.safetensors")
    showtell.scenes.sample(0).before.save(tmp_path / "a.png")
    with pytest.raises(FileFormatError, match="no safetensors file"):
        LearnedToken.load(tmp_path / "a.png")


def test_installing_reads_all_before_it_changes_anything(base, tmp_path):
    good, bad = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    word(2, name="<a>").save(good)
    bad.write_bytes(b"nothing")
    size = len(base.pipe.tokenizer)
    with pytest.raises(FileFormatError):
        tokens.installed(base, [good, bad])
    with pytest.raises(TextError, match="two files hold the word <a>"):
        tokens.installed(base, [good, good])
    assert len(base.pipe.tokenizer) == size
    state = torch.get_rng_state()
    assert [token.word for token in tokens.installed(base, [good])] == ["<a>"]
    assert len(base.pipe.tokenizer) == size + 2 and torch.equal(torch.get_rng_state(), state)
    with pytest.raises(TextError, match="'<a>' is a word that the model has already"):
        tokens.installed(base, [good])
    word(1, width=12, name="<c>").save(bad, force=True)
    with pytest.raises(ModelError, match="12 wide.*16 wide"):
        tokens.installed(base, [bad])


# Wrong use


@pytest.mark.parametrize("bad", ["", "a b", "[toy]", "<toy\n>", "<|endoftext|>", "{}", 5, None, "x" * 200])
def test_words_that_cannot_be(base, pictures, bad):
    with pytest.raises(TextError, match="word"):
        base.learn_token(pictures, bad, **QUICK)


def test_words_that_are_there_already(base, pictures):
    for known in ("star", "a"):
        with pytest.raises(TextError, match="is a word that the model has already"):
            base.learn_token(pictures, known, **QUICK)
    with pytest.raises(TextError, match="has capitals.*call it <toy>"):
        base.learn_token(pictures, "<Toy>", **QUICK)
    word().install(base.pipe)
    with pytest.raises(TextError, match="'<toy>' is a word that the model has already"):
        base.learn_token(pictures, **QUICK)


def test_pictures_that_cannot_teach(base, picture, tmp_path):
    with pytest.raises(ImageError, match="there are no pictures"):
        base.learn_token([], **QUICK)
    picture(7, 40).save(tmp_path / "thin.png")
    with pytest.raises(ImageError, match="thin.png: is 7x40, too small to learn from: at least 8"):
        base.learn_token([picture(), tmp_path / "thin.png"], **QUICK)
    with pytest.raises(ImageError):
        base.learn_token([tmp_path / "none.png"], **QUICK)
    one = base.learn_token(np.asarray(picture()), **{**QUICK, "steps": 1})
    assert one.how["steps_done"] == 1


@pytest.mark.parametrize(
    "given, error, message",
    [
        ({"steps": 0}, MethodError, "steps=0"),
        ({"batch_size": 1.5}, MethodError, "batch_size=1.5"),
        ({"num_vectors": 76}, MethodError, "num_vectors=76"),
        ({"learning_rate": -1}, MethodError, "learning_rate=-1"),
        ({"mirror": 3}, MethodError, "mirror=3"),
        ({"templates": "none"}, MethodError, "templates='none'"),
        ({"templates": []}, MethodError, "templates must be"),
        ({"templates": ["a picture"]}, TextError, "no place for the word"),
        ({"templates": ["{} " + "red " * 80]}, TextError, "does not fit"),
        ({"num_vectors": 75}, TextError, "does not fit"),
        ({"init": ""}, TextError, "no tokens to start from"),
        ({"init": 5}, TextError, "init must be words"),
        ({"fit": "stretch"}, MethodError, "fit='stretch'"),
        ({"seed": -1}, MethodError, "seed=-1"),
        ({"speed": 3}, MethodError, "'speed' is not a hyper-parameter"),
        ({"resume": True}, MethodError, "needs the checkpoint"),
    ],
)
def test_wrong_values_are_named(base, pictures, given, error, message):
    with pytest.raises(error, match=message):
        base.learn_token(pictures, **{**QUICK, **given})


def test_other_models_are_refused(editor, base, pictures):
    with pytest.raises(ModelError, match="needs a base model"):
        editor.learn_token(pictures, **QUICK)
    from accelerate import cpu_offload

    cpu_offload(base.pipe.text_encoder, execution_device="cpu")
    with pytest.raises(ModelError, match="is offloaded"):
        base.learn_token(pictures, **QUICK)
