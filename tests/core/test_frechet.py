"""The Fréchet distance of features: against what is known of Gaussians, and torchmetrics."""

from __future__ import annotations

import math

import pytest
import torch

from showtell.errors import UsageError
from showtell.metrics import frechet


def of(mean: torch.Tensor, covariance: torch.Tensor, count: int = 40, seed: int = 0) -> torch.Tensor:
    """Rows whose mean and unbiased covariance are exactly these."""
    x = torch.randn(count, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x - x.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    white = x @ (vectors / values.sqrt()) @ vectors.T
    own_values, own = torch.linalg.eigh(covariance.double())
    return white @ (own * own_values.clamp(min=0).sqrt()) @ own.T + mean.double()


def test_of_gaussians_that_share_their_axes_it_is_the_textbooks():
    a = of(torch.tensor([0.0, 1.0, 2.0]), torch.diag(torch.tensor([1.0, 4.0, 9.0])))
    b = of(torch.tensor([3.0, 1.0, -2.0]), torch.diag(torch.tensor([4.0, 4.0, 1.0])), seed=1)
    wanted = 9 + 0 + 16 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2
    assert frechet.distance(a, b) == pytest.approx(wanted, rel=1e-9)


def test_of_gaussians_that_do_not_it_is_what_the_square_root_of_the_product_gives():
    first, second = torch.tensor([[2.0, 1.0], [1.0, 3.0]]), torch.tensor([[1.0, -0.5], [-0.5, 2.0]])
    a, b = of(torch.zeros(2), first), of(torch.zeros(2), second, seed=3)
    # Of a 2x2 matrix M the root has the trace sqrt(tr M + 2 sqrt(det M)); M = first second has tr 7, det 5 * 1.75.
    trace = math.sqrt(7 + 2 * math.sqrt(5 * 1.75))
    assert frechet.distance(a, b) == pytest.approx(5 + 3 - 2 * trace, rel=1e-9)


def test_it_is_that_of_torchmetrics_over_the_same_features():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Pixels(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return pictures.flatten(1).double() / 255

    make = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, top, (60, 3, 2, 2), dtype=torch.uint8, generator=make) for top in (256, 200))
    theirs = FrechetInceptionDistance(feature=Pixels(), input_img_size=(3, 2, 2)).set_dtype(torch.float64)
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    own = frechet.distance(Pixels()(a), Pixels()(b))
    assert own == pytest.approx(float(theirs.compute()), abs=1e-5) and own > 0.1


def test_equal_sets_are_at_zero_and_either_way_is_the_same():
    a, b = (torch.randn(n, 12, generator=torch.Generator().manual_seed(n)) for n in (9, 30))
    assert frechet.distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet.distance(a, b) == pytest.approx(frechet.distance(b, a), rel=1e-6)
    assert frechet.distance(a, b) > 1


def test_order_rotation_and_shift_change_nothing_and_scale_goes_in_squared():
    make = torch.Generator().manual_seed(5)
    a, b = torch.randn(20, 6, generator=make), torch.randn(25, 6, generator=make) + 1
    turn = torch.linalg.qr(torch.randn(6, 6, generator=make, dtype=torch.float64))[0]
    found = frechet.distance(a, b)
    assert frechet.distance(a.flip(0), b) == pytest.approx(found, rel=1e-6)
    assert frechet.distance(a.double() @ turn + 3, b.double() @ turn + 3) == pytest.approx(found, rel=1e-6)
    assert frechet.distance(2 * a, 2 * b) == pytest.approx(4 * found, rel=1e-6)


def test_few_rows_of_many_numbers_are_what_the_covariances_say():
    make = torch.Generator().manual_seed(8)
    a, b = (
        torch.randn(7, 9, generator=make, dtype=torch.float64),
        torch.randn(5, 9, generator=make, dtype=torch.float64),
    )
    first, second = torch.cov(a.T), torch.cov(b.T)
    trace = torch.linalg.eigvals(first @ second).real.clamp(min=0).sqrt().sum()
    wanted = (a.mean(0) - b.mean(0)).square().sum() + first.trace() + second.trace() - 2 * trace
    assert frechet.distance(a, b) == pytest.approx(float(wanted), abs=1e-5)


def test_classes_are_compared_each_with_its_own_and_averaged():
    make = torch.Generator().manual_seed(6)
    rows, real = torch.randn(10, 3, generator=make), torch.randn(12, 3, generator=make)
    names, real_names = ["a", "b"] * 5, ["b"] * 7 + ["a"] * 5
    wanted = (frechet.distance(rows[0::2], real[7:]) + frechet.distance(rows[1::2], real[:7])) / 2
    assert frechet.class_distance(rows, names, real, real_names) == pytest.approx(wanted)
    # Pictures of the wrong class are far from it, though the sets as wholes are the same.
    apart = torch.cat([rows[0::2], rows[1::2] + 10])
    right, wrong = ["a"] * 5 + ["b"] * 5, ["b"] * 5 + ["a"] * 5
    assert frechet.class_distance(apart, right, apart, right) == pytest.approx(0, abs=1e-6)
    assert frechet.class_distance(apart, wrong, apart, right) > 100


def test_what_cannot_be_compared_is_said():
    good = torch.randn(4, 3)
    for bad, message in ((good[:1], "at least 2"), (good[0], "at least 2"), (good / 0, "not finite")):
        with pytest.raises(UsageError, match=message):
            frechet.distance(bad, good)
        with pytest.raises(UsageError, match=message):
            frechet.distance(good, bad)
    with pytest.raises(UsageError, match="of 3 and of 2 numbers"):
        frechet.distance(good, good[:, :2])
    with pytest.raises(UsageError, match="class 'b' has 1 edited"):
        frechet.class_distance(good, ["a", "a", "a", "b"], good, ["a", "a", "b", "b"])
    with pytest.raises(UsageError, match="class 'a' has 0 real"):
        frechet.class_distance(good, ["a"] * 4, good, ["b"] * 4)
    with pytest.raises(UsageError, match="4 features have 3 classes"):
        frechet.class_distance(good, ["a"] * 3, good, ["a"] * 4)
    with pytest.raises(UsageError, match="no features"):
        frechet.class_distance(good[:0], [], good, ["a"] * 4)
