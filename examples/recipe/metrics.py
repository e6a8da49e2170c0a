"""Distances between two sets of images: Fréchet, kernel, precision and recall, sliced Wasserstein.

Features are rows, (N, D), of any network. Everything is computed in float64: the covariance of 2048 features is
nearly singular, and float32 loses the digits in which two good models differ.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


class Statistics:
    """Mean and covariance of features that arrive in batches, from Σ f and Σ f fᵀ in float64.

    Args:
        width: D, the number of features.
        device: Where to keep the sums.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self._count = torch.zeros((), dtype=torch.float64, device=device)
        self._sum = torch.zeros(width, dtype=torch.float64, device=device)
        self._outer = torch.zeros(width, width, dtype=torch.float64, device=device)

    def update(self, features: Tensor) -> None:
        """Add features, (B, D).

        Raises:
            ValueError: not of that shape, or not finite.
        """
        if features.ndim != 2 or features.shape[1] != len(self._sum):
            raise ValueError(f"features must have shape (B, {len(self._sum)}), got {tuple(features.shape)}")
        if not features.isfinite().all():
            raise ValueError("features must be finite; the network gave NaN or infinity")
        rows = features.to(self._sum)
        self._count += len(rows)
        self._sum += rows.sum(0)
        self._outer += rows.T @ rows

    def all_reduce(self) -> None:
        """Add the sums of all processes, so that each has those of the whole set."""
        if dist.is_initialized():
            for total in (self._count, self._sum, self._outer):
                dist.all_reduce(total)

    @property
    def count(self) -> int:
        """N, the number of rows seen."""
        return int(self._count)

    @property
    def mean(self) -> Tensor:
        """The mean, (D,)."""
        return self._sum / self._count

    @property
    def covariance(self) -> Tensor:
        """The unbiased covariance, (D, D).

        Raises:
            ValueError: fewer than two rows.
        """
        if self._count < 2:
            raise ValueError(f"a covariance needs 2 rows or more, got {self.count}")
        return (self._outer - self._count * torch.outer(self.mean, self.mean)) / (self._count - 1)


def frechet_distance(mean_1: Tensor, covariance_1: Tensor, mean_2: Tensor, covariance_2: Tensor) -> float:
    """Return the squared Fréchet distance of two normal distributions.

        d² = ‖m₁ − m₂‖² + tr(C₁ + C₂ − 2 (C₁^½ C₂ C₁^½)^½)

    The symmetric form of the root needs no complex numbers, and no small multiple of the identity where a covariance
    is singular.

    Args:
        mean_1: m₁, (D,).
        covariance_1: C₁, (D, D), symmetric and positive semi-definite.
        mean_2: m₂, (D,).
        covariance_2: C₂, (D, D), likewise.

    Raises:
        ValueError: shapes that differ, or something that is not a covariance.

    Source: Dowson and Landau 1982, J. Multivariate Anal. 12, 450; Heusel et al. 2017, arXiv:1706.08500.
    """
    width = len(mean_1)
    shapes = [tuple(each.shape) for each in (mean_1, covariance_1, mean_2, covariance_2)]
    if shapes != [(width,), (width, width)] * 2:
        raise ValueError(f"means and covariances must have shapes (D,) and (D, D), got {shapes}")
    m_1, C_1, m_2, C_2 = (each.double() for each in (mean_1, covariance_1, mean_2, covariance_2))
    if not all(each.isfinite().all() for each in (m_1, C_1, m_2, C_2)):
        raise ValueError("means and covariances must be finite")
    if any((C - C.T).abs().max() > 1e-6 * C.abs().max() for C in (C_1, C_2)):
        raise ValueError("a covariance must be symmetric")
    eigenvalues, vectors = torch.linalg.eigh(C_1)
    root = vectors * _roots(eigenvalues) @ vectors.T
    cross = _roots(torch.linalg.eigvalsh(root @ C_2 @ root)).sum()
    distance = (m_1 - m_2).square().sum() + C_1.trace() + C_2.trace() - 2 * cross
    return max(0.0, float(distance))


def kernel_distance(x: Tensor, y: Tensor, *, subset: int = 1000) -> tuple[float, float]:
    """Return the squared maximum mean discrepancy under the cubic kernel, and its standard error.

        k(a, b) = (aᵀb / D + 1)³
        d² = mean_{i≠j} k(x_i, x_j) + mean_{i≠j} k(y_i, y_j) − 2 mean_{ij} k(x_i, y_j)

    The mean over subsets, as is usual, but over disjoint ones: each is then an independent estimate, and their scatter
    tells the standard error. It is unbiased, and so may fall below zero.

    Args:
        x: Features of one set, (N, D), in random order.
        y: Features of the other, (M, D), likewise.
        subset: Rows in a subset; less if there would be fewer than 10 of them.

    Raises:
        ValueError: fewer than 20 rows, or widths that differ.

    Source: Bińkowski et al. 2018, arXiv:1801.01401, equation 4; Gretton et al. 2012, JMLR 13, lemma 6.
    """
    _check(x, y)
    fewest = min(len(x), len(y))
    if fewest < 20:
        raise ValueError(f"a kernel distance needs 20 rows or more on either side, got {len(x)} and {len(y)}")
    size = min(subset, fewest // 10)
    estimates = []
    for start in range(0, fewest - size + 1, size):
        a, b = x[start : start + size].double(), y[start : start + size].double()
        aa, bb, ab = (((left @ right.T) / x.shape[1] + 1) ** 3 for left, right in ((a, a), (b, b), (a, b)))
        within = (aa.sum() - aa.trace() + bb.sum() - bb.trace()) / (size * (size - 1))
        estimates.append(within - 2 * ab.mean())
    values = torch.stack(estimates)
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


def precision_recall(real: Tensor, samples: Tensor, *, k: int = 3, chunk: int = 1000) -> tuple[float, float]:
    """Return improved precision and recall: the fraction of each set that lies within the manifold of the other.

    The manifold of a set is the union of balls around its rows that reach to the k-th nearest other row. Both
    fractions depend on the number of rows: compare only values of equal numbers.

    Args:
        real: Features of real images, (N, D).
        samples: Features of samples, (M, D).
        k: The neighbour that sets the radius.
        chunk: Rows whose distances to all others are held at once, chunk × max(N, M) float64.

    Raises:
        ValueError: k or fewer rows, or widths that differ.

    Source: Kynkäänniemi et al. 2019, arXiv:1904.06991, equations 1 to 3.
    """
    _check(real, samples)
    if min(len(real), len(samples)) <= k or k < 1:
        raise ValueError(f"k = {k} needs more than k rows on either side, got {len(real)} and {len(samples)}")
    centre = real.double().mean(0)  # distances do not change, and lose fewer digits
    real, samples = real.double() - centre, samples.double() - centre
    return _covered(samples, real, k, chunk), _covered(real, samples, k, chunk)


def sliced_wasserstein(x: Tensor, y: Tensor, *, slices: int = 256, seed: int = 0) -> float:
    """Return the sliced Wasserstein-2 distance between two sets of images.

        √ mean over directions ω of  W₂²(⟨ω, x⟩, ⟨ω, y⟩),    ‖ω‖ = 1

    The larger set is cut to the size of the smaller. The directions are a function of the seed.

    Args:
        x: Images, (N, C, H, W).
        y: Images, (M, C, H, W).
        slices: Number of random directions.
        seed: Random seed for the directions.

    Source: Rabin et al. 2012, "Wasserstein barycenter and its application to texture mixing".
    """
    count, size = min(len(x), len(y)), x[0].numel()
    directions = torch.randn(size, slices, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    directions /= directions.norm(dim=0)
    a, b = ((images[:count].flatten(1).double() @ directions).sort(0).values for images in (x, y))
    return (a - b).square().mean().sqrt().item()


def _roots(eigenvalues: Tensor) -> Tensor:
    """Return the roots of ascending eigenvalues. One within the rounding of the largest is taken for zero.

    Its root would be 1e-8 of the largest's, where the zero that it stands for has none.
    """
    largest = eigenvalues.abs().max()
    if eigenvalues[0] < -1e-6 * largest:
        raise ValueError(f"a covariance must be positive semi-definite, got the eigenvalue {eigenvalues[0]:.3g}")
    rounding = len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps * largest
    return torch.where(eigenvalues > rounding, eigenvalues, 0).sqrt()


def _covered(x: Tensor, centres: Tensor, k: int, chunk: int) -> float:
    """Return the fraction of x within the k-th neighbour's distance of any centre."""
    # A row is its own nearest neighbour: hence k + 1.
    radii = torch.cat([torch.cdist(rows, centres).kthvalue(k + 1, 1).values for rows in centres.split(chunk)])
    inside = sum(int((torch.cdist(rows, centres) <= radii).any(1).sum()) for rows in x.split(chunk))
    return inside / len(x)


def _check(x: Tensor, y: Tensor) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"features must have shapes (N, D) and (M, D), got {tuple(x.shape)} and {tuple(y.shape)}")
