"""The perceptual distance over a CLIP's layers."""

from __future__ import annotations

import pytest
import torch

import showtell
from showtell.errors import UsageError
from showtell.metrics import perceptual
from showtell.metrics.clip import Clip


@pytest.fixture
def clip(starters):
    return Clip.load()


def noise(count: int, side: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_equal_pictures_are_at_zero_and_either_way_is_the_same(clip):
    a, b = noise(3), noise(3, seed=1)
    assert perceptual.distance(clip, a, a).abs().max() < 1e-10
    there, back = perceptual.distance(clip, a, b), perceptual.distance(clip, b, a)
    assert there.shape == (3,) and torch.allclose(there, back) and (there > 1e-4).all() and (there <= 4).all()
    assert not there.requires_grad


def test_it_is_the_mean_over_layers_and_positions_of_unit_vectors(clip):
    a, b = noise(1), noise(1, seed=1)
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (clip.processor.image_mean, clip.processor.image_std))
    layers = [
        clip.model.vision_model(pixel_values=(x - mean) / deviation, output_hidden_states=True).hidden_states
        for x in (a, b)
    ]
    gaps = []
    for first, second in list(zip(*layers, strict=True))[1:]:
        cosine = torch.cosine_similarity(first[0, 1:], second[0, 1:], dim=-1)
        gaps += (2 - 2 * cosine).tolist()
    assert float(perceptual.distance(clip, a, b)) == pytest.approx(sum(gaps) / len(gaps), rel=1e-4)


def test_a_picture_does_not_feel_its_neighbours_and_other_sizes_are_scaled(clip):
    a, b = noise(3), noise(3, seed=1)
    each = [perceptual.distance(clip, a[i : i + 1], b[i : i + 1]) for i in range(3)]
    assert torch.allclose(perceptual.distance(clip, a, b), torch.cat(each), atol=1e-6)
    wide = a.repeat_interleave(2, -1).repeat_interleave(2, -2)
    near = perceptual.distance(clip, wide, b.repeat_interleave(2, -1).repeat_interleave(2, -2))
    assert torch.allclose(near, perceptual.distance(clip, a, b), rtol=0.3)


def test_on_the_starter_a_changed_thing_is_nearer_than_another_scene():
    clip = Clip.load("starter-clip")
    pictures = showtell.scenes.sample(3, actions=["recolour"]), showtell.scenes.sample(4)
    plans = [pictures[0].plan.before, pictures[0].plan.after, pictures[1].plan.before]
    before, after, other = showtell.scenes.render(plans)[:, None]
    changed, foreign = perceptual.distance(clip, before, after), perceptual.distance(clip, before, other)
    assert 0 < float(changed) < float(foreign)


def test_what_is_no_pair_of_pictures_is_said(clip):
    a = noise(2)
    for bad in (a[:1], a[0], a[:, :1]):
        with pytest.raises(UsageError, match=r"both must be the same \(B, 3, H, W\)"):
            perceptual.distance(clip, bad, a)
    for bad in (a * 2, a - 1, a / 0):
        with pytest.raises(UsageError, match="from 0 to 1"):
            perceptual.distance(clip, bad, a)
