"""CLIP features and the cosines made of them."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image

from showtell.errors import ModelError, UsageError
from showtell.metrics.clip import Clip, clip_d, clip_i, visual_clip

TEXTS = ["make the circle red", "add a blue star to the house", "tree"]


@pytest.fixture
def clip(starters):
    return Clip.load()


def test_picture_features_are_the_models_own_projected_and_not_normalised(clip, picture):
    pictures = [picture(40, 32, seed=1), picture(32, 32, seed=2)]
    found = clip.image_features(pictures)
    pixels = clip.processor(images=pictures, return_tensors="pt").pixel_values
    hidden = clip.model.vision_model(pixel_values=pixels).pooler_output
    assert found.shape == (2, 8) and found.dtype == torch.float32 and not found.requires_grad
    assert torch.allclose(found, clip.model.visual_projection(hidden), atol=1e-6)
    assert (found.norm(dim=-1) - 1).abs().min() > 1e-3


def test_text_features_are_the_models_own_whatever_stands_beside_them(clip):
    found = clip.text_features(TEXTS)
    assert found.shape == (3, 8) and found.dtype == torch.float32 and not found.requires_grad
    for text, row in zip(TEXTS, found, strict=True):
        ids = clip.tokenizer(text, return_tensors="pt").input_ids
        assert torch.allclose(row, clip.model.get_text_features(input_ids=ids).pooler_output[0], atol=1e-5)


def test_many_at_once_are_as_one_at_a_time_and_none_is_none(clip, picture):
    pictures = [picture(32, 32, seed=i) for i in range(70)]  # more than go through the model together
    single = torch.cat([clip.image_features([p]) for p in pictures])
    assert torch.allclose(clip.image_features(pictures), single, atol=1e-5)
    assert clip.image_features([]).shape == clip.text_features([]).shape == (0, 8)


def test_pictures_of_any_mode_and_shape(clip, picture):
    gray = picture().convert("L")
    assert torch.equal(clip.image_features([gray]), clip.image_features([gray.convert("RGB")]))
    line = Image.new("RGB", (200_000, 1), "red")  # scaled whole it would take gigabytes
    assert torch.allclose(
        clip.image_features([line]), clip.image_features([Image.new("RGB", (32, 32), "red")]), atol=1e-5
    )


def test_a_long_text_is_cut_where_the_encoder_ends(clip):
    assert torch.allclose(clip.text_features(["red " * 200]), clip.text_features(["red " * 75]), atol=1e-6)


@pytest.mark.parametrize("legacy", [False, True])
def test_texts_given_as_embeddings_have_the_features_of_their_ids(clip, legacy):
    if legacy:  # OpenAI's own configurations name a wrong end token, and the model then takes the highest id
        clip.model.text_model.eos_token_id = 2
    table = clip.model.text_model.embeddings.token_embedding.weight
    for text in TEXTS:
        ids = clip.tokenizer(text, return_tensors="pt").input_ids
        told = clip.model.get_text_features(input_ids=ids).pooler_output
        assert torch.allclose(clip.embedded_text_features(table[ids[:, 1:-1]]), told, atol=1e-5)
    two = torch.stack([table[[5, 6, 7]], table[[8, 9, 10]]])
    assert torch.allclose(clip.embedded_text_features(two)[1], clip.embedded_text_features(two[1:])[0], atol=1e-5)


def test_the_shipped_text_tower_agrees_too():
    clip = Clip.load()
    text = "a green circle and a purple boat on a gray background"
    ids = clip.tokenizer(text, return_tensors="pt").input_ids[:, 1:-1]
    embeds = clip.model.text_model.embeddings.token_embedding(ids)
    assert torch.allclose(clip.embedded_text_features(embeds), clip.text_features([text]), atol=1e-5)


def test_gradients_reach_every_embedding_and_no_weight(clip):
    embeds = torch.randn(1, 4, 16, requires_grad=True)
    [gradient] = torch.autograd.grad(clip.embedded_text_features(embeds).sum(), [embeds])
    assert (gradient.abs().sum(-1) > 0).all()
    assert all(p.grad is None for p in clip.model.parameters())


def test_the_projection_of_texts_alone(clip):
    ids = clip.tokenizer(TEXTS[0], return_tensors="pt").input_ids
    pooled = clip.model.text_model(input_ids=ids).pooler_output.detach().requires_grad_()
    found = clip.project_text(pooled)
    assert torch.allclose(found, clip.text_features(TEXTS[:1]), atol=1e-5)
    assert torch.allclose(clip.project_text(pooled[0]), found[0], atol=1e-6)
    assert torch.autograd.grad(found.sum(), [pooled])[0].abs().sum() > 0
    with pytest.raises(ModelError, match=r"starter-clip: its text encoder is 16 wide and the tokens 24"):
        clip.project_text(torch.zeros(24))


def test_the_cosines_are_their_equations():
    a, b, c, d = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))

    def cos(x, y):
        return float(x.double() @ y.double() / (x.double().norm() * y.double().norm()))

    for i in range(6):
        assert float(clip_i(a, b)[i]) == pytest.approx(cos(a[i], b[i]), abs=1e-6)
        for measure in (clip_d, visual_clip):
            assert float(measure(a, b, c, d)[i]) == pytest.approx(cos(b[i] - a[i], d[i] - c[i]), abs=1e-6)
    assert torch.allclose(clip_i(3 * a, a), torch.ones(6), atol=1e-6)
    assert clip_i(a, a).max() <= 1
    assert torch.allclose(clip_d(b, a, c, d), -clip_d(a, b, c, d), atol=1e-6)
    assert torch.allclose(visual_clip(a, b, b, a), -torch.ones(6), atol=1e-6)
    assert torch.allclose(visual_clip(a + 1, b + 1, c, d), visual_clip(a, b, c, d), atol=1e-5)
    assert clip_i(a[0], b[0]).shape == ()


def test_where_nothing_changed_there_is_no_direction():
    a, b, c, d = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    b[1] = a[1]
    for found in (clip_d(a, b, c, d), clip_d(c, d, a, b), visual_clip(a, b, c, d), visual_clip(c, d, a, b)):
        assert [math.isnan(v) for v in found.tolist()] == [False, True, False]
    assert math.isnan(clip_i(torch.zeros(5), a[0]))


def test_a_picture_encoded_in_another_batch_has_not_changed_but_one_pixel_has():
    from showtell import scenes

    clip = Clip.load()
    case = scenes.sample(3)
    together = clip.image_features([scenes.sample(i).before for i in range(3, 20)])[:1]
    before, after = clip.image_features([case.before]), clip.image_features([case.after])
    assert torch.isnan(visual_clip(before, together, before, after)).all()
    touched = case.before.copy()
    red, green, blue = touched.getpixel((10, 10))
    touched.putpixel((10, 10), (red ^ 1, green, blue))
    assert torch.isfinite(visual_clip(before, clip.image_features([touched]), before, after)).all()


def test_what_cannot_be_loaded(starters):
    with pytest.raises(ModelError, match="no-such-clip: cannot be loaded"):
        Clip.load("no-such-clip")
    with pytest.raises(UsageError, match="device 'tpu'"):
        Clip.load(device="tpu")
