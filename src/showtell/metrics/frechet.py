"""The Fréchet distance between two sets of features, as Gaussians, whole or class by class.

The name of such a figure is only whole with the features that it was made of: over those of ``starter-clip`` it is the
*class-conditional Fréchet distance over starter-clip features*. It is not FID, which is over Inception features, and with few
pictures a class it is biased upwards, as FID is: compare only values of equally many pictures.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    import torch


def distance(features_a: torch.Tensor, features_b: torch.Tensor) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), m the means and S the covariances of features (N, p) and (M, p).

    In float64; the covariances are the unbiased ones. Raises ``UsageError`` for fewer than two rows, other widths, or a value
    that is not finite.
    """
    import torch

    first, second = _checked(features_a, "first"), _checked(features_b, "second")
    if first.shape[1] != second.shape[1]:
        raise UsageError(f"features of {first.shape[1]} and of {second.shape[1]} numbers cannot be compared")
    gap = (first.mean(0) - second.mean(0)).square().sum()
    if max(len(first), len(second)) <= first.shape[1]:
        return float((gap + _by_rows(first, second)).clamp(min=0))
    a, b = torch.cov(first.T).reshape(2 * (first.shape[1],)), torch.cov(second.T).reshape(2 * (second.shape[1],))
    # S_a S_b is similar to S_a^(1/2) S_b S_a^(1/2), which is symmetric and has no negative eigenvalue but by rounding.
    root = _root(a)
    cross = torch.linalg.eigvalsh(root @ b @ root).clamp(min=0).sqrt().sum()
    return float((gap + a.trace() + b.trace() - 2 * cross).clamp(min=0))


def class_distance(
    features: torch.Tensor,
    classes: Sequence[Hashable],
    real_features: torch.Tensor,
    real_classes: Sequence[Hashable],
) -> float:
    """The mean over classes of :func:`distance` between the features of pictures that are to be of a class, (N, p), and those
    of real pictures of that class, (M, p); ``classes`` and ``real_classes`` say which is which.

    Raises ``UsageError`` for a class of which either side has fewer than two, or counts that do not fit.
    """
    for rows, names in ((features, classes), (real_features, real_classes)):
        if len(rows) != len(names):
            raise UsageError(f"{len(rows)} features have {len(names)} classes: give one for each")
    if not len(classes):
        raise UsageError("there are no features to compare")
    found = []
    of_real = _places(real_classes)
    for name, places in _places(classes).items():
        own, real = features[places], real_features[of_real.get(name, [])]
        for rows, which in ((own, "edited"), (real, "real")):
            if len(rows) < 2:
                raise UsageError(f"class {name!r} has {len(rows)} {which} pictures: two are the fewest")
        found.append(distance(own, real))
    return sum(found) / len(found)


def _places(classes: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    """The rows of each class."""
    found: dict[Hashable, list[int]] = {}
    for i, name in enumerate(classes):
        found.setdefault(name, []).append(i)
    return found


def _by_rows(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """tr(S_a + S_b - 2 (S_a S_b)^(1/2)) where there are fewer rows than numbers: with S_a = A^T A and S_b = B^T B, the root's
    trace is the sum of the singular values of A B^T, which is small.
    """
    import torch

    a, b = ((x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (a, b))
    return a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(a @ b.T).sum()


def _root(matrix: torch.Tensor) -> torch.Tensor:
    """The square root of a symmetric matrix without negative eigenvalues."""
    import torch

    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _checked(features: torch.Tensor, which: str) -> torch.Tensor:
    if features.ndim != 2 or len(features) < 2:
        raise UsageError(
            f"the {which} features have the shape {tuple(features.shape)}: (N, p) with N of at least 2 is wanted"
        )
    if not features.isfinite().all():
        raise UsageError(f"the {which} features hold a value that is not finite")
    return features.double()
