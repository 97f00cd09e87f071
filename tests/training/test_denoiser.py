"""What the denoisers learn from: widening, dropout, grounding, marks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from showtell.training import denoiser, grounding
from showtell.training.cache import Words, marks_of


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return denoiser.new_unet((48, 96)).eval()


def test_the_widened_network_computes_what_the_base_did_whatever_the_picture(unet) -> None:
    wide = denoiser.widen(unet).eval()
    x, c, t = torch.randn(2, 4, 16, 16), torch.randn(2, 77, 128), torch.tensor([3, 900])
    with torch.no_grad():
        narrow = unet(x, t, c).sample
        for image in (torch.zeros(2, 4, 16, 16), torch.randn(2, 4, 16, 16)):
            assert torch.allclose(wide(torch.cat((x, image), 1), t, c).sample, narrow, atol=1e-6)
    assert torch.equal(wide.conv_in.bias, unet.conv_in.bias)
    assert wide.conv_in.weight[:, 4:].abs().max() == 0


def test_conditioning_dropout_has_the_papers_shares() -> None:
    text, image = denoiser.conditioning_kept((torch.arange(10_000) + 0.5) / 10_000)
    assert int((~text & image).sum()) == 500
    assert int((text & ~image).sum()) == 500
    assert int((~text & ~image).sum()) == 500


def test_training_attention_computes_what_diffusers_attention_does(unet) -> None:
    x, c = torch.randn(2, 4, 16, 16), torch.randn(2, 77, 128)
    before = dict(unet.attn_processors)
    with torch.no_grad():
        expected = unet(x, 5, c).sample
        grounding.install(unet)
        found = unet(x, 5, c).sample
    unet.set_attn_processor(before)
    assert torch.allclose(found, expected, atol=1e-5)


def marks(regions: torch.Tensor, weights: torch.Tensor | None = None) -> grounding.Marks:
    n = len(regions)
    index = torch.arange(n)
    return grounding.Marks(index, index, regions, torch.ones(n) if weights is None else weights)


def test_the_grounding_loss_is_nothing_for_a_map_that_covers_and_large_for_a_needle() -> None:
    region = torch.zeros(1, 256)
    region[0, 40:56] = 1
    cover = marks(region)
    cover.maps = [region.clone()]
    assert float(cover.loss()) == pytest.approx(0, abs=1e-5)
    blind = marks(region)
    blind.maps = [torch.ones(1, 256)]
    assert float(blind.loss()) == pytest.approx(math.log(256 / 16), abs=1e-4)
    needle = marks(region)
    needle.maps = [torch.nn.functional.one_hot(torch.tensor([45]), 256).float()]
    assert float(needle.loss()) > float(blind.loss())


def test_the_grounding_loss_teaches_a_network_to_look(unet) -> None:
    torch.manual_seed(1)
    student = denoiser.new_unet((48, 96))
    attention = grounding.install(student)
    x, c = torch.randn(1, 4, 16, 16), torch.randn(1, 77, 128)
    region = torch.zeros(1, 256)
    region[0, :64] = 1
    optimiser = torch.optim.Adam(student.parameters(), lr=1e-3)
    values = []
    for _ in range(12):
        attention.marks = grounding.Marks(torch.tensor([0]), torch.tensor([4]), region, torch.ones(1))
        student(x, 5, c)
        assert len(attention.marks.maps) == 3  # one layer going down, two going up
        loss = attention.marks.loss()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.7 * values[0]


def test_marks_leave_out_samples_without_weight_and_regions_without_a_cell() -> None:
    words = Words(torch.zeros(1, 77, 4), np.zeros(3, int), [((2, 0), (5, 1)), ((3, 0),), ((1, 0),)])
    regions = np.zeros((3, 13, 16, 16), np.uint8)
    regions[:, 0, 2:4, 2:4] = 255
    found = marks_of(words, np.array([0, 1, 2]), regions, torch.tensor([1.0, 0.0, 0.5]))
    assert found.rows.tolist() == [0, 2] and found.tokens.tolist() == [2, 1]
    assert found.weights.tolist() == [1.0, 0.5]
    assert torch.allclose(found.target.sum(1), torch.ones(2))


def test_no_marks_is_no_loss() -> None:
    assert float(marks(torch.zeros(0, 256)).loss()) == 0
