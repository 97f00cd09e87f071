"""Prompt-to-Prompt as a method and on imagined pairs: what it must equal exactly, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import showtell
from showtell import imagining, instruction, models, networks, schedulers, starts
from showtell.editor import Editor
from showtell.errors import Cancelled, MethodError, ModelError, TextError
from tests.helpers import tiny

SOURCE, TARGET, LONGER = "a red circle", "a green circle", "a green circle to the house"
STEPS = {"num_inference_steps": 3, "inner_steps": 1}


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def editor(request):
    return built(request.param)


@pytest.fixture(scope="module")
def plain_editor():
    return built("epsilon")


def built(prediction_type):
    pipe = tiny.pipeline("base", prediction_type=prediction_type)
    with torch.no_grad():  # so that attention matters
        for name, weight in pipe.unet.named_parameters():
            if "attn" in name and "to_" in name:
                weight.mul_(2)
    return Editor(pipe)


def picture(seed=0, size=(32, 32)):
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BILINEAR)


def edited(editor, target=TARGET, *, image=None, source=SOURCE, **options):
    image = picture() if image is None else image
    return editor.edit(image, target, method="p2p", source=source, seed=0, **{**STEPS, **options})


def same(first, second, atol=1e-5):
    return torch.allclose(first.latents, second.latents, atol=atol)


@pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")
@pytest.mark.parametrize("mode", ["auto", "replace", "refine"])
def test_an_identical_prompt_returns_the_reconstruction(editor, mode):
    inverted = editor.invert(picture(), method="nti", source=SOURCE, num_inference_steps=3, inner_steps=2)
    assert inverted.data.of == "uncond"
    reconstruction = inverted.data.reconstruction[-1, 0]
    rows = []
    options = {"method": "p2p", "mode": mode, "seed": 0}
    found = editor.edit(inverted, SOURCE, callback=lambda i, n, latents: rows.append(latents), **options)
    assert all(torch.allclose(both[0], both[1], atol=1e-5) for both in rows) and len(rows) == 3
    # The reconstruction was made in a batch of another size: guided with 7.5, rounding is seen.
    assert torch.allclose(found.latents, reconstruction, atol=5e-5)
    other = editor.edit(inverted, TARGET, **options)
    assert (other.latents - reconstruction).abs().max() > 1e-2


@pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")
def test_without_sharing_it_is_a_plain_run_of_the_target(editor):
    inverted = editor.invert(picture(), method="nti", source=SOURCE, num_inference_steps=3, inner_steps=1)
    found = editor.edit(
        inverted, TARGET, method="p2p", cross_replace_steps=0, self_replace_steps=0, blend="none", seed=0
    )
    pipe, data = editor.pipe, inverted.data
    words, _ = instruction.assemble(pipe, instruction.segments(instruction.parse(TARGET)))
    x = data.start
    scheduler = schedulers.fresh_scheduler("ddim", pipe.scheduler.config)
    scheduler.set_timesteps(3)
    for i, t in enumerate(scheduler.timesteps):
        with torch.no_grad():
            net = networks.network(pipe)
            cond, uncond = net(x, t, words[None]), net(x, t, data.tuned[i])
        x = scheduler.step(uncond + 7.5 * (cond - uncond), t, x, return_dict=False)[0]
    assert torch.allclose(found.latents, x[0], atol=1e-4)


@pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")
def test_blending_by_nothing_is_the_source_and_by_everything_is_no_blending(plain_editor):
    inverted = plain_editor.invert(picture(), method="nti", source=SOURCE, num_inference_steps=3, inner_steps=1)

    def run(**options):
        return plain_editor.edit(inverted, TARGET, method="p2p", blend_start=0, seed=0, **options)

    nothing, everything, none = run(blend_threshold=1.0), run(blend_threshold=0.0), run(blend="none")
    assert torch.allclose(nothing.latents, inverted.data.reconstruction[-1, 0], atol=5e-5)
    assert not nothing.masks[0].any() and everything.masks[0].all() and none.masks == []
    assert same(everything, none) and not same(nothing, none, atol=1e-2)
    late = plain_editor.edit(inverted, TARGET, method="p2p", blend_start=1, blend_threshold=1, seed=0)
    assert same(late, none) and late.masks == []


@pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")
def test_batch_equals_singles_and_sequential_equals_batched(plain_editor):
    pictures, targets = [picture(1), picture(2)], [TARGET, LONGER]
    sources = [SOURCE, "a red star"]
    options = {"method": "p2p", "blend_start": 0.0, "reweight": {"green": 2.0}, **STEPS}
    batch = plain_editor.edit(pictures, targets, source=sources, seed=[1, 2], **options)
    for b in range(2):
        alone = plain_editor.edit(pictures[b], targets[b], source=sources[b], seed=b + 1, **options)
        assert same(alone, batch[b], atol=1e-4) and np.array_equal(alone.masks[0], batch[b].masks[0])
        apart = plain_editor.edit(pictures[b], targets[b], source=sources[b], seed=b + 1, sequential=True, **options)
        assert same(alone, apart, atol=1e-4)


@pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")
def test_the_pipeline_is_as_it_was(plain_editor):
    pipe = plain_editor.pipe
    before = dict(pipe.unet.attn_processors), models.weights_hash(pipe)
    edited(plain_editor)

    def stop(i, n, latents):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        edited(plain_editor, callback=stop)
    with pytest.raises(Cancelled):
        edited(plain_editor, cancel=lambda: True)
    after = pipe.unet.attn_processors
    assert all(after[name] is processor for name, processor in before[0].items())
    assert models.weights_hash(pipe) == before[1]


def test_shares_and_weights_matter(plain_editor):
    inverted = plain_editor.invert(picture(), method="nti", source=SOURCE, num_inference_steps=4, inner_steps=1)

    def run(**options):
        return plain_editor.edit(
            inverted, TARGET, method="p2p", seed=0, **{"blend": "none", "self_replace_steps": 0.0, **options}
        )

    runs = [run(cross_replace_steps=share) for share in (0, 0.5, 1.0)]
    runs += [run(self_replace_steps=1.0), run(reweight={"green": 4.0}), run(reweight={"GREEN": -1})]
    for n, one in enumerate(runs):
        assert not any(same(one, other, atol=1e-4) for other in runs[:n])
    assert same(run(cross_replace_steps=0.5), run(cross_replace_steps=0.6))  # two steps of four


def test_the_words_are_told_and_brackets_are_obeyed(plain_editor):
    options = {"blend_start": 0.0, "source": "a red circle and a star"}
    with pytest.warns(showtell.errors.ShowtellWarning, match=r"kept to where \[circle\] looks"):
        found = edited(plain_editor, "a green circle and a star", **options)
    assert found.keywords == ["circle"] and found.masks[0].shape == (32, 32)
    bracketed = edited(plain_editor, "a green circle and a [star]", **options)
    assert bracketed.keywords == ["star"] and not any("brackets" in note for note in bracketed.notes)


@pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")
def test_a_mask_of_the_users_keeps_the_rest(plain_editor):
    mask = np.zeros((32, 32), bool)
    mask[:, :16] = True
    found = edited(plain_editor, mask=mask, blend="none", cross_replace_steps=0, self_replace_steps=0)
    assert np.array_equal(np.asarray(found.image)[:, 16:], np.asarray(picture())[:, 16:])
    assert not np.array_equal(np.asarray(found.image)[:, :16], np.asarray(picture())[:, :16])
    plain = edited(plain_editor, SOURCE, blend="none")
    assert torch.allclose(found.latents[..., 4:], plain.latents[..., 4:], atol=5e-5)


@pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")
def test_other_shapes_and_precisions(plain_editor):
    wide = edited(plain_editor, image=picture(size=(64, 32)), blend_start=0.0)
    assert wide.image.size == (64, 32) and wide.masks[0].shape == (32, 64)
    half = Editor(tiny.pipeline("base").to(dtype=torch.bfloat16))
    found = edited(half, LONGER, reweight={"green": 2.0}, blend_start=0.0)
    assert found.latents.dtype == torch.float32 and found.latents.isfinite().all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"source": None}, MethodError, "needs source="),
        ({"target": LONGER, "mode": "replace"}, MethodError, "6 are not 3 .*'refine'"),
        ({"reweight": {"blue": 2}}, TextError, "'blue' is not a word of the target, which has 'a', 'green', 'circle'"),
        ({"reweight": "green"}, MethodError, "reweight is words"),
        ({"reweight": {"green": "much"}}, MethodError, "reweight of 'green'"),
        ({"cross_replace_steps": 1.2}, MethodError, "cross_replace_steps=1.2 is out of range"),
        ({"self_replace_steps": -0.1}, MethodError, "self_replace_steps=-0.1 is out of range"),
        ({"blend_start": 2}, MethodError, "blend_start=2 is out of range"),
        ({"mode": "swap"}, MethodError, "mode=swap is not known: choose one of auto, replace, refine"),
        ({"blend": "mask"}, MethodError, "blend=mask is not known"),
        ({"early_stop": 3}, MethodError, "early_stop=3 is not known"),
        ({"inner_steps": 1.5}, MethodError, "inner_steps=1.5 is out of range"),
        ({"scheduler": "euler"}, MethodError, "cannot be inverted"),
    ],
)
def test_what_is_refused(plain_editor, options, error, message):
    with pytest.raises(error, match=message):
        edited(plain_editor, **options)


# Imagined pairs.


FEW = {"num_inference_steps": 3}


@pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")
def test_imagined_pairs_begin_alike_and_an_identical_prompt_gives_the_same_picture(plain_editor):
    for scheduler in ("ddim", "euler-ancestral"):
        (twin,) = imagining.pair(plain_editor, SOURCE, SOURCE, seed=3, scheduler=scheduler, **FEW)
        assert np.array_equal(np.asarray(twin.before), np.asarray(twin.after)) and twin.seed == 3
        (one,) = imagining.pair(plain_editor, SOURCE, TARGET, seed=3, scheduler=scheduler, **FEW)
        assert np.array_equal(np.asarray(one.before), np.asarray(twin.before))
        assert not np.array_equal(np.asarray(one.after), np.asarray(one.before))
        (alone,) = imagining.pair(plain_editor, SOURCE, seed=3, scheduler=scheduler, **FEW)
        apart = np.asarray(alone.before, int) - np.asarray(twin.before, int)
        assert alone.after is None and np.abs(apart).max() <= 1


def test_an_imagined_picture_is_the_stock_pipelines(plain_editor):
    pipe = plain_editor.pipe
    (found,) = imagining.pair(plain_editor, SOURCE, seed=5, guidance_scale=4.0, scheduler=pipe.scheduler, **FEW)
    stock = pipe(
        SOURCE, num_inference_steps=3, guidance_scale=4.0, generator=starts.generator(5), output_type="np"
    ).images[0]
    assert np.abs(np.asarray(found.before) / 255 - stock).max() < 2 / 255


def test_a_batch_of_pairs_equals_single_ones_with_scales_and_shares_of_their_own(plain_editor):
    sources, targets = [SOURCE, "a star", SOURCE], [TARGET, "a house", LONGER]
    scales, shares = [2.0, 7.5, 4.0], [0.0, 1.0, 0.4]
    options = {"blend": "none", "cross_replace_steps": 0.0, **FEW}
    batch = imagining.pair(
        plain_editor, sources, targets, seed=[1, 2, 3], guidance_scale=scales, self_replace_steps=shares, **options
    )
    for b, one in enumerate(batch):
        (alone,) = imagining.pair(
            plain_editor, sources[b], targets[b], seed=b + 1, guidance_scale=scales[b], self_replace_steps=shares[b],
            sequential=True, **options,
        )  # fmt: skip
        for ours, theirs in ((one.before, alone.before), (one.after, alone.after)):
            assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1
        assert (one.seed, one.guidance_scale, one.self_replace_steps) == (b + 1, scales[b], shares[b])
    split = imagining.pair(plain_editor, SOURCE, TARGET, seed=[1, 2, 3], batch_size=2, **options)
    assert [one.seed for one in split] == [1, 2, 3]


def test_imagined_pairs_of_a_size_of_their_own_are_blended(plain_editor):
    (one,) = imagining.pair(
        plain_editor, SOURCE, TARGET, seed=1, size=(64, 32), blend_start=0.0, blend_threshold=1, **FEW
    )
    assert one.before.size == (64, 32) and one.mask.shape == (32, 64) and not one.mask.any()
    assert np.array_equal(np.asarray(one.before), np.asarray(one.after)) and "[circle]" in one.notes[0]
    assert imagining.pair(plain_editor, SOURCE, TARGET, seed=1, blend="none", **FEW)[0].mask is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": (33, 32)}, MethodError, r"size=\(33, 32\) is out of range.*multiples of 8"),
        ({"target": [TARGET, LONGER], "seed": [1, 2, 3]}, MethodError, "target is a list of 2, and there are 3 pairs"),
        ({"target": [TARGET, None]}, TextError, "in two calls"),
        ({"inner_steps": 3}, MethodError, "inner_steps is for pictures that are inverted"),
        ({"self_replace_steps": [0.1, 2]}, MethodError, "self_replace_steps=2 is out of range"),
        ({"seed": -1}, MethodError, "seed=-1 is out of range"),
        ({"batch_size": 0}, MethodError, "batch_size=0 is out of range"),
        ({"target": LONGER, "mode": "replace"}, MethodError, "'refine' takes"),
        ({"target": ""}, TextError, "empty"),
        ({"strength": 3}, MethodError, "'strength' is not a hyper-parameter"),
    ],
)
def test_what_cannot_be_imagined(plain_editor, options, error, message):
    with pytest.raises(error, match=message):
        imagining.pair(plain_editor, SOURCE, **{"target": TARGET, **FEW, **options})


def test_an_instruct_model_imagines_nothing():
    with pytest.raises(ModelError, match="needs a base model"):
        imagining.pair(Editor(tiny.pipeline("instruct")), SOURCE, TARGET)
