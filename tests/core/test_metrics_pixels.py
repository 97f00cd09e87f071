"""L1, L2, PSNR, SSIM, MS-SSIM: against literal transcriptions in NumPy, torchmetrics and scikit-image; masks; what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from showtell import metrics
from showtell.errors import UsageError


def two(count: int = 2, height: int = 24, width: int = 37, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth pictures and noisy copies, as a structure measure would meet them."""
    make = torch.Generator().manual_seed(seed)
    small = torch.rand(count, 3, 5, 6, generator=make)
    a = torch.nn.functional.interpolate(small, size=(height, width), mode="bilinear")
    return a, (a + 0.1 * torch.randn(a.shape, generator=make)).clamp(0, 1)


def of(picture: torch.Tensor) -> np.ndarray:
    """(H, W, 3) in float64."""
    return picture.permute(1, 2, 0).double().numpy()


def gaussian_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM around each pixel of one channel, from its definition: an 11 x 11 Gaussian window over a reflected border."""
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / np.outer(line, line).sum()
    x, y = np.pad(a, 5, mode="reflect"), np.pad(b, 5, mode="reflect")
    found = np.empty_like(a)
    for i, j in np.ndindex(*a.shape):
        p, q = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
        mp, mq = (window * p).sum(), (window * q).sum()
        vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
        both = (window * (p - mp) * (q - mq)).sum()
        found[i, j] = (2 * mp * mq + 1e-4) * (2 * both + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4))
    return found


def test_differences_of_pixels_are_their_equations():
    a, b = two()
    mask = np.random.default_rng(0).random((24, 37)) < 0.3
    for i in range(2):
        x, y = of(a[i]), of(b[i])
        wanted = {"l1": np.abs(x - y).mean(), "l2": ((x - y) ** 2).mean(), "mse": ((x - y) ** 2).mean()}
        wanted["psnr"] = 10 * math.log10(1 / wanted["mse"])
        for name, value in wanted.items():
            assert float(getattr(metrics, name)(a, b)[i]) == pytest.approx(value, abs=1e-9)
        within = ((x - y)[mask] ** 2).mean()
        assert float(metrics.mse(a, b, mask)[i]) == pytest.approx(within, abs=1e-9)
        assert float(metrics.psnr(a, b, mask)[i]) == pytest.approx(-10 * math.log10(within), abs=1e-9)
        assert float(metrics.l1(a, b, mask)[i]) == pytest.approx(np.abs(x - y)[mask].mean(), abs=1e-9)


def test_psnr_and_ssim_are_those_of_scikit_image_and_torchmetrics():
    from skimage import metrics as skimage
    from torchmetrics.functional import image as torchmetrics

    a, b = two()
    inner = metrics.ssim_map(a, b)[:, :, 5:-5, 5:-5].flatten(1).mean(1)
    for i in range(2):
        x, y = of(a[i]), of(b[i])
        assert float(metrics.psnr(a, b)[i]) == pytest.approx(
            skimage.peak_signal_noise_ratio(x, y, data_range=1), abs=1e-5
        )
        theirs = skimage.structural_similarity(
            x, y, data_range=1, channel_axis=2, gaussian_weights=True, use_sample_covariance=False
        )
        assert float(inner[i]) == pytest.approx(theirs, abs=1e-5)
        one, other = a[i : i + 1], b[i : i + 1]
        assert float(metrics.ssim(one, other)) == pytest.approx(
            float(torchmetrics.structural_similarity_index_measure(one, other, data_range=1.0)), abs=1e-5
        )
        assert float(metrics.psnr(one, other)) == pytest.approx(
            float(torchmetrics.peak_signal_noise_ratio(one, other, data_range=1.0)), abs=1e-5
        )
    assert (inner - metrics.ssim(a, b)).abs().min() > 1e-4  # the border makes a difference, and the page says so


def test_ssim_is_its_definition():
    a, b = two(1, 13, 16)
    x, y = of(a[0]), of(b[0])
    maps = np.stack([gaussian_map(x[..., c], y[..., c]) for c in range(3)])
    assert np.abs(metrics.ssim_map(a, b)[0].numpy() - maps).max() < 1e-9
    assert float(metrics.ssim(a, b)) == pytest.approx(maps.mean(), abs=1e-9)


def test_ms_ssim_is_that_of_torchmetrics_and_its_definition():
    from torchmetrics.functional import image as torchmetrics

    a, b = two(2, 180, 190)
    theirs = torchmetrics.multiscale_structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    assert torch.allclose(metrics.ms_ssim(a, b).float(), theirs, atol=1e-5)
    # One scale of weight 1 is SSIM; of two, the finer gives its contrast and structure.
    a, b = two(1, 26, 28)
    assert float(metrics.ms_ssim(a, b, scales=[1.0])) == pytest.approx(float(metrics.ssim(a, b)), abs=1e-9)
    half = [x.double().unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)) for x in (a, b)]
    ratio = float(metrics.ms_ssim(a, b, scales=[0.3, 0.7])) / float(metrics.ssim(*half)) ** 0.7
    x, y = of(a[0]), of(b[0])
    contrast = []
    for c in range(3):
        line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
        window = np.outer(line, line) / np.outer(line, line).sum()
        p, q = (np.lib.stride_tricks.sliding_window_view(z[..., c], (11, 11)) for z in (x, y))
        mp, mq = ((window * z).sum((-1, -2), keepdims=True) for z in (p, q))
        both = (window * (p - mp) * (q - mq)).sum((-1, -2))
        spread = (window * ((p - mp) ** 2 + (q - mq) ** 2)).sum((-1, -2))
        contrast.append((2 * both + 9e-4) / (spread + 9e-4))
    assert ratio == pytest.approx(np.mean(contrast) ** 0.3, abs=1e-9)


def test_equal_pictures_are_as_like_as_can_be():
    a, _ = two()
    assert metrics.psnr(a, a).tolist() == [math.inf, math.inf]
    assert metrics.l1(a, a).tolist() == metrics.mse(a, a).tolist() == [0, 0]
    assert torch.allclose(metrics.ssim(a, a), torch.ones(2, dtype=torch.float64))


def test_tensors_pictures_and_lists_agree():
    pictures = [Image.effect_noise((20, 16), 40 + 20 * i).convert("RGB") for i in range(2)]
    others = [picture.rotate(180) for picture in pictures]
    a, b = (
        torch.stack([torch.from_numpy(np.asarray(p).copy()).permute(2, 0, 1).float() / 255 for p in group])
        for group in (pictures, others)
    )
    for measure in (metrics.l1, metrics.psnr, metrics.ssim):
        assert torch.allclose(measure(pictures, others), measure(a, b), atol=1e-5)
        assert torch.allclose(measure(pictures[0], others[0]), measure(a[:1], b[:1]), atol=1e-5)


def test_a_mask_of_everything_is_none_and_one_of_a_box_is_the_crop():
    a, b = two()
    everything = torch.ones(24, 37, dtype=torch.bool)
    box = torch.zeros(2, 24, 37, dtype=torch.bool)
    box[:, 3:17, 5:30] = True
    for measure in (metrics.l1, metrics.mse, metrics.psnr):
        assert torch.allclose(measure(a, b, everything), measure(a, b))
        cropped = measure(a[:, :, 3:17, 5:30], b[:, :, 3:17, 5:30])
        for given in (box, box[:, None], box.numpy(), box.long(), [m.numpy() for m in box]):
            assert torch.allclose(measure(a, b, given), cropped)
    assert torch.allclose(metrics.ssim(a, b, everything), metrics.ssim(a, b))


def test_what_lies_outside_the_mask_changes_nothing():
    a, b = two()
    mask = torch.zeros(24, 37, dtype=torch.bool)
    mask[:, :20] = True
    painted = torch.where(mask, b, torch.zeros(()))
    for measure in (metrics.l1, metrics.psnr, metrics.ssim):
        assert torch.equal(measure(a, b, mask), measure(a, painted, mask))
    only_outside = torch.where(mask, a, b)
    assert torch.allclose(metrics.ssim(a, only_outside, mask), torch.ones(2, dtype=torch.float64))
    # Published masked figures are of zeroed pixels, and shrink with the mask.
    assert metrics.mse(a, b, mask).min() > 1.2 * metrics.mse(a * mask, b * mask).max()


def test_a_mask_of_nothing_has_no_value():
    a, b = two()
    none, some = torch.zeros(24, 37, dtype=torch.bool), torch.ones(24, 37, dtype=torch.bool)
    for measure in (metrics.l1, metrics.psnr, metrics.ssim):
        found = measure(a, b, torch.stack([none, some]))
        assert found[0].isnan() and not found[1].isnan()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda a: a * 2 - 1, r"go from -1 to .* must be in \[0, 1\]: add 1 and halve"),
        (lambda a: a * 255, r"must be in \[0, 1\]: scale them first"),
        (lambda a: (a * 255).byte(), "divide bytes by 255"),
        (lambda a: a / 0, "not finite"),
        (lambda a: a[0], r"the shape \(3, 24, 37\), and \(B, 3, H, W\) is wanted"),
        (lambda a: a[:, :1], r"\(B, 3, H, W\) is wanted"),
        (lambda a: a[:1], "both must be the same"),
        (lambda a: a[:, :, 1:], "both must be the same"),
        (lambda a: [], "there are none"),
        (lambda a: [Image.new("RGB", (9, 8)), Image.new("RGB", (8, 8))], "different sizes .8x8 and 9x8."),
    ],
)
def test_what_is_no_picture_in_0_to_1_is_said(given, message):
    a, _ = two()
    a[0, 0, 0, 0] = 0
    for measure in (metrics.mse, metrics.ssim):
        with pytest.raises(UsageError, match=message):
            measure(a, given(a))


def test_masks_that_do_not_fit_and_pictures_that_are_too_small_are_said():
    a, b = two()
    for bad in (torch.ones(37, 24), torch.ones(3, 24, 37), torch.ones(2, 2, 24, 37)):
        with pytest.raises(UsageError, match="a mask of the shape"):
            metrics.mse(a, b, bad)
    with pytest.raises(UsageError, match="only zeros and ones"):
        metrics.mse(a, b, torch.full((24, 37), 0.5))
    for bad in ("mask.png", [[True], [True, False]], np.full((24, 37), None)):
        with pytest.raises(UsageError, match="a mask cannot be made of this"):
            metrics.mse(a, b, bad)
    box = Image.new("1", (37, 24))
    box.paste(1, (0, 0, 10, 24))
    assert torch.allclose(metrics.mse(a, b, box), metrics.mse(a[..., :10], b[..., :10]))
    with pytest.raises(UsageError, match="8x20 are too small for SSIM: pictures of 11 pixels"):
        metrics.ssim(*two(1, 20, 8))
    with pytest.raises(UsageError, match=r"64x64 are too small for MS-SSIM over 5 scales: give fewer .* 176 pixels"):
        metrics.ms_ssim(*two(1, 64, 64))
    assert 0 < float(metrics.ms_ssim(*two(1, 64, 64), scales=[0.3, 0.3, 0.4])) < 1
