"""VISII: what is learned, what stays, and what a gradient may flow through."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from PIL import ImageOps

import showtell
from showtell import instruction, learning, lessons, methods, models
from showtell.errors import (
    Cancelled,
    FileFormatError,
    ImageError,
    MethodError,
    ModelError,
    OutputError,
    ShowtellError,
    TextError,
)
from showtell.guidance import TwoCondition
from showtell.inversion import visii
from showtell.inversion.draws import Draws
from showtell.inversion.progress import Progress
from showtell.pairs import Pairs

QUICK = {
    "steps": 6,
    "timesteps_per_step": 2,
    "learning_rate": 0.05,
    "clip_weight": 0.0,
    "check_every": 3,
    "check_timesteps": 4,
    "num_tokens": 3,
}


@pytest.fixture
def pair(picture):
    before = picture()
    return before, ImageOps.invert(before)


def prepared(editor, pair, **changes):
    value, _ = methods.settle(visii.VisualInstructionInversion(), given={**QUICK, **changes}, card={})
    clip = lessons.judge(editor, value, init=None, clip=None)
    return lessons.prepare(editor, Pairs.of([pair]), value, words="", clip=clip, fit="fit")[0]


def some(lesson, seed=0):
    """A pair's timesteps and noises."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.tensor([900, 300])
    return t, torch.randn((2, *lesson.shown[0].after.shape[1:]), generator=generator)


@pytest.mark.parametrize("init", [None, "make the circle red"])
def test_only_the_span_moves_and_the_rest_is_the_initial_texts(editor, pair, init):
    look = editor.learn([pair], init=init, **QUICK)
    start, end = look.span
    with torch.no_grad():
        ids = torch.tensor([look.ids])
        initial = editor.pipe.text_encoder(ids)[0][0].float()
    assert torch.equal(look.embeds[:start], initial[:start])
    assert torch.equal(look.embeds[end:], initial[end:])
    assert not torch.equal(look.tokens, initial[start:end])
    assert look.ids[0] == editor.pipe.tokenizer.bos_token_id and look.ids[end] == editor.pipe.tokenizer.eos_token_id
    if init:
        assert editor.pipe.tokenizer.decode(look.token_ids).strip() == init
    else:
        assert end - start == QUICK["num_tokens"]


@pytest.mark.parametrize("scales", [(7.5, 1.5), (7.5, 1.0), (3.0, 3.0)])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_gradient_is_that_of_all_three_branches(pair, scales, prediction_type):
    from tests.helpers import tiny

    editor = showtell.Editor(tiny.pipeline("instruct", prediction_type=prediction_type))
    lesson = prepared(editor, pair, guidance_scale=scales[0], image_guidance_scale=scales[1])
    t, noise = some(lesson)
    tokens = torch.nn.Parameter(lesson.tokens.clone())
    visii.mse_at(lesson, tokens, lesson.shown[0], t, noise).backward()
    ours = tokens.grad.clone()

    # The published form: every branch in one batch, every branch with a gradient.
    whole = torch.nn.Parameter(lesson.tokens.clone())
    z, c = lesson.shown[0].after, lesson.shown[0].condition
    abar = lesson.alphas_cumprod[t].view(-1, 1, 1, 1)
    x = abar.sqrt() * z + (1 - abar).sqrt() * noise
    told = c(lesson.whole(whole).expand(2, -1, -1), lesson.empty_embeds.expand(2, -1, -1))
    names = ("full", "image", "none")
    rows = [told.told(name, 0) for name in names]
    inputs = torch.cat([torch.cat([x, beside], 1) for _, beside in rows])
    embeds = torch.cat([e for e, _ in rows])
    full, image, none = editor.pipe.unet(inputs, t.repeat(3), encoder_hidden_states=embeds).sample.chunk(3)
    guided = none + scales[1] * (image - none) + scales[0] * (full - image)
    target = noise if prediction_type == "epsilon" else abar.sqrt() * noise - (1 - abar).sqrt() * z
    (guided - target).square().mean().backward()
    assert ours.norm() > 0
    assert (ours - whole.grad).norm() / whole.grad.norm() < 1e-4


def test_the_constant_branches_keep_no_graph(editor, pair):
    lesson = prepared(editor, pair, guidance_scale=7.5, image_guidance_scale=1.5)
    seen = []

    class Spy:
        def __call__(self, x, t, embeds, beside):
            out = lesson.network(x, t, embeds, beside)
            seen.append((len(x), out.requires_grad))
            return out

    t, noise = some(lesson)
    with learning._gradients(editor.pipe):
        tokens = torch.nn.Parameter(lesson.tokens.clone())
        visii.mse_at(dataclasses.replace(lesson, network=Spy()), tokens, lesson.shown[0], t, noise)
    assert sorted(seen) == [(2, True), (4, False)]


def test_a_conditional_loss_runs_one_branch(editor, pair):
    lesson = prepared(editor, pair, guidance_scale=1.0, image_guidance_scale=1.0)
    assert TwoCondition(guidance_scale=1.0, image_guidance_scale=1.0).branches == ("full",)
    t, noise = some(lesson)
    shown = lesson.shown[0]
    with torch.no_grad():
        abar = lesson.alphas_cumprod[t].view(-1, 1, 1, 1)
        x = abar.sqrt() * shown.after + (1 - abar).sqrt() * noise
        told = shown.condition(lesson.embeds.expand(2, -1, -1), lesson.empty_embeds.expand(2, -1, -1))
        embeds, beside = told.told("full", 0)
        out = editor.pipe.unet(torch.cat([x, beside], 1), t, encoder_hidden_states=embeds).sample
        expected = (out - noise).square().mean()
        assert torch.allclose(visii.mse_at(lesson, lesson.tokens, shown, t, noise), expected, atol=1e-6)


def test_the_published_schedule_visits_every_timestep_once():
    paper = visii.VisualInstructionInversion.PAPER
    draws = Draws.of(steps=paper["steps"], timesteps_per_step=paper["timesteps_per_step"], pairs=3, total=1000, seed=4)
    assert sorted(draws.timesteps.flatten().tolist()) == list(range(1000))
    assert set(draws.pairs.tolist()) == {0, 1, 2}
    assert torch.equal(draws.noise((4, 2, 2)), draws.noise((4, 2, 2)))
    longer = Draws.of(steps=5, timesteps_per_step=4, pairs=1, total=7, seed=0).timesteps.flatten().tolist()
    assert sorted(longer[:7]) == sorted(longer[7:14]) == list(range(7))


def test_the_best_tokens_are_those_of_the_least_checked_loss(editor, pair):
    found = learning.study(editor, [pair], **{**QUICK, "learning_rate": 5.0, "steps": 9})
    best = min(range(len(found.checks)), key=lambda i: found.checks[i][1])
    assert torch.equal(found.look.embeds, found.snapshots[best].embeds)
    assert found.look.how["kept_step"] == found.checks[best][0]
    assert [step for step, _ in found.checks] == [0, 3, 6, 9]


def test_learning_lowers_the_loss_and_leaves_the_networks_alone(editor, pair):
    before = {name: p.clone() for name, p in editor.pipe.unet.named_parameters()}
    wants = {name: p.requires_grad for name, p in editor.pipe.unet.named_parameters()}
    found = learning.study(editor, [pair], **{**QUICK, "steps": 30, "check_every": 10})
    assert found.look.how["kept_loss"] < found.checks[0][1]
    for name, parameter in editor.pipe.unet.named_parameters():
        assert torch.equal(parameter, before[name]) and parameter.grad is None
        assert parameter.requires_grad == wants[name]


def test_early_stop(editor, pair):
    found = learning.study(editor, [pair], **{**QUICK, "steps": 60, "learning_rate": 20.0, "patience": 2})
    assert found.look.how["steps_done"] < 60
    assert any("stopped early" in note for note in found.notes)


@pytest.mark.parametrize("stop_at", [1, 4, 7])
def test_resuming_gives_the_same_to_the_last_bit(editor, pair, tmp_path, stop_at):
    options = {**QUICK, "steps": 9, "learning_rate_schedule": "cosine", "seed": 3}
    whole = editor.learn([pair], **options)
    checkpoint = tmp_path / "half.safetensors"

    def stop(i, n, loss):
        if i == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        editor.learn([pair], checkpoint=checkpoint, callback=stop, **options)
    assert checkpoint.exists()
    steps = []
    again = editor.learn(
        [pair], checkpoint=checkpoint, resume=True, callback=lambda i, n, loss: steps.append(i), **options
    )
    assert steps == list(range(stop_at + 1, 10))
    assert torch.equal(again.embeds, whole.embeds) and again.how == whole.how
    assert not checkpoint.exists()


def test_another_learning_is_not_gone_on_from(editor, pair, tmp_path):
    checkpoint = tmp_path / "half.safetensors"
    with pytest.raises(Cancelled, match="after step 1 of 6"):
        editor.learn([pair], checkpoint=checkpoint, cancel=lambda: True, **QUICK)
    with pytest.raises(OutputError, match="exists already"):
        editor.learn([pair], checkpoint=checkpoint, **QUICK)
    for changes in ({"seed": 9}, {"learning_rate": 0.01}, {"init": "make the circle red"}, {"fit": "pad"}):
        with pytest.raises(FileFormatError, match="another learning"):
            editor.learn([pair], checkpoint=checkpoint, resume=True, **{**QUICK, **changes})
    half = showtell.Editor(copy.deepcopy(editor.pipe).to(torch.bfloat16))
    with pytest.raises(FileFormatError, match="another learning"):
        half.learn([pair], checkpoint=checkpoint, resume=True, **QUICK)
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(FileFormatError, match="start again"):
        editor.learn([pair], checkpoint=checkpoint, resume=True, **QUICK)


def test_a_loss_that_is_no_number_keeps_the_best(editor, pair, monkeypatch):
    real, calls = visii.loss_at, []

    def breaking(*arguments):
        calls.append(1)
        return real(*arguments) * (math.nan if len(calls) > 4 else 1)

    monkeypatch.setattr(visii, "loss_at", breaking)
    found = learning.study(editor, [pair], **QUICK)
    assert any("step 5" in note and "step 3" in note for note in found.notes)
    assert torch.isfinite(found.look.embeds).all() and found.look.how["kept_step"] == 3


def test_weights_that_are_no_numbers_are_an_error(editor, pair):
    with torch.no_grad():
        next(editor.pipe.unet.parameters()).fill_(math.nan)
    with pytest.raises(ShowtellError, match="from the start") as caught:
        editor.learn([pair], **QUICK)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_are_learned_in_float32(pair, dtype):
    from tests.helpers import tiny

    pipe = tiny.pipeline("instruct").to(dtype)
    editor = showtell.Editor(pipe)
    lesson = prepared(editor, pair)
    progress = Progress.of(lesson.tokens)
    draws = Draws.of(steps=6, timesteps_per_step=2, pairs=1, total=1000, seed=0)
    with learning._gradients(pipe):
        done = visii.learn(lesson, draws, progress)
    assert done.broke_at is None and done.step == 6
    state = done._optimiser.state[done.parameter]
    assert done.parameter.dtype == state["exp_avg"].dtype == state["exp_avg_sq"].dtype == torch.float32
    assert not torch.equal(done.tokens, lesson.tokens)


def test_several_pairs_of_several_sizes(editor, picture):
    pairs = [
        (picture(w, h, seed=i), ImageOps.invert(picture(w, h, seed=i))) for i, (w, h) in enumerate([(32, 32), (64, 32)])
    ]
    look = editor.learn(pairs, record_noise=True, **QUICK)
    assert len(look.thumbnails) == 2 and look.noise.shape == (4, 8, 8)


def test_mirrored_pairs_are_shown_too(editor, pair):
    lesson = prepared(editor, pair, mirror=True)
    assert len(lesson.shown) == 2
    mirrored = prepared(editor, tuple(map(ImageOps.mirror, pair)))
    assert torch.allclose(lesson.shown[1].after, mirrored.shown[0].after, atol=1e-6)
    looks = [editor.learn([pair], mirror=mirror, **QUICK) for mirror in (False, True)]
    assert not torch.equal(looks[0].embeds, looks[1].embeds)


def test_a_pair_of_two_sizes_is_fitted_alike_and_said(editor, picture):
    found = learning.study(editor, [(picture(32, 32), picture(48, 40, seed=1))], **QUICK)
    assert any("before is 32x32 and after is 48x40" in note for note in found.notes)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], "there are none"), ("ab", "not a list"), (["a"], "odd number"), ([("a", "b", "c")], "got 3 pictures"),
        ([("nowhere.png", "b")], "no such file"), ([3], "odd number"),
    ],
)  # fmt: skip
def test_pairs_that_are_none(editor, pairs, words):
    with pytest.raises(ImageError, match=words) as caught:
        editor.learn(pairs, **QUICK)
    assert "\n" not in str(caught.value)


def test_the_same_picture_twice_teaches_nothing(editor, picture):
    with pytest.raises(ImageError, match="nothing to learn"):
        editor.learn([(picture(), picture())], **QUICK)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"steps": 0}, MethodError), ({"num_tokens": 0}, MethodError), ({"num_tokens": 76}, MethodError),
        ({"learning_rate": math.nan}, MethodError), ({"learning_rate": 1e38}, MethodError),
        ({"learning_rate_schedule": "up"}, MethodError),
        ({"mse_weight": 0, "clip_weight": 0}, MethodError), ({"stepps": 3}, MethodError),
        ({"init": "circle " * 80}, TextError), ({"resume": True}, MethodError), ({"fit": "squash"}, MethodError),
        ({"clip_weight": 0.1}, ModelError), ({"check_every": 0}, MethodError), ({"mirror": "yes"}, MethodError),
        ({"guidance_scale": 0.5}, MethodError), ({"name": "my look"}, TextError), ({"init": 5}, TextError),
        ({"seed": 2**70}, MethodError), ({"seed": "x"}, MethodError),
    ],
)  # fmt: skip
def test_options_out_of_range(editor, pair, options, error):
    with pytest.raises(error) as caught:
        editor.learn([pair], **{**QUICK, **options})
    assert "\n" not in str(caught.value)


def test_base_models_cannot_learn(pair):
    from tests.helpers import tiny

    with pytest.raises(ModelError, match="visii.*needs an instruct model"):
        showtell.Editor(tiny.pipeline("base")).learn([pair], **QUICK)


def test_the_clip_loss_pulls_towards_the_pairs_direction(starters, picture):
    editor = showtell.load("starter")
    pair = (picture(), ImageOps.invert(picture()))
    options = {**QUICK, "mse_weight": 0.0, "clip_weight": 1.0, "clip_ceiling": 1.0, "steps": 20, "check_every": 20}
    options["learning_rate"] = 0.3
    lesson = prepared(editor, pair, **options)

    def cosine(embeds):
        with torch.no_grad():
            return float(torch.cosine_similarity(lesson.direction, lesson.feature(embeds.mean(0)), dim=0))

    found = learning.study(editor, [pair], **options)
    assert cosine(found.snapshots[-1].embeds) > cosine(lesson.embeds) + 0.05
    assert found.look.model.text_encoder == models.weights_hash(editor.pipe, parts=("text_encoder",))


def test_a_caption_is_looked_for_once_and_can_be_stopped(starters, picture, tmp_path, monkeypatch):
    from showtell.inversion import pez

    editor = showtell.load("starter")
    pair = (picture(), ImageOps.invert(picture()))
    options = {**QUICK, "init": "caption", "caption_steps": 3, "checkpoint": tmp_path / "half.safetensors"}
    with pytest.raises(Cancelled, match="caption"):
        editor.learn([pair], cancel=lambda: True, **options)
    assert not options["checkpoint"].exists()

    def stop(i, n, loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        editor.learn([pair], callback=stop, **options)
    monkeypatch.setattr(pez, "caption", lambda *a, **k: pytest.fail("looked for a second time"))
    look = editor.learn([pair], resume=True, **options)
    assert look.how["init_words"] and look.how["clip"]["id"] == "starter-clip"


def test_the_clip_is_part_of_what_is_gone_on_from(starters, picture, tmp_path):
    from showtell.metrics.clip import Clip

    editor = showtell.load("starter")
    pair = (picture(), ImageOps.invert(picture()))
    options = {**QUICK, "clip_weight": 0.1, "checkpoint": tmp_path / "half.safetensors"}
    with pytest.raises(Cancelled):
        editor.learn([pair], cancel=lambda: True, **options)
    other = Clip.load()
    with torch.no_grad():
        other.model.text_projection.weight.mul_(1.5)
    with pytest.raises(FileFormatError, match="another learning"):
        editor.learn([pair], clip=other, resume=True, **options)
    editor.learn([pair], resume=True, **options)
    other.model.requires_grad_(True)
    editor.learn([pair], clip=other, **{**QUICK, "clip_weight": 0.1})
    assert all(p.grad is None for p in other.model.parameters())


def test_learning_in_whatever_mode_the_caller_is(editor, pair):
    want = editor.learn([pair], **QUICK)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(editor.learn([pair], **QUICK).embeds, want.embeds)


def test_starting_from_a_caption(starters, picture):
    from showtell.inversion import pez
    from showtell.metrics.clip import Clip

    editor = showtell.load("starter")
    pair = (picture(), ImageOps.invert(picture()))
    wanted = pez.caption(pair[1], clip=Clip.load(), num_tokens=3, seed=2, steps=5).text
    look = editor.learn([pair], init="caption", caption_steps=5, seed=2, **QUICK)
    assert look.how["init"] == "caption" and look.how["init_words"] == wanted
    assert tuple(instruction.tokenize(editor.pipe, wanted)) == look.token_ids


def test_learning_through_a_controlnet(pair):
    from tests.helpers import tiny

    editor = showtell.Editor(tiny.pipeline("control"))
    found = learning.study(editor, [pair], **{**QUICK, "steps": 12, "check_every": 6})
    assert found.look.how["image_guidance_scale"] == 1.0
    assert found.look.how["kept_loss"] < found.checks[0][1]
    edit = editor.edit(pair[0], found.look, seed=0, num_inference_steps=2)
    plain = editor.edit(pair[0], "red", seed=0, num_inference_steps=2)
    given, _ = methods.settle(
        visii.VisualInstructionInversion(image_guidance_scale=1.5), given={}, card={}, kind=editor.kind
    )
    assert given.image_guidance_scale == 1.5
    assert edit.image.size == pair[0].size and not torch.equal(edit.latents, plain.latents)
